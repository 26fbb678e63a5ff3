//! Names in every kind of character set: bytes go through, and others read the same text in source and result.

use dicom::core::value::PrimitiveValue;
use dicom::core::{DataElement, VR};
use dicom::dictionary_std::tags;
use dicom_io::seg::check;

use super::example::Example;
use super::peers::check_seg;
use super::series::TestSeries;

/// Specific Character Set and a Patient's Name in it; the names of PS3.5 annexes H, I and J among them.
const NAMES: &[(&str, &[u8])] = &[
    ("ISO_IR 100", b"\xc4neas^R\xfcdiger"),
    ("ISO_IR 101", b"Wa\xb3\xeasa^Lech"),
    ("ISO_IR 126", b"\xc4\xe9\xef\xed\xf5\xf3\xe9\xef\xf2"),
    ("ISO_IR 127", b"\xe2\xc8\xc7\xe6\xea^\xe4\xe6\xd2\xc7\xd1"),
    ("ISO_IR 138", b"\xf9\xf8\xe5\xef^\xe3\xe1\xe5\xf8\xe4"),
    ("ISO_IR 144", b"\xbb\xee\xda\x63\x65\xdc\xd1\xde\xe0\xd3"),
    ("ISO_IR 192", "Wang^XiaoDong=\u{738b}^\u{5c0f}\u{6771}".as_bytes()),
    ("GB18030", b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab"),
    (
        "\\ISO 2022 IR 87",
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
    ),
    (
        "ISO 2022 IR 13\\ISO 2022 IR 87",
        b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J",
    ),
    (
        "\\ISO 2022 IR 149",
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
    ),
    ("\\ISO 2022 IR 58", b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab="),
];

/// The oblique test series with another character set and name in every file.
fn series_named(character_set: &str, name: &[u8]) -> TestSeries {
    TestSeries::oblique_with(|dataset| {
        let bytes = |bytes: &[u8]| PrimitiveValue::U8(bytes.into());
        dataset.put(DataElement::new(tags::PATIENT_NAME, VR::PN, bytes(name)));
        dataset.put(DataElement::new(tags::STUDY_DESCRIPTION, VR::LO, bytes(name)));
        let character_set = bytes(character_set.as_bytes());
        dataset.put(DataElement::new(tags::SPECIFIC_CHARACTER_SET, VR::CS, character_set));
    })
}

#[test]
fn names_go_through_byte_by_byte() {
    for (character_set, name) in NAMES {
        let series = series_named(character_set, name);
        let example = Example::new(series.stack.geometry.shape());

        let bytes = example.build(&series.stack).bytes;

        let mut element = b"\x10\x00\x10\x00PN".to_vec();
        element.extend_from_slice(&(name.len().next_multiple_of(2) as u16).to_le_bytes());
        element.extend_from_slice(name);
        let is_there = bytes.windows(element.len()).any(|window| window == element);
        assert!(is_there, "{character_set}");
        assert_eq!(check(&bytes, &series.stack, &example.segments()), Ok(()), "{character_set}");
    }
}

#[test]
fn pydicom_reads_the_same_names_in_source_and_result() {
    let switching = NAMES.iter().filter(|(set, _)| set.contains("2022") || *set == "ISO_IR 192");
    for (character_set, name) in switching {
        let series = series_named(character_set, name);
        let example = Example::new(series.stack.geometry.shape());
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("seg.dcm");
        std::fs::write(&file, example.build(&series.stack).bytes).unwrap();

        check_seg(&[file.into(), series.folder().into()]);
    }
}
