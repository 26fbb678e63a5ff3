//! From averaged probabilities on the model's grid to masks on the stored grid.
//!
//! A mask is made slab by slab, a slab's probabilities copied once into the order of the stored axes and interpolated in
//! float32: memory is that of a slab, whatever the target. The values are within 1e-5 of the rule in float64.

mod separable;
mod sheared;
#[cfg(test)]
mod tests;

use dicom_types::{Mask, MaskBox};
use rayon::prelude::*;

use crate::preprocess::{Affine, OrientedGrid};
use crate::sums::{Box3, Sums};
use separable::Separable;
use sheared::Sheared;

/// Probability above which a voxel belongs to a target.
const THRESHOLD: f32 = 0.5;
/// Voxels of the model's grid, over the length of all axes, by which an axis may lean and still count as straight.
///
/// A probability changes by at most one from voxel to voxel, so this bounds the error of ignoring it.
const STRAIGHT: f64 = 2e-6;

/// The way from the stored grid to the model's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoredGrid {
    shape: [usize; 3],
    /// Stored index `[slice, row, column]` to index of the cropped volume `[H, W, D]`.
    to_cropped: Affine,
    from_cropped: Affine,
    /// For each stored axis, the model's axis that it runs along.
    along: [usize; 3],
}

impl StoredGrid {
    /// `shape` is that of the stored grid, `[slices, rows, columns]`. Nothing where the axes fall together.
    pub(crate) fn new(
        shape: [usize; 3],
        oriented: &OrientedGrid,
        from_oriented: &Affine,
    ) -> Option<Self> {
        let mut to_oriented = Affine { linear: [[0.0; 3]; 3], offset: [0.0; 3] };
        let mut along = [0; 3];
        for (axis, (stored, backwards)) in oriented.sources.into_iter().enumerate() {
            to_oriented.linear[axis][stored] = if backwards { -1.0 } else { 1.0 };
            to_oriented.offset[axis] = if backwards { (shape[stored] - 1) as f64 } else { 0.0 };
            along[stored] = axis;
        }
        let to_cropped = from_oriented.after(&to_oriented);
        let from_cropped = to_cropped.inverse()?;
        Some(Self { shape, to_cropped, from_cropped, along })
    }

    /// The stored voxels at which the trilinearly interpolated probability of a target exceeds one half.
    ///
    /// A voxel counts as inside the model's grid up to half a voxel beyond its outer centres, where the outermost value
    /// goes on.
    pub(crate) fn mask(&self, sums: &Sums, target: usize) -> Mask {
        let mask = sums.extent_above_half(target).and_then(|extent| {
            // Interpolated between voxels that do not exceed one half, no value does.
            let volume = sums.shape();
            let start = extent.0.map(|first| first.saturating_sub(1));
            let end = std::array::from_fn(|axis| (extent.1[axis] + 1).min(volume[axis]));
            if self.is_straight() {
                Some(Separable::new(self, sums, target, (start, end))?.mask())
            } else {
                Some(Sheared::new(self, sums, target, (start, end))?.mask())
            }
        });
        sums.release();
        mask.map_or_else(|| Mask::empty(self.shape), Mask::shrunk)
    }

    /// Whether every stored axis runs along one axis of the model's grid alone.
    fn is_straight(&self) -> bool {
        (0..3).all(|stored| {
            let step = self.to_cropped.column(stored);
            let others = (0..3).filter(|&axis| axis != self.along[stored]);
            let lean: f64 = others.map(|axis| step[axis].abs()).sum();
            lean * self.shape[stored] as f64 <= STRAIGHT
        })
    }
}

/// Slices whose planes of the model's grid, `step` apart, fill about a brick.
fn slices_of_slab(step: f64) -> usize {
    const PLANES: f64 = 31.0;
    (PLANES / step.abs().max(1e-3)).clamp(1.0, 256.0) as usize
}

/// Bits of a box of the stored grid, slab by slab in parallel. `row` writes the bits of one row of the box.
fn mask_of_slabs<S>(
    shape: [usize; 3],
    extent: MaskBox,
    slices: usize,
    slab: impl Fn(std::ops::Range<usize>) -> S + Sync,
    row: impl Fn(&S, [usize; 2], &mut [u64]) + Sync,
) -> Mask {
    let [depth, rows, columns] = extent.shape();
    let words_per_row = columns.div_ceil(64);
    let mut words = vec![0u64; depth * rows * words_per_row];
    words.par_chunks_mut(slices * rows * words_per_row).enumerate().for_each(|(chunk, words)| {
        let first = extent.start[0] + chunk * slices;
        let last = (first + slices).min(extent.end[0]);
        let slab = slab(first..last);
        for (index, words) in words.chunks_exact_mut(words_per_row).enumerate() {
            row(&slab, [first + index / rows, extent.start[1] + index % rows], words);
        }
    });
    Mask::from_words(shape, extent, words).expect("the box lies in the grid and has these words")
}

/// Voxels of a box along each axis.
fn size((start, end): Box3) -> [usize; 3] {
    std::array::from_fn(|axis| end[axis] - start[axis])
}
