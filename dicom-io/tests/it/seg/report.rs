//! Structured reports, verified by dciodvfy and read by highdicom, which must find the numbers that numpy counts.

use std::process::Command;

use dicom_io::ResultObject;
use dicom_io::seg::SegmentationType;
use dicom_io::series::{Stack, read_stacks};
use dicom_io::sr::{ReportContent, ReportedSegment, ReportedSegmentation, build, measure};

use super::example::{Example, identity, provenance};
use super::series::TestSeries;
use crate::header::corpus;
use crate::series::shared_material::folders;

pub(super) fn report(stack: &Stack, example: &Example) -> (Vec<u8>, ResultObject) {
    let object = example.build(stack);
    let volume = stack.load().unwrap();
    let inputs = example.segments();
    let segments: Vec<_> = object
        .written
        .iter()
        .enumerate()
        .map(|(place, &input)| ReportedSegment {
            description: inputs[input].description,
            segment_number: place as u16 + 1,
            measurement: measure(&volume, inputs[input].mask),
        })
        .collect();
    let segmentation = ReportedSegmentation::of(SegmentationType::Binary, &identity());
    assert_eq!(segmentation.sop_instance_uid, object.sop_instance_uid);
    let remarks = ["liver: cut off at the border of the volume: feet".to_owned()];
    let content =
        ReportContent { segmentation: &segmentation, segments: &segments, remarks: &remarks };
    let report = build(stack, &content, &identity(), &provenance()).unwrap();
    (object.bytes.clone(), report)
}

/// dciodvfy is content, and highdicom finds in the report what numpy counts in segmentation and source.
fn others_agree(stack: &Stack) {
    let example = Example::new(stack.geometry.shape());
    let (seg, report) = report(stack, &example);
    let folder = tempfile::tempdir().unwrap();
    let seg_file = folder.path().join("seg.dcm");
    let sr_file = folder.path().join("sr.dcm");
    std::fs::write(&seg_file, seg).unwrap();
    std::fs::write(&sr_file, &report.bytes).unwrap();

    let verified = Command::new("/usr/bin/dciodvfy")
        .arg(&sr_file)
        .output()
        .expect("dciodvfy is missing: install dicom3tools");
    let said = String::from_utf8_lossy(&verified.stderr);
    assert!(said.contains("Comprehensive3DSR") && !said.contains("Error"), "{said}");

    let python = std::env::var_os("PROSECTOR_TEST_PYTHON")
        .expect("PROSECTOR_TEST_PYTHON is not set: run the tests through ops/test");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/python/check_sr.py");
    let mut sources: Vec<_> = stack.slices.iter().map(|slice| slice.path.clone()).collect();
    sources.dedup();
    let output = Command::new(python)
        .arg(script)
        .args([&sr_file, &seg_file])
        .args(sources)
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}{complaint}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn others_read_the_report_of_a_tilted_oblique_series() {
    others_agree(&TestSeries::oblique().stack);
}

#[test]
#[ignore = "needs the folder of PROSECTOR_TEST_DICOM"]
fn others_read_reports_of_the_shared_material() {
    let root = corpus();
    let folders = folders(&root);

    for name in ["ct-head-tilt-philips", "mr-fragmented-jpeg-lossless"] {
        others_agree(&read_stacks(&folders[name]).stacks[0]);
    }
}

#[test]
fn remarks_stand_in_the_report() {
    let series = TestSeries::oblique();
    let report = report(&series.stack, &Example::new(series.stack.geometry.shape())).1;

    let remark = b"liver: cut off at the border of the volume: feet";
    assert!(report.bytes.windows(remark.len()).any(|part| part == remark));
}

#[test]
fn the_same_job_gives_the_same_report() {
    let series = TestSeries::oblique();
    let example = Example::new(series.stack.geometry.shape());

    let first = report(&series.stack, &example).1;
    let second = report(&series.stack, &example).1;

    assert!(first == second);
}
