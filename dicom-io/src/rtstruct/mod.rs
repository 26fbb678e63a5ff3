//! RT Structure Sets (PS3.3 A.19): masks as closed contours, for treatment planning systems.

mod contour;

use dicom::dictionary_std::tags;
use dicom_types::Mask;

use crate::ResultObject;
use crate::seg::frames::concept;
use crate::seg::origin::Origin;
use crate::seg::sop::{read_source, refuse_what_cannot_be_written};
use crate::seg::writer::{DataSetWriter, ElementWriter, Vr};
use crate::seg::{
    BuildSegError, LongString, SegIdentity, SegProvenance, SegmentInput, frame_of_reference_of,
};
use crate::series::Stack;

/// RT Structure Set Storage.
pub const SOP_CLASS_UID: &str = "1.2.840.10008.5.1.4.1.1.481.3";
/// Detached Study Management, by which a structure set names the study (PS3.3 table C.8-41).
const STUDY_SOP_CLASS_UID: &str = "1.2.840.10008.3.1.2.3.1";
/// Word that goes into the UIDs of structure sets.
const KIND: &str = "rtstruct";
/// Longest value of a 16-bit length; a longer one is written as of unknown representation (PS3.5 6.2.2).
const MAX_SHORT_VALUE: usize = 0xFFFE;

/// Writes a region for every segment that has voxels, in their order: on each slice closed contours along the edges of
/// the pixels, holes joined to the outside by channels without width. The same inputs give the same bytes.
///
/// # Errors
/// [`BuildSegError`]
pub fn build(
    stack: &Stack,
    segments: &[SegmentInput<'_>],
    identity: &SegIdentity,
    provenance: &SegProvenance,
) -> Result<ResultObject, BuildSegError> {
    refuse_what_cannot_be_written(stack, segments)?;
    let source = read_source(stack)?;
    let origin = Origin { stack, source: &source, identity, provenance };
    let present: Vec<_> = segments.iter().filter(|segment| segment.mask.count() > 0).collect();
    let sop_instance_uid = identity.sop_instance_uid(KIND);
    let mut dataset = DataSetWriter::new();
    origin.put_patient_and_study(&mut dataset);
    origin.put_series(&mut dataset, "RTSTRUCT", KIND);
    origin.put_equipment(&mut dataset);
    dataset.remove(tags::BODY_PART_EXAMINED);
    dataset.empty_if_absent(tags::POSITION_REFERENCE_INDICATOR, *b"LO");
    let frame_of_reference = frame_of_reference_of(stack);
    dataset.text(tags::FRAME_OF_REFERENCE_UID, *b"UI", frame_of_reference.as_str());
    dataset.text(tags::OPERATORS_NAME, *b"PN", "");
    dataset.text(tags::SOP_CLASS_UID, *b"UI", SOP_CLASS_UID);
    dataset.text(tags::SOP_INSTANCE_UID, *b"UI", sop_instance_uid.as_str());
    dataset.text(tags::INSTANCE_NUMBER, *b"IS", "1");
    put_structure_set(&mut dataset, &origin, &present);
    dataset.put(|w| write_contours(stack, &present, w));
    dataset.put(|w| write_observations(&present, w));
    dataset.text(tags::APPROVAL_STATUS, *b"CS", "UNAPPROVED");

    let series = identity.series_instance_uid(KIND);
    Ok(ResultObject::of_dataset(SOP_CLASS_UID, series, sop_instance_uid, dataset))
}

fn put_structure_set(
    dataset: &mut DataSetWriter,
    origin: &Origin<'_>,
    segments: &[&SegmentInput<'_>],
) {
    let [date, time] = origin.date_and_time();
    let description = format!("AI segmentation. {}", origin.provenance.notice);
    dataset.text(tags::STRUCTURE_SET_LABEL, *b"SH", "AI SEGMENTATION");
    let description = LongString::fitted(&description);
    dataset.text(tags::STRUCTURE_SET_DESCRIPTION, *b"ST", description.as_str());
    dataset.text(tags::STRUCTURE_SET_DATE, *b"DA", &date);
    dataset.text(tags::STRUCTURE_SET_TIME, *b"TM", &time);
    let frame_of_reference = frame_of_reference_of(origin.stack);
    dataset.put(|w| write_frame_of_reference(origin.stack, w));
    dataset.put(|w| {
        w.sequence(tags::STRUCTURE_SET_ROI_SEQUENCE, |w| {
            for (segment, number) in segments.iter().zip(1_u32..) {
                w.item(|w| {
                    w.text(tags::ROI_NUMBER, *b"IS", &number.to_string());
                    let uid = frame_of_reference.as_str();
                    w.text(tags::REFERENCED_FRAME_OF_REFERENCE_UID, *b"UI", uid);
                    w.text(tags::ROI_NAME, *b"LO", segment.description.label.as_str());
                    w.text(tags::ROI_GENERATION_ALGORITHM, *b"CS", "AUTOMATIC");
                    let name = origin.algorithm_name();
                    w.text(tags::ROI_GENERATION_DESCRIPTION, *b"LO", name.as_str());
                });
            }
        });
    });
}

fn write_frame_of_reference(stack: &Stack, writer: &mut ElementWriter) {
    writer.sequence(tags::REFERENCED_FRAME_OF_REFERENCE_SEQUENCE, |w| {
        w.item(|w| {
            let uid = frame_of_reference_of(stack);
            w.text(tags::FRAME_OF_REFERENCE_UID, *b"UI", uid.as_str());
            w.sequence(tags::RT_REFERENCED_STUDY_SEQUENCE, |w| {
                w.item(|w| {
                    let study = stack.study_instance_uid.as_str();
                    w.text(tags::REFERENCED_SOP_CLASS_UID, *b"UI", STUDY_SOP_CLASS_UID);
                    w.text(tags::REFERENCED_SOP_INSTANCE_UID, *b"UI", study);
                    w.sequence(tags::RT_REFERENCED_SERIES_SEQUENCE, |w| {
                        w.item(|w| {
                            let series = stack.series_instance_uid.as_str();
                            w.text(tags::SERIES_INSTANCE_UID, *b"UI", series);
                            w.sequence(tags::CONTOUR_IMAGE_SEQUENCE, |w| {
                                for slice in 0..stack.slices.len() {
                                    w.item(|w| write_image(stack, slice, w));
                                }
                            });
                        });
                    });
                });
            });
        });
    });
}

fn write_image(stack: &Stack, slice: usize, writer: &mut ElementWriter) {
    let slice = &stack.slices[slice];
    writer.text(tags::REFERENCED_SOP_CLASS_UID, *b"UI", slice.sop_class_uid.as_str());
    writer.text(tags::REFERENCED_SOP_INSTANCE_UID, *b"UI", slice.sop_instance_uid.as_str());
    if let Some(frame) = slice.frame_number {
        writer.text(tags::REFERENCED_FRAME_NUMBER, *b"IS", &frame.to_string());
    }
}

fn write_contours(stack: &Stack, segments: &[&SegmentInput<'_>], writer: &mut ElementWriter) {
    writer.sequence(tags::ROI_CONTOUR_SEQUENCE, |w| {
        for (segment, number) in segments.iter().zip(1_u32..) {
            w.item(|w| {
                let rgb = segment.description.rgb.map(|value| value.to_string());
                w.texts(tags::ROI_DISPLAY_COLOR, *b"IS", &rgb);
                w.sequence(tags::CONTOUR_SEQUENCE, |w| {
                    for slice in 0..stack.slices.len() {
                        write_slice(stack, segment.mask, slice, w);
                    }
                });
                w.text(tags::REFERENCED_ROI_NUMBER, *b"IS", &number.to_string());
            });
        }
    });
}

fn write_slice(stack: &Stack, mask: &Mask, slice: usize, writer: &mut ElementWriter) {
    if mask.count_in_slice(slice) == 0 {
        return;
    }
    for outline in contour::outlines(mask, slice) {
        let mut values = Vec::with_capacity(3 * outline.len());
        for [row, column] in &outline {
            let position = stack.geometry.position_mm([slice as f64, *row, *column]);
            values.extend(position.map(millimetres));
        }
        let data = values.join("\\");
        writer.item(|w| {
            w.sequence(tags::CONTOUR_IMAGE_SEQUENCE, |w| w.item(|w| write_image(stack, slice, w)));
            w.text(tags::CONTOUR_GEOMETRIC_TYPE, *b"CS", "CLOSED_PLANAR");
            w.text(tags::NUMBER_OF_CONTOUR_POINTS, *b"IS", &outline.len().to_string());
            if data.len() > MAX_SHORT_VALUE {
                let even = if data.len() % 2 == 0 { data } else { data + " " };
                w.raw(tags::CONTOUR_DATA, Vr(*b"UN"), even.as_bytes());
            } else {
                w.text(tags::CONTOUR_DATA, *b"DS", &data);
            }
        });
    }
}

/// A tenth of a micrometre, without trailing zeros.
fn millimetres(value: f64) -> String {
    let text = format!("{value:.4}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

fn write_observations(segments: &[&SegmentInput<'_>], writer: &mut ElementWriter) {
    writer.sequence(tags::RTROI_OBSERVATIONS_SEQUENCE, |w| {
        for (segment, number) in segments.iter().zip(1_u32..) {
            let description = segment.description;
            w.item(|w| {
                w.text(tags::OBSERVATION_NUMBER, *b"IS", &number.to_string());
                w.text(tags::REFERENCED_ROI_NUMBER, *b"IS", &number.to_string());
                w.sequence(tags::RTROI_IDENTIFICATION_CODE_SEQUENCE, |w| {
                    w.item(|w| w.concept_attributes(&description.concept.property_type));
                });
                let is_organ = description.concept.property_category
                    == concept("91723000", "SCT", "Anatomical Structure");
                let kind = if is_organ { "ORGAN" } else { "" };
                w.text(tags::RTROI_INTERPRETED_TYPE, *b"CS", kind);
                w.text(tags::ROI_INTERPRETER, *b"PN", "");
            });
        }
    });
}
