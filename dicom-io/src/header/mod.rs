//! The header of an instance: every attribute in front of Pixel Data, read without touching a pixel.
//!
//! One parser serves files and the receive path. It takes bytes as they come, bounds its memory whatever lengths are
//! stated, stops at Pixel Data, and its errors name attributes and offsets, never values.

mod dataset;
pub(crate) mod element;
mod reader;
mod scanner;
mod text;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use dicom::core::Tag;
use dicom::object::InMemDicomObject;
use dicom_types::{
    ParseUidError, SeriesInstanceUid, SopClassUid, SopInstanceUid, StudyInstanceUid,
    TransferSyntaxUid,
};

use crate::part10::{self, ReadMetaError};

pub use reader::HeaderReader;
pub(crate) use reader::read_dataset;

/// Bounds for what one header may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderLimits {
    /// Bytes in front of Pixel Data, inflated where the transfer syntax is deflated.
    pub max_bytes: u64,
    /// Bytes kept in memory.
    pub max_kept_bytes: usize,
    /// Top-level elements of more bytes than this are passed over and missing from the result; `None` keeps all.
    pub skip_element_bytes: Option<usize>,
    /// Data elements and items that are kept, nested ones included.
    pub max_elements: usize,
    /// Sequences within sequences.
    pub max_depth: usize,
}

impl HeaderLimits {
    /// For files that were received before: everything is kept, 64 MiB at most.
    pub const fn for_files() -> Self {
        Self {
            max_bytes: 64 << 20,
            max_kept_bytes: 64 << 20,
            skip_element_bytes: None,
            max_elements: 4 << 20,
            max_depth: 24,
        }
    }

    /// For the receive path, where many associations share the memory: elements above 64 KiB (per-frame functional
    /// groups, private blocks, overlays) are passed over, since routing needs none of them.
    pub const fn for_receiving() -> Self {
        Self {
            max_bytes: 1 << 30,
            max_kept_bytes: 1 << 20,
            skip_element_bytes: Some(64 << 10),
            max_elements: 64 << 10,
            max_depth: 24,
        }
    }
}

/// What is known of an instance from the attributes in front of its Pixel Data.
#[derive(Debug, Clone)]
pub struct InstanceHeader {
    /// SOP Class UID (0008,0016) of the data set.
    pub sop_class_uid: SopClassUid,
    /// SOP Instance UID (0008,0018) of the data set.
    pub sop_instance_uid: SopInstanceUid,
    /// Study Instance UID (0020,000D).
    pub study_instance_uid: StudyInstanceUid,
    /// Series Instance UID (0020,000E).
    pub series_instance_uid: SeriesInstanceUid,
    /// Transfer syntax of the data set.
    pub transfer_syntax_uid: TransferSyntaxUid,
    /// Modality (0008,0060), without padding; `None` when absent or empty.
    pub modality: Option<String>,
    /// Everything in front of Pixel Data, less what [`HeaderLimits::skip_element_bytes`] passed over.
    ///
    /// Text is decoded, code extensions included; Specific Character Set (0008,0005) still says what it was.
    pub dataset: InMemDicomObject,
    /// Offset of the first byte of the data set: in the file for [`read_file`], 0 on the receive path.
    pub dataset_offset: u64,
    /// Offset of the Pixel Data element within the (inflated) data set; `None` when there is none.
    pub pixel_data_offset: Option<u64>,
}

/// An attribute that an instance cannot do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequiredUid {
    /// SOP Class UID (0008,0016).
    SopClass,
    /// SOP Instance UID (0008,0018).
    SopInstance,
    /// Study Instance UID (0020,000D).
    StudyInstance,
    /// Series Instance UID (0020,000E).
    SeriesInstance,
}

impl std::fmt::Display for RequiredUid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::SopClass => "SOP Class UID",
            Self::SopInstance => "SOP Instance UID",
            Self::StudyInstance => "Study Instance UID",
            Self::SeriesInstance => "Series Instance UID",
        })
    }
}

/// Why a header cannot be read. No variant carries a value of the data set.
#[derive(Debug, thiserror::Error)]
pub enum ReadHeaderError {
    /// The file cannot be opened or read.
    #[error("cannot read the file")]
    Io(#[from] io::Error),
    /// The File Meta Information is unusable.
    #[error("file meta information is unusable")]
    Meta(#[from] ReadMetaError),
    /// A transfer syntax that no data set parser here understands.
    #[error("transfer syntax {0} is not supported")]
    TransferSyntax(TransferSyntaxUid),
    /// An element that breaks the encoding rules or leaves the item that holds it.
    #[error("malformed element ({:04X},{:04X}) at offset {offset}", tag.0, tag.1)]
    Malformed {
        /// Tag as read, possibly nonsense.
        tag: Tag,
        /// Offset in the data set.
        offset: u64,
    },
    /// The data set ends inside an element.
    #[error("data set ends inside the element at offset {offset}")]
    Truncated {
        /// Offset in the data set.
        offset: u64,
    },
    /// The attributes in front of Pixel Data exceed a limit.
    #[error("header exceeds {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// More data elements than allowed.
    #[error("header has more than {limit} elements")]
    TooManyElements {
        /// The limit.
        limit: usize,
    },
    /// Sequences nested deeper than allowed.
    #[error("sequences are nested deeper than {limit}")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// The deflated stream is damaged.
    #[error("deflated data set cannot be inflated")]
    Inflate,
    /// A unique identifier is absent or empty.
    #[error("{attribute} is missing or empty")]
    MissingUid {
        /// Which one.
        attribute: RequiredUid,
    },
    /// A unique identifier is no unique identifier.
    #[error("{attribute} is malformed")]
    InvalidUid {
        /// Which one.
        attribute: RequiredUid,
        /// What is wrong with it.
        source: ParseUidError,
    },
}

/// Reads the header of a Part 10 file with [`HeaderLimits::for_files`].
///
/// A missing preamble, a wrong group length and overlong AE titles in the meta group are tolerated; a file without
/// any meta group is read as implicit or explicit little endian, whichever its first element looks like.
///
/// # Errors
/// Any [`ReadHeaderError`].
pub fn read_file(path: &Path) -> Result<InstanceHeader, ReadHeaderError> {
    read_part10(File::open(path)?, HeaderLimits::for_files())
}

/// Reads the header of a Part 10 stream within `limits`; offsets in the result count from the start of the stream.
///
/// # Errors
/// Any [`ReadHeaderError`].
pub fn read_part10(
    mut source: impl Read,
    limits: HeaderLimits,
) -> Result<InstanceHeader, ReadHeaderError> {
    let mut buffer = vec![0; 32 * 1024];
    let mut prefix = Vec::new();
    let start = loop {
        let read = read_some(&mut source, &mut buffer)?;
        prefix.extend_from_slice(&buffer[..read]);
        match part10::locate_dataset(&prefix, read == 0)? {
            Some(start) => break start,
            None if read == 0 => return Err(ReadMetaError::Truncated.into()),
            None => {}
        }
    };
    let mut reader = HeaderReader::new(start.transfer_syntax_uid, limits)?;
    reader.feed(&prefix[start.offset..])?;
    while !reader.is_complete() {
        let read = read_some(&mut source, &mut buffer)?;
        if read == 0 {
            break;
        }
        reader.feed(&buffer[..read])?;
    }
    let mut header = reader.finish()?;
    header.dataset_offset = start.offset as u64;
    Ok(header)
}

fn read_some(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match source.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
