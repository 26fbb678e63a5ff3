//! Pixels of the frames against the masks.

use std::collections::HashSet;

use dicom::dictionary_std::tags;
use dicom_types::Mask;

use super::SegMismatch;
use super::frames::Frames;
use super::object::{Parsed, element, malformed, number, unexpected};
use crate::seg::content::SegmentInput;
use crate::series::Stack;

/// Compares every pixel of every frame with the voxel at its place, and every slice of a mask with a frame.
pub(super) fn check(
    object: &Parsed<'_>,
    frames: &Frames,
    stack: &Stack,
    segments: &[SegmentInput<'_>],
) -> Result<(), SegMismatch> {
    let [slices, rows, columns] = stack.geometry.shape();
    let pixels = pixel_data(object, frames, stack, 1)?;

    let mut seen = HashSet::with_capacity(frames.0.len());
    for (index, placed) in frames.0.iter().enumerate() {
        let number = placed.segment_number;
        if !seen.insert((number, placed.slice)) {
            return Err(SegMismatch::RepeatedFrame { frame: index + 1, number });
        }
        let frame = FrameBits { bytes: pixels, first_bit: index * rows * columns, columns };
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

/// The value of Pixel Data, which must hold all frames and nothing else.
pub(super) fn pixel_data<'a>(
    object: &Parsed<'a>,
    frames: &Frames,
    stack: &Stack,
    bits: usize,
) -> Result<&'a [u8], SegMismatch> {
    let [_, rows, columns] = stack.geometry.shape();
    for (tag, expected) in [(tags::ROWS, rows), (tags::COLUMNS, columns)] {
        if number(object.dataset, tag)? as usize != expected {
            return Err(unexpected(tag));
        }
    }
    let pixels = element(object.dataset, tags::PIXEL_DATA)?.value;
    let is_right_length = pixels.len() == (frames.0.len() * rows * columns * bits).div_ceil(16) * 2;
    if is_right_length { Ok(pixels) } else { Err(malformed(tags::PIXEL_DATA)) }
}

/// One frame inside the packed bits of all.
struct FrameBits<'a> {
    bytes: &'a [u8],
    first_bit: usize,
    columns: usize,
}

impl FrameBits<'_> {
    fn shows(&self, mask: &Mask, slice: usize, rows: usize) -> bool {
        let extent = mask.extent();
        let (top, bottom) = (extent.start[1], extent.end[1]);
        let at_row = |row: usize| self.first_bit + row * self.columns;
        self.is_clear(at_row(0), at_row(top))
            && self.is_clear(at_row(bottom), at_row(rows))
            && (top..bottom).all(|row| {
                let words = mask.row_words(slice, row).unwrap_or_default();
                (0..self.columns).step_by(64).all(|column| {
                    let length = (self.columns - column).min(64);
                    let expected = mask_bits(words, extent.start[2], column) & low_bits(length);
                    self.bits(at_row(row) + column, length) == expected
                })
            })
    }

    /// Whether no bit is set from `start` up to, not including, `end`.
    fn is_clear(&self, start: usize, end: usize) -> bool {
        let (first_whole, last_whole) = (start.div_ceil(8), end / 8);
        if first_whole >= last_whole {
            return (start..end).all(|bit| self.bytes[bit / 8] >> (bit % 8) & 1 == 0);
        }
        let head = self.bits(start, first_whole * 8 - start);
        let tail = self.bits(last_whole * 8, end - last_whole * 8);
        let whole = &self.bytes[first_whole..last_whole];
        head == 0
            && tail == 0
            && whole.chunks(4096).all(|bytes| bytes.iter().fold(0, |set, byte| set | byte) == 0)
    }

    /// Up to 64 bits from `position` on, the first in the least significant place.
    fn bits(&self, position: usize, length: usize) -> u64 {
        let first = position / 8;
        let gathered = match self.bytes.get(first..).and_then(<[u8]>::first_chunk) {
            Some(bytes) => u128::from_le_bytes(*bytes),
            None => self.bytes[first.min(self.bytes.len())..]
                .iter()
                .rev()
                .fold(0, |gathered, &byte| gathered << 8 | u128::from(byte)),
        };
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
            position in 0usize..256,
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
        fn a_range_is_clear_when_none_of_its_bits_is_set(
            set in prop::collection::vec(0usize..400, 0..3),
            start in 0usize..400,
            length in 0usize..400,
        ) {
            let mut bytes = [0u8; 50];
            for &bit in &set {
                bytes[bit / 8] |= 1 << (bit % 8);
            }
            let end = (start + length).min(400);
            let frame = FrameBits { bytes: &bytes, first_bit: 0, columns: 1 };

            let expected = !set.iter().any(|bit| (start..end).contains(bit));
            prop_assert_eq!(frame.is_clear(start, end), expected);
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
