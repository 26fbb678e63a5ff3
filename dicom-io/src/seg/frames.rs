//! Frames of a segmentation and their functional groups (PS3.3 C.7.6.16).

use std::ops::Range;

use dicom::dictionary_std::tags;
use dicom_types::Mask;

use super::decimal;
use super::writer::ElementWriter;
use crate::coded_concept::CodedConcept;
use crate::series::{SourceFrame, Stack};

/// One frame: a segment on a slice, or all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Index into the segments that are written; nothing in a label map, where a frame shows them all.
    pub(crate) segment: Option<usize>,
    /// Slice of the stack.
    pub(crate) slice: usize,
}

/// The frames of an object, and where its slices rank among those that occur.
#[derive(Debug)]
pub(crate) struct FramePlan {
    /// By segment, then by position along the normal.
    pub(crate) frames: Vec<Frame>,
    /// For every slice of the stack its place among the slices that hold any voxel, from 1; 0 where none does.
    position_index: Vec<u32>,
}

impl FramePlan {
    /// Plans a frame for every slice in which a mask has voxels.
    pub(crate) fn binary(masks: &[&Mask], slices: usize) -> Self {
        let mut frames = Vec::new();
        let mut occurs = vec![false; slices];
        for (segment, mask) in masks.iter().enumerate() {
            let range: Range<usize> = mask.extent().start[0]..mask.extent().end[0];
            for slice in range.filter(|&slice| mask.count_in_slice(slice) > 0) {
                frames.push(Frame { segment: Some(segment), slice });
                occurs[slice] = true;
            }
        }
        let mut rank = 0;
        let position_index = occurs
            .into_iter()
            .map(|occurs| {
                rank += u32::from(occurs);
                if occurs { rank } else { 0 }
            })
            .collect();
        Self { frames, position_index }
    }

    /// Plans a frame for every slice from the first to the last that holds a voxel of any mask: a label map is read as
    /// a volume, so none is missing between.
    pub(crate) fn labelmap(masks: &[&Mask], slices: usize) -> Self {
        let first = masks.iter().map(|mask| mask.extent().start[0]).min().unwrap_or(0);
        let end = masks.iter().map(|mask| mask.extent().end[0]).max().unwrap_or(0);
        let frames = (first..end).map(|slice| Frame { segment: None, slice }).collect();
        let place = |slice| if (first..end).contains(&slice) { slice - first + 1 } else { 0 };
        Self { frames, position_index: (0..slices).map(|slice| place(slice) as u32).collect() }
    }
}

/// Codes that every frame repeats.
struct FrameCodes {
    segmentation: CodedConcept,
    source_image: CodedConcept,
}

/// Writes Shared and Per-Frame Functional Groups Sequence.
pub(crate) fn write_functional_groups(stack: &Stack, plan: &FramePlan, writer: &mut ElementWriter) {
    writer.sequence(tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, |w| {
        w.item(|w| write_shared(stack, w));
    });
    let codes = FrameCodes {
        segmentation: concept("113076", "DCM", "Segmentation"),
        source_image: concept("121322", "DCM", "Source image for image processing operation"),
    };
    writer.sequence(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, |w| {
        for &frame in &plan.frames {
            w.item(|w| write_frame(stack, plan, frame, &codes, w));
        }
    });
}

fn write_shared(stack: &Stack, writer: &mut ElementWriter) {
    writer.sequence(tags::PLANE_ORIENTATION_SEQUENCE, |w| {
        w.item(|w| {
            let orientation =
                stack.image_orientation_patient.each_ref().map(|v| decimal::kept_or_fitted(v));
            w.texts(tags::IMAGE_ORIENTATION_PATIENT, *b"DS", &orientation);
        });
    });
    writer.sequence(tags::PIXEL_MEASURES_SEQUENCE, |w| {
        w.item(|w| {
            // Centre to centre along the normal: a tilted gantry shifts the slices, it does not bring them closer.
            let distance =
                decimal::fitted((stack.geometry.plane_distance_mm() * 1e6).round() / 1e6);
            let thickness = stack
                .slice_thickness
                .as_deref()
                .filter(|text| text.trim().parse().is_ok_and(|mm: f64| mm > 0.0))
                .map_or_else(|| distance.clone(), decimal::kept_or_fitted);
            let spacing = stack.pixel_spacing.each_ref().map(|v| decimal::kept_or_fitted(v));
            w.text(tags::SLICE_THICKNESS, *b"DS", &thickness);
            w.text(tags::SPACING_BETWEEN_SLICES, *b"DS", &distance);
            w.texts(tags::PIXEL_SPACING, *b"DS", &spacing);
        });
    });
}

fn write_frame(
    stack: &Stack,
    plan: &FramePlan,
    frame: Frame,
    codes: &FrameCodes,
    writer: &mut ElementWriter,
) {
    let source = &stack.slices[frame.slice];
    let segment_number = frame.segment.map(|segment| segment as u16 + 1);
    writer.sequence(tags::DERIVATION_IMAGE_SEQUENCE, |w| {
        w.item(|w| {
            w.sequence(tags::SOURCE_IMAGE_SEQUENCE, |w| {
                w.item(|w| write_source_image(source, &codes.source_image, w));
            });
            w.concept(tags::DERIVATION_CODE_SEQUENCE, &codes.segmentation);
        });
    });
    writer.sequence(tags::FRAME_CONTENT_SEQUENCE, |w| {
        w.item(|w| {
            let place = plan.position_index[frame.slice];
            match segment_number {
                Some(number) => w.ul(tags::DIMENSION_INDEX_VALUES, &[u32::from(number), place]),
                None => w.ul(tags::DIMENSION_INDEX_VALUES, &[place]),
            }
        });
    });
    writer.sequence(tags::PLANE_POSITION_SEQUENCE, |w| {
        w.item(|w| {
            let position =
                source.image_position_patient.each_ref().map(|v| decimal::kept_or_fitted(v));
            w.texts(tags::IMAGE_POSITION_PATIENT, *b"DS", &position);
        });
    });
    if let Some(number) = segment_number {
        writer.sequence(tags::SEGMENT_IDENTIFICATION_SEQUENCE, |w| {
            w.item(|w| w.us(tags::REFERENCED_SEGMENT_NUMBER, &[number]));
        });
    }
}

fn write_source_image(source: &SourceFrame, purpose: &CodedConcept, writer: &mut ElementWriter) {
    writer.text(tags::REFERENCED_SOP_CLASS_UID, *b"UI", source.sop_class_uid.as_str());
    writer.text(tags::REFERENCED_SOP_INSTANCE_UID, *b"UI", source.sop_instance_uid.as_str());
    if let Some(number) = source.frame_number {
        writer.text(tags::REFERENCED_FRAME_NUMBER, *b"IS", &number.to_string());
    }
    writer.text(tags::SPATIAL_LOCATIONS_PRESERVED, *b"CS", "YES");
    writer.concept(tags::PURPOSE_OF_REFERENCE_CODE_SEQUENCE, purpose);
}

/// A concept of ours, known to be well formed.
pub(crate) fn concept(value: &str, scheme_designator: &str, meaning: &str) -> CodedConcept {
    CodedConcept::new(value, scheme_designator, meaning).expect("a constant concept is well formed")
}
