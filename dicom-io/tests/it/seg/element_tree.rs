//! The element tree of a small segmentation, for review.

use std::fmt::Write;

use dicom::core::VR;
use dicom::core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom::core::header::Header;
use dicom::dictionary_std::StandardDataDictionary;
use dicom::object::{InMemDicomObject, from_reader};

use super::example::Example;
use super::series::TestSeries;

/// Items of a sequence that are shown.
const ITEMS_SHOWN: usize = 3;

fn print(dataset: &InMemDicomObject, indent: usize, text: &mut String) {
    for element in dataset {
        let tag = element.tag();
        let entry = StandardDataDictionary.by_tag(tag);
        let keyword = entry.map_or("?", |entry| entry.alias());
        let head = format!("{:indent$}{tag} {} {keyword}", "", element.vr());
        if let Some(items) = element.items() {
            writeln!(text, "{head}: {} items", items.len()).unwrap();
            for item in items.iter().take(ITEMS_SHOWN) {
                writeln!(text, "{:indent$}  -", "").unwrap();
                print(item, indent + 4, text);
            }
        } else if element.vr() == VR::OB {
            writeln!(text, "{head}: {} bytes", element.to_bytes().unwrap().len()).unwrap();
        } else {
            writeln!(text, "{head} [{}]", element.to_str().unwrap()).unwrap();
        }
    }
}

#[test]
fn the_tree_is_the_one_that_was_reviewed() {
    let series = TestSeries::oblique();
    let example = Example::new(series.stack.geometry.shape());
    let bytes = example.build(&series.stack).bytes;

    let mut text = String::new();
    print(&from_reader(bytes.as_slice()).unwrap(), 0, &mut text);

    insta::with_settings!({filters => vec![(r"2\.25\.\d+", "[derived UID]")]}, {
        insta::assert_snapshot!(text);
    });
}

#[test]
fn the_same_job_gives_the_same_bytes_and_another_job_other_uids() {
    let series = TestSeries::oblique();
    let example = Example::new(series.stack.geometry.shape());

    let first = example.build(&series.stack);
    let second = example.build(&TestSeries::oblique().stack);
    let other = example.build_as(&series.stack, 0x0DD);

    assert!(first.bytes == second.bytes);
    assert_ne!(first.sop_instance_uid, other.sop_instance_uid);
    assert_ne!(first.series_instance_uid, other.series_instance_uid);
}
