//! A binary mask, kept as bits inside its bounding box.

/// Half-open box of voxel indices `[slice, row, column]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaskBox {
    /// First index on each axis.
    pub start: [usize; 3],
    /// One past the last index on each axis.
    pub end: [usize; 3],
}

impl MaskBox {
    /// Voxels on each axis.
    pub fn shape(&self) -> [usize; 3] {
        std::array::from_fn(|axis| self.end[axis] - self.start[axis])
    }
}

/// Why bits and box do not make a mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MaskError {
    /// A box that leaves its grid or has an end before its start.
    #[error("box {start:?} to {end:?} does not lie inside a grid of {shape:?}")]
    OutsideGrid {
        /// Box start.
        start: [usize; 3],
        /// Box end.
        end: [usize; 3],
        /// Grid shape.
        shape: [usize; 3],
    },
    /// The number of words is not that of the box.
    #[error("{found} words for rows that need {expected}")]
    Length {
        /// Words that the box needs.
        expected: usize,
        /// Words given.
        found: usize,
    },
}

/// A set of voxels of a grid of `shape` `[slices, rows, columns]`.
///
/// Bits are stored for the voxels of one box alone, a row of the box after the other, each row starting on a 64-bit
/// word, the first column in the least significant bit. Bits past the end of a row are zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    shape: [usize; 3],
    extent: MaskBox,
    words: Vec<u64>,
}

impl Mask {
    /// A mask without voxels.
    pub fn empty(shape: [usize; 3]) -> Self {
        Self { shape, extent: MaskBox { start: [0; 3], end: [0; 3] }, words: Vec::new() }
    }

    /// Builds a mask from the rows of a box.
    ///
    /// # Errors
    /// [`MaskError`] when the box leaves the grid or `words` has another length than the box needs.
    pub fn from_words(
        shape: [usize; 3],
        extent: MaskBox,
        mut words: Vec<u64>,
    ) -> Result<Self, MaskError> {
        let inside = (0..3).all(|a| extent.start[a] <= extent.end[a] && extent.end[a] <= shape[a]);
        if !inside {
            return Err(MaskError::OutsideGrid { start: extent.start, end: extent.end, shape });
        }
        let [slices, rows, columns] = extent.shape();
        let words_per_row = columns.div_ceil(64);
        let expected = slices * rows * words_per_row;
        if words.len() != expected {
            return Err(MaskError::Length { expected, found: words.len() });
        }
        let used_bits = columns % 64;
        if used_bits != 0 {
            for row in words.chunks_exact_mut(words_per_row) {
                row[words_per_row - 1] &= (1 << used_bits) - 1;
            }
        }
        Ok(Self { shape, extent, words })
    }

    /// Builds a mask of the voxels for which `inside` holds, shrunk to its bounding box.
    pub fn from_fn(shape: [usize; 3], mut inside: impl FnMut([usize; 3]) -> bool) -> Self {
        let words_per_row = shape[2].div_ceil(64);
        let mut words = vec![0u64; shape[0] * shape[1] * words_per_row];
        for s in 0..shape[0] {
            for r in 0..shape[1] {
                let row = &mut words[(s * shape[1] + r) * words_per_row..][..words_per_row];
                for c in 0..shape[2] {
                    row[c / 64] |= u64::from(inside([s, r, c])) << (c % 64);
                }
            }
        }
        Self { shape, extent: MaskBox { start: [0; 3], end: shape }, words }.shrunk()
    }

    /// Shape of the grid `[slices, rows, columns]`.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// The box for which bits are stored; empty when the mask is.
    pub fn extent(&self) -> MaskBox {
        self.extent
    }

    /// Words of one row of the box, or nothing where the row lies outside it. `slice` and `row` are grid indices; the
    /// first bit is column `extent().start[2]`.
    pub fn row_words(&self, slice: usize, row: usize) -> Option<&[u64]> {
        let MaskBox { start, end } = self.extent;
        let inside = (start[0]..end[0]).contains(&slice) && (start[1]..end[1]).contains(&row);
        if !inside {
            return None;
        }
        let [_, rows, columns] = self.extent.shape();
        let words_per_row = columns.div_ceil(64);
        let first = ((slice - start[0]) * rows + row - start[1]) * words_per_row;
        Some(&self.words[first..first + words_per_row])
    }

    /// Whether the voxel `[slice, row, column]` belongs to the mask.
    pub fn contains(&self, [slice, row, column]: [usize; 3]) -> bool {
        let MaskBox { start, end } = self.extent;
        if !(start[2]..end[2]).contains(&column) {
            return false;
        }
        self.row_words(slice, row).is_some_and(|words| {
            let bit = column - start[2];
            words[bit / 64] >> (bit % 64) & 1 == 1
        })
    }

    /// Number of voxels in the mask.
    pub fn count(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Number of voxels of one slice.
    pub fn count_in_slice(&self, slice: usize) -> u64 {
        let [_, rows, columns] = self.extent.shape();
        if !(self.extent.start[0]..self.extent.end[0]).contains(&slice) {
            return 0;
        }
        let words_per_slice = rows * columns.div_ceil(64);
        let first = (slice - self.extent.start[0]) * words_per_slice;
        let words = &self.words[first..first + words_per_slice];
        words.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Number of voxels that belong to both masks of the same grid.
    pub fn count_common(&self, other: &Self) -> u64 {
        let mut common = 0;
        self.for_each(|voxel| common += u64::from(other.contains(voxel)));
        common
    }

    /// Calls `visit` with `[slice, row, column]` of every voxel, in order.
    pub fn for_each(&self, mut visit: impl FnMut([usize; 3])) {
        let MaskBox { start, end } = self.extent;
        for slice in start[0]..end[0] {
            for row in start[1]..end[1] {
                let words = self.row_words(slice, row).unwrap_or_default();
                for (i, &word) in words.iter().enumerate() {
                    let mut rest = word;
                    while rest != 0 {
                        let bit = rest.trailing_zeros() as usize;
                        visit([slice, row, start[2] + i * 64 + bit]);
                        rest &= rest - 1;
                    }
                }
            }
        }
    }

    /// The same mask with the smallest box that holds it.
    #[must_use]
    pub fn shrunk(self) -> Self {
        let mut start = [usize::MAX; 3];
        let mut end = [0; 3];
        self.for_each(|voxel| {
            for axis in 0..3 {
                start[axis] = start[axis].min(voxel[axis]);
                end[axis] = end[axis].max(voxel[axis] + 1);
            }
        });
        if end[0] == 0 {
            return Self::empty(self.shape);
        }
        let extent = MaskBox { start, end };
        if extent == self.extent {
            return self;
        }
        let [slices, rows, columns] = extent.shape();
        let words_per_row = columns.div_ceil(64);
        let mut words = vec![0u64; slices * rows * words_per_row];
        self.for_each(|[s, r, c]| {
            let row = (s - start[0]) * rows + r - start[1];
            let bit = c - start[2];
            words[row * words_per_row + bit / 64] |= 1 << (bit % 64);
        });
        Self { shape: self.shape, extent, words }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_empty_mask_has_no_voxels() {
        let mask = Mask::from_fn([3, 4, 5], |_| false);

        assert_eq!(mask, Mask::empty([3, 4, 5]));
        assert_eq!(mask.count(), 0);
        assert!(!mask.contains([0, 0, 0]));
    }

    #[test]
    fn refuses_bits_that_do_not_fit_the_box() {
        let extent = MaskBox { start: [0; 3], end: [1, 2, 65] };

        assert_eq!(
            Mask::from_words([1, 2, 65], extent, vec![0; 3]),
            Err(MaskError::Length { expected: 4, found: 3 })
        );
        assert!(Mask::from_words([1, 2, 64], extent, vec![0; 4]).is_err());
    }

    #[test]
    fn clears_bits_past_the_end_of_a_row() {
        let extent = MaskBox { start: [0; 3], end: [1, 1, 3] };

        let mask = Mask::from_words([1, 1, 3], extent, vec![u64::MAX]).unwrap();

        assert_eq!(mask.count(), 3);
    }

    proptest! {
        #[test]
        fn agrees_with_a_plain_array(
            shape in prop::array::uniform3(1usize..9),
            wide in 1usize..140,
            bits in prop::collection::vec(prop::bool::weighted(0.1), 64 * 140),
        ) {
            let shape = [shape[0], shape[1], wide];
            let at = |[s, r, c]: [usize; 3]| bits[(s * shape[1] + r) * wide + c];
            let mask = Mask::from_fn(shape, at);
            let mut count = 0;
            for s in 0..shape[0] {
                let mut in_slice = 0;
                for r in 0..shape[1] {
                    for c in 0..wide {
                        prop_assert_eq!(mask.contains([s, r, c]), at([s, r, c]));
                        in_slice += u64::from(at([s, r, c]));
                    }
                }
                prop_assert_eq!(mask.count_in_slice(s), in_slice);
                count += in_slice;
            }
            prop_assert_eq!(mask.count(), count);
            prop_assert_eq!(mask.count_common(&mask), count);
        }
    }
}
