//! Comparing what a PACS gives back with what it was sent.

use dicom::core::Tag;
use dicom::core::header::Header as _;
use dicom::core::value::Value;
use dicom::object::InMemDicomObject;
use dicom::transfer_syntax::entries::{
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN,
    RLE_LOSSLESS,
};
use sha2::{Digest as _, Sha256};

use crate::compression::Compression;
use crate::part10;

/// Sequences within sequences that are followed.
const MAX_DEPTH: usize = 32;

/// An instance as a peer gave it back.
#[derive(Clone, PartialEq, Eq)]
pub struct ReadBack {
    /// Transfer syntax of the data set.
    pub transfer_syntax: String,
    /// The data set, without meta group.
    pub dataset: Vec<u8>,
}

impl std::fmt::Debug for ReadBack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadBack")
            .field("transfer_syntax", &self.transfer_syntax)
            .field("dataset", &self.dataset.len())
            .finish()
    }
}

/// How an instance that was given back stands to the one that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// Every element has the same value.
    Same,
    /// The same but for attributes of patient, visit and order, which a PACS may correct to what it knows.
    Coerced,
    /// Something else is in it, or it cannot be read.
    Different,
}

impl ReadBack {
    /// The instance of a Part 10 file; nothing where it is none.
    pub fn of_file(file: &[u8]) -> Option<Self> {
        let start = part10::locate_dataset(file, true).ok()??;
        Some(Self {
            transfer_syntax: start.transfer_syntax_uid.as_str().to_owned(),
            dataset: file.get(start.offset..)?.to_vec(),
        })
    }

    /// Compares with the Part 10 file that was sent, by SHA-256 over the values of both.
    pub fn compare(&self, file: &[u8]) -> Comparison {
        let Some(sent) = Self::of_file(file) else { return Comparison::Different };
        if sent == *self {
            return Comparison::Same;
        }
        let encapsulated = (self.transfer_syntax == Compression::Rle.uid())
            .then(|| Compression::Rle.dataset(file).ok())
            .flatten();
        let sent = match encapsulated {
            Some(dataset) => Self { transfer_syntax: self.transfer_syntax.clone(), dataset },
            None => sent,
        };
        let (Some(ours), Some(theirs)) = (sent.read(), self.read()) else {
            return Comparison::Different;
        };
        let digests = |may_skip| (digest(&ours, may_skip), digest(&theirs, may_skip));
        let is_equal = |(ours, theirs): (Option<_>, Option<_>)| ours.is_some() && ours == theirs;
        if is_equal(digests(false)) {
            Comparison::Same
        } else if is_equal(digests(true)) {
            Comparison::Coerced
        } else {
            Comparison::Different
        }
    }

    fn read(&self) -> Option<InMemDicomObject> {
        let bytes = &self.dataset[..];
        let syntaxes = [
            EXPLICIT_VR_LITTLE_ENDIAN.erased(),
            IMPLICIT_VR_LITTLE_ENDIAN.erased(),
            DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN.erased(),
            RLE_LOSSLESS.erased(),
        ];
        let syntax = syntaxes.iter().find(|syntax| syntax.uid() == self.transfer_syntax)?;
        InMemDicomObject::read_dataset_with_ts(bytes, syntax).ok()
    }
}

/// Digest of tags and values; nothing where sequences are nested beyond reason.
fn digest(dataset: &InMemDicomObject, may_skip: bool) -> Option<[u8; 32]> {
    let mut digest = Sha256::new();
    add(&mut digest, dataset, may_skip, MAX_DEPTH)?;
    Some(digest.finalize().into())
}

fn add(
    digest: &mut Sha256,
    dataset: &InMemDicomObject,
    may_skip: bool,
    depth: usize,
) -> Option<()> {
    let depth = depth.checked_sub(1)?;
    for element in dataset {
        let tag = element.tag();
        if tag.1 == 0 || (may_skip && is_coerced(tag)) {
            continue;
        }
        digest.update(tag.0.to_le_bytes());
        digest.update(tag.1.to_le_bytes());
        match element.value() {
            Value::Primitive(value) => {
                let bytes = value.to_bytes();
                // Padding is no part of a value (PS3.5 6.2).
                let end = bytes.iter().rposition(|byte| ![0, b' '].contains(byte));
                let is_pixels = tag == dicom::dictionary_std::tags::PIXEL_DATA;
                let bytes = if is_pixels { &bytes[..] } else { &bytes[..end.map_or(0, |e| e + 1)] };
                digest.update((bytes.len() as u64).to_le_bytes());
                digest.update(bytes);
            }
            Value::Sequence(items) => {
                digest.update((items.items().len() as u64).to_le_bytes());
                for item in items.items() {
                    digest.update(b"item");
                    add(digest, item, false, depth)?;
                }
                digest.update(b"end");
            }
            Value::PixelSequence(frames) => {
                for frame in frames.fragments() {
                    digest.update((frame.len() as u64).to_le_bytes());
                    digest.update(frame);
                }
            }
        }
    }
    Some(())
}

/// What a PACS corrects in what it takes: attributes of patient, study, visit and order, and what it says of that.
fn is_coerced(Tag(group, element): Tag) -> bool {
    let of_study = [0x0005, 0x0050, 0x0051, 0x0056, 0x0090, 0x1030, 0x1048, 0x1060, 0x1080];
    matches!(group, 0x0010 | 0x0032 | 0x0038 | 0x0040)
        || group % 2 == 1
        || (group == 0x0008 && of_study.contains(&element))
        || (group, element) == (0x0020, 0x0010)
        || (group == 0x0400 && element == 0x0561)
}

#[cfg(test)]
mod tests {
    use dicom::core::value::PrimitiveValue;
    use dicom::core::{DataElement, VR};
    use dicom::dictionary_std::tags;

    use super::*;
    use crate::part10::FileMeta;

    fn dataset(patient: &str, rows: u16, pixels: &[u8]) -> InMemDicomObject {
        InMemDicomObject::from_element_iter([
            DataElement::new(tags::SOP_INSTANCE_UID, VR::UI, PrimitiveValue::from("1.2.3")),
            DataElement::new(tags::PATIENT_ID, VR::LO, PrimitiveValue::from(patient)),
            DataElement::new(tags::ROWS, VR::US, PrimitiveValue::from(rows)),
            DataElement::new(tags::PIXEL_DATA, VR::OB, PrimitiveValue::from(pixels.to_vec())),
        ])
    }

    fn file(dataset: &InMemDicomObject) -> Vec<u8> {
        let meta = FileMeta {
            sop_class_uid: "1.2.840.10008.5.1.4.1.1.66.4".parse().unwrap(),
            sop_instance_uid: "1.2.3".parse().unwrap(),
            transfer_syntax_uid: "1.2.840.10008.1.2.1".parse().unwrap(),
            source_ae_title: None,
        };
        let mut bytes = meta.encode();
        dataset.write_dataset_with_ts(&mut bytes, &EXPLICIT_VR_LITTLE_ENDIAN.erased()).unwrap();
        bytes
    }

    fn implicit(dataset: &InMemDicomObject) -> ReadBack {
        let mut bytes = Vec::new();
        dataset.write_dataset_with_ts(&mut bytes, &IMPLICIT_VR_LITTLE_ENDIAN.erased()).unwrap();
        let transfer_syntax = IMPLICIT_VR_LITTLE_ENDIAN.uid().to_owned();
        ReadBack { transfer_syntax, dataset: bytes }
    }

    #[test]
    fn the_syntax_makes_no_difference_and_a_bit_does() {
        let sent = file(&dataset("A", 2, &[1, 2, 3, 0]));

        assert_eq!(ReadBack::of_file(&sent).unwrap().compare(&sent), Comparison::Same);
        let same = implicit(&dataset("A", 2, &[1, 2, 3, 0]));
        assert_eq!(same.compare(&sent), Comparison::Same);
        let coerced = implicit(&dataset("B", 2, &[1, 2, 3, 0]));
        assert_eq!(coerced.compare(&sent), Comparison::Coerced);
        for other in [dataset("A", 3, &[1, 2, 3, 0]), dataset("A", 2, &[1, 2, 7, 0])] {
            assert_eq!(implicit(&other).compare(&sent), Comparison::Different);
        }
        let unreadable = ReadBack { transfer_syntax: "1.2".into(), dataset: sent.clone() };
        assert_eq!(unreadable.compare(&sent), Comparison::Different);
    }
}
