//! Writes data elements in Explicit VR Little Endian (PS3.5 7.1.2), front to back into one buffer.
//!
//! An object with a hundred segments has hundreds of thousands of elements; they go straight to bytes and never
//! become a tree.

use dicom::core::Tag;

use crate::coded_concept::{CodeValueForm, CodedConcept};
use dicom::dictionary_std::tags;

/// A value representation, as its two letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Vr(pub(crate) [u8; 2]);

impl Vr {
    /// Whether the length field has 32 bits (PS3.5 table 7.1-1).
    pub(crate) fn is_long(self) -> bool {
        matches!(
            &self.0,
            b"OB"
                | b"OD"
                | b"OF"
                | b"OL"
                | b"OV"
                | b"OW"
                | b"SQ"
                | b"SV"
                | b"UC"
                | b"UN"
                | b"UR"
                | b"UT"
                | b"UV"
        )
    }

    /// The byte that makes a length even.
    fn padding(self) -> u8 {
        if matches!(&self.0, b"UI" | b"OB" | b"UN") { 0 } else { b' ' }
    }
}

/// A buffer of data elements in ascending order of their tags.
#[derive(Debug, Default, Clone)]
pub(crate) struct ElementWriter {
    bytes: Vec<u8>,
    last: Option<Tag>,
}

impl ElementWriter {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Writes an element with the bytes of its value, padded to an even length.
    pub(crate) fn raw(&mut self, tag: Tag, vr: Vr, value: &[u8]) {
        let length = value.len() + value.len() % 2;
        self.header(tag, vr, length as u32);
        self.bytes.extend_from_slice(value);
        if value.len() % 2 == 1 {
            self.bytes.push(vr.padding());
        }
    }

    /// Writes the head of an element whose value of even length the caller writes elsewhere.
    pub(crate) fn header(&mut self, tag: Tag, vr: Vr, length: u32) {
        debug_assert!(self.last < Some(tag), "{tag} after {:?}", self.last);
        self.last = Some(tag);
        self.bytes.extend_from_slice(&tag.0.to_le_bytes());
        self.bytes.extend_from_slice(&tag.1.to_le_bytes());
        self.bytes.extend_from_slice(&vr.0);
        if vr.is_long() {
            self.bytes.extend_from_slice(&[0, 0]);
            self.bytes.extend_from_slice(&length.to_le_bytes());
        } else {
            debug_assert!(length <= 0xFFFF, "{tag} with {length} bytes");
            self.bytes.extend_from_slice(&(length as u16).to_le_bytes());
        }
    }

    pub(crate) fn text(&mut self, tag: Tag, vr: [u8; 2], value: &str) {
        self.raw(tag, Vr(vr), value.as_bytes());
    }

    pub(crate) fn texts<T: AsRef<str>>(&mut self, tag: Tag, vr: [u8; 2], values: &[T]) {
        let joined = values.iter().map(AsRef::as_ref).collect::<Vec<_>>().join("\\");
        self.text(tag, vr, &joined);
    }

    pub(crate) fn us(&mut self, tag: Tag, values: &[u16]) {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.raw(tag, Vr(*b"US"), &bytes);
    }

    pub(crate) fn ul(&mut self, tag: Tag, values: &[u32]) {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.raw(tag, Vr(*b"UL"), &bytes);
    }

    /// Writes an attribute tag as the value of an element.
    pub(crate) fn at(&mut self, tag: Tag, value: Tag) {
        let [a, b] = value.0.to_le_bytes();
        let [c, d] = value.1.to_le_bytes();
        self.raw(tag, Vr(*b"AT"), &[a, b, c, d]);
    }

    /// Writes a sequence of defined length, whose items `fill` adds with [`Self::item`].
    pub(crate) fn sequence(&mut self, tag: Tag, fill: impl FnOnce(&mut Self)) {
        self.header(tag, Vr(*b"SQ"), 0);
        self.measured(fill);
    }

    /// Writes an item of defined length inside a sequence.
    pub(crate) fn item(&mut self, fill: impl FnOnce(&mut Self)) {
        self.bytes.extend_from_slice(&[0xFE, 0xFF, 0x00, 0xE0, 0, 0, 0, 0]);
        self.measured(fill);
    }

    /// Runs `fill` and writes how much it wrote into the four bytes before.
    fn measured(&mut self, fill: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        let outer = self.last.take();
        fill(self);
        self.last = outer;
        let length = (self.bytes.len() - start) as u32;
        self.bytes[start - 4..start].copy_from_slice(&length.to_le_bytes());
    }

    /// Writes a code sequence with one item (PS3.3 8.8).
    pub(crate) fn concept(&mut self, tag: Tag, concept: &CodedConcept) {
        self.sequence(tag, |w| w.item(|w| w.concept_attributes(concept)));
    }

    /// Writes the attributes of a concept into the open item.
    pub(crate) fn concept_attributes(&mut self, concept: &CodedConcept) {
        let form = concept.value_form();
        if form == CodeValueForm::Short {
            self.text(tags::CODE_VALUE, *b"SH", concept.value());
        }
        if form != CodeValueForm::Urn {
            self.text(tags::CODING_SCHEME_DESIGNATOR, *b"SH", concept.scheme_designator());
        }
        self.text(tags::CODE_MEANING, *b"LO", concept.meaning());
        match form {
            CodeValueForm::Short => {}
            CodeValueForm::Long => self.text(tags::LONG_CODE_VALUE, *b"UC", concept.value()),
            CodeValueForm::Urn => self.text(tags::URN_CODE_VALUE, *b"UR", concept.value()),
        }
    }
}

/// Elements of the top level of a data set, added in any order and written in ascending order.
#[derive(Debug, Default)]
pub(crate) struct DataSetWriter {
    elements: std::collections::BTreeMap<Tag, Vec<u8>>,
}

impl DataSetWriter {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds the one element that `fill` writes; a later one with the same tag replaces it.
    pub(crate) fn put(&mut self, fill: impl FnOnce(&mut ElementWriter)) {
        let mut writer = ElementWriter::new();
        fill(&mut writer);
        let tag = writer.last.expect("an element was written");
        self.elements.insert(tag, writer.into_bytes());
    }

    pub(crate) fn text(&mut self, tag: Tag, vr: [u8; 2], value: &str) {
        self.put(|w| w.text(tag, vr, value));
    }

    pub(crate) fn us(&mut self, tag: Tag, value: u16) {
        self.put(|w| w.us(tag, &[value]));
    }

    /// Adds an empty element where none is there yet: an attribute of type 2.
    pub(crate) fn empty_if_absent(&mut self, tag: Tag, vr: [u8; 2]) {
        if !self.elements.contains_key(&tag) {
            self.text(tag, vr, "");
        }
    }

    /// Takes an element out again.
    pub(crate) fn remove(&mut self, tag: Tag) {
        self.elements.remove(&tag);
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.elements.values().map(Vec::len).sum());
        for element in self.elements.into_values() {
            bytes.extend_from_slice(&element);
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dicom::core::Tag;

    #[test]
    fn pads_and_measures() {
        let mut writer = ElementWriter::new();
        writer.text(Tag(0x0008, 0x0018), *b"UI", "1.2");
        writer.sequence(Tag(0x0008, 0x1115), |w| {
            w.item(|w| w.text(Tag(0x0020, 0x000E), *b"LO", "a"));
            w.item(|_| {});
        });

        let expected: &[u8] = b"\x08\x00\x18\x00UI\x04\x001.2\0\
            \x08\x00\x15\x11SQ\0\0\x1A\0\0\0\
            \xFE\xFF\x00\xE0\x0A\0\0\0\x20\x00\x0E\x00LO\x02\x00a \
            \xFE\xFF\x00\xE0\0\0\0\0";
        assert_eq!(writer.into_bytes(), expected);
    }

    #[test]
    fn orders_the_top_level() {
        let mut dataset = DataSetWriter::new();
        dataset.text(Tag(0x0020, 0x0010), *b"SH", "id");
        dataset.us(Tag(0x0008, 0x0001), 1);
        dataset.empty_if_absent(Tag(0x0020, 0x0010), *b"SH");

        assert_eq!(
            dataset.into_bytes(),
            b"\x08\x00\x01\x00US\x02\x00\x01\x00\x20\x00\x10\x00SH\x02\x00id"
        );
    }
}
