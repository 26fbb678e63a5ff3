//! Pixels of a label map against the masks.

use super::SegMismatch;
use super::frames::Frames;
use super::object::Parsed;
use super::voxels::pixel_data;
use crate::seg::content::SegmentInput;
use crate::series::Stack;

/// Compares every pixel with the mask that it names at its place; masks are complete when as many pixels name them as
/// they have voxels.
pub(super) fn check(
    object: &Parsed<'_>,
    frames: &Frames,
    stack: &Stack,
    segments: &[SegmentInput<'_>],
    bits: u32,
) -> Result<(), SegMismatch> {
    let [_, rows, columns] = stack.geometry.shape();
    let bytes_a_pixel = bits as usize / 8;
    let pixels = pixel_data(object, frames, stack, bits as usize)?;
    let mut counts = vec![0u64; segments.len()];
    let mut slices_seen = vec![false; stack.slices.len()];
    let bytes_a_row = columns * bytes_a_pixel;
    for (index, placed) in frames.0.iter().enumerate() {
        let frame = index + 1;
        if std::mem::replace(&mut slices_seen[placed.slice], true) {
            return Err(SegMismatch::RepeatedFrame { frame, number: 0 });
        }
        let first = index * rows * bytes_a_row;
        for (row, labels) in pixels[first..][..rows * bytes_a_row].chunks(bytes_a_row).enumerate() {
            if labels.iter().fold(0, |set, byte| set | byte) == 0 {
                continue;
            }
            for (column, label) in labels.chunks(bytes_a_pixel).enumerate() {
                let number =
                    label.iter().rev().fold(0u16, |number, &byte| number << 8 | u16::from(byte));
                if number == 0 {
                    continue;
                }
                let named = segments.get(usize::from(number) - 1);
                let is_inside =
                    named.is_some_and(|segment| segment.mask.contains([placed.slice, row, column]));
                if !is_inside {
                    return Err(SegMismatch::Voxels { frame, number });
                }
                counts[usize::from(number) - 1] += 1;
            }
        }
    }
    for (index, (segment, count)) in segments.iter().zip(counts).enumerate() {
        if segment.mask.count() != count {
            return Err(incomplete(index as u16 + 1, segment, frames));
        }
    }
    Ok(())
}

/// Where voxels of a mask are missing.
fn incomplete(number: u16, segment: &SegmentInput<'_>, frames: &Frames) -> SegMismatch {
    let extent = segment.mask.extent();
    let uncovered = (extent.start[0]..extent.end[0]).find(|&slice| {
        segment.mask.count_in_slice(slice) > 0 && frames.0.iter().all(|frame| frame.slice != slice)
    });
    match uncovered {
        Some(slice) => SegMismatch::MissingFrame { number, slice },
        None => SegMismatch::Segment { number, attribute: "PixelData" },
    }
}
