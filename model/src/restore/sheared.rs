//! Restoring where stored axes lean against the model's: gantry tilt, and directions that are not quite orthogonal.

use std::ops::Range;

use dicom_types::{Mask, MaskBox};

use super::{StoredGrid, THRESHOLD, mask_of_slabs, slices_of_slab};
use crate::sums::{Box3, Sums};

/// One target, ready to be restored.
pub(super) struct Sheared<'a> {
    grid: &'a StoredGrid,
    sums: &'a Sums,
    target: usize,
    inside: Box3,
    candidates: MaskBox,
}

/// Probabilities of a part of the box, `[H][W][D]`, and where values count.
pub(super) struct Slab {
    inside: Box3,
    size: [usize; 3],
    values: Vec<f32>,
}

impl<'a> Sheared<'a> {
    /// Nothing where no stored voxel lies in the box.
    pub(super) fn new(
        grid: &'a StoredGrid,
        sums: &'a Sums,
        target: usize,
        inside: Box3,
    ) -> Option<Self> {
        let candidates = bounds(
            |place| grid.from_cropped.apply(place),
            inside.0.map(|first| first as f64 - 0.5),
            inside.1.map(|end| end as f64 - 0.5),
        );
        let mut extent = MaskBox { start: [0; 3], end: [0; 3] };
        for (axis, [low, high]) in candidates.into_iter().enumerate() {
            let last = grid.shape[axis] as f64 - 1.0;
            if high < 0.0 || low > last {
                return None;
            }
            extent.start[axis] = low.floor().clamp(0.0, last) as usize;
            extent.end[axis] = high.ceil().clamp(0.0, last) as usize + 1;
        }
        Some(Self { grid, sums, target, inside, candidates: extent })
    }

    pub(super) fn mask(&self) -> Mask {
        let along = self.grid.along[0];
        let step = self.grid.to_cropped.linear[along][0];
        let step_of_column = self.grid.to_cropped.column(2);
        mask_of_slabs(
            self.grid.shape,
            self.candidates,
            slices_of_slab(step),
            |slices| self.slab(slices),
            |slab, [slice, row], words| {
                let start = self.candidates.start[2];
                let first = self.place([slice, row, start]);
                let Some(slab) = slab else { return };
                for column in self.columns(slab, first, step_of_column) {
                    let place =
                        std::array::from_fn(|k| first[k] + column as f64 * step_of_column[k]);
                    let exceeds = self.value(slab, place) > THRESHOLD;
                    words[column / 64] |= u64::from(exceeds) << (column % 64);
                }
            },
        )
    }

    /// Place of a stored voxel on the model's grid.
    pub(super) fn place(&self, stored: [usize; 3]) -> [f64; 3] {
        self.grid.to_cropped.apply(stored.map(|index| index as f64))
    }

    /// Copies what `slices` can need; nothing where that is nothing.
    pub(super) fn slab(&self, slices: Range<usize>) -> Option<Slab> {
        let MaskBox { start, end } = self.candidates;
        let low = [slices.start, start[1], start[2]].map(|index| index as f64);
        let high = [slices.end - 1, end[1] - 1, end[2] - 1].map(|index| index as f64);
        let needed = bounds(|stored| self.grid.to_cropped.apply(stored), low, high);
        let mut inside = self.inside;
        for (axis, [low, high]) in needed.into_iter().enumerate() {
            inside.0[axis] = inside.0[axis].max(low.floor().max(0.0) as usize);
            inside.1[axis] = inside.1[axis].min(high.floor().max(0.0) as usize + 2);
            if inside.0[axis] >= inside.1[axis] {
                return None;
            }
        }
        let size = super::size(inside);
        let mut values = vec![0.0; size.iter().product()];
        let strides = [size[1] * size[2], size[2], 1];
        self.sums.fill(self.target, inside, strides, &mut values);
        Some(Slab { inside, size, values })
    }

    /// Columns, from the first candidate on, that can lie in the slab: `first + column * step`.
    fn columns(&self, slab: &Slab, first: [f64; 3], step: [f64; 3]) -> Range<usize> {
        let mut range = [0.0, self.candidates.shape()[2] as f64];
        for axis in 0..3 {
            let low = slab.inside.0[axis] as f64 - 0.5 - first[axis];
            let high = slab.inside.1[axis] as f64 - 0.5 - first[axis];
            if step[axis].abs() < 1e-9 {
                // Over a row this axis does not move, or so little that every column is looked at.
                continue;
            }
            let ends = [low / step[axis], high / step[axis]];
            range[0] = range[0].max(ends[0].min(ends[1]) - 1.0);
            range[1] = range[1].min(ends[0].max(ends[1]) + 2.0);
        }
        if range[0] >= range[1] {
            return 0..0;
        }
        range[0] as usize..range[1] as usize
    }

    /// Trilinearly interpolated value at an index of the volume; zero outside of the slab, where none exceeds the
    /// threshold, and beyond half a voxel outside of the volume.
    pub(super) fn value(&self, slab: &Slab, place: [f64; 3]) -> f32 {
        let volume = self.sums.shape();
        let mut low = 0;
        let mut far = [0; 3];
        let mut fraction = [0.0; 3];
        let strides = [slab.size[1] * slab.size[2], slab.size[2], 1];
        for axis in 0..3 {
            let length = volume[axis] as f64;
            if !(place[axis] >= -0.5 && place[axis] < length - 0.5) {
                return 0.0;
            }
            let clamped = place[axis].clamp(0.0, length - 1.0);
            let near = clamped as usize;
            let next = (near + 1).min(volume[axis] - 1);
            if near < slab.inside.0[axis] || next >= slab.inside.1[axis] {
                return 0.0;
            }
            low += (near - slab.inside.0[axis]) * strides[axis];
            far[axis] = (next - near) * strides[axis];
            fraction[axis] = (clamped - near as f64) as f32;
        }
        let line = |from: usize| {
            let near = slab.values[from];
            near + (slab.values[from + far[2]] - near) * fraction[2]
        };
        let plane = |from: usize| {
            let near = line(from);
            near + (line(from + far[1]) - near) * fraction[1]
        };
        let near = plane(low);
        near + (plane(low + far[0]) - near) * fraction[0]
    }
}

/// Bounds of the image of a box, lowest and highest of each axis.
fn bounds(map: impl Fn([f64; 3]) -> [f64; 3], low: [f64; 3], high: [f64; 3]) -> [[f64; 2]; 3] {
    let mut bounds = [[f64::INFINITY, f64::NEG_INFINITY]; 3];
    for corner in 0..8 {
        let corner = std::array::from_fn(|k| if corner >> k & 1 == 0 { low[k] } else { high[k] });
        for (bounds, value) in bounds.iter_mut().zip(map(corner)) {
            *bounds = [bounds[0].min(value), bounds[1].max(value)];
        }
    }
    bounds
}
