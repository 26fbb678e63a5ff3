//! Part 10 files (PS3.10): the File Meta Information that we write, and finding the data set in files of others.

use dicom_types::{AeTitle, ParseUidError, SopClassUid, SopInstanceUid, TransferSyntaxUid};

/// Implementation Class UID (0002,0012) of everything that we write and negotiate.
pub const IMPLEMENTATION_CLASS_UID: &str = "2.25.212708283261893853686926143256554371023";

/// Implementation Version Name (0002,0013), at most 16 characters.
pub const IMPLEMENTATION_VERSION_NAME: &str = concat!("PROSECTOR_", env!("CARGO_PKG_VERSION"));

const PREAMBLE_LENGTH: usize = 128;
const MAGIC: &[u8; 4] = b"DICM";
/// Longest meta group that is looked at.
const MAX_META_BYTES: usize = 1 << 20;

/// The File Meta Information of a file that we write (PS3.10 7.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileMeta {
    /// Media Storage SOP Class UID (0002,0002).
    pub sop_class_uid: SopClassUid,
    /// Media Storage SOP Instance UID (0002,0003).
    pub sop_instance_uid: SopInstanceUid,
    /// Transfer Syntax UID (0002,0010).
    pub transfer_syntax_uid: TransferSyntaxUid,
    /// Source Application Entity Title (0002,0016): who sent the data set that follows.
    pub source_ae_title: Option<AeTitle>,
}

impl FileMeta {
    /// The preamble, the prefix and the meta group: everything in front of the data set.
    pub fn encode(&self) -> Vec<u8> {
        let mut group = Vec::with_capacity(256);
        put_long(&mut group, 0x0001, *b"OB", &[0, 1]);
        put_text(&mut group, 0x0002, *b"UI", self.sop_class_uid.as_str(), 0);
        put_text(&mut group, 0x0003, *b"UI", self.sop_instance_uid.as_str(), 0);
        put_text(&mut group, 0x0010, *b"UI", self.transfer_syntax_uid.as_str(), 0);
        put_text(&mut group, 0x0012, *b"UI", IMPLEMENTATION_CLASS_UID, 0);
        put_text(&mut group, 0x0013, *b"SH", IMPLEMENTATION_VERSION_NAME, b' ');
        if let Some(title) = &self.source_ae_title {
            put_text(&mut group, 0x0016, *b"AE", title.as_str(), b' ');
        }

        let mut bytes = vec![0; PREAMBLE_LENGTH];
        bytes.extend_from_slice(MAGIC);
        put_short(&mut bytes, 0x0000, *b"UL", &(group.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&group);
        bytes
    }
}

fn put_text(bytes: &mut Vec<u8>, element: u16, vr: [u8; 2], text: &str, padding: u8) {
    let mut value = text.as_bytes().to_vec();
    if value.len() % 2 == 1 {
        value.push(padding);
    }
    put_short(bytes, element, vr, &value);
}

fn put_short(bytes: &mut Vec<u8>, element: u16, vr: [u8; 2], value: &[u8]) {
    bytes.extend_from_slice(&[2, 0]);
    bytes.extend_from_slice(&element.to_le_bytes());
    bytes.extend_from_slice(&vr);
    bytes.extend_from_slice(&(value.len() as u16).to_le_bytes());
    bytes.extend_from_slice(value);
}

fn put_long(bytes: &mut Vec<u8>, element: u16, vr: [u8; 2], value: &[u8]) {
    bytes.extend_from_slice(&[2, 0]);
    bytes.extend_from_slice(&element.to_le_bytes());
    bytes.extend_from_slice(&vr);
    bytes.extend_from_slice(&[0, 0]);
    bytes.extend_from_slice(&(value.len() as u32).to_le_bytes());
    bytes.extend_from_slice(value);
}

/// Why the front of a file is no Part 10 file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadMetaError {
    /// The file ends inside the meta group, or is empty.
    #[error("file ends inside the file meta information")]
    Truncated,
    /// Neither a Part 10 file nor the start of a data set.
    #[error("not a DICOM file")]
    NotDicom,
    /// A meta group of more than a mebibyte.
    #[error("file meta information exceeds {MAX_META_BYTES} bytes")]
    TooLarge,
    /// The meta group names no transfer syntax.
    #[error("transfer syntax UID is missing")]
    MissingTransferSyntax,
    /// The transfer syntax UID is no unique identifier.
    #[error("transfer syntax UID is malformed")]
    InvalidTransferSyntax(#[source] ParseUidError),
}

/// Where the data set of a file starts and how it is encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetStart {
    /// Offset of the data set's first byte in the file.
    pub offset: usize,
    /// Transfer Syntax UID (0002,0010), or a guess where there is no meta group.
    pub transfer_syntax_uid: TransferSyntaxUid,
    /// Media Storage SOP Class UID (0002,0002) where present and well-formed.
    pub sop_class_uid: Option<SopClassUid>,
    /// Media Storage SOP Instance UID (0002,0003) where present and well-formed.
    pub sop_instance_uid: Option<SopInstanceUid>,
}

/// Finds the data set in a file of which `prefix` is the front; `Ok(None)` asks for a longer prefix.
///
/// Tolerates a missing preamble, a missing or wrong group length, overlong values in the meta group, and no meta
/// group at all. `is_whole` says that nothing follows `prefix`.
///
/// # Errors
/// [`ReadMetaError`] when no longer prefix could help.
pub fn locate_dataset(
    prefix: &[u8],
    is_whole: bool,
) -> Result<Option<DatasetStart>, ReadMetaError> {
    let magic_end = PREAMBLE_LENGTH + MAGIC.len();
    if prefix.len() < magic_end && !is_whole {
        return Ok(None);
    }
    let mut position = if prefix.get(PREAMBLE_LENGTH..magic_end) == Some(MAGIC) {
        magic_end
    } else if prefix.starts_with(MAGIC) {
        MAGIC.len()
    } else {
        0
    };
    let mut start = MetaFields::default();
    loop {
        if position > MAX_META_BYTES {
            return Err(ReadMetaError::TooLarge);
        }
        let rest = &prefix[position..];
        if rest.len() >= 2 && rest[..2] != [2, 0] {
            break;
        }
        let Some(element) = MetaElement::decode(rest) else {
            if !is_whole {
                return Ok(None);
            }
            if rest.is_empty() && start.transfer_syntax.is_some() {
                break;
            }
            return Err(ReadMetaError::Truncated);
        };
        let text = || String::from_utf8_lossy(element.value).into_owned();
        match element.number {
            0x0002 => start.sop_class = Some(text()),
            0x0003 => start.sop_instance = Some(text()),
            0x0010 => start.transfer_syntax = Some(text()),
            _ => {}
        }
        position += element.total_length;
    }
    let transfer_syntax_uid = match start.transfer_syntax {
        Some(text) => text.parse().map_err(ReadMetaError::InvalidTransferSyntax)?,
        None if position > MAGIC.len() => return Err(ReadMetaError::MissingTransferSyntax),
        None => guess_transfer_syntax(&prefix[position..])?,
    };
    Ok(Some(DatasetStart {
        offset: position,
        transfer_syntax_uid,
        sop_class_uid: start.sop_class.and_then(|text| text.parse().ok()),
        sop_instance_uid: start.sop_instance.and_then(|text| text.parse().ok()),
    }))
}

#[derive(Default)]
struct MetaFields {
    transfer_syntax: Option<String>,
    sop_class: Option<String>,
    sop_instance: Option<String>,
}

struct MetaElement<'a> {
    number: u16,
    value: &'a [u8],
    total_length: usize,
}

impl<'a> MetaElement<'a> {
    /// Decodes one explicit little endian element of group 0002; `None` when it is not all there.
    fn decode(bytes: &'a [u8]) -> Option<Self> {
        let &[_, _, number_0, number_1, vr_0, vr_1, l0, l1] = bytes.first_chunk::<8>()?;
        let has_long_length = matches!(&[vr_0, vr_1], b"OB" | b"OW" | b"UN" | b"UT" | b"SQ");
        let (header_length, length) = if has_long_length {
            let &[.., l0, l1, l2, l3] = bytes.first_chunk::<12>()?;
            (12, u32::from_le_bytes([l0, l1, l2, l3]) as usize)
        } else {
            (8, usize::from(u16::from_le_bytes([l0, l1])))
        };
        let total_length = header_length + length;
        let value = bytes.get(header_length..total_length)?;
        Some(Self { number: u16::from_le_bytes([number_0, number_1]), value, total_length })
    }
}

/// A data set without meta group starts with a low group and says by its fifth and sixth byte how it is encoded.
fn guess_transfer_syntax(dataset: &[u8]) -> Result<TransferSyntaxUid, ReadMetaError> {
    let front = dataset.first_chunk::<8>().ok_or(ReadMetaError::NotDicom)?;
    let has_low_group = matches!(front[0], 0x04 | 0x08 | 0x10) && front[1] == 0;
    if !has_low_group {
        return Err(ReadMetaError::NotDicom);
    }
    let is_explicit = front[4].is_ascii_uppercase() && front[5].is_ascii_uppercase();
    let uid = if is_explicit { "1.2.840.10008.1.2.1" } else { "1.2.840.10008.1.2" };
    uid.parse().map_err(ReadMetaError::InvalidTransferSyntax)
}
