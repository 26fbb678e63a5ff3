//! Pixels of the frames against the masks.

use std::collections::HashSet;

use dicom::dictionary_std::tags;
use dicom_types::Mask;

use super::SegMismatch;
use super::frames::Frames;
use super::object::{Parsed, keyword, number, unexpected};
use crate::seg::content::SegmentInput;
use crate::series::Stack;

/// Compares every pixel of every frame with the voxel at its place, and every slice of a mask with a frame.
pub(super) fn check(
    object: &Parsed,
    frames: &Frames,
    stack: &Stack,
    segments: &[SegmentInput<'_>],
) -> Result<(), SegMismatch> {
    let dataset = &object.dataset;
    let [slices, rows, columns] = stack.geometry.shape();
    for (tag, expected) in [(tags::ROWS, rows), (tags::COLUMNS, columns)] {
        if number(dataset, tag)? as usize != expected {
            return Err(unexpected(tag));
        }
    }
    let malformed = SegMismatch::Malformed { attribute: keyword(tags::PIXEL_DATA) };
    let pixels = dataset.get(tags::PIXEL_DATA).ok_or_else(|| malformed.clone())?;
    let pixels = pixels.value().to_bytes().map_err(|_| malformed.clone())?;
    let bits = frames.0.len() * rows * columns;
    let is_right_length = pixels.len() == bits.div_ceil(16) * 2;
    if !is_right_length {
        return Err(malformed);
    }

    let mut seen = HashSet::with_capacity(frames.0.len());
    for (index, placed) in frames.0.iter().enumerate() {
        let number = placed.segment_number;
        if !seen.insert((number, placed.slice)) {
            return Err(SegMismatch::RepeatedFrame { frame: index + 1, number });
        }
        let frame = FrameBits { bytes: &pixels, first_bit: index * rows * columns, columns };
        let mask = segments[usize::from(number) - 1].mask;
        if !frame.shows(mask, placed.slice, rows) {
            return Err(SegMismatch::Voxels { frame: index + 1, number });
        }
    }
    for (index, segment) in segments.iter().enumerate() {
        let number = index as u16 + 1;
        let missing = (0..slices).find(|&slice| {
            segment.mask.count_in_slice(slice) > 0 && !seen.contains(&(number, slice))
        });
        if let Some(slice) = missing {
            return Err(SegMismatch::MissingFrame { number, slice });
        }
    }
    Ok(())
}

/// One frame inside the packed bits of all.
struct FrameBits<'a> {
    bytes: &'a [u8],
    first_bit: usize,
    columns: usize,
}

impl FrameBits<'_> {
    fn shows(&self, mask: &Mask, slice: usize, rows: usize) -> bool {
        (0..rows).all(|row| {
            let first_bit = self.first_bit + row * self.columns;
            let words = mask.row_words(slice, row).unwrap_or_default();
            let start = mask.extent().start[2];
            (0..self.columns).step_by(64).all(|column| {
                let length = (self.columns - column).min(64);
                let expected = if words.is_empty() { 0 } else { mask_bits(words, start, column) };
                self.bits(first_bit + column, length) == expected & low_bits(length)
            })
        })
    }

    /// `length` bits from `position` on, the first in the least significant place.
    fn bits(&self, position: usize, length: usize) -> u64 {
        let first = position / 8;
        let last = (position + length - 1) / 8;
        let mut gathered = 0u128;
        for (place, &byte) in self.bytes[first..=last].iter().enumerate() {
            gathered |= u128::from(byte) << (8 * place);
        }
        (gathered >> (position % 8)) as u64 & low_bits(length)
    }
}

/// The 64 voxels of a row from `column` on, where `words` hold those from column `start` on.
fn mask_bits(words: &[u64], start: usize, column: usize) -> u64 {
    let word = |index: isize| -> u64 {
        usize::try_from(index).ok().and_then(|index| words.get(index)).copied().unwrap_or(0)
    };
    let offset = column as isize - start as isize;
    let (index, shift) = (offset.div_euclid(64), offset.rem_euclid(64));
    if shift == 0 { word(index) } else { word(index) >> shift | word(index + 1) << (64 - shift) }
}

fn low_bits(length: usize) -> u64 {
    if length >= 64 { u64::MAX } else { (1 << length) - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn takes_bits_out_one_by_one_or_many_at_a_time(
            bytes in prop::collection::vec(any::<u8>(), 40),
            position in 0usize..250,
            length in 1usize..=64,
        ) {
            let frame = FrameBits { bytes: &bytes, first_bit: 0, columns: 1 };
            let mut expected = 0;
            for i in 0..length {
                let bit = position + i;
                expected |= u64::from(bytes[bit / 8] >> (bit % 8) & 1) << i;
            }

            prop_assert_eq!(frame.bits(position, length), expected);
        }

        #[test]
        fn mask_bits_are_those_of_the_mask(
            columns in 1usize..300,
            bits in prop::collection::vec(prop::bool::weighted(0.05), 300),
            column in 0usize..300,
        ) {
            let mask = Mask::from_fn([1, 1, columns], |[_, _, c]| bits[c]);
            let words = mask.row_words(0, 0).unwrap_or_default();
            let found = mask_bits(words, mask.extent().start[2], column);
            for i in 0..64 {
                let inside = column + i < columns && bits[column + i];
                prop_assert_eq!(found >> i & 1 == 1, inside);
            }
        }
    }
}
