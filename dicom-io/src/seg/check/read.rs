//! Segments of an object as masks on the grid of its source.

use std::collections::HashMap;

use dicom::dictionary_std::tags;
use dicom_types::Mask;

use super::SegMismatch;
use super::frames::Frames;
use super::object::{Parsed, element, items, malformed, number, text};
use crate::seg::enums::SegmentationType;
use crate::series::Stack;

/// A segment that was read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadSegment {
    /// Segment Number.
    pub number: u16,
    /// Segment Label.
    pub label: String,
    /// Its voxels on the stored grid of the source, `[slice, row, column]`.
    pub mask: Mask,
}

/// Reads the binary segmentation or label map in the Part 10 file `bytes`, each frame placed by its own position and
/// orientation on the grid of `stack`.
///
/// # Errors
/// [`SegMismatch`] for what is no segmentation of ours, or not one of `stack`.
pub fn read(bytes: &[u8], stack: &Stack) -> Result<Vec<ReadSegment>, SegMismatch> {
    let object = Parsed::from_bytes(bytes)?;
    let dataset = object.dataset;
    let described = items(dataset, tags::SEGMENT_SEQUENCE)?;
    let is_labelmap = text(dataset, tags::SEGMENTATION_TYPE)? == "LABELMAP";
    let (kind, pixel_bits) = if is_labelmap {
        (SegmentationType::Labelmap, number(dataset, tags::BITS_ALLOCATED)? as usize)
    } else {
        (SegmentationType::Binary, 1)
    };
    let frames = Frames::read(&object, stack, kind, described.len())?;
    let [_, rows, columns] = stack.geometry.shape();
    let pixels = element(dataset, tags::PIXEL_DATA)?.value;
    if pixels.len() * 8 < frames.0.len() * rows * columns * pixel_bits {
        return Err(malformed(tags::PIXEL_DATA));
    }
    let mut segments = Vec::with_capacity(described.len());
    for item in described {
        let number = number(item, tags::SEGMENT_NUMBER)? as u16;
        if number == 0 {
            // The background of a label map.
            continue;
        }
        let label = text(item, tags::SEGMENT_LABEL)?.to_owned();
        let own = frames.0.iter().enumerate();
        let own = own.filter(|(_, frame)| is_labelmap || frame.segment_number == number);
        let first_pixels: HashMap<usize, usize> =
            own.map(|(index, frame)| (frame.slice, index * rows * columns)).collect();
        let mask = Mask::from_fn(stack.geometry.shape(), |[slice, row, column]| {
            first_pixels.get(&slice).is_some_and(|first| {
                let pixel = first + row * columns + column;
                match pixel_bits {
                    1 => pixels[pixel / 8] >> (pixel % 8) & 1 == 1,
                    8 => u16::from(pixels[pixel]) == number,
                    _ => pixels[2 * pixel..2 * pixel + 2] == number.to_le_bytes(),
                }
            })
        });
        segments.push(ReadSegment { number, label, mask });
    }
    Ok(segments)
}
