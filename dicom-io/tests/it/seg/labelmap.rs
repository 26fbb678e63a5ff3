//! Label maps (Supplement 243), which Debian's dciodvfy does not know: pydicom, highdicom and dcmqi read them.

use std::ffi::OsString;

use dicom_io::seg::{
    BuildSegError, Segmentation, SegmentationOutcome, build_labelmap, check, check_labelmap,
};
use dicom_io::series::{Stack, read_stacks};

use super::example::{Example, identity, provenance};
use super::peers::{check_seg, write_expected};
use super::series::TestSeries;
use crate::header::corpus;
use crate::series::shared_material::folders;

pub(super) fn labelmap(stack: &Stack, example: &Example) -> Segmentation {
    match build_labelmap(stack, &example.segments(), &identity(), &provenance()).unwrap() {
        SegmentationOutcome::Object(segmentation) => segmentation,
        SegmentationOutcome::AllEmpty => panic!("the example has voxels"),
    }
}

/// The label map of the stack, read by ourselves and by everybody else.
fn peers_agree(stack: &Stack, with_dcmqi: bool) {
    let example = Example::disjoint(stack.geometry.shape());
    let object = labelmap(stack, &example);
    assert_eq!(check_labelmap(&object.bytes, stack, &example.segments()), Ok(()));

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("seg.dcm");
    std::fs::write(&file, &object.bytes).unwrap();
    write_expected(stack, &example, folder.path());
    let mut arguments: Vec<OsString> = vec![file.into()];
    arguments.extend(stack.slices.iter().map(|slice| slice.path.clone().into()));
    arguments.dedup();
    arguments.extend(["--expected".into(), folder.path().into()]);
    if with_dcmqi {
        arguments.push("--dcmqi".into());
    }
    check_seg(&arguments);
}

#[test]
#[ignore = "needs the folder of PROSECTOR_TEST_DICOM"]
fn others_read_label_maps_of_the_shared_material() {
    let root = corpus();
    let folders = folders(&root);

    for name in ["ct-enhanced", "ct-liver-3slice-with-seg", "seg-odd-frame-size/23x38x3"] {
        peers_agree(&read_stacks(&folders[name]).stacks[0], true);
    }
}

#[test]
fn others_read_the_label_map_of_a_tilted_oblique_series() {
    peers_agree(&TestSeries::oblique().stack, false);
}

#[test]
fn overlapping_targets_are_refused_by_name() {
    let series = TestSeries::oblique();
    let example = Example::new(series.stack.geometry.shape());

    let built = build_labelmap(&series.stack, &example.segments(), &identity(), &provenance());

    assert!(matches!(built, Err(BuildSegError::Overlap { indices: [0, 1] })), "{built:?}");
}

#[test]
fn more_than_255_segments_take_two_bytes_a_pixel() {
    let series = TestSeries::oblique();
    let shape = series.stack.geometry.shape();
    let mut example = Example::disjoint(shape);
    example.repeat(300, |k| {
        dicom_types::Mask::from_fn(shape, |[s, r, c]| (s * shape[1] + r) * shape[2] + c == 7 * k)
    });
    let object = labelmap(&series.stack, &example);

    assert_eq!(check_labelmap(&object.bytes, &series.stack, &example.segments()), Ok(()));
    let read = dicom_io::seg::read(&object.bytes, &series.stack).unwrap();
    assert_eq!(read.len(), object.written.len());
    for (segment, &index) in read.iter().zip(&object.written) {
        assert!(segment.mask == *example.segments()[index].mask, "{}", segment.number);
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("seg.dcm");
    std::fs::write(&file, &object.bytes).unwrap();
    check_seg(&[file.into(), series.folder().into()]);
}

#[test]
fn a_label_map_is_not_taken_for_a_binary_segmentation() {
    let series = TestSeries::oblique();
    let example = Example::disjoint(series.stack.geometry.shape());
    let bytes = labelmap(&series.stack, &example).bytes;

    assert!(check(&bytes, &series.stack, &example.segments()).is_err());
}
