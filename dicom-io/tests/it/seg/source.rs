//! What a segmentation takes over from its source, and when it refuses to.

use dicom::core::value::PrimitiveValue;
use dicom::core::{DataElement, Tag, VR};
use dicom::dictionary_std::tags;
use dicom::object::{DefaultDicomObject, InMemDicomObject, from_reader};
use dicom_io::seg::{BuildSegError, build, check, frame_of_reference_of};
use dicom_types::Mask;

use super::example::{Example, identity, provenance};
use super::peers::{check_seg, dciodvfy};
use super::series::TestSeries;

fn put(dataset: &mut InMemDicomObject, tag: Tag, vr: VR, value: &str) {
    dataset.put(DataElement::new(tag, vr, PrimitiveValue::from(value)));
}

/// The segmentation of a series, which our check and dciodvfy must like.
fn segmentation_of(series: &TestSeries) -> DefaultDicomObject {
    let example = Example::new(series.stack.geometry.shape());
    let bytes = example.build(&series.stack).bytes;
    assert_eq!(check(&bytes, &series.stack, &example.segments()), Ok(()));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &bytes).unwrap();
    let complaints = dciodvfy(file.path());
    assert!(!complaints.contains("Error"), "{complaints}");
    from_reader(bytes.as_slice()).unwrap()
}

fn text(object: &DefaultDicomObject, tag: Tag) -> String {
    object.element(tag).unwrap().to_str().unwrap().into_owned()
}

#[test]
fn a_lossy_source_makes_a_lossy_result_with_the_stated_ratio() {
    let series = TestSeries::oblique_with(|dataset| {
        put(dataset, tags::LOSSY_IMAGE_COMPRESSION, VR::CS, "01");
        put(dataset, tags::LOSSY_IMAGE_COMPRESSION_RATIO, VR::DS, "12.5");
        put(dataset, tags::LOSSY_IMAGE_COMPRESSION_METHOD, VR::CS, "ISO_15444_1");
    });

    let object = segmentation_of(&series);

    assert_eq!(text(&object, tags::LOSSY_IMAGE_COMPRESSION), "01");
    assert_eq!(text(&object, tags::LOSSY_IMAGE_COMPRESSION_RATIO), "12.5");
    assert_eq!(text(&object, tags::LOSSY_IMAGE_COMPRESSION_METHOD), "ISO_15444_1");
}

#[test]
fn a_lossy_source_that_states_no_ratio_makes_a_valid_result() {
    let series = TestSeries::oblique_with(|dataset| {
        put(dataset, tags::LOSSY_IMAGE_COMPRESSION, VR::CS, "01");
    });

    let object = segmentation_of(&series);

    assert_eq!(text(&object, tags::LOSSY_IMAGE_COMPRESSION), "01");
    let ratio: f64 = text(&object, tags::LOSSY_IMAGE_COMPRESSION_RATIO).parse().unwrap();
    assert!(ratio >= 1.0);
}

#[test]
fn our_times_are_in_the_time_zone_of_the_source() {
    let series = TestSeries::oblique_with(|dataset| {
        put(dataset, tags::TIMEZONE_OFFSET_FROM_UTC, VR::SH, "-1000");
    });

    let object = segmentation_of(&series);

    // The job was created at 15:06:40 UTC.
    assert_eq!(text(&object, tags::CONTENT_TIME), "050640");
    assert_eq!(text(&object, tags::TIMEZONE_OFFSET_FROM_UTC), "-1000");
}

#[test]
fn a_midnight_between_the_zones_changes_the_date() {
    let series = TestSeries::oblique_with(|dataset| {
        put(dataset, tags::TIMEZONE_OFFSET_FROM_UTC, VR::SH, "+1130");
    });

    let object = segmentation_of(&series);

    assert_eq!(text(&object, tags::CONTENT_DATE), "20250616");
    assert_eq!(text(&object, tags::CONTENT_TIME), "023640");
}

#[test]
fn the_sources_equipment_comes_before_ours() {
    let series = TestSeries::oblique_with(|dataset| {
        let item = InMemDicomObject::from_element_iter([
            DataElement::new(tags::MANUFACTURER, VR::LO, "Elsewhere"),
            DataElement::new(
                tags::PURPOSE_OF_REFERENCE_CODE_SEQUENCE,
                VR::SQ,
                dicom::core::value::DataSetSequence::from(vec![
                    InMemDicomObject::from_element_iter([
                        DataElement::new(tags::CODE_VALUE, VR::SH, "109103"),
                        DataElement::new(tags::CODING_SCHEME_DESIGNATOR, VR::SH, "DCM"),
                        DataElement::new(tags::CODE_MEANING, VR::LO, "Modifying Equipment"),
                    ]),
                ]),
            ),
        ]);
        let sequence = dicom::core::value::DataSetSequence::from(vec![item]);
        let tag = tags::CONTRIBUTING_EQUIPMENT_SEQUENCE;
        dataset.put(DataElement::new(tag, VR::SQ, sequence));
    });

    let object = segmentation_of(&series);

    let equipment = object.element(tags::CONTRIBUTING_EQUIPMENT_SEQUENCE).unwrap();
    let manufacturers: Vec<_> = equipment
        .items()
        .unwrap()
        .iter()
        .map(|item| item.element(tags::MANUFACTURER).unwrap().to_str().unwrap())
        .collect();
    assert_eq!(manufacturers, ["Elsewhere", "prosector"]);
}

#[test]
fn decimal_strings_of_the_source_stay_as_they_are() {
    let series = TestSeries::of(
        dicom_types::GridGeometry::new(
            [3, 10, 10],
            [-10.0, 20.0, 30.0],
            [[0.0, 0.0, 2.5], [0.0, 1.25, 0.0], [1.25, 0.0, 0.0]],
        )
        .unwrap(),
    );
    let rewritten = series.stack.slices.iter().map(|slice| {
        let mut object = from_reader(std::fs::File::open(&slice.path).unwrap()).unwrap();
        let z: f64 = slice.image_position_patient_mm[2];
        put(&mut object, tags::IMAGE_POSITION_PATIENT, VR::DS, &format!("-1.0E1\\+20.00\\{z:.3}"));
        put(&mut object, tags::IMAGE_ORIENTATION_PATIENT, VR::DS, "1.000\\0.0\\-0\\0\\1.0\\0.000");
        put(&mut object, tags::PIXEL_SPACING, VR::DS, "1.250\\1.2500");
        let mut file = Vec::new();
        object.write_all(&mut file).unwrap();
        file
    });
    let series = TestSeries::from_files(rewritten.collect::<Vec<_>>().into_iter());

    let object = segmentation_of(&series);

    let at = |path: &str| {
        use dicom::core::dictionary::DataDictionary;
        let selector = dicom::dictionary_std::StandardDataDictionary.parse_selector(path).unwrap();
        object.value_at(selector).unwrap().to_str().unwrap().into_owned()
    };
    let shared = "SharedFunctionalGroupsSequence[0]";
    let orientation = format!("{shared}.PlaneOrientationSequence[0].ImageOrientationPatient");
    assert_eq!(at(&orientation), "1.000\\0.0\\-0\\0\\1.0\\0.000");
    assert_eq!(at(&format!("{shared}.PixelMeasuresSequence[0].PixelSpacing")), "1.250\\1.2500");
    assert_eq!(at(&format!("{shared}.PixelMeasuresSequence[0].SpacingBetweenSlices")), "2.5");
    let position =
        "PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient";
    assert_eq!(at(position), "-1.0E1\\+20.00\\30.000");
}

#[test]
fn values_that_their_representation_forbids_are_left_out_where_they_may_be() {
    let series = TestSeries::oblique_with(|dataset| {
        put(dataset, tags::PATIENT_AGE, VR::AS, "0Y");
        put(dataset, tags::PATIENT_SIZE, VR::DS, "1.75");
        put(dataset, tags::PATIENT_WEIGHT, VR::DS, "80 kg");
        put(dataset, tags::BODY_PART_EXAMINED, VR::CS, "Abdomen/Pelvis");
    });

    let object = segmentation_of(&series);

    assert_eq!(text(&object, tags::PATIENT_SIZE), "1.75");
    for tag in [tags::PATIENT_AGE, tags::PATIENT_WEIGHT, tags::BODY_PART_EXAMINED] {
        assert!(object.element(tag).is_err(), "{tag}");
    }
}

/// A Segmentation needs a Frame of Reference UID (PS3.3 C.7.4.1); old MR series have none.
#[test]
fn a_source_without_frame_of_reference_gets_one_of_its_series() {
    let series = TestSeries::oblique_with(|dataset| {
        dataset.remove_element(tags::FRAME_OF_REFERENCE_UID);
    });

    let object = segmentation_of(&series);

    let uid = text(&object, tags::FRAME_OF_REFERENCE_UID);
    assert_eq!(uid, frame_of_reference_of(&series.stack).as_str());
    assert_eq!(uid, text(&segmentation_of(&series), tags::FRAME_OF_REFERENCE_UID));
    let example = Example::new(series.stack.geometry.shape());
    let mut other = series.stack.clone();
    other.series_instance_uid = "1.2.3.4.5.6".parse().unwrap();
    let bytes = example.build(&series.stack).bytes;
    assert_ne!(check(&bytes, &other, &example.segments()), Ok(()));
}

#[test]
fn a_file_that_became_another_patients_is_refused() {
    let series = TestSeries::oblique();
    let other = TestSeries::oblique_with(|dataset| {
        put(dataset, tags::STUDY_INSTANCE_UID, VR::UI, "1.2.3.9");
    });
    std::fs::copy(&other.stack.slices[0].path, &series.stack.slices[0].path).unwrap();
    let example = Example::new(series.stack.geometry.shape());

    let built = build(&series.stack, &example.segments(), &identity(), &provenance());

    assert!(matches!(built, Err(BuildSegError::SourceChanged { .. })), "{built:?}");
}

#[test]
fn a_mask_of_another_grid_is_refused() {
    let series = TestSeries::oblique();
    let example = Example::new([5, 37, 23]);

    let built = build(&series.stack, &example.segments(), &identity(), &provenance());

    assert!(matches!(built, Err(BuildSegError::Shape { index: 0, .. })), "{built:?}");
}

/// The series as DCMTK's dcmconv writes it with `option`.
fn converted(series: &TestSeries, option: &str) -> TestSeries {
    let folder = tempfile::tempdir().unwrap();
    let files: Vec<_> = series
        .stack
        .slices
        .iter()
        .map(|slice| {
            let path = folder.path().join("converted.dcm");
            let status = std::process::Command::new("/usr/bin/dcmconv")
                .arg(option)
                .args([&slice.path, &path])
                .status()
                .expect("dcmconv is missing: install dcmtk");
            assert!(status.success(), "dcmconv {option}");
            std::fs::read(path).unwrap()
        })
        .collect();
    TestSeries::from_files(files.into_iter())
}

#[test]
fn the_encoding_of_the_source_changes_no_byte_of_the_result() {
    let series = TestSeries::oblique_with(|dataset| {
        put(dataset, tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 100");
        let name = PrimitiveValue::U8(b"\xc4neas^R\xfcdiger".as_slice().into());
        dataset.put(DataElement::new(tags::PATIENT_NAME, VR::PN, name));
        dataset.put(DataElement::new(tags::PREGNANCY_STATUS, VR::US, PrimitiveValue::from(4_u16)));
    });
    let example = Example::new(series.stack.geometry.shape());
    let expected = example.build(&series.stack).bytes;

    // Implicit little endian, explicit big endian, deflated.
    for option in ["+ti", "+tb", "+td"] {
        let series = converted(&series, option);
        assert!(example.build(&series.stack).bytes == expected, "dcmconv {option}");
    }
}

#[test]
fn as_many_segments_as_there_are_prompts_are_read_by_highdicom() {
    let series = TestSeries::oblique();
    let shape = series.stack.geometry.shape();
    let mut example = Example::new(shape);
    example.repeat(451, |k| {
        Mask::from_fn(shape, |[s, r, c]| ((s * shape[1] + r) * shape[2] + c) % 453 == k)
    });
    let bytes = example.build(&series.stack).bytes;
    assert_eq!(check(&bytes, &series.stack, &example.segments()), Ok(()));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("seg.dcm");
    std::fs::write(&file, &bytes).unwrap();

    assert_eq!(dciodvfy(&file), "");
    check_seg(&[file.into(), series.folder().into()]);
}
