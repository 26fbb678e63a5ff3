//! From averaged probabilities on the model's grid to masks on the stored grid.

use dicom_types::{Mask, MaskBox, MaskError};

use crate::preprocess::{Affine, OrientedGrid};
use crate::sliding_window::Probabilities;

/// Probability above which a voxel belongs to a target.
const THRESHOLD: f64 = 0.5;

/// The way from the stored grid to the model's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoredGrid {
    shape: [usize; 3],
    /// Stored index `[slice, row, column]` to index of the cropped volume `[H, W, D]`.
    to_cropped: Affine,
    from_cropped: Affine,
}

impl StoredGrid {
    /// `shape` is that of the stored grid, `[slices, rows, columns]`. Nothing where the axes fall together.
    pub(crate) fn new(
        shape: [usize; 3],
        oriented: &OrientedGrid,
        from_oriented: &Affine,
    ) -> Option<Self> {
        let mut to_oriented = Affine { linear: [[0.0; 3]; 3], offset: [0.0; 3] };
        for (axis, (stored, backwards)) in oriented.sources.into_iter().enumerate() {
            to_oriented.linear[axis][stored] = if backwards { -1.0 } else { 1.0 };
            to_oriented.offset[axis] = if backwards { (shape[stored] - 1) as f64 } else { 0.0 };
        }
        let to_cropped = from_oriented.after(&to_oriented);
        let from_cropped = to_cropped.inverse()?;
        Some(Self { shape, to_cropped, from_cropped })
    }

    /// The stored voxels at which the trilinearly interpolated probability exceeds one half.
    ///
    /// A voxel counts as inside the model's grid up to half a voxel beyond its outer centres, where the outermost value
    /// goes on.
    ///
    /// # Errors
    /// Never for a box inside the grid.
    pub(crate) fn mask(&self, probabilities: &Probabilities) -> Result<Mask, MaskError> {
        let Some((start, end)) = self.candidates(probabilities) else {
            return Ok(Mask::empty(self.shape));
        };
        let extent = MaskBox { start, end };
        let [slices, rows, columns] = extent.shape();
        let words_per_row = columns.div_ceil(64);
        let mut words = vec![0u64; slices * rows * words_per_row];
        let step = self.to_cropped.column(2);
        for (index, row_words) in words.chunks_exact_mut(words_per_row).enumerate() {
            let (slice, row) = (start[0] + index / rows, start[1] + index % rows);
            let first = self.to_cropped.apply([slice as f64, row as f64, 0.0]);
            for column in 0..columns {
                let along = (start[2] + column) as f64;
                let place = std::array::from_fn(|axis| first[axis] + along * step[axis]);
                let is_inside = probabilities.at(place) > THRESHOLD;
                row_words[column / 64] |= u64::from(is_inside) << (column % 64);
            }
        }
        Mask::from_words(self.shape, extent, words).map(Mask::shrunk)
    }

    /// Box of stored voxels that can exceed one half: those within a voxel of one that does on the model's grid.
    fn candidates(&self, probabilities: &Probabilities) -> Option<([usize; 3], [usize; 3])> {
        let (low, high) = probabilities.extent_above_threshold()?;
        let mut start = [f64::INFINITY; 3];
        let mut end = [f64::NEG_INFINITY; 3];
        for corner in 0..8 {
            let corner = std::array::from_fn(|axis| {
                if corner >> axis & 1 == 0 {
                    low[axis] as f64 - 1.0
                } else {
                    high[axis] as f64 + 1.0
                }
            });
            let stored = self.from_cropped.apply(corner);
            for axis in 0..3 {
                start[axis] = start[axis].min(stored[axis]);
                end[axis] = end[axis].max(stored[axis]);
            }
        }
        let last = |axis: usize| self.shape[axis] as f64 - 1.0;
        let is_outside = (0..3).any(|axis| end[axis] < 0.0 || start[axis] > last(axis));
        if is_outside {
            return None;
        }
        let start = std::array::from_fn(|axis| start[axis].floor().clamp(0.0, last(axis)) as usize);
        let end = std::array::from_fn(|axis| end[axis].ceil().clamp(0.0, last(axis)) as usize + 1);
        Some((start, end))
    }
}

impl Probabilities {
    /// First and last voxel along each axis of those above one half.
    fn extent_above_threshold(&self) -> Option<([usize; 3], [usize; 3])> {
        let mut low = [usize::MAX; 3];
        let mut high = [0; 3];
        let mut is_any = false;
        for (index, row) in self.values.chunks_exact(self.shape[2]).enumerate() {
            let is_above = |value: &f32| f64::from(*value) > THRESHOLD;
            let Some(first) = row.iter().position(is_above) else { continue };
            let last = row.iter().rposition(is_above).unwrap_or(first);
            is_any = true;
            let place = [index / self.shape[1], index % self.shape[1]];
            for axis in 0..2 {
                low[axis] = low[axis].min(self.start[axis] + place[axis]);
                high[axis] = high[axis].max(self.start[axis] + place[axis]);
            }
            low[2] = low[2].min(self.start[2] + first);
            high[2] = high[2].max(self.start[2] + last);
        }
        is_any.then_some((low, high))
    }

    /// Trilinearly interpolated value at an index of the volume; zero beyond half a voxel outside of it.
    fn at(&self, place: [f64; 3]) -> f64 {
        let mut low = [0usize; 3];
        let mut fraction = [0.0; 3];
        for axis in 0..3 {
            let size = self.volume[axis] as f64;
            if !(place[axis] >= -0.5 && place[axis] < size - 0.5) {
                return 0.0;
            }
            let clamped = place[axis].clamp(0.0, size - 1.0);
            let floor = clamped.floor();
            low[axis] = floor as usize;
            fraction[axis] = clamped - floor;
        }
        let mut planes = [0.0; 2];
        for (h, plane) in planes.iter_mut().enumerate() {
            let rows: [f64; 2] = std::array::from_fn(|w| {
                let near = self.voxel([low[0] + h, low[1] + w, low[2]]);
                let far = self.voxel([low[0] + h, low[1] + w, low[2] + 1]);
                near + (far - near) * fraction[2]
            });
            *plane = rows[0] + (rows[1] - rows[0]) * fraction[1];
        }
        planes[0] + (planes[1] - planes[0]) * fraction[0]
    }

    fn voxel(&self, index: [usize; 3]) -> f64 {
        let mut place = 0;
        for axis in 0..3 {
            // Beyond the last voxel the fraction is zero, so the value does not matter.
            let index = index[axis].min(self.volume[axis] - 1);
            let Some(inside) = index.checked_sub(self.start[axis]) else { return 0.0 };
            if inside >= self.shape[axis] {
                return 0.0;
            }
            place = place * self.shape[axis] + inside;
        }
        f64::from(self.values[place])
    }
}
