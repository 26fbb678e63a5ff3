//! Bits of masks as Pixel Data: one bit a voxel, least significant bit first, no padding between frames
//! (PS3.5 8.1.1 and 8.2).

use dicom_types::Mask;

use super::enums::SegmentsOverlap;

/// Packs frames one after the other and keeps the bits that do not fill a byte for the next.
#[derive(Debug)]
pub(crate) struct FramePacker {
    columns: usize,
    frame_bits: usize,
    /// Bits of the last byte that earlier frames have filled.
    carried_bits: usize,
    buffer: Vec<u8>,
}

impl FramePacker {
    /// Room behind the last byte, so that a word can always be written whole.
    const SLACK: usize = 16;

    pub(crate) fn new(rows: usize, columns: usize) -> Self {
        let frame_bits = rows * columns;
        let buffer = vec![0; frame_bits.div_ceil(8) + 1 + Self::SLACK];
        Self { columns, frame_bits, carried_bits: 0, buffer }
    }

    /// Packs one slice of `mask`, whose grid has the packer's rows and columns. Returns the bytes that are complete,
    /// those that an earlier frame began included.
    pub(crate) fn pack(&mut self, mask: &Mask, slice: usize) -> &[u8] {
        self.start_frame();
        let extent = mask.extent();
        for row in extent.start[1]..extent.end[1] {
            let Some(words) = mask.row_words(slice, row) else { continue };
            let first_bit = self.carried_bits + row * self.columns + extent.start[2];
            for (index, &word) in words.iter().enumerate() {
                if word != 0 {
                    or_word(&mut self.buffer, first_bit + 64 * index, word);
                }
            }
        }
        let bits = self.carried_bits + self.frame_bits;
        self.carried_bits = bits % 8;
        &self.buffer[..bits / 8]
    }

    /// Moves the incomplete last byte to the front and clears the rest.
    fn start_frame(&mut self) {
        let last = if self.carried_bits == 0 { 0 } else { self.buffer[self.last_byte()] };
        self.buffer.fill(0);
        self.buffer[0] = last;
    }

    /// Where the frame before left its incomplete byte.
    fn last_byte(&self) -> usize {
        // The carry before that frame follows from the one after it.
        let carried_before = (self.carried_bits + 8 - self.frame_bits % 8) % 8;
        (carried_before + self.frame_bits) / 8
    }

    /// The incomplete byte behind the last frame, its unused bits zero.
    pub(crate) fn finish(self) -> Option<u8> {
        (self.carried_bits > 0).then(|| self.buffer[self.last_byte()])
    }
}

/// Sets the bits of `word` from bit `position` on.
fn or_word(buffer: &mut [u8], position: usize, word: u64) {
    let window = &mut buffer[position / 8..][..16];
    let shifted = u128::from(word) << (position % 8);
    let mut present = [0; 16];
    present.copy_from_slice(window);
    window.copy_from_slice(&(u128::from_le_bytes(present) | shifted).to_le_bytes());
}

/// Whether any voxel belongs to two of `masks`, which share a grid.
pub(crate) fn segments_overlap(masks: &[&Mask]) -> SegmentsOverlap {
    let Some([slices, rows, columns]) = masks.first().map(|mask| mask.shape()) else {
        return SegmentsOverlap::No;
    };
    // One word more than a row has, for what a shift moves out of the last.
    let words_per_row = columns.div_ceil(64) + 1;
    let mut taken = vec![0u64; rows * words_per_row];
    for slice in 0..slices {
        taken.fill(0);
        for mask in masks {
            let extent = mask.extent();
            let (first_word, shift) = (extent.start[2] / 64, extent.start[2] % 64);
            for row in extent.start[1]..extent.end[1] {
                let Some(words) = mask.row_words(slice, row) else { break };
                let taken_row = &mut taken[row * words_per_row + first_word..];
                for (index, &word) in words.iter().enumerate() {
                    let shifted = u128::from(word) << shift;
                    let (low, high) = (shifted as u64, (shifted >> 64) as u64);
                    if taken_row[index] & low != 0 || high != 0 && taken_row[index + 1] & high != 0
                    {
                        return SegmentsOverlap::Yes;
                    }
                    taken_row[index] |= low;
                    if high != 0 {
                        taken_row[index + 1] |= high;
                    }
                }
            }
        }
    }
    SegmentsOverlap::No
}

/// Two masks that share a voxel, as indices of `masks`.
pub(crate) fn overlapping_pair(masks: &[&Mask]) -> Option<[usize; 2]> {
    if segments_overlap(masks) == SegmentsOverlap::No {
        return None;
    }
    (0..masks.len()).find_map(|first| {
        let second = (first + 1..masks.len())
            .find(|&second| masks[first].count_common(masks[second]) > 0)?;
        Some([first, second])
    })
}

/// Bytes of a pixel of a label map that numbers its segments up to `segments`.
pub(crate) fn label_bytes(segments: usize) -> usize {
    if u8::try_from(segments).is_ok() { 1 } else { 2 }
}

/// Appends one slice of a label map: in every pixel the number of the mask that holds it, from 1, in `label_bytes`
/// bytes, little endian; 0 where none does. No two masks hold the same voxel.
pub(crate) fn append_labels(
    masks: &[&Mask],
    slice: usize,
    label_bytes: usize,
    pixels: &mut Vec<u8>,
) {
    let Some([_, rows, columns]) = masks.first().map(|mask| mask.shape()) else { return };
    let start = pixels.len();
    pixels.resize(start + rows * columns * label_bytes, 0);
    let frame = &mut pixels[start..];
    for (index, mask) in masks.iter().enumerate() {
        let label = (index as u16 + 1).to_le_bytes();
        let extent = mask.extent();
        for row in extent.start[1]..extent.end[1] {
            let Some(words) = mask.row_words(slice, row) else { break };
            for (place, &word) in words.iter().enumerate() {
                let first = row * columns + extent.start[2] + 64 * place;
                let mut rest = word;
                while rest != 0 {
                    let pixel = first + rest.trailing_zeros() as usize;
                    frame[pixel * label_bytes..][..label_bytes]
                        .copy_from_slice(&label[..label_bytes]);
                    rest &= rest - 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The bits of all frames, one after the other, packed the slow way.
    fn packed_bit_by_bit(masks: &[Mask], rows: usize, columns: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut bit = 0;
        for mask in masks {
            for r in 0..rows {
                for c in 0..columns {
                    if bit % 8 == 0 {
                        bytes.push(0);
                    }
                    if mask.contains([0, r, c]) {
                        *bytes.last_mut().unwrap() |= 1 << (bit % 8);
                    }
                    bit += 1;
                }
            }
        }
        bytes
    }

    proptest! {
        #[test]
        fn packs_like_a_loop_over_bits(
            rows in 1usize..12,
            columns in 1usize..150,
            bits in prop::collection::vec(prop::bool::weighted(0.3), 3 * 12 * 150),
            first_column in 0usize..150,
        ) {
            let masks: Vec<_> = (0..3)
                .map(|i| Mask::from_fn([1, rows, columns], |[_, r, c]| {
                    c >= first_column && bits[(i * rows + r) * columns + c]
                }))
                .collect();

            let mut packer = FramePacker::new(rows, columns);
            let mut bytes = Vec::new();
            for mask in &masks {
                bytes.extend_from_slice(packer.pack(mask, 0));
            }
            bytes.extend(packer.finish());

            prop_assert_eq!(bytes, packed_bit_by_bit(&masks, rows, columns));
        }

        #[test]
        fn finds_overlap_like_a_loop_over_voxels(
            columns in 1usize..150,
            bits in prop::collection::vec(prop::option::weighted(0.05, 0usize..3), 2 * 3 * 150),
            doubled in prop::option::of((0usize..2, 0usize..3, 0usize..150)),
        ) {
            let masks: Vec<_> = (0..3)
                .map(|i| Mask::from_fn([2, 3, columns], |[s, r, c]| {
                    bits[(s * 3 + r) * 150 + c] == Some(i) || (i < 2 && doubled == Some((s, r, c)))
                }))
                .collect();
            let pairs = [(0, 1), (0, 2), (1, 2)];
            let common: u64 = pairs.iter().map(|&(a, b)| masks[a].count_common(&masks[b])).sum();
            let expected = if common > 0 { SegmentsOverlap::Yes } else { SegmentsOverlap::No };

            prop_assert_eq!(segments_overlap(&masks.iter().collect::<Vec<_>>()), expected);
        }
    }
}
