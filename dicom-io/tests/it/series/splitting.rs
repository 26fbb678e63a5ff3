//! Which instances of a series belong together.

use dicom::core::value::PrimitiveValue;
use dicom::core::{DataElement, Tag, VR};
use dicom::dictionary_std::{tags, uids};
use dicom::object::InMemDicomObject;
use dicom_io::series::{ReadSeriesError, SeriesReport, read_stacks};

use super::fixture::{
    AXIAL, EnhancedFrame, Files, axial, axial_mr, ct_slice, enhanced_mr, image, native_pixels,
    number, text, uid,
};
use super::geometry::assert_values_are_in_place;

const HEIGHTS: [f64; 4] = [0.0, 3.0, 6.0, 9.0];

/// MR slices at [`HEIGHTS`] once for every value of an attribute.
fn one_stack_each(tag: Tag, vr: VR, values: &[&str]) -> Vec<InMemDicomObject> {
    let mut datasets = Vec::new();
    for value in values {
        for mut dataset in axial_mr(&HEIGHTS) {
            text(&mut dataset, tag, vr, value);
            datasets.push(dataset);
        }
    }
    datasets
}

/// Files of every stack by number, in slice order.
fn numbers(report: &SeriesReport) -> Vec<Vec<usize>> {
    let number = |uid: &str| uid.rsplit('.').next().unwrap().parse().unwrap();
    report
        .stacks
        .iter()
        .map(|stack| {
            stack.slices.iter().map(|slice| number(slice.sop_instance_uid.as_str())).collect()
        })
        .collect()
}

fn assert_two_stacks(report: &SeriesReport) {
    assert!(report.refusals.is_empty(), "{:?}", report.refusals);
    assert_eq!(numbers(report), [[1, 2, 3, 4], [5, 6, 7, 8]]);
}

#[test]
fn splits_what_repeats_positions_by_what_tells_it_apart() {
    let attributes: [(Tag, VR, [&str; 2]); 12] = [
        (tags::ECHO_TIME, VR::DS, ["4.9", "9.8"]),
        (tags::DIFFUSION_B_VALUE, VR::FD, ["0", "1000"]),
        (tags::TEMPORAL_POSITION_IDENTIFIER, VR::IS, ["1", "2"]),
        (tags::TRIGGER_TIME, VR::DS, ["0", "120.5"]),
        (tags::ACQUISITION_NUMBER, VR::IS, ["1", "2"]),
        (tags::CONTRAST_BOLUS_AGENT, VR::LO, ["", "yes"]),
        (tags::STACK_ID, VR::SH, ["1", "2"]),
        (tags::IMAGE_TYPE, VR::CS, ["ORIGINAL\\PRIMARY\\M\\ND", "ORIGINAL\\PRIMARY\\P\\ND"]),
        (tags::IMAGE_TYPE, VR::CS, ["DERIVED\\PRIMARY\\ONE", "DERIVED\\PRIMARY\\TWO"]),
        (tags::FLIP_ANGLE, VR::DS, ["5", "20"]),
        (tags::CONVOLUTION_KERNEL, VR::SH, ["B30", "B70"]),
        (tags::FRAME_OF_REFERENCE_UID, VR::UI, ["1.2.3.4", "1.2.3.5"]),
    ];
    for (tag, vr, values) in attributes {
        let mut datasets = one_stack_each(tag, vr, &values);
        if vr == VR::FD {
            for (i, dataset) in datasets.iter_mut().enumerate() {
                let value: f64 = values[i / 4].parse().unwrap();
                dataset.put(DataElement::new(tag, VR::FD, PrimitiveValue::from(value)));
            }
        }
        // Nothing else may give the answer: all slices have one instance number.
        for dataset in &mut datasets {
            text(dataset, tags::INSTANCE_NUMBER, VR::IS, "1");
        }

        let files = Files::of(datasets);

        let report = files.read();

        assert_two_stacks(&report);
        for stack in &report.stacks {
            assert_values_are_in_place(stack);
        }
    }
}

#[test]
fn splits_by_the_b_value_that_vendors_hide() {
    let vendors = [
        (0x0019, "SIEMENS MR HEADER", 0x0C, VR::IS, ["0", "800"]),
        (0x0043, "GEMS_PARM_01", 0x39, VR::IS, ["1000000000\\8\\0\\0", "1000000800\\8\\0\\0"]),
        (0x2001, "Philips Imaging DD 001", 0x03, VR::DS, ["0", "800"]),
    ];
    for (group, creator, element, vr, values) in vendors {
        let mut datasets = one_stack_each(Tag(group, 0x1000 | element), vr, &values);
        for dataset in &mut datasets {
            text(dataset, Tag(group, 0x0010), VR::LO, creator);
            text(dataset, tags::INSTANCE_NUMBER, VR::IS, "1");
        }

        assert_two_stacks(&Files::of(datasets).read());
    }
}

#[test]
fn splits_time_points_that_only_instance_numbers_tell_apart() {
    let datasets = [axial_mr(&HEIGHTS), axial_mr(&HEIGHTS)].concat();

    assert_two_stacks(&Files::of(datasets).read());
}

#[test]
fn refuses_repeated_positions_that_nothing_tells_apart() {
    let mut datasets = Vec::new();
    for z in HEIGHTS {
        datasets.extend(axial_mr(&[z, z]));
    }

    let report = Files::of(datasets).read();

    assert!(report.stacks.is_empty());
    let [refusal] = report.refusals.as_slice() else { panic!("{:?}", report.refusals) };
    assert_eq!(refusal.instances.len(), 8);
    let (second, first) = (uid(2), uid(1));
    assert_eq!(
        refusal.reason.to_string(),
        format!(
            "instance {second} lies at the position of instance {first}, and nothing tells them apart"
        )
    );
}

#[test]
fn an_attribute_that_varies_inside_a_volume_does_not_split_it() {
    for (tag, vr) in [
        (tags::ACQUISITION_NUMBER, VR::IS),
        (tags::TRIGGER_TIME, VR::DS),
        (tags::CONTENT_TIME, VR::TM),
        (tags::SLICE_THICKNESS, VR::DS),
    ] {
        let mut datasets = axial_mr(&HEIGHTS);
        for (i, dataset) in datasets.iter_mut().enumerate() {
            text(dataset, tag, vr, &(i / 2 + 1).to_string());
        }

        let report = Files::of(datasets).read();

        assert!(report.refusals.is_empty());
        assert_eq!(numbers(&report), [[1, 2, 3, 4]]);
    }
}

#[test]
fn time_points_survive_trigger_times_that_differ_by_slice() {
    let mut datasets = one_stack_each(tags::ACQUISITION_NUMBER, VR::IS, &["1", "2"]);
    for (i, dataset) in datasets.iter_mut().enumerate() {
        text(dataset, tags::TRIGGER_TIME, VR::DS, &(i % 2 * 30 + i / 4 * 100).to_string());
        text(dataset, tags::INSTANCE_NUMBER, VR::IS, "1");
    }

    assert_two_stacks(&Files::of(datasets).read());
}

#[test]
fn the_last_time_point_may_be_cut_short() {
    let mut datasets = one_stack_each(tags::TRIGGER_TIME, VR::DS, &["1", "2", "3"]);
    datasets.truncate(9);

    let report = Files::of(datasets).read();

    assert_eq!(numbers(&report), [[1, 2, 3, 4], [5, 6, 7, 8]]);
    let [refusal] = report.refusals.as_slice() else { panic!("{:?}", report.refusals) };
    assert_eq!(refusal.instances[0].name.sop_instance_uid.as_ref().unwrap().to_string(), uid(9));
    assert!(matches!(refusal.reason, ReadSeriesError::SingleSlice { .. }));
}

#[test]
fn pulls_overlapping_reconstructions_apart() {
    let mut datasets = axial(&[0.0, 3.0, 6.0, 9.0, 1.0, 4.0, 7.0, 10.0]);
    for (i, dataset) in datasets.iter_mut().enumerate() {
        text(dataset, tags::ACQUISITION_NUMBER, VR::IS, &(i / 4 + 1).to_string());
    }

    assert_two_stacks(&Files::of(datasets).read());
}

#[test]
fn does_not_take_the_two_sides_of_a_gap_for_volumes() {
    let mut datasets = axial(&[0.0, 3.0, 6.0, 20.0, 23.0, 26.0]);
    for (i, dataset) in datasets.iter_mut().enumerate() {
        text(dataset, tags::ACQUISITION_NUMBER, VR::IS, &(i / 3 + 1).to_string());
    }

    let report = Files::of(datasets).read();

    assert!(report.stacks.is_empty());
    assert!(matches!(report.refusals[0].reason, ReadSeriesError::SliceGap { .. }));
}

#[test]
fn mixed_orientations_and_matrices_are_stacks_of_their_own() {
    let coronal = [1.0, 0.0, 0.0, 0.0, 0.0, -1.0];
    let mut datasets = axial(&HEIGHTS);
    datasets.extend([0.0, 2.0, 4.0].map(|y| ct_slice(coronal, [0.0, y, 0.0])));
    for z in [0.0, 5.0] {
        let mut small = ct_slice(AXIAL, [0.0, 0.0, z]);
        number(&mut small, tags::ROWS, 4);
        datasets.push(small);
    }
    let mut wide = axial(&[1.0, 4.0]);
    for dataset in &mut wide {
        text(dataset, tags::PIXEL_SPACING, VR::DS, "2\\1.6");
    }
    datasets.extend(wide);

    let report = Files::of(datasets).read();

    assert!(report.refusals.is_empty(), "{:?}", report.refusals);
    assert_eq!(
        numbers(&report),
        [vec![1, 2, 3, 4], vec![5, 6, 7], vec![10, 11], vec![8, 9]],
        "most voxels first, then the order of acquisition"
    );
}

#[test]
fn what_is_no_cross_section_is_refused_beside_the_volume() {
    let mut datasets = axial(&HEIGHTS);
    let mut scout = ct_slice([0.0, 1.0, 0.0, 0.0, 0.0, -1.0], [0.0; 3]);
    text(&mut scout, tags::IMAGE_TYPE, VR::CS, "ORIGINAL\\PRIMARY\\LOCALIZER");
    let mut mosaic = ct_slice(AXIAL, [0.0; 3]);
    text(&mut mosaic, tags::IMAGE_TYPE, VR::CS, "ORIGINAL\\PRIMARY\\M\\ND\\MOSAIC");
    let mut capture = ct_slice(AXIAL, [0.0; 3]);
    text(&mut capture, tags::SOP_CLASS_UID, VR::UI, uids::SECONDARY_CAPTURE_IMAGE_STORAGE);
    let mut colour = ct_slice(AXIAL, [0.0; 3]);
    number(&mut colour, tags::SAMPLES_PER_PIXEL, 3);
    text(&mut colour, tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "RGB");
    let mut other_modality = ct_slice(AXIAL, [0.0; 3]);
    text(&mut other_modality, tags::MODALITY, VR::CS, "MR");
    let mut no_pixels = ct_slice(AXIAL, [0.0; 3]);
    no_pixels.remove_element(tags::PIXEL_DATA);
    let mut many_frames = ct_slice(AXIAL, [0.0; 3]);
    text(&mut many_frames, tags::NUMBER_OF_FRAMES, VR::IS, "2");
    datasets.extend([scout, mosaic, capture, colour, other_modality, no_pixels, many_frames]);

    let report = Files::of(datasets).read();

    assert_eq!(numbers(&report), [[1, 2, 3, 4]]);
    let mut reasons: Vec<_> = report.refusals.iter().map(|r| r.reason.to_string()).collect();
    reasons.sort();
    insta::assert_snapshot!(reasons.join("\n"));
}

#[test]
fn refuses_a_series_of_several_studies() {
    let mut datasets = axial(&HEIGHTS);
    text(&mut datasets[2], tags::STUDY_INSTANCE_UID, VR::UI, "1.2.3.9");

    let report = Files::of(datasets).read();

    assert!(report.stacks.is_empty());
    assert_eq!(report.refusals[0].instances.len(), 4);
    assert!(matches!(report.refusals[0].reason, ReadSeriesError::Study { .. }));
}

#[test]
fn notes_an_instance_that_came_twice() {
    let mut datasets = axial(&HEIGHTS);
    for (i, dataset) in datasets.iter_mut().enumerate() {
        text(dataset, tags::SOP_INSTANCE_UID, VR::UI, &uid(i + 1));
    }
    let mut files = Files::of(datasets.clone());
    files.add_in(datasets[1].clone(), uids::IMPLICIT_VR_LITTLE_ENDIAN);

    let report = files.read();

    assert_eq!(numbers(&report), [[1, 2, 3, 4]]);
    assert_eq!(report.duplicates[0].kept, files.paths[1]);
    assert_eq!(report.duplicates[0].path, files.paths[4]);
    assert!(report.refusals.is_empty());
}

#[test]
fn refuses_both_of_two_images_that_share_their_identity() {
    let mut datasets = axial(&[0.0, 3.0, 6.0, 9.0, 12.0]);
    for (i, dataset) in datasets.iter_mut().enumerate() {
        text(dataset, tags::SOP_INSTANCE_UID, VR::UI, &uid(i.min(3) + 1));
    }

    let report = Files::of(datasets).read();

    assert_eq!(numbers(&report), [[1, 2, 3]]);
    assert_eq!(report.refusals[0].instances.len(), 2);
    assert!(matches!(report.refusals[0].reason, ReadSeriesError::Conflict { .. }));
}

#[test]
fn an_enhanced_instance_holds_several_stacks() {
    let sagittal = [0.0, 1.0, 0.0, 0.0, 0.0, -1.0];
    let mut frames = Vec::new();
    for i in 0..3 {
        for echo_time_ms in [4.9, 9.8] {
            let position = [-10.0, 20.0, 6.0 - 3.0 * f64::from(i)];
            frames.push(EnhancedFrame {
                orientation: AXIAL,
                position,
                stack_id: "1",
                echo_time_ms,
                slope: 1.0,
            });
        }
    }
    for i in 0..2 {
        let position = [4.0 * f64::from(i), 0.0, 0.0];
        let (stack_id, echo_time_ms, slope) = ("2", 4.9, 1.0);
        frames.push(EnhancedFrame {
            orientation: sagittal,
            position,
            stack_id,
            echo_time_ms,
            slope,
        });
    }

    let files = Files::of([enhanced_mr(&frames)]);

    let report = files.read();

    assert!(report.refusals.is_empty(), "{:?}", report.refusals);
    let frame_numbers: Vec<Vec<u32>> = report
        .stacks
        .iter()
        .map(|s| s.slices.iter().map(|slice| slice.frame_number.unwrap().get()).collect())
        .collect();
    assert_eq!(frame_numbers, [vec![5, 3, 1], vec![6, 4, 2], vec![8, 7]]);
    for stack in &report.stacks {
        assert_values_are_in_place(stack);
    }
    assert_eq!(report.stacks[0].slice_thickness.as_deref(), Some("3"));
}

#[test]
fn an_enhanced_frame_without_a_place_is_refused_by_its_number() {
    let frame = |z: f64| EnhancedFrame {
        orientation: AXIAL,
        position: [-10.0, 20.0, z],
        stack_id: "1",
        echo_time_ms: 1.0,
        slope: 1.0,
    };
    let mut dataset = enhanced_mr(&[frame(0.0), frame(3.0), frame(6.0)]);
    dataset.update_value(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, |groups| {
        let items = groups.items_mut().unwrap();
        items[2].remove_element(tags::PLANE_POSITION_SEQUENCE);
    });

    let report = Files::of([dataset]).read();

    assert_eq!(report.stacks[0].geometry.shape()[0], 2);
    let reason = report.refusals[0].reason.to_string();
    assert_eq!(
        reason,
        format!("instance {} frame 3 has no valid Image Position (Patient)", uid(1))
    );
}

#[test]
fn an_enhanced_instance_without_functional_groups_is_refused() {
    let mut dataset = image(uids::ENHANCED_MR_IMAGE_STORAGE, "MR");
    native_pixels(&mut dataset, &[0; 35]);

    let report = Files::of([dataset]).read();

    assert!(report.stacks.is_empty());
    assert!(matches!(report.refusals[0].reason, ReadSeriesError::Attribute { .. }));
}

#[test]
fn a_file_that_is_no_dicom_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    std::fs::write(&path, "nothing to see").unwrap();
    let missing = folder.path().join("gone.dcm");

    let report = read_stacks(&[path, missing]);

    assert_eq!(report.refusals.len(), 2);
    for refusal in &report.refusals {
        assert!(matches!(refusal.reason, ReadSeriesError::Header { .. }));
    }
}
