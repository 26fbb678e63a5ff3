//! Label maps (Supplement 243), which Debian's dciodvfy does not know: pydicom, highdicom and dcmqi read them.

use std::ffi::OsString;

use dicom::core::value::PrimitiveValue;
use dicom::core::{DataElement, VR};
use dicom::dictionary_std::tags;
use dicom::object::from_reader;
use dicom_io::seg::{
    BuildSegError, Segmentation, SegmentationOutcome, build_labelmap, check, check_labelmap,
};
use dicom_io::series::{Stack, read_stacks};

use super::example::{Example, identity, provenance};
use super::peers::{check_seg, write_expected};
use super::series::TestSeries;
use crate::series::shared_material::{folders, shared_material};

fn labelmap(stack: &Stack, example: &Example) -> Segmentation {
    match build_labelmap(stack, &example.segments(), &identity(), &provenance()).unwrap() {
        SegmentationOutcome::Object(segmentation) => segmentation,
        SegmentationOutcome::AllEmpty => panic!("the example has voxels"),
    }
}

type Fault<'a> = &'a dyn Fn(&mut Vec<u8>);

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
fn others_read_label_maps_of_the_shared_material() {
    let Some(root) = shared_material() else { return };
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
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("seg.dcm");
    std::fs::write(&file, &object.bytes).unwrap();
    check_seg(&[file.into(), series.folder().into()]);
}

#[test]
fn faults_of_a_label_map_are_held_back() {
    let series = TestSeries::oblique();
    let [_, rows, columns] = series.stack.geometry.shape();
    let example = Example::disjoint(series.stack.geometry.shape());
    let bytes = labelmap(&series.stack, &example).bytes;
    let spoilt = |change: Fault<'_>| {
        let mut object = from_reader(bytes.as_slice()).unwrap();
        let mut pixels = object.element(tags::PIXEL_DATA).unwrap().to_bytes().unwrap().into_owned();
        change(&mut pixels);
        let pixels = PrimitiveValue::U8(pixels.into());
        object.put(DataElement::new(tags::PIXEL_DATA, VR::OB, pixels));
        let mut written = Vec::new();
        object.write_all(&mut written).unwrap();
        check_labelmap(&written, &series.stack, &example.segments())
    };

    assert_eq!(spoilt(&|_| {}), Ok(()));
    let frame = rows * columns;
    let faults: [Fault<'_>; 6] = [
        &|pixels| pixels[..frame].reverse(),
        &|pixels| pixels[..5 * frame].rotate_left(1),
        &|pixels| pixels[..5 * frame].rotate_left(frame),
        &|pixels| pixels.iter_mut().for_each(|v| *v = [0, 2, 1, 3, 4][usize::from(*v)]),
        &|pixels| *pixels.iter_mut().find(|v| **v == 1).unwrap() = 0,
        &|pixels| *pixels.iter_mut().find(|v| **v == 0).unwrap() = 9,
    ];
    for (index, fault) in faults.into_iter().enumerate() {
        assert!(spoilt(fault).is_err(), "fault {index}");
    }
    assert!(check(&bytes, &series.stack, &example.segments()).is_err(), "taken for binary");
}
