//! Where the voxels of a stack lie.

use std::path::PathBuf;

use dicom::core::VR;
use dicom::dictionary_std::tags;
use dicom_io::series::{ReadSeriesError, Stack, read_stacks};
use proptest::prelude::*;

use super::fixture::{AXIAL, Files, SPACING, axial, ct_slice, decimals, text, uid, value_at};

/// Rounding of values, and of positions to six decimals, in units of [`value_at`].
const ROUNDING: f64 = 0.51;

/// Checks every voxel of `stack` against the value that belongs to its place in the patient.
pub(super) fn assert_values_are_in_place(stack: &Stack) {
    let volume = stack.load().unwrap();
    let [slices, rows, columns] = stack.geometry.shape();
    assert_eq!(volume.values().len(), slices * rows * columns);
    for (i, &value) in volume.values().iter().enumerate() {
        let index = [i / (rows * columns), i / columns % rows, i % columns].map(|n| n as f64);
        let [x, y, z] = stack.geometry.position_mm(index);
        let expected = 100.0 * x + 21.0 * y + 5.0 * z;
        assert!((f64::from(value) - expected).abs() < ROUNDING, "{index:?}: {value}, {expected}");
    }
}

fn assert_near(found: [f64; 3], expected: [f64; 3]) {
    let error = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(error < 1e-9, "{found:?}, not {expected:?}");
}

fn normal_of(o: [f64; 6]) -> [f64; 3] {
    [o[1] * o[5] - o[2] * o[4], o[2] * o[3] - o[0] * o[5], o[0] * o[4] - o[1] * o[3]]
}

/// Slices at `0, step, 2 * step, …` from `start`, in the order of `order`.
fn stack_files(orientation: [f64; 6], step: [f64; 3], order: &[usize]) -> Files {
    let start = [-11.0, 7.0, 30.0];
    Files::of(order.iter().map(|&i| {
        let position = [0, 1, 2].map(|axis| start[axis] + step[axis] * i as f64);
        ct_slice(orientation, position)
    }))
}

fn only_stack(files: &Files) -> Stack {
    let mut report = files.read();
    assert!(report.refusals.is_empty(), "{:?}", report.refusals);
    assert_eq!(report.stacks.len(), 1);
    report.stacks.remove(0)
}

/// Two directions at right angles from three numbers.
fn orientation_from(angles: [f64; 3]) -> [f64; 6] {
    let [a, b, c] = angles;
    let (sa, ca, sb, cb, sc, cc) = (a.sin(), a.cos(), b.sin(), b.cos(), c.sin(), c.cos());
    [ca * cb, sa * cb, -sb, ca * sb * sc - sa * cc, sa * sb * sc + ca * cc, cb * sc]
}

#[test]
fn places_every_usual_acquisition() {
    let acquisitions = [
        ("supine, head first", AXIAL),
        ("prone, head first", [-1.0, 0.0, 0.0, 0.0, -1.0, 0.0]),
        ("feet first", [-1.0, 0.0, 0.0, 0.0, 1.0, 0.0]),
        ("decubitus right", [0.0, 1.0, 0.0, -1.0, 0.0, 0.0]),
        ("decubitus left", [0.0, -1.0, 0.0, 1.0, 0.0, 0.0]),
        ("coronal", [1.0, 0.0, 0.0, 0.0, 0.0, -1.0]),
        ("sagittal", [0.0, 1.0, 0.0, 0.0, 0.0, -1.0]),
        ("oblique", [0.6, 0.8, 0.0, 0.48, -0.36, -0.8]),
    ];
    for (name, orientation) in acquisitions {
        let normal = normal_of(orientation);
        for direction in [3.0, -3.0] {
            let files = stack_files(orientation, normal.map(|n| n * direction), &[0, 1, 2, 3]);

            let stack = only_stack(&files);

            assert_values_are_in_place(&stack);
            let along: f64 =
                stack.geometry.steps_mm()[0].iter().zip(normal).map(|(a, b)| a * b).sum();
            assert!((along - 3.0).abs() < 1e-5, "{name}: slices ascend along the normal");
            assert_eq!(stack.geometry.shape(), [4, 5, 7], "{name}");
        }
    }
}

#[test]
fn keeps_each_slice_beside_its_instance() {
    let files = Files::of(axial(&[9.0, 3.0, 6.0, 0.0]));

    let stack = only_stack(&files);

    let uids: Vec<_> = stack.slices.iter().map(|s| s.sop_instance_uid.to_string()).collect();
    assert_eq!(uids, [4, 2, 3, 1].map(uid));
    for (i, slice) in stack.slices.iter().enumerate() {
        let expected = stack.geometry.position_mm([i as f64, 0.0, 0.0]);
        assert_eq!(slice.image_position_patient_mm.map(f64::to_bits), expected.map(f64::to_bits));
        assert_eq!(slice.image_position_patient[0], "-10.000000");
        assert_eq!(slice.frame_number, None);
    }
    assert_eq!(stack.pixel_spacing, ["2.000000", "1.500000"]);
    assert_eq!(
        stack.header.element(tags::SOP_INSTANCE_UID).unwrap().to_str().unwrap(),
        uid(4),
        "the header is that of the first slice"
    );
}

#[test]
fn pixel_spacing_has_the_row_spacing_first() {
    let stack = only_stack(&Files::of(axial(&[0.0, 3.0])));

    let [_, row_step, column_step] = stack.geometry.steps_mm();

    assert_near(row_step, [0.0, SPACING[0], 0.0]);
    assert_near(column_step, [SPACING[1], 0.0, 0.0]);
}

#[test]
fn keeps_a_gantry_tilt_as_shear() {
    const COSINE: f64 = 0.948_323_7;
    let tilted = [1.0, 0.0, 0.0, 0.0, COSINE, -0.317_304_7];
    let files = stack_files(tilted, [0.0, 0.0, 2.5], &[0, 1, 2, 3, 4]);

    let stack = only_stack(&files);

    assert_values_are_in_place(&stack);
    assert_near(stack.geometry.steps_mm()[0], [0.0, 0.0, 2.5]);
    assert!((stack.geometry.plane_distance_mm() - 2.5 * COSINE).abs() < 1e-6);
}

#[test]
fn normalises_an_orientation_stored_with_few_digits() {
    let rounded = [0.6, 0.81, 0.0, 0.48, -0.36, -0.8];
    let normal = normal_of(rounded);
    let files = stack_files(rounded, normal.map(|n| n * 3.0), &[0, 1, 2]);

    let stack = only_stack(&files);

    let [_, row_mm, column_mm] = stack.geometry.spacing_mm();
    assert!((row_mm - SPACING[0]).abs() < 1e-9 && (column_mm - SPACING[1]).abs() < 1e-9);
    let [_, row, column] = stack.geometry.steps_mm();
    let cosine: f64 = row.iter().zip(column).map(|(a, b)| a * b).sum();
    assert!(cosine.abs() < 1e-9);
}

#[test]
fn refuses_an_orientation_that_is_none() {
    for orientation in [
        [1.0, 0.0, 0.0, 1.0, 0.0, 0.0],
        [2.0, 0.0, 0.0, 0.0, 1.0, 0.0],
        [0.0; 6],
        [1.0, 0.0, 0.0, 0.1, 1.0, 0.0],
    ] {
        let files = stack_files(orientation, [0.0, 0.0, 3.0], &[0, 1]);

        let report = files.read();

        assert!(report.stacks.is_empty());
        assert_eq!(report.refusals.len(), 2);
        assert!(matches!(report.refusals[0].reason, ReadSeriesError::Orientation { .. }));
    }
}

#[test]
fn rejects_series_with_uneven_slice_gaps() {
    for (z, gap, after) in [
        (vec![0.0, 3.0, 6.0, 12.0, 15.0], 6.0, 3),
        (vec![0.0, 3.0, 6.0, 9.0, 15.0], 6.0, 4),
        (vec![0.0, 6.0, 9.0, 12.0], 6.0, 1),
        (vec![0.0, 3.0, 6.2, 9.2], 3.2, 2),
    ] {
        let report = Files::of(axial(&z)).read();

        assert!(report.stacks.is_empty(), "{z:?}");
        let [refusal] = report.refusals.as_slice() else { panic!("{:?}", report.refusals) };
        assert_eq!(refusal.instances.len(), z.len());
        let ReadSeriesError::SliceGap { instance, gap_mm, expected_mm } = &refusal.reason else {
            panic!("{z:?}: {}", refusal.reason)
        };
        assert_eq!(*instance.sop_instance_uid.as_ref().unwrap().to_string(), uid(after), "{z:?}");
        assert!((gap_mm - gap).abs() < 1e-6 && (expected_mm - 3.0).abs() < 1e-6, "{z:?}");
    }
}

#[test]
fn tolerates_positions_stored_with_one_decimal() {
    let z: Vec<f64> = (0..40).map(|i| (f64::from(i) * 6.25).round() / 10.0).collect();

    let stack = only_stack(&Files::of(axial(&z)));

    assert_eq!(stack.geometry.shape()[0], 40);
    assert!((stack.geometry.plane_distance_mm() - 0.625).abs() < 0.003);
}

#[test]
fn rejects_a_slice_shifted_in_its_plane() {
    let mut slices = axial(&[0.0, 3.0, 6.0, 9.0]);
    text(&mut slices[2], tags::IMAGE_POSITION_PATIENT, VR::DS, &decimals(&[-10.0, 21.0, 6.0]));

    let report = Files::of(slices).read();

    assert!(report.stacks.is_empty());
    let reason = report.refusals[0].reason.to_string();
    assert_eq!(reason, format!("instance {} lies 1.000 mm off the line of its stack", uid(3)));
}

#[test]
fn refuses_a_single_slice() {
    let report = Files::of(axial(&[0.0])).read();

    assert!(report.stacks.is_empty());
    assert!(matches!(report.refusals[0].reason, ReadSeriesError::SingleSlice { .. }));
}

#[test]
fn names_the_attribute_without_which_a_slice_has_no_place() {
    for (tag, name) in [
        (tags::IMAGE_POSITION_PATIENT, "Image Position (Patient)"),
        (tags::IMAGE_ORIENTATION_PATIENT, "Image Orientation (Patient)"),
        (tags::PIXEL_SPACING, "Pixel Spacing"),
    ] {
        for value in [None, Some(""), Some("1\\x"), Some("1")] {
            let mut slices = axial(&[0.0, 3.0, 6.0]);
            slices[1].remove_element(tag);
            if let Some(value) = value {
                text(&mut slices[1], tag, VR::DS, value);
            }

            let report = Files::of(slices).read();

            let reason = report.refusals[0].reason.to_string();
            assert_eq!(reason, format!("instance {} has no valid {name}", uid(2)));
        }
    }
    let mut slices = axial(&[0.0, 3.0, 6.0]);
    text(&mut slices[1], tags::PIXEL_SPACING, VR::DS, "0\\1");
    let report = Files::of(slices).read();
    assert!(matches!(report.refusals[0].reason, ReadSeriesError::Attribute { .. }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_order_of_files_gives_the_same_stacks(
        angles in prop::array::uniform3(-3.0f64..3.0),
        step in 0.5f64..4.0,
        order in Just((0..6).collect::<Vec<usize>>()).prop_shuffle(),
        shuffled in Just((0..6).collect::<Vec<usize>>()).prop_shuffle(),
    ) {
        let orientation = orientation_from(angles);
        let files = stack_files(orientation, normal_of(orientation).map(|n| n * step), &order);
        let in_another_order: Vec<PathBuf> =
            shuffled.iter().map(|&i| files.paths[i].clone()).collect();

        let stack = only_stack(&files);
        let other = read_stacks(&in_another_order).stacks.remove(0);

        assert_values_are_in_place(&stack);
        prop_assert_eq!(stack.geometry, other.geometry);
        let uids = |stack: &Stack| -> Vec<_> {
            stack.slices.iter().map(|slice| slice.sop_instance_uid.clone()).collect()
        };
        prop_assert_eq!(uids(&stack), uids(&other));
        for (i, slice) in stack.slices.iter().enumerate() {
            let index = stack.geometry.index(slice.image_position_patient_mm);
            let expected = [i as f64, 0.0, 0.0];
            for (found, expected) in index.iter().zip(expected) {
                prop_assert!((found - expected).abs() < 1e-4);
            }
        }
    }
}

#[test]
fn the_test_values_tell_mirrored_axes_apart() {
    let origin = value_at([0.0; 3]);
    for axis in 0..3 {
        let mut position = [0.0; 3];
        position[axis] = 1.0;
        assert!(value_at(position) > origin + ROUNDING);
    }
}
