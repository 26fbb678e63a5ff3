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

/// Reads the binary segmentation in the Part 10 file `bytes`, each frame placed by its own position and orientation on
/// the grid of `stack`.
///
/// # Errors
/// [`SegMismatch`] for what is no binary segmentation, or not one of `stack`.
pub fn read(bytes: &[u8], stack: &Stack) -> Result<Vec<ReadSegment>, SegMismatch> {
    let object = Parsed::from_bytes(bytes)?;
    let dataset = object.dataset;
    let described = items(dataset, tags::SEGMENT_SEQUENCE)?;
    let frames = Frames::read(&object, stack, SegmentationType::Binary, described.len())?;
    let [_, rows, columns] = stack.geometry.shape();
    let pixels = element(dataset, tags::PIXEL_DATA)?.value;
    if pixels.len() * 8 < frames.0.len() * rows * columns {
        return Err(malformed(tags::PIXEL_DATA));
    }
    let mut segments = Vec::with_capacity(described.len());
    for item in described {
        let number = number(item, tags::SEGMENT_NUMBER)? as u16;
        let label = text(item, tags::SEGMENT_LABEL)?.to_owned();
        let own = frames.0.iter().enumerate().filter(|(_, frame)| frame.segment_number == number);
        let first_bits: HashMap<usize, usize> =
            own.map(|(index, frame)| (frame.slice, index * rows * columns)).collect();
        let mask = Mask::from_fn(stack.geometry.shape(), |[slice, row, column]| {
            first_bits.get(&slice).is_some_and(|first| {
                let bit = first + row * columns + column;
                pixels[bit / 8] >> (bit % 8) & 1 == 1
            })
        });
        segments.push(ReadSegment { number, label, mask });
    }
    Ok(segments)
}
