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

#[cfg(test)]
mod tests {
    use dicom_types::{GridGeometry, Modality, Volume};
    use proptest::prelude::*;

    use super::*;
    use crate::pack::Preprocessing;
    use crate::preprocess::{OrientationCode, prepare};

    /// The rule for one voxel, written down plainly: clamp, then the weighted sum of the eight neighbours.
    fn plain_value(values: &[f32], shape: [usize; 3], place: [f64; 3]) -> f64 {
        let is_inside = (0..3).all(|k| place[k] >= -0.5 && place[k] < shape[k] as f64 - 0.5);
        if !is_inside {
            return 0.0;
        }
        let mut sum = 0.0;
        for corner in 0..8 {
            let mut weight = 1.0;
            let mut index = 0;
            for k in 0..3 {
                let clamped = place[k].clamp(0.0, shape[k] as f64 - 1.0);
                let fraction = clamped - clamped.floor();
                let is_far = corner >> k & 1 == 1;
                weight *= if is_far { fraction } else { 1.0 - fraction };
                let neighbour = clamped.floor() as usize + usize::from(is_far);
                index = index * shape[k] + neighbour.min(shape[k] - 1);
            }
            sum += weight * f64::from(values[index]);
        }
        sum
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// The expected mask is found by way of patient space, not of axes and flips: any permutation of axes, any
        /// oblique direction and any gantry tilt must end at the same voxels.
        #[test]
        fn masks_lie_where_their_probabilities_lie_in_the_patient(
            permutation in Just([0usize, 1, 2]).prop_shuffle(),
            flips in prop::array::uniform3(any::<bool>()),
            noise in prop::array::uniform9(-0.25f64..0.25),
            origin in prop::array::uniform3(-200.0f64..200.0),
            is_sagittal in any::<bool>(),
            phase in prop::array::uniform3(0.0f64..6.0),
        ) {
            let lengths = [3.1, 1.3, 1.1];
            let mut steps = [[0.0; 3]; 3];
            for axis in 0..3 {
                steps[axis][permutation[axis]] = if flips[axis] { -lengths[axis] } else { lengths[axis] };
            }
            for (step, n) in steps.as_flattened_mut().iter_mut().zip(noise) {
                *step += n;
            }
            let stored_shape = [9, 14, 17];
            let geometry = GridGeometry::new(stored_shape, origin, steps).unwrap();
            let values = (0..geometry.voxels()).map(|i| 50.0 + (i % 7) as f32).collect();
            let volume = Volume::new(geometry, values).unwrap();
            let code = if is_sagittal { OrientationCode::Asr } else { OrientationCode::Ras };
            let settings = Preprocessing {
                spacing_mm: [1.5, 1.4, 2.5],
                window: [32; 3],
                ct_clip_hu: [-500.0, 1000.0],
                other_clip_percentiles: [0.5, 99.5],
            };
            let prepared = prepare(&volume, Modality::Mr, code, &settings).unwrap();
            let shape = prepared.shape;
            let mut values = Vec::new();
            for h in 0..shape[0] { for w in 0..shape[1] { for d in 0..shape[2] {
                let wave = (h as f64 * 0.5 + phase[0]).sin()
                    + (w as f64 * 0.4 + phase[1]).sin()
                    + (d as f64 * 0.6 + phase[2]).sin();
                values.push((1.0 / (1.0 + (-2.0 * wave).exp())) as f32);
            }}}
            let probabilities =
                Probabilities { start: [0; 3], shape, values: values.clone(), volume: shape };

            let grid = StoredGrid::new(stored_shape, &prepared.oriented, &prepared.from_oriented);
            let mask = grid.unwrap().mask(&probabilities).unwrap();

            let to_oriented = prepared.oriented.affine.inverse().unwrap();
            for s in 0..stored_shape[0] { for r in 0..stored_shape[1] { for c in 0..stored_shape[2] {
                let [x, y, z] = geometry.position_mm([s as f64, r as f64, c as f64]);
                let place = prepared.from_oriented.apply(to_oriented.apply([-x, -y, z]));
                let is_at_the_rim = (0..3).any(|k| {
                    (place[k] + 0.5).abs() < 1e-3 || (place[k] + 0.5 - shape[k] as f64).abs() < 1e-3
                });
                let value = plain_value(&values, shape, place);
                if !is_at_the_rim && (value - 0.5).abs() > 1e-3 {
                    prop_assert_eq!(mask.contains([s, r, c]), value > 0.5, "at {:?}", [s, r, c]);
                }
            }}}
        }
    }
}
