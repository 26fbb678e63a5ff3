//! dciodvfy, pydicom, highdicom and dcmqi on segmentations of every volume of the shared test material.

use std::ffi::OsString;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use dicom_io::seg::{SegmentationOutcome, build, check};
use dicom_io::series::{Stack, read_stacks};

use super::example::{Example, identity, provenance};
use super::series::TestSeries;
use crate::header::corpus;
use crate::series::shared_material::folders;

/// Runs dciodvfy of Debian's dicom3tools and returns what it complains about.
///
/// Names of one component are passed over: it calls their form retired, and they are the source's.
pub(super) fn dciodvfy(file: &Path) -> String {
    let output = Command::new("/usr/bin/dciodvfy")
        .arg(file)
        .output()
        .expect("dciodvfy is missing: install dicom3tools");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.lines().any(|line| line == "Segmentation"), "{said}");
    let is_complaint =
        |line: &&str| *line != "Segmentation" && !line.ends_with("Retired Person Name form");
    said.lines().filter(is_complaint).collect::<Vec<_>>().join("\n")
}

/// Attributes that an object must have, if only empty, where old sources leave them out; and one that it leaves out
/// where a source of the material has two characters in the place of four.
const IN_ONE_ALONE: [&str; 10] = [
    "PatientAge",
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
];

/// Runs dcentvfy of Debian's dicom3tools, which compares what objects say of the same patient and study. That
/// attributes of [`IN_ONE_ALONE`] are absent from one of them is not told.
fn dcentvfy(files: &[PathBuf]) -> String {
    let output = Command::new("/usr/bin/dcentvfy")
        .args(files)
        .output()
        .expect("dcentvfy is missing: install dicom3tools");
    let is_told = |line: &&str| {
        let is_known = IN_ONE_ALONE.iter().any(|name| line.contains(&format!("Element=<{name}>")));
        !(is_known && line.contains("Attribute present in one instance but not the other"))
    };
    let said = String::from_utf8_lossy(&output.stderr);
    said.lines().filter(is_told).collect::<Vec<_>>().join("\n")
}

/// Runs the checker of `tests/python` and returns what it printed.
pub(super) fn check_seg(arguments: &[OsString]) -> String {
    let python = std::env::var_os("PROSECTOR_TEST_PYTHON")
        .expect("PROSECTOR_TEST_PYTHON is not set: run the tests through ops/test");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/python/check_seg.py");
    let output = Command::new(python).arg(script).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{complaint}");
    said
}

/// Writes what the checker compares with: the masks as bytes, and which image each slice is.
pub(super) fn write_expected(stack: &Stack, example: &Example, folder: &Path) {
    let slices: Vec<_> = stack
        .slices
        .iter()
        .map(|slice| {
            let frame = slice.frame_number.map_or("null".to_owned(), |number| number.to_string());
            format!("[\"{}\", {frame}]", slice.sop_instance_uid)
        })
        .collect();
    std::fs::write(folder.join("slices.json"), format!("[{}]", slices.join(","))).unwrap();
    let [_, rows, columns] = stack.geometry.shape();
    let present = example.masks.iter().filter(|mask| mask.count() > 0);
    for (index, mask) in present.enumerate() {
        let mut bytes = vec![0u8; stack.geometry.voxels()];
        mask.for_each(|[s, r, c]| bytes[(s * rows + r) * columns + c] = 1);
        std::fs::write(folder.join(format!("segment-{}.raw", index + 1)), bytes).unwrap();
    }
}

/// A segmentation of the stack, checked by ourselves and by everybody else. Returns dciodvfy's complaints.
fn peers_agree(stack: &Stack, with_dcmqi: bool) -> String {
    let example = Example::new(stack.geometry.shape());
    let segmentation = example.build(stack);
    assert_eq!(segmentation.empty, [2]);
    assert_eq!(check(&segmentation.bytes, stack, &example.segments()), Ok(()));

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("seg.dcm");
    std::fs::write(&file, &segmentation.bytes).unwrap();
    write_expected(stack, &example, folder.path());
    let mut arguments: Vec<OsString> = vec![file.clone().into()];
    let mut files: Vec<PathBuf> = stack.slices.iter().map(|slice| slice.path.clone()).collect();
    files.dedup();
    let alone = dcentvfy(&files);
    files.push(file.clone());
    let together = dcentvfy(&files);
    assert!(together == alone, "{}", together.lines().take(20).collect::<Vec<_>>().join("\n"));
    files.pop();
    arguments.extend(files.into_iter().map(Into::into));
    arguments.extend(["--expected".into(), folder.path().into()]);
    if with_dcmqi {
        arguments.push("--dcmqi".into());
    }
    check_seg(&arguments);
    dciodvfy(&file)
}

#[test]
#[ignore = "needs the folder of PROSECTOR_TEST_DICOM"]
fn every_volume_of_the_shared_material_gets_a_segmentation_that_others_read() {
    let root = corpus();
    let mut outcomes = String::new();

    for (name, files) in folders(&root) {
        for stack in read_stacks(&files).stacks {
            let shape = stack.geometry.shape();
            // ITK has no sheared grids: dcmqi cannot place the slices of a tilted gantry.
            let is_tilted =
                stack.geometry.spacing_mm()[0] - stack.geometry.plane_distance_mm() > 1e-3;
            let complaints = peers_agree(&stack, !is_tilted);
            assert!(!complaints.contains("Error"), "{name}: {complaints}");
            writeln!(outcomes, "{name} {shape:?}: read by all\n{complaints}").unwrap();
        }
    }

    insta::assert_snapshot!(outcomes);
}

#[test]
fn a_tilted_oblique_series_with_odd_frames_gets_one_too() {
    let series = TestSeries::oblique();

    assert_eq!(peers_agree(&series.stack, false), "");
}

#[test]
fn masks_without_a_voxel_make_no_object() {
    let TestSeries { stack, .. } = &TestSeries::oblique();
    let mut example = Example::new(stack.geometry.shape());
    for mask in &mut example.masks {
        *mask = dicom_types::Mask::empty(stack.geometry.shape());
    }

    let outcome = build(stack, &example.segments(), &identity(), &provenance()).unwrap();

    assert_eq!(outcome, SegmentationOutcome::AllEmpty);
}
