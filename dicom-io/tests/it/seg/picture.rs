//! Pictures as an object, verified by dciodvfy and decoded by pydicom.

use std::process::Command;

use dicom_io::ResultObject;
use dicom_io::secondary_capture::{Overlay, Preview, SOP_CLASS_UID, build, render_series};
use dicom_io::seg::{BuildSegError, check_document};
use dicom_io::series::{Stack, read_stacks};

use super::example::{Example, identity, provenance};
use super::series::TestSeries;
use crate::header::corpus;
use crate::series::shared_material::folders;

const STEPS: usize = 2;

/// The pictures of the example's masks, and the object of them.
pub(super) fn capture(stack: &Stack, example: &Example) -> (Vec<Preview>, ResultObject) {
    let volume = stack.load().unwrap();
    let segments = example.segments();
    let overlays: Vec<_> = segments
        .iter()
        .map(|segment| Overlay {
            label: segment.description.label.as_str(),
            rgb: segment.description.rgb,
            mask: segment.mask,
        })
        .collect();
    let notice = "Research use only, not for diagnosis";
    let pictures = render_series(&volume, stack.modality, &overlays, notice, STEPS);
    let targets: Vec<_> = segments
        .iter()
        .filter(|segment| segment.mask.count() > 0)
        .map(|segment| segment.description.prompt.as_str())
        .collect();
    let capture = build(stack, &pictures, &targets, &identity(), &provenance()).unwrap();
    (pictures, capture)
}

/// dciodvfy finds no error, and pydicom decodes the pictures that were drawn.
fn others_agree(stack: &Stack) {
    let example = Example::new(stack.geometry.shape());
    let (pictures, capture) = capture(stack, &example);
    assert_eq!(check_document(&capture.bytes, stack, SOP_CLASS_UID), Ok(()));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("picture.dcm");
    std::fs::write(&file, &capture.bytes).unwrap();

    let verified = Command::new("/usr/bin/dciodvfy")
        .arg(&file)
        .output()
        .expect("dciodvfy is missing: install dicom3tools");
    let said = String::from_utf8_lossy(&verified.stderr);
    assert!(said.contains("MultiframeTrueColorSCImage") && !said.contains("Error"), "{said}");

    let pixels: Vec<u8> = pictures.iter().flat_map(|picture| picture.rgb.clone()).collect();
    let raw = folder.path().join("pictures.raw");
    std::fs::write(&raw, pixels).unwrap();
    let python = std::env::var_os("PROSECTOR_TEST_PYTHON")
        .expect("PROSECTOR_TEST_PYTHON is not set: run the tests through ops/test");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/python/check_picture.py");
    let output = Command::new(python)
        .arg(script)
        .args([&file, &stack.slices[0].path])
        .arg("--expected")
        .arg(&raw)
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}{complaint}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn others_read_the_pictures_of_a_tilted_oblique_series() {
    others_agree(&TestSeries::oblique().stack);
}

#[test]
#[ignore = "needs the folder of PROSECTOR_TEST_DICOM"]
fn others_read_pictures_of_the_shared_material() {
    let folders = folders(&corpus());

    for name in ["ct-head-tilt-philips", "ct-enhanced", "mr-fragmented-jpeg-lossless"] {
        others_agree(&read_stacks(&folders[name]).stacks[0]);
    }
}

#[test]
fn the_same_job_gives_the_same_pictures() {
    let series = TestSeries::oblique();
    let example = Example::new(series.stack.geometry.shape());

    let first = capture(&series.stack, &example).1;
    let second = capture(&series.stack, &example).1;

    assert!(first == second);
}

#[test]
fn pictures_that_are_no_frames_of_one_object_are_refused() {
    let stack = &TestSeries::oblique().stack;
    let picture = |width: usize| Preview { width, height: 2, rgb: vec![0; 3 * 2 * width] };
    let built = |pictures: &[Preview]| build(stack, pictures, &[], &identity(), &provenance());

    assert!(matches!(built(&[]), Err(BuildSegError::NoPicture)));
    assert!(matches!(built(&[picture(3), picture(4)]), Err(BuildSegError::UnevenPictures)));
    assert!(matches!(
        built(&[picture(70_000)]),
        Err(BuildSegError::TooMany { what: "columns", found: 70_000, .. })
    ));
}
