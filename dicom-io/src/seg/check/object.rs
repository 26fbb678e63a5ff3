//! Values of a parsed object, with one error for whatever is missing.

use dicom::core::Tag;
use dicom::core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom::dictionary_std::StandardDataDictionary;
use dicom::object::file::ReadPreamble;
use dicom::object::mem::InMemElement;
use dicom::object::{InMemDicomObject, OpenFileOptions};

use super::SegMismatch;
use crate::header::{HeaderLimits, read_part10};

/// Bounds for the attributes of patient and study; functional groups are passed over.
const LIMITS: HeaderLimits = HeaderLimits {
    max_bytes: u32::MAX as u64,
    max_elements: usize::MAX,
    ..HeaderLimits::for_receiving()
};

/// A parsed Part 10 file.
pub(super) struct Parsed {
    /// Its header as the header of the source was read, so that texts can be compared.
    pub(super) header: InMemDicomObject,
    pub(super) media_storage_sop_class_uid: String,
    pub(super) media_storage_sop_instance_uid: String,
    pub(super) dataset: InMemDicomObject,
}

impl Parsed {
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, SegMismatch> {
        let file = OpenFileOptions::new()
            .read_preamble(ReadPreamble::Always)
            .from_reader(bytes)
            .map_err(|_| SegMismatch::Unreadable)?;
        let header = read_part10(bytes, LIMITS).map_err(|_| SegMismatch::Unreadable)?;
        let trimmed = |text: &str| text.trim_end_matches(['\0', ' ']).to_owned();
        Ok(Self {
            header: header.dataset,
            media_storage_sop_class_uid: trimmed(&file.meta().media_storage_sop_class_uid),
            media_storage_sop_instance_uid: trimmed(&file.meta().media_storage_sop_instance_uid),
            dataset: file.into_inner(),
        })
    }
}

/// Keyword of `tag` for a message.
pub(super) fn keyword(tag: Tag) -> &'static str {
    StandardDataDictionary.by_tag(tag).map_or("an attribute", |entry| entry.alias())
}

fn malformed(tag: Tag) -> SegMismatch {
    SegMismatch::Malformed { attribute: keyword(tag) }
}

fn element(item: &InMemDicomObject, tag: Tag) -> Result<&InMemElement, SegMismatch> {
    item.get(tag).ok_or_else(|| malformed(tag))
}

/// The value as text, padding removed.
pub(super) fn text(item: &InMemDicomObject, tag: Tag) -> Result<String, SegMismatch> {
    let text = element(item, tag)?.to_str().map_err(|_| malformed(tag))?;
    Ok(text.trim_matches(['\0', ' ']).to_owned())
}

/// The value as text, nothing where it is absent or empty.
pub(super) fn optional_text(item: &InMemDicomObject, tag: Tag) -> Option<String> {
    text(item, tag).ok().filter(|text| !text.is_empty())
}

pub(super) fn number(item: &InMemDicomObject, tag: Tag) -> Result<u32, SegMismatch> {
    element(item, tag)?.to_int().map_err(|_| malformed(tag))
}

pub(super) fn numbers(item: &InMemDicomObject, tag: Tag) -> Result<Vec<u32>, SegMismatch> {
    element(item, tag)?.to_multi_int().map_err(|_| malformed(tag))
}

/// The `N` decimal numbers of an attribute.
pub(super) fn decimals<const N: usize>(
    item: &InMemDicomObject,
    tag: Tag,
) -> Result<[f64; N], SegMismatch> {
    let values = element(item, tag)?.to_multi_float64().map_err(|_| malformed(tag))?;
    let values: [f64; N] = values.try_into().map_err(|_| malformed(tag))?;
    if values.iter().all(|value| value.is_finite()) { Ok(values) } else { Err(malformed(tag)) }
}

pub(super) fn items(item: &InMemDicomObject, tag: Tag) -> Result<&[InMemDicomObject], SegMismatch> {
    element(item, tag)?.items().ok_or_else(|| malformed(tag))
}

/// The only item of a sequence.
pub(super) fn only_item(
    item: &InMemDicomObject,
    tag: Tag,
) -> Result<&InMemDicomObject, SegMismatch> {
    match items(item, tag)? {
        [only] => Ok(only),
        _ => Err(malformed(tag)),
    }
}

/// The only item of a sequence, nothing where there is no such sequence.
pub(super) fn optional_item(
    item: &InMemDicomObject,
    tag: Tag,
) -> Result<Option<&InMemDicomObject>, SegMismatch> {
    if item.get(tag).is_none() { Ok(None) } else { only_item(item, tag).map(Some) }
}

pub(super) fn unexpected(tag: Tag) -> SegMismatch {
    SegMismatch::Unexpected { attribute: keyword(tag) }
}
