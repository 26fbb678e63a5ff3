//! The header parser against dicom-object on real files, and against anything at all.

use std::path::{Path, PathBuf};

use dicom::dictionary_std::tags;
use dicom::object::OpenFileOptions;
use dicom_io::header::{
    HeaderLimits, HeaderReader, ReadHeaderError, RequiredUid, read_file, read_part10,
};
use dicom_io::part10::FileMeta;
use proptest::prelude::*;

const IMPLICIT: &str = "1.2.840.10008.1.2";
const EXPLICIT: &str = "1.2.840.10008.1.2.1";
const DEFLATED: &str = "1.2.840.10008.1.2.1.99";
const BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";

/// The shared material, which tests over it are ignored without.
pub(crate) fn corpus() -> PathBuf {
    let folder = std::env::var_os("PROSECTOR_TEST_DICOM").map(PathBuf::from);
    folder.expect("PROSECTOR_TEST_DICOM names no folder: run without --include-ignored")
}

pub(crate) fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            files_below(&path, found);
        } else {
            found.push(path);
        }
    }
}

fn element(tag: (u16, u16), vr: &str, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&tag.0.to_le_bytes());
    bytes.extend_from_slice(&tag.1.to_le_bytes());
    bytes.extend_from_slice(vr.as_bytes());
    if matches!(vr, "OB" | "OW" | "SQ" | "UN" | "UT") {
        bytes.extend_from_slice(&[0, 0]);
        bytes.extend_from_slice(&(value.len() as u32).to_le_bytes());
    } else {
        bytes.extend_from_slice(&(value.len() as u16).to_le_bytes());
    }
    bytes.extend_from_slice(value);
    bytes
}

fn minimal_dataset() -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(element((0x0008, 0x0016), "UI", b"1.2.840.10008.5.1.4.1.1.2\0"));
    bytes.extend(element((0x0008, 0x0018), "UI", b"1.2.3.4\0"));
    bytes.extend(element((0x0008, 0x0060), "CS", b"CT"));
    bytes.extend(element((0x0020, 0x000D), "UI", b"1.2.3\0"));
    bytes.extend(element((0x0020, 0x000E), "UI", b"1.2.3.1\0"));
    bytes
}

fn read_dataset(
    bytes: &[u8],
    syntax: &str,
    limits: HeaderLimits,
) -> Result<dicom_io::header::InstanceHeader, ReadHeaderError> {
    let mut reader = HeaderReader::new(syntax.parse().unwrap(), limits)?;
    for piece in bytes.chunks(7) {
        reader.feed(piece)?;
    }
    reader.finish()
}

#[test]
#[ignore = "needs the folder of PROSECTOR_TEST_DICOM"]
fn agrees_with_dicom_object_on_every_file_that_it_can_read() {
    let folder = corpus();
    let mut files = Vec::new();
    files_below(&folder, &mut files);
    let (mut compared, mut read) = (0, 0);

    for path in files {
        let Ok(header) = read_file(&path) else { continue };
        read += 1;
        let Ok(reference) =
            OpenFileOptions::new().read_until(tags::FLOAT_PIXEL_DATA).open_file(&path)
        else {
            continue;
        };
        let has_code_extensions = reference
            .get(tags::SPECIFIC_CHARACTER_SET)
            .and_then(|element| element.to_str().ok())
            .is_some_and(|text| text.contains("2022"));
        for element in reference.iter() {
            let Some(ours) = header.dataset.get(element.header().tag) else {
                panic!("{} lacks {}", path.display(), element.header().tag);
            };
            if has_code_extensions || element.vr() == dicom::core::VR::SQ {
                continue;
            }
            if let (Ok(theirs), Ok(ours)) = (element.to_multi_str(), ours.to_multi_str()) {
                let trimmed = |values: &[String]| -> Vec<String> {
                    values
                        .iter()
                        .map(|value| value.trim_end_matches([' ', '\0']).to_owned())
                        .collect()
                };
                assert_eq!(
                    trimmed(&ours),
                    trimmed(&theirs),
                    "{} {}",
                    path.display(),
                    element.header().tag
                );
            }
        }
        compared += 1;
    }

    assert!(read > 125 && compared > 120, "{read} read, {compared} compared");
}

#[test]
#[ignore = "needs the folder of PROSECTOR_TEST_DICOM"]
fn names_in_every_published_character_set_read_as_pydicom_reads_them() {
    let folder = corpus();
    let expected = [
        ("chrArab", "قباني^لنزار"),
        ("chrFren", "Buc^Jérôme"),
        ("chrGerm", "Äneas^Rüdiger"),
        ("chrGreek", "Διονυσιος"),
        ("chrH31", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("chrH32", "ﾔﾏﾀ\u{ff9e}^ﾀﾛｳ=山田^太郎=やまだ^たろう"),
        ("chrHbrw", "שרון^דבורה"),
        ("chrI2", "Hong^Gildong=洪^吉洞=홍^길동"),
        ("chrJapMulti", "やまだ^たろう"),
        ("chrKoreanMulti", "김희중"),
        ("chrRuss", "Люкceмбypг"),
        ("chrX1", "Wang^XiaoDong=王^小東="),
        ("chrX2", "Wang^XiaoDong=王^小东="),
    ];

    for (name, text) in expected {
        let header = read_file(&folder.join(format!("charsets/{name}.dcm"))).unwrap();
        assert_eq!(
            header.dataset.get(tags::PATIENT_NAME).unwrap().to_str().unwrap(),
            text,
            "{name}"
        );
    }
}

#[test]
#[ignore = "needs the folder of PROSECTOR_TEST_DICOM"]
fn refuses_the_published_files_with_empty_uids_and_names_the_attribute() {
    let folder = corpus();
    let mut files = Vec::new();
    files_below(&folder.join("bad-empty-uids"), &mut files);
    files.retain(|path| path.extension().is_some_and(|extension| extension == "dcm"));
    assert!(!files.is_empty());

    for path in files {
        let error = read_file(&path).unwrap_err();
        assert!(
            matches!(error, ReadHeaderError::MissingUid { attribute: RequiredUid::SopClass }),
            "{error:?}"
        );
    }
}

#[test]
fn stops_at_pixel_data_and_reports_its_offset() {
    let mut bytes = minimal_dataset();
    let offset = bytes.len() as u64;
    bytes.extend(element((0x7FE0, 0x0010), "OW", &[1; 4096]));

    let header = read_dataset(&bytes, EXPLICIT, HeaderLimits::for_files()).unwrap();

    assert_eq!(header.pixel_data_offset, Some(offset));
    assert_eq!(header.modality.as_deref(), Some("CT"));
    assert_eq!(header.sop_instance_uid.as_str(), "1.2.3.4");
}

#[test]
fn reads_our_own_part_10_prefix_back() {
    let meta = FileMeta {
        sop_class_uid: "1.2.840.10008.5.1.4.1.1.2".parse().unwrap(),
        sop_instance_uid: "1.2.3.4".parse().unwrap(),
        transfer_syntax_uid: EXPLICIT.parse().unwrap(),
        source_ae_title: Some("MODALITY".parse().unwrap()),
    };
    let mut bytes = meta.encode();
    let offset = bytes.len() as u64;
    bytes.extend(minimal_dataset());

    let header = read_part10(&bytes[..], HeaderLimits::for_files()).unwrap();
    let reference = dicom::object::from_reader(&bytes[..]).unwrap();

    assert_eq!(header.dataset_offset, offset);
    assert_eq!(header.transfer_syntax_uid.as_str(), EXPLICIT);
    assert_eq!(reference.meta().source_application_entity_title.as_deref(), Some("MODALITY"));
}

#[test]
fn tolerates_a_missing_preamble_and_an_overlong_ae_title_without_group_length() {
    let mut bytes = b"DICM".to_vec();
    bytes.extend(element((2, 0x10), "UI", b"1.2.840.10008.1.2.1\0"));
    bytes.extend(element((2, 0x16), "AE", b"EIGHTEEN_BYTES_LON"));
    bytes.extend(minimal_dataset());

    let header = read_part10(&bytes[..], HeaderLimits::for_files()).unwrap();
    let bare = read_part10(&minimal_dataset()[..], HeaderLimits::for_files()).unwrap();

    assert_eq!(header.study_instance_uid.as_str(), "1.2.3");
    assert_eq!(bare.transfer_syntax_uid.as_str(), EXPLICIT);
}

#[test]
fn names_the_uid_that_is_missing_or_malformed() {
    let whole = minimal_dataset();
    let without_series = &whole[..whole.len() - 16];
    let mut with_path = without_series.to_vec();
    with_path.extend(element((0x0020, 0x000E), "UI", b"../../etc/passwd"));

    let missing = read_dataset(without_series, EXPLICIT, HeaderLimits::for_files()).unwrap_err();
    let invalid = read_dataset(&with_path, EXPLICIT, HeaderLimits::for_files()).unwrap_err();

    assert_eq!(missing.to_string(), "Series Instance UID is missing or empty");
    assert_eq!(invalid.to_string(), "Series Instance UID is malformed");
}

#[test]
fn refuses_a_stated_length_beyond_the_limit_before_the_bytes_come() {
    let mut bytes = minimal_dataset();
    bytes.extend([0x29, 0, 0x10, 0, b'O', b'B', 0, 0, 0xF0, 0xFF, 0xFF, 0x7F]);

    let error = read_dataset(&bytes, EXPLICIT, HeaderLimits::for_receiving()).unwrap_err();

    assert!(matches!(error, ReadHeaderError::TooLarge { limit } if limit == 1 << 30), "{error:?}");
}

#[test]
fn refuses_sequences_nested_without_end() {
    let mut bytes = minimal_dataset();
    for _ in 0..100_000 {
        bytes.extend([0x40, 0, 0x75, 0x02, b'S', b'Q', 0, 0, 0xFF, 0xFF, 0xFF, 0xFF]);
        bytes.extend([0xFE, 0xFF, 0x00, 0xE0, 0xFF, 0xFF, 0xFF, 0xFF]);
    }

    let error = read_dataset(&bytes, EXPLICIT, HeaderLimits::for_files()).unwrap_err();

    assert!(matches!(error, ReadHeaderError::TooDeep { .. }), "{error:?}");
}

#[test]
fn passes_over_large_elements_while_receiving_and_keeps_what_follows() {
    let mut bytes = minimal_dataset();
    let uids_end = bytes.len() - 30;
    let tail = bytes.split_off(uids_end);
    bytes.extend(element((0x0009, 0x1010), "OB", &vec![7; 3 << 20]));
    let mut item = vec![0xFE, 0xFF, 0x00, 0xE0, 0xFF, 0xFF, 0xFF, 0xFF];
    item.extend(element((0x0008, 0x0104), "LO", &vec![b'x'; 60_000]));
    item.extend([0xFE, 0xFF, 0x0D, 0xE0, 0, 0, 0, 0]);
    bytes.extend([0x09, 0, 0x11, 0x10, b'S', b'Q', 0, 0, 0xFF, 0xFF, 0xFF, 0xFF]);
    bytes.extend(item.repeat(10));
    bytes.extend([0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0]);
    bytes.extend(tail);

    let header = read_dataset(&bytes, EXPLICIT, HeaderLimits::for_receiving()).unwrap();
    let whole = read_dataset(&bytes, EXPLICIT, HeaderLimits::for_files()).unwrap();

    assert!(header.dataset.get(dicom::core::Tag(0x0009, 0x1010)).is_none());
    assert!(header.dataset.get(dicom::core::Tag(0x0009, 0x1011)).is_none());
    assert_eq!(header.series_instance_uid.as_str(), "1.2.3.1");
    assert!(whole.dataset.get(dicom::core::Tag(0x0009, 0x1011)).is_some());
}

#[test]
fn a_data_set_cut_anywhere_is_truncated_or_lacks_a_uid() {
    let bytes = minimal_dataset();

    for end in 0..bytes.len() {
        let error = read_dataset(&bytes[..end], EXPLICIT, HeaderLimits::for_files()).unwrap_err();
        assert!(
            matches!(error, ReadHeaderError::Truncated { .. } | ReadHeaderError::MissingUid { .. }),
            "{end}: {error:?}"
        );
    }
}

proptest! {
    #[test]
    fn any_bytes_give_a_header_or_an_error(
        bytes in proptest::collection::vec(any::<u8>(), 0..2048),
        syntax in prop_oneof![Just(IMPLICIT), Just(EXPLICIT), Just(DEFLATED), Just(BIG_ENDIAN)],
    ) {
        let _ = read_dataset(&bytes, syntax, HeaderLimits::for_receiving());
        let _ = read_part10(&bytes[..], HeaderLimits::for_files());
    }

    #[test]
    fn a_damaged_data_set_gives_a_header_or_an_error(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        syntax in prop_oneof![Just(IMPLICIT), Just(EXPLICIT), Just(BIG_ENDIAN)],
    ) {
        let mut bytes = minimal_dataset();
        let mut item = vec![0xFE, 0xFF, 0x00, 0xE0, 0xFF, 0xFF, 0xFF, 0xFF];
        item.extend(element((0x0008, 0x0104), "LO", b"name"));
        item.extend(element((0x0028, 0x0010), "US", &[1, 2]));
        item.extend([0xFE, 0xFF, 0x0D, 0xE0, 0, 0, 0, 0]);
        bytes.extend(element((0x0040, 0x0275), "SQ", &item));
        bytes.extend(element((0x0040, 0x0440), "UN", &item));
        for (index, value) in damage {
            let index = index.index(bytes.len());
            bytes[index] = value;
        }

        let _ = read_dataset(&bytes, syntax, HeaderLimits::for_receiving());
        let _ = read_dataset(&bytes, syntax, HeaderLimits::for_files());
    }

    #[test]
    #[ignore = "needs the folder of PROSECTOR_TEST_DICOM"]
    fn the_size_of_the_pieces_does_not_matter(size in 1_usize..200) {
        let folder = corpus();
        let mut files = Vec::new();
        files_below(&folder.join("mr-oblique-sagittal-ge"), &mut files);
        files.retain(|path| read_file(path).is_ok());
        let bytes = std::fs::read(&files[0]).unwrap();
        let whole = read_file(&files[0]).unwrap();

        let mut reader =
            HeaderReader::new(whole.transfer_syntax_uid.clone(), HeaderLimits::for_files()).unwrap();
        for piece in bytes[whole.dataset_offset as usize..].chunks(size) {
            reader.feed(piece).unwrap();
        }
        let pieced = reader.finish().unwrap();

        prop_assert_eq!(pieced.dataset, whole.dataset);
        prop_assert_eq!(pieced.pixel_data_offset, whole.pixel_data_offset);
    }
}
