//! Patient, study, frame of reference, and what kind of object it is.

use dicom::core::Tag;
use dicom::dictionary_std::tags;
use dicom::object::InMemDicomObject;

use super::SegMismatch;
use super::object::{Item, Parsed, items, keyword, number, only_item, text, unexpected};
use crate::seg::enums::SegmentationType;
use crate::seg::frame_of_reference_of;
use crate::series::Stack;

/// Attributes that must say the same as in the source, empty and absent being alike.
const SHARED_WITH_SOURCE: &[Tag] = &[
    tags::SPECIFIC_CHARACTER_SET,
    tags::PATIENT_NAME,
    tags::PATIENT_ID,
    tags::ISSUER_OF_PATIENT_ID,
    tags::PATIENT_BIRTH_DATE,
    tags::PATIENT_SEX,
    tags::STUDY_INSTANCE_UID,
    tags::STUDY_DATE,
    tags::STUDY_TIME,
    tags::STUDY_ID,
    tags::STUDY_DESCRIPTION,
    tags::ACCESSION_NUMBER,
    tags::REFERRING_PHYSICIAN_NAME,
];

pub(super) fn check(
    object: &Parsed<'_>,
    stack: &Stack,
    kind: SegmentationType,
    bits: u32,
) -> Result<(), SegMismatch> {
    check_kind(object, kind, bits)?;
    let dataset = object.dataset;
    check_patient_and_study(object, stack)?;
    let frame_of_reference = frame_of_reference_of(stack);
    for (tag, expected) in [
        (tags::STUDY_INSTANCE_UID, stack.study_instance_uid.as_str()),
        (tags::FRAME_OF_REFERENCE_UID, frame_of_reference.as_str()),
    ] {
        if text(dataset, tag)? != expected {
            return Err(SegMismatch::Identity { attribute: keyword(tag) });
        }
    }
    check_series(dataset, stack)
}

/// What every form of result has in common with its source, and not.
pub(super) fn check_document(
    object: &Parsed<'_>,
    stack: &Stack,
    sop_class_uid: &str,
) -> Result<(), SegMismatch> {
    let dataset = object.dataset;
    if text(dataset, tags::SOP_CLASS_UID)? != sop_class_uid {
        return Err(unexpected(tags::SOP_CLASS_UID));
    }
    check_meta(object)?;
    check_patient_and_study(object, stack)?;
    if text(dataset, tags::STUDY_INSTANCE_UID)? != stack.study_instance_uid.as_str() {
        return Err(SegMismatch::Identity { attribute: keyword(tags::STUDY_INSTANCE_UID) });
    }
    if text(dataset, tags::SERIES_INSTANCE_UID)? == stack.series_instance_uid.as_str() {
        return Err(unexpected(tags::SERIES_INSTANCE_UID));
    }
    Ok(())
}

fn check_patient_and_study(object: &Parsed<'_>, stack: &Stack) -> Result<(), SegMismatch> {
    for &tag in SHARED_WITH_SOURCE {
        if decoded(&object.header, tag) != decoded(&stack.header, tag) {
            return Err(SegMismatch::Identity { attribute: keyword(tag) });
        }
    }
    Ok(())
}

/// Decoded text, nothing where it is absent or empty.
fn decoded(header: &InMemDicomObject, tag: Tag) -> Option<String> {
    let text = header.get(tag)?.to_str().ok()?;
    Some(text.trim_matches(['\0', ' ']).to_owned()).filter(|text| !text.is_empty())
}

/// The object is a segmentation of this kind with `bits` a pixel.
fn check_kind(object: &Parsed<'_>, kind: SegmentationType, bits: u32) -> Result<(), SegMismatch> {
    let dataset = object.dataset;
    let (class, term) = match kind {
        SegmentationType::Binary => ("1.2.840.10008.5.1.4.1.1.66.4", "BINARY"),
        SegmentationType::Labelmap => ("1.2.840.10008.5.1.4.1.1.66.7", "LABELMAP"),
    };
    for (tag, expected) in [
        (tags::SOP_CLASS_UID, class),
        (tags::MODALITY, "SEG"),
        (tags::SEGMENTATION_TYPE, term),
        (tags::PHOTOMETRIC_INTERPRETATION, "MONOCHROME2"),
    ] {
        if text(dataset, tag)? != expected {
            return Err(unexpected(tag));
        }
    }
    for (tag, expected) in [
        (tags::SAMPLES_PER_PIXEL, 1),
        (tags::BITS_ALLOCATED, bits),
        (tags::BITS_STORED, bits),
        (tags::HIGH_BIT, bits - 1),
        (tags::PIXEL_REPRESENTATION, 0),
    ] {
        if number(dataset, tag)? != expected {
            return Err(unexpected(tag));
        }
    }
    check_meta(object)
}

/// The meta group names the object of the data set.
fn check_meta(object: &Parsed<'_>) -> Result<(), SegMismatch> {
    for (in_meta, in_dataset) in [
        (tags::MEDIA_STORAGE_SOP_CLASS_UID, tags::SOP_CLASS_UID),
        (tags::MEDIA_STORAGE_SOP_INSTANCE_UID, tags::SOP_INSTANCE_UID),
    ] {
        if text(object.meta, in_meta)? != text(object.dataset, in_dataset)? {
            return Err(unexpected(in_meta));
        }
    }
    Ok(())
}

/// The object has a series of its own, and refers to the source's with every instance of it.
fn check_series(dataset: Item<'_>, stack: &Stack) -> Result<(), SegMismatch> {
    if text(dataset, tags::SERIES_INSTANCE_UID)? == stack.series_instance_uid.as_str() {
        return Err(unexpected(tags::SERIES_INSTANCE_UID));
    }
    let series = only_item(dataset, tags::REFERENCED_SERIES_SEQUENCE)?;
    if text(series, tags::SERIES_INSTANCE_UID)? != stack.series_instance_uid.as_str() {
        return Err(unexpected(tags::REFERENCED_SERIES_SEQUENCE));
    }
    let mut referenced = Vec::new();
    for instance in items(series, tags::REFERENCED_INSTANCE_SEQUENCE)? {
        let class = text(instance, tags::REFERENCED_SOP_CLASS_UID)?;
        referenced.push((text(instance, tags::REFERENCED_SOP_INSTANCE_UID)?, class));
    }
    let mut expected: Vec<_> = stack
        .slices
        .iter()
        .map(|slice| (slice.sop_instance_uid.as_str(), slice.sop_class_uid.as_str()))
        .collect();
    referenced.sort_unstable();
    expected.sort_unstable();
    expected.dedup();
    if referenced == expected {
        Ok(())
    } else {
        Err(unexpected(tags::REFERENCED_INSTANCE_SEQUENCE))
    }
}
