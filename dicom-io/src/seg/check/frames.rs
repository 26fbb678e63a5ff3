//! Where each frame lies, by the numbers that were written.

use std::collections::BTreeSet;

use dicom::dictionary_std::tags;

use super::SegMismatch;
use super::object::{
    Item, Parsed, decimals, items, number, numbers, only_item, optional_item, optional_text, text,
    unexpected,
};
use crate::seg::enums::SegmentationType;
use crate::series::Stack;

/// Most that the corners of a frame may be off the grid, in voxels.
const GRID_TOLERANCE: f64 = 0.25;
/// Most that a frame's position may be off the one that its slice has: the last digit of a fitted decimal string.
const POSITION_TOLERANCE_MM: f64 = 1e-3;

/// One frame as written.
#[derive(Debug, Clone)]
pub(super) struct PlacedFrame {
    /// Referenced Segment Number; 0 in a label map, which has none.
    pub(super) segment_number: u16,
    /// Slice of the stack on which it lies.
    pub(super) slice: usize,
    dimension_index: Vec<u32>,
}

/// All frames of an object, in its order.
#[derive(Debug)]
pub(super) struct Frames(pub(super) Vec<PlacedFrame>);

impl Frames {
    pub(super) fn read(
        object: &Parsed<'_>,
        stack: &Stack,
        kind: SegmentationType,
        segments: usize,
    ) -> Result<Self, SegMismatch> {
        let dataset = object.dataset;
        let shared = only_item(dataset, tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE)?;
        let per_frame = items(dataset, tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE)?;
        if number(dataset, tags::NUMBER_OF_FRAMES)? as usize != per_frame.len() {
            return Err(unexpected(tags::NUMBER_OF_FRAMES));
        }
        let mut placed = Vec::with_capacity(per_frame.len());
        for (index, &item) in per_frame.iter().enumerate() {
            let frame = index + 1;
            let slice = find_slice(item, shared, stack, frame)?;
            let segment_number = match kind {
                SegmentationType::Binary => segment_number(item, shared, segments)?,
                SegmentationType::Labelmap => 0,
            };
            let content = only_item(item, tags::FRAME_CONTENT_SEQUENCE)?;
            placed.push(PlacedFrame {
                segment_number,
                slice,
                dimension_index: numbers(content, tags::DIMENSION_INDEX_VALUES)?,
            });
        }
        Ok(Self(placed))
    }

    /// Each frame refers to the image of the slice on which it lies.
    pub(super) fn check_references(
        &self,
        object: &Parsed<'_>,
        stack: &Stack,
    ) -> Result<(), SegMismatch> {
        let per_frame = items(object.dataset, tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE)?;
        for (index, (item, placed)) in per_frame.into_iter().zip(&self.0).enumerate() {
            let source = &stack.slices[placed.slice];
            let derivation = only_item(item, tags::DERIVATION_IMAGE_SEQUENCE)?;
            let image = only_item(derivation, tags::SOURCE_IMAGE_SEQUENCE)?;
            let frame_number = source.frame_number.map(|number| number.to_string());
            let is_source = text(image, tags::REFERENCED_SOP_INSTANCE_UID)?
                == source.sop_instance_uid.as_str()
                && text(image, tags::REFERENCED_SOP_CLASS_UID)? == source.sop_class_uid.as_str()
                && optional_text(image, tags::REFERENCED_FRAME_NUMBER)? == frame_number.as_deref();
            if !is_source {
                let instance = source.sop_instance_uid.clone();
                return Err(SegMismatch::Reference { frame: index + 1, instance });
            }
        }
        Ok(())
    }

    /// The dimension index says segment, then place among the slices that occur.
    pub(super) fn check_dimension_index(&self) -> Result<(), SegMismatch> {
        let occurring: BTreeSet<usize> = self.0.iter().map(|frame| frame.slice).collect();
        let occurring: Vec<usize> = occurring.into_iter().collect();
        for (index, frame) in self.0.iter().enumerate() {
            let rank = occurring.partition_point(|&slice| slice < frame.slice) + 1;
            let expected = [u32::from(frame.segment_number), rank as u32];
            // A label map has no index for the segment.
            let expected = if frame.segment_number == 0 { &expected[1..] } else { &expected };
            if frame.dimension_index != expected {
                return Err(SegMismatch::DimensionIndex { frame: index + 1 });
            }
        }
        Ok(())
    }
}

/// Referenced Segment Number of a frame, one of those that are described.
fn segment_number(item: Item<'_>, shared: Item<'_>, segments: usize) -> Result<u16, SegMismatch> {
    let identification = group(item, shared, tags::SEGMENT_IDENTIFICATION_SEQUENCE)?;
    let segment = number(identification, tags::REFERENCED_SEGMENT_NUMBER)?;
    if segment == 0 || segment as usize > segments {
        return Err(unexpected(tags::REFERENCED_SEGMENT_NUMBER));
    }
    Ok(segment as u16)
}

/// The functional group of a frame, which is either its own or shared by all.
fn group<'a>(
    frame: Item<'a>,
    shared: Item<'a>,
    tag: dicom::core::Tag,
) -> Result<Item<'a>, SegMismatch> {
    match (optional_item(frame, tag)?, optional_item(shared, tag)?) {
        (Some(item), None) | (None, Some(item)) => Ok(item),
        (None, None) => only_item(frame, tag),
        (Some(_), Some(_)) => Err(unexpected(tag)),
    }
}

/// The slice of the stack whose voxels have the same places in the patient as the pixels of the frame.
fn find_slice(
    item: Item<'_>,
    shared: Item<'_>,
    stack: &Stack,
    frame: usize,
) -> Result<usize, SegMismatch> {
    let position: [f64; 3] = decimals(
        group(item, shared, tags::PLANE_POSITION_SEQUENCE)?,
        tags::IMAGE_POSITION_PATIENT,
    )?;
    let orientation: [f64; 6] = decimals(
        group(item, shared, tags::PLANE_ORIENTATION_SEQUENCE)?,
        tags::IMAGE_ORIENTATION_PATIENT,
    )?;
    let [row_spacing, column_spacing]: [f64; 2] =
        decimals(group(item, shared, tags::PIXEL_MEASURES_SEQUENCE)?, tags::PIXEL_SPACING)?;
    let [slices, rows, columns] = stack.geometry.shape();
    let at = |row: usize, column: usize| -> [f64; 3] {
        // PS3.3 C.7.6.2.1.1, equation C.7.6.2.1-1.
        let along_row = column as f64 * column_spacing;
        let along_column = row as f64 * row_spacing;
        std::array::from_fn(|i| {
            position[i] + orientation[i] * along_row + orientation[3 + i] * along_column
        })
    };

    let [first_slice, first_row, first_column] = stack.geometry.index(at(0, 0));
    let slice = first_slice.round().clamp(0.0, (slices - 1) as f64) as usize;
    let distance_mm = distance(position, stack.slices[slice].image_position_patient_mm);
    let is_on_slice = distance_mm <= POSITION_TOLERANCE_MM
        && [first_slice - slice as f64, first_row, first_column]
            .iter()
            .all(|off| off.abs() <= GRID_TOLERANCE);
    if !is_on_slice {
        return Err(SegMismatch::Position { frame, distance_mm });
    }
    for (row, column) in [(0, columns - 1), (rows - 1, 0), (rows - 1, columns - 1)] {
        let found = stack.geometry.index(at(row, column));
        let expected = [slice as f64, row as f64, column as f64];
        let is_same_voxel =
            found.iter().zip(expected).all(|(f, e)| (f - e).abs() <= GRID_TOLERANCE);
        if !is_same_voxel {
            return Err(SegMismatch::Plane { frame });
        }
    }
    Ok(slice)
}

fn distance(a: [f64; 3], b: [f64; 3]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt()
}
