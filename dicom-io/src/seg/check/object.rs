//! A reader of data sets in Explicit VR Little Endian (PS3.5 7.1) that copies nothing and shares nothing with the writer.
//!
//! An object with a hundred segments has hundreds of thousands of elements: they are looked up where they lie, and a
//! tree of them is never built. What is malformed on the way to an attribute is an error, never passed over.

use dicom::core::Tag;
use dicom::core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom::dictionary_std::{StandardDataDictionary, tags};
use dicom::object::InMemDicomObject;

use super::SegMismatch;
use crate::header::{HeaderLimits, read_part10};

const UNDEFINED_LENGTH: u32 = 0xFFFF_FFFF;
const ITEM: Tag = Tag(0xFFFE, 0xE000);
const ITEM_DELIMITATION: Tag = Tag(0xFFFE, 0xE00D);
const SEQUENCE_DELIMITATION: Tag = Tag(0xFFFE, 0xE0DD);
/// Deepest nesting of sequences.
const MAX_DEPTH: usize = 16;

/// A Part 10 file in Explicit VR Little Endian.
pub(super) struct Parsed<'a> {
    /// Its attributes in front of the functional groups as the header of the source was read, so that texts in any
    /// character set can be compared.
    pub(super) header: InMemDicomObject,
    pub(super) meta: Item<'a>,
    pub(super) dataset: Item<'a>,
}

impl<'a> Parsed<'a> {
    pub(super) fn from_bytes(bytes: &'a [u8]) -> Result<Self, SegMismatch> {
        let (preamble, rest) = bytes.split_at_checked(132).ok_or(SegMismatch::Unreadable)?;
        if !preamble.ends_with(b"DICM") {
            return Err(SegMismatch::Unreadable);
        }
        let mut cursor = Cursor::new(rest);
        while cursor.peek_group() == Some(0x0002) {
            cursor.element()?;
        }
        let meta = Item { bytes: &rest[..cursor.at] };
        let dataset = Item { bytes: &rest[cursor.at..] };
        if text(meta, tags::TRANSFER_SYNTAX_UID)? != "1.2.840.10008.1.2.1" {
            return Err(unexpected(tags::TRANSFER_SYNTAX_UID));
        }

        let mut front = 132 + cursor.at;
        let mut cursor = Cursor::new(dataset.bytes);
        while let Some(element) = cursor.next_ascending()? {
            if element.tag < tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE {
                front = 132 + meta.bytes.len() + cursor.at;
            }
        }
        let header = read_part10(&bytes[..front], HeaderLimits::for_files())
            .map_err(|_| SegMismatch::Unreadable)?;
        Ok(Self { header: header.dataset, meta, dataset })
    }
}

/// A data set, or an item of a sequence.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item<'a> {
    bytes: &'a [u8],
}

/// A data element as it lies in the bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Element<'a> {
    tag: Tag,
    vr: [u8; 2],
    pub(super) value: &'a [u8],
}

impl<'a> Item<'a> {
    pub(super) fn get(self, tag: Tag) -> Result<Option<Element<'a>>, SegMismatch> {
        let mut cursor = Cursor::new(self.bytes);
        while let Some(element) = cursor.next_ascending()? {
            if element.tag == tag {
                return Ok(Some(element));
            }
            if element.tag > tag {
                break;
            }
        }
        Ok(None)
    }
}

/// A place in the bytes.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    last: Option<Tag>,
}

impl<'a> Cursor<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, last: None }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], SegMismatch> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = rest.get(..length).ok_or(SegMismatch::Unreadable)?;
        self.at += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], SegMismatch> {
        self.take(N).map(|bytes| bytes.try_into().expect("as many bytes as were taken"))
    }

    fn peek_group(&self) -> Option<u16> {
        let rest = self.bytes.get(self.at..)?;
        rest.first_chunk().map(|bytes| u16::from_le_bytes(*bytes))
    }

    fn tag(&mut self) -> Result<Tag, SegMismatch> {
        let [a, b, c, d] = self.array()?;
        Ok(Tag(u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d])))
    }

    fn length(&mut self) -> Result<u32, SegMismatch> {
        self.array().map(u32::from_le_bytes)
    }

    /// The next element, nothing at the end; tags must ascend (PS3.5 7.1).
    fn next_ascending(&mut self) -> Result<Option<Element<'a>>, SegMismatch> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        let element = self.element()?;
        if self.last.replace(element.tag) >= Some(element.tag) {
            return Err(SegMismatch::Unreadable);
        }
        Ok(Some(element))
    }

    fn element(&mut self) -> Result<Element<'a>, SegMismatch> {
        let tag = self.tag()?;
        self.element_of(tag, 0)
    }

    fn element_of(&mut self, tag: Tag, depth: usize) -> Result<Element<'a>, SegMismatch> {
        let vr: [u8; 2] = self.array()?;
        // PS3.5 table 7.1-2: these have a length of 16 bits, all others one of 32 after two reserved bytes.
        let is_short = matches!(
            &vr,
            b"AE"
                | b"AS"
                | b"AT"
                | b"CS"
                | b"DA"
                | b"DS"
                | b"DT"
                | b"FL"
                | b"FD"
                | b"IS"
                | b"LO"
                | b"LT"
                | b"PN"
                | b"SH"
                | b"SL"
                | b"SS"
                | b"ST"
                | b"TM"
                | b"UI"
                | b"UL"
                | b"US"
        );
        let length = if is_short {
            u32::from(u16::from_le_bytes(self.array()?))
        } else {
            self.take(2)?;
            self.length()?
        };
        let value = if length == UNDEFINED_LENGTH {
            self.delimited_sequence(depth)?
        } else {
            self.take(length as usize)?
        };
        if length % 2 == 1 && length != UNDEFINED_LENGTH {
            return Err(SegMismatch::Unreadable);
        }
        Ok(Element { tag, vr, value })
    }

    /// The items of a sequence of undefined length, and the delimiter passed.
    fn delimited_sequence(&mut self, depth: usize) -> Result<&'a [u8], SegMismatch> {
        let start = self.at;
        loop {
            let end = self.at;
            match self.tag()? {
                SEQUENCE_DELIMITATION => {
                    self.length()?;
                    return Ok(&self.bytes[start..end]);
                }
                ITEM => self.item(depth).map(|_| ())?,
                _ => return Err(SegMismatch::Unreadable),
            }
        }
    }

    /// The content of an item whose tag was read.
    fn item(&mut self, depth: usize) -> Result<Item<'a>, SegMismatch> {
        if depth == MAX_DEPTH {
            return Err(SegMismatch::Unreadable);
        }
        let length = self.length()?;
        if length != UNDEFINED_LENGTH {
            return self.take(length as usize).map(|bytes| Item { bytes });
        }
        let start = self.at;
        loop {
            let end = self.at;
            match self.tag()? {
                ITEM_DELIMITATION => {
                    self.length()?;
                    return Ok(Item { bytes: &self.bytes[start..end] });
                }
                tag => self.element_of(tag, depth + 1).map(|_| ())?,
            }
        }
    }
}

/// Keyword of `tag` for a message.
pub(super) fn keyword(tag: Tag) -> &'static str {
    StandardDataDictionary.by_tag(tag).map_or("an attribute", |entry| entry.alias())
}

pub(super) fn malformed(tag: Tag) -> SegMismatch {
    SegMismatch::Malformed { attribute: keyword(tag) }
}

pub(super) fn unexpected(tag: Tag) -> SegMismatch {
    SegMismatch::Unexpected { attribute: keyword(tag) }
}

pub(super) fn element(item: Item<'_>, tag: Tag) -> Result<Element<'_>, SegMismatch> {
    item.get(tag)?.ok_or_else(|| malformed(tag))
}

/// The value as text, padding removed.
pub(super) fn text(item: Item<'_>, tag: Tag) -> Result<&str, SegMismatch> {
    let value = element(item, tag)?.value;
    let text = std::str::from_utf8(value).map_err(|_| malformed(tag))?;
    Ok(text.trim_matches(['\0', ' ']))
}

/// The value as text, nothing where it is absent or empty.
pub(super) fn optional_text(item: Item<'_>, tag: Tag) -> Result<Option<&str>, SegMismatch> {
    match item.get(tag)? {
        None => Ok(None),
        Some(_) => text(item, tag).map(|text| Some(text).filter(|text| !text.is_empty())),
    }
}

pub(super) fn number(item: Item<'_>, tag: Tag) -> Result<u32, SegMismatch> {
    match numbers(item, tag)?.as_slice() {
        [number] => Ok(*number),
        _ => Err(malformed(tag)),
    }
}

/// Whole numbers of representation US, UL or IS.
pub(super) fn numbers(item: Item<'_>, tag: Tag) -> Result<Vec<u32>, SegMismatch> {
    let Element { vr, value, .. } = element(item, tag)?;
    match &vr {
        b"US" if value.len().is_multiple_of(2) => {
            let pairs = value.chunks_exact(2);
            Ok(pairs.map(|pair| u32::from(u16::from_le_bytes([pair[0], pair[1]]))).collect())
        }
        b"UL" if value.len().is_multiple_of(4) => {
            let quads = value.chunks_exact(4);
            Ok(quads.map(|q| u32::from_le_bytes([q[0], q[1], q[2], q[3]])).collect())
        }
        b"IS" => {
            let numbers = text(item, tag)?.split('\\').map(|number| number.trim().parse());
            numbers.collect::<Result<_, _>>().map_err(|_| malformed(tag))
        }
        _ => Err(malformed(tag)),
    }
}

/// The `N` decimal numbers of an attribute of representation DS.
pub(super) fn decimals<const N: usize>(item: Item<'_>, tag: Tag) -> Result<[f64; N], SegMismatch> {
    if element(item, tag)?.vr != *b"DS" {
        return Err(malformed(tag));
    }
    let mut values = [0.0; N];
    let mut texts = text(item, tag)?.split('\\');
    for value in &mut values {
        let number = texts.next().and_then(|text| text.trim().parse().ok());
        *value = number.filter(|v: &f64| v.is_finite()).ok_or_else(|| malformed(tag))?;
    }
    if texts.next().is_some() { Err(malformed(tag)) } else { Ok(values) }
}

pub(super) fn items(item: Item<'_>, tag: Tag) -> Result<Vec<Item<'_>>, SegMismatch> {
    let Element { vr, value, .. } = element(item, tag)?;
    if vr != *b"SQ" {
        return Err(malformed(tag));
    }
    let mut cursor = Cursor::new(value);
    let mut items = Vec::new();
    while cursor.at < value.len() {
        if cursor.tag()? != ITEM {
            return Err(malformed(tag));
        }
        items.push(cursor.item(0)?);
    }
    Ok(items)
}

/// The only item of a sequence.
pub(super) fn only_item(item: Item<'_>, tag: Tag) -> Result<Item<'_>, SegMismatch> {
    optional_item(item, tag)?.ok_or_else(|| malformed(tag))
}

/// The only item of a sequence, nothing where there is no such sequence.
pub(super) fn optional_item(item: Item<'_>, tag: Tag) -> Result<Option<Item<'_>>, SegMismatch> {
    let Some(Element { vr, value, .. }) = item.get(tag)? else { return Ok(None) };
    let mut cursor = Cursor::new(value);
    if vr != *b"SQ" || cursor.tag()? != ITEM {
        return Err(malformed(tag));
    }
    let only = cursor.item(0)?;
    if cursor.at == value.len() { Ok(Some(only)) } else { Err(malformed(tag)) }
}
