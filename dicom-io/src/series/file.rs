//! The header of a file, and where its pixel data begins.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use dicom::core::Tag;
use dicom::dictionary_std::uids;
use flate2::read::DeflateDecoder;

use crate::header::{InstanceHeader, ReadHeaderError, read_file};

/// Longest pixel data that is inflated.
const MAX_INFLATED: u64 = 4 << 30;
/// Bytes of an element header with a long length.
const ELEMENT_HEADER: usize = 12;
/// Length that stands for encapsulated pixel data (PS3.5 A.4).
const UNDEFINED_LENGTH: u32 = 0xFFFF_FFFF;
/// Retired from the standard, alive in archives.
pub(super) const EXPLICIT_VR_BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";

/// Where the value of the pixel data element lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PixelElement {
    pub(super) tag: Tag,
    /// Offset of the value in the file, or in the inflated data set of a deflated file.
    pub(super) offset: u64,
    /// `None` for encapsulated pixel data.
    pub(super) length: Option<u64>,
    /// Bytes from `offset` to the end of the file or data set.
    pub(super) available: u64,
}

/// A file without its pixel data.
pub(super) struct FileHeader {
    pub(super) instance: InstanceHeader,
    pub(super) pixels: Option<PixelElement>,
}

/// Reads the header of a file.
pub(super) fn read_header(path: &Path) -> Result<FileHeader, ReadHeaderError> {
    let instance = read_file(path)?;
    let Some(offset) = instance.pixel_data_offset else {
        return Ok(FileHeader { instance, pixels: None });
    };
    let transfer_syntax_uid = instance.transfer_syntax_uid.as_str();
    let (header, offset, size) = if is_deflated(transfer_syntax_uid) {
        let (header, size) = inflated_header(path, instance.dataset_offset, offset)?;
        (header, offset, size)
    } else {
        let file = File::open(path)?;
        let offset = instance.dataset_offset + offset;
        let mut header = [0; ELEMENT_HEADER];
        let is_whole = file.read_exact_at(&mut header, offset).is_ok();
        (is_whole.then_some(header), offset, file.metadata()?.len())
    };
    let pixels = header.map(|header| pixel_element(header, transfer_syntax_uid, offset, size));
    Ok(FileHeader { instance, pixels })
}

/// Inflates `range` of the data set of a deflated file (PS3.5 A.5).
pub(super) fn inflate_range(
    path: &Path,
    dataset_offset: u64,
    range: Range<u64>,
) -> io::Result<Vec<u8>> {
    let mut dataset = inflated_from(path, dataset_offset)?;
    io::copy(&mut dataset.by_ref().take(range.start), &mut io::sink())?;
    let mut bytes = Vec::new();
    dataset.take(range.end - range.start).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The element header at `offset` of a deflated data set, and the length of the data set when inflated.
fn inflated_header(
    path: &Path,
    dataset_offset: u64,
    offset: u64,
) -> io::Result<(Option<[u8; ELEMENT_HEADER]>, u64)> {
    let mut dataset = inflated_from(path, dataset_offset)?;
    io::copy(&mut dataset.by_ref().take(offset), &mut io::sink())?;
    let mut header = [0; ELEMENT_HEADER];
    if dataset.read_exact(&mut header).is_err() {
        return Ok((None, offset));
    }
    let rest = io::copy(&mut dataset.take(MAX_INFLATED), &mut io::sink())?;
    Ok((Some(header), offset + ELEMENT_HEADER as u64 + rest))
}

fn inflated_from(path: &Path, dataset_offset: u64) -> io::Result<DeflateDecoder<File>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(dataset_offset))?;
    Ok(DeflateDecoder::new(file))
}

/// Whether the whole data set is deflated.
fn is_deflated(transfer_syntax_uid: &str) -> bool {
    transfer_syntax_uid == uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
}

/// Parses the header of the pixel data element at `offset`.
fn pixel_element(
    header: [u8; ELEMENT_HEADER],
    transfer_syntax_uid: &str,
    offset: u64,
    size: u64,
) -> PixelElement {
    let [g0, g1, e0, e1, l0, l1, l2, l3, m0, m1, m2, m3] = header;
    let is_big = transfer_syntax_uid == EXPLICIT_VR_BIG_ENDIAN;
    let u16 = if is_big { u16::from_be_bytes } else { u16::from_le_bytes };
    let u32 = if is_big { u32::from_be_bytes } else { u32::from_le_bytes };
    let tag = Tag(u16([g0, g1]), u16([e0, e1]));
    let is_implicit = transfer_syntax_uid == uids::IMPLICIT_VR_LITTLE_ENDIAN;
    let (length, header_length) =
        if is_implicit { (u32([l0, l1, l2, l3]), 8) } else { (u32([m0, m1, m2, m3]), 12) };
    let offset = offset + header_length;
    PixelElement {
        tag,
        offset,
        length: (length != UNDEFINED_LENGTH).then_some(length.into()),
        available: size.saturating_sub(offset),
    }
}
