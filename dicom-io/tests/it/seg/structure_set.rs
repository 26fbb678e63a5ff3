//! Structure sets, verified by dciodvfy, their contours filled with numpy.

use std::process::Command;

use dicom::core::dictionary::DataDictionary;
use dicom::core::ops::{ApplyOp, AttributeAction, AttributeOp};
use dicom::dictionary_std::StandardDataDictionary;
use dicom::object::from_reader;
use dicom_io::ResultObject;
use dicom_io::rtstruct::build;
use dicom_io::seg::check_structure_set;
use dicom_io::series::{Stack, read_stacks};

use super::example::{Example, identity, provenance};
use super::peers::write_expected;
use super::series::TestSeries;
use crate::header::corpus;
use crate::series::shared_material::folders;

pub(super) fn structure_set(stack: &Stack, example: &Example) -> ResultObject {
    build(stack, &example.segments(), &identity(), &provenance()).unwrap()
}

fn others_agree(stack: &Stack) {
    let example = Example::new(stack.geometry.shape());
    let set = structure_set(stack, &example);
    assert_eq!(check_structure_set(&set.bytes, stack, &example.segments()), Ok(()));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rtstruct.dcm");
    std::fs::write(&file, &set.bytes).unwrap();

    let verified = Command::new("/usr/bin/dciodvfy")
        .arg(&file)
        .output()
        .expect("dciodvfy is missing: install dicom3tools");
    let said = String::from_utf8_lossy(&verified.stderr);
    assert!(said.contains("RTStructureSet") && !said.contains("Error"), "{said}");

    write_expected(stack, &example, folder.path());
    let python = std::env::var_os("PROSECTOR_TEST_PYTHON")
        .expect("PROSECTOR_TEST_PYTHON is not set: run the tests through ops/test");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/python/check_rtstruct.py");
    let mut sources: Vec<_> = stack.slices.iter().map(|slice| slice.path.clone()).collect();
    sources.dedup();
    let output = Command::new(python)
        .arg(script)
        .arg(&file)
        .args(sources)
        .arg("--expected")
        .arg(folder.path())
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}{complaint}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn others_fill_the_contours_of_a_tilted_oblique_series() {
    others_agree(&TestSeries::oblique().stack);
}

#[test]
#[ignore = "needs the folder of PROSECTOR_TEST_DICOM"]
fn others_fill_contours_of_the_shared_material() {
    let folders = folders(&corpus());

    for name in ["ct-head-tilt-philips", "mr-fragmented-jpeg-lossless"] {
        others_agree(&read_stacks(&folders[name]).stacks[0]);
    }
}

/// Contour data with its numbers changed, three to a point.
fn moved(text: &str, change: impl Fn(usize, f64) -> f64) -> String {
    let numbers = text.split('\\').map(|number| number.trim().parse::<f64>().unwrap());
    let changed = numbers.enumerate().map(|(i, number)| format!("{:.4}", change(i % 3, number)));
    changed.collect::<Vec<_>>().join("\\")
}

#[test]
fn faults_of_contours_are_held_back() {
    let series = TestSeries::oblique();
    let example = Example::new(series.stack.geometry.shape());
    let bytes = structure_set(&series.stack, &example).bytes;
    let spoilt = |path: &str, change: &dyn Fn(&str) -> String| {
        let selector = StandardDataDictionary.parse_selector(path).unwrap();
        let mut object = from_reader(bytes.as_slice()).unwrap();
        let text = object.value_at(selector.clone()).unwrap().to_str().unwrap().into_owned();
        let action = AttributeAction::SetStr(change(&text).into());
        object.apply(AttributeOp { selector, action }).unwrap();
        let mut written = Vec::new();
        object.write_all(&mut written).unwrap();
        check_structure_set(&written, &series.stack, &example.segments())
    };

    let data = "ROIContourSequence[0].ContourSequence[0].ContourData";
    assert_eq!(spoilt(data, &str::to_owned), Ok(()));
    for (name, found) in [
        ("mirrored", spoilt(data, &|text| moved(text, |axis, v| if axis == 0 { -v } else { v }))),
        ("half a millimetre off", spoilt(data, &|text| moved(text, |_, v| v + 0.5))),
        ("a point missing", spoilt(data, &|text| text.splitn(4, '\\').nth(3).unwrap().to_owned())),
        ("no numbers", spoilt(data, &|_| "1\\2\\x".to_owned())),
        ("another target", spoilt("StructureSetROISequence[0].ROIName", &|_| "spleen".to_owned())),
        (
            "another region",
            spoilt("ROIContourSequence[0].ReferencedROINumber", &|_| "2".to_owned()),
        ),
        (
            "another image",
            spoilt(
                "ROIContourSequence[0].ContourSequence[0].ContourImageSequence[0].ReferencedSOPInstanceUID",
                &|_| series.stack.slices[4].sop_instance_uid.to_string(),
            ),
        ),
        ("another patient", spoilt("PatientID", &|_| "P-2".to_owned())),
        ("another study", spoilt("StudyInstanceUID", &|_| "1.2.3.4.5".to_owned())),
    ] {
        assert!(found.is_err(), "{name}");
    }
    let mut other = Example::new(series.stack.geometry.shape());
    other.masks.swap(0, 1);
    assert!(check_structure_set(&bytes, &series.stack, &other.segments()).is_err());
}
