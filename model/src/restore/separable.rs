//! Restoring where every stored axis runs along one axis of the model's grid: scans without shear.

use std::ops::Range;

use dicom_types::{Mask, MaskBox};

use super::{StoredGrid, THRESHOLD, mask_of_slabs, slices_of_slab};
use crate::sums::{Box3, Sums};

/// The two voxels between which a stored index lies along one axis, and how far from the first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Neighbours {
    near: u32,
    far: u32,
    fraction: f32,
}

/// One stored axis: the indices whose neighbours lie in the box.
#[derive(Debug)]
struct Axis {
    start: usize,
    neighbours: Vec<Neighbours>,
}

impl Axis {
    /// `step` and `offset` lead from an index of the stored axis to one of the model's, which has `length` voxels.
    ///
    /// Neighbours are counted from the start of the box.
    fn new(
        count: usize,
        [step, offset]: [f64; 2],
        length: usize,
        inside: Range<usize>,
    ) -> Option<Self> {
        let mut axis = Self { start: 0, neighbours: Vec::new() };
        for index in 0..count {
            let place = index as f64 * step + offset;
            if !(place >= -0.5 && place < length as f64 - 0.5) {
                continue;
            }
            let clamped = place.clamp(0.0, (length - 1) as f64);
            let near = clamped as usize;
            let far = (near + 1).min(length - 1);
            if near < inside.start || far >= inside.end {
                continue;
            }
            if axis.neighbours.is_empty() {
                axis.start = index;
            }
            axis.neighbours.push(Neighbours {
                near: (near - inside.start) as u32,
                far: (far - inside.start) as u32,
                fraction: (clamped - near as f64) as f32,
            });
        }
        (!axis.neighbours.is_empty()).then_some(axis)
    }
}

/// One target, ready to be restored.
pub(super) struct Separable<'a> {
    grid: &'a StoredGrid,
    sums: &'a Sums,
    target: usize,
    inside: Box3,
    axes: [Axis; 3],
    /// Whether model indices grow with the stored columns.
    is_forwards: bool,
}

/// Probabilities of some planes, `[model axis of slices][of rows][of columns]`.
pub(super) struct Slab {
    values: Vec<f32>,
    first_plane: u32,
    shape: [usize; 2],
}

impl<'a> Separable<'a> {
    /// Nothing where no stored voxel lies in the box.
    pub(super) fn new(
        grid: &'a StoredGrid,
        sums: &'a Sums,
        target: usize,
        inside: Box3,
    ) -> Option<Self> {
        let volume = sums.shape();
        let axis = |stored: usize| {
            let along = grid.along[stored];
            let map = [grid.to_cropped.linear[along][stored], grid.to_cropped.offset[along]];
            Axis::new(grid.shape[stored], map, volume[along], inside.0[along]..inside.1[along])
        };
        let axes = [axis(0)?, axis(1)?, axis(2)?];
        let is_forwards = grid.to_cropped.linear[grid.along[2]][2] > 0.0;
        Some(Self { grid, sums, target, inside, axes, is_forwards })
    }

    pub(super) fn mask(&self) -> Mask {
        let start = std::array::from_fn(|axis| self.axes[axis].start);
        let end = std::array::from_fn(|k| start[k] + self.axes[k].neighbours.len());
        let step = self.grid.to_cropped.linear[self.grid.along[0]][0];
        mask_of_slabs(
            self.grid.shape,
            MaskBox { start, end },
            slices_of_slab(step),
            |slices| self.slab(slices),
            |slab, [slice, row], words| {
                let mut blended = vec![0.0; slab.shape[1]];
                if let Some(exceeding) = self.blend(slab, slice, row, &mut blended) {
                    self.threshold(&blended, exceeding, words);
                }
            },
        )
    }

    /// Copies the planes that `slices` need.
    pub(super) fn slab(&self, slices: Range<usize>) -> Slab {
        let axis = &self.axes[0];
        let needed = &axis.neighbours[slices.start - axis.start..slices.end - axis.start];
        let first_plane = needed.iter().map(|n| n.near).min().unwrap_or_default();
        let last_plane = needed.iter().map(|n| n.far).max().unwrap_or_default();
        let [across, down, along] = self.grid.along;
        let mut inside = self.inside;
        inside.0[across] += first_plane as usize;
        inside.1[across] = self.inside.0[across] + last_plane as usize + 1;
        let size = super::size(inside);
        let mut strides = [0; 3];
        strides[across] = size[down] * size[along];
        strides[down] = size[along];
        strides[along] = 1;
        let mut values = vec![0.0; size.iter().product()];
        self.sums.fill(self.target, inside, strides, &mut values);
        Slab { values, first_plane, shape: [size[down], size[along]] }
    }

    /// Interpolates a line of the model's grid for one stored row. Gives the first and last place that exceeds the
    /// threshold.
    pub(super) fn blend(
        &self,
        slab: &Slab,
        slice: usize,
        row: usize,
        blended: &mut [f32],
    ) -> Option<[usize; 2]> {
        let across = self.axes[0].neighbours[slice - self.axes[0].start];
        let down = self.axes[1].neighbours[row - self.axes[1].start];
        let [rows, columns] = slab.shape;
        let line = |plane: u32, row: u32| {
            let first = (plane - slab.first_plane) as usize * rows + row as usize;
            &slab.values[first * columns..][..columns]
        };
        let near = line(across.near, down.near).iter().zip(line(across.near, down.far));
        let far = line(across.far, down.near).iter().zip(line(across.far, down.far));
        let mut exceeding = 0;
        for (value, ((a, b), (c, d))) in blended.iter_mut().zip(near.zip(far)) {
            let near = a + (b - a) * down.fraction;
            let far = c + (d - c) * down.fraction;
            *value = near + (far - near) * across.fraction;
            exceeding += u32::from(*value > THRESHOLD);
        }
        if exceeding == 0 {
            return None;
        }
        let exceeds = |value: &f32| *value > THRESHOLD;
        Some([blended.iter().position(exceeds)?, blended.iter().rposition(exceeds)?])
    }

    /// Sets the bits of the columns that exceed the threshold; none does that lies outside of `exceeding`.
    fn threshold(&self, blended: &[f32], exceeding: [usize; 2], words: &mut [u64]) {
        let columns = &self.axes[2].neighbours;
        let [first, last] = exceeding.map(|place| place as u32);
        let (from, to) = if self.is_forwards {
            (
                columns.partition_point(|c| c.far < first),
                columns.partition_point(|c| c.near <= last),
            )
        } else {
            (
                columns.partition_point(|c| c.near > last),
                columns.partition_point(|c| c.far >= first),
            )
        };
        for (index, word) in words.iter_mut().enumerate() {
            let columns = index * 64..(index + 1) * 64;
            let columns = columns.start.max(from)..columns.end.min(to);
            let mut bits = 0;
            for column in columns {
                let exceeds = self.value(blended, column) > THRESHOLD;
                bits |= u64::from(exceeds) << (column % 64);
            }
            *word = bits;
        }
    }

    /// Value at a column of the box.
    #[inline]
    pub(super) fn value(&self, blended: &[f32], column: usize) -> f32 {
        let Neighbours { near, far, fraction } = self.axes[2].neighbours[column];
        let near = blended[near as usize];
        near + (blended[far as usize] - near) * fraction
    }

    /// First stored index, and number of indices, of each axis.
    #[cfg(test)]
    pub(super) fn extent(&self) -> [Range<usize>; 3] {
        std::array::from_fn(|k| {
            self.axes[k].start..self.axes[k].start + self.axes[k].neighbours.len()
        })
    }
}
