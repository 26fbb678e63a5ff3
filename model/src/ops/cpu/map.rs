//! Maps and what conv units read from them.

use std::{ops::Range, sync::Arc};

use super::{
    arena::{Arena, Loan},
    simd::LANES,
};

/// Voxels of a map along `[h, w, d]`; `d` is the fastest axis.
pub(crate) type Shape = [usize; 3];

/// Slope of the activation left of zero.
pub(crate) const LEAKY_SLOPE: f32 = 0.01;

/// Added to the variance before its root is taken.
pub(crate) const NORM_EPSILON: f64 = 1e-5;

/// A per-channel `x·scale + shift`, then the activation, that every reader of a map applies on load.
#[derive(Debug, Clone)]
pub(crate) struct Pending {
    pub(crate) scale: Vec<f32>,
    pub(crate) shift: Vec<f32>,
}

/// Planes that a convolution over a map of this plane size writes at a time, in floats.
const SLAB_VALUES: usize = 24 << 20;

/// Planes of a slab are a multiple of this, the height of the fast convolution's tiles.
const SLAB_PLANES: usize = 4;

/// A dense map in a loaned buffer, perhaps with spare planes in front of it or behind.
///
/// Spare planes let a convolution write its output over its own input, a slab at a time: see
/// [`FeatureMap::overlay`].
#[derive(Debug)]
pub(crate) struct FeatureMap {
    values: Loan,
    pub(crate) shape: Shape,
    /// Spare planes in the buffer.
    spare: usize,
    /// Spare planes in front of the map: none or all.
    first: usize,
    /// Real channels.
    pub(crate) channels: usize,
    /// Set by every conv unit; absent on maps that are read as they are.
    pub(crate) pending: Option<Pending>,
}

impl FeatureMap {
    /// A map of any content, with as many spare planes as a slab needs that overwrites its input.
    pub(crate) fn new(arena: &Arc<Arena>, shape: Shape, channels: usize) -> Self {
        let plane = shape[1] * shape[2] * channels.next_multiple_of(LANES);
        Self::with_slab(arena, shape, channels, slab_planes(shape[0], plane))
    }

    /// A map that can be overwritten `slab` planes at a time.
    pub(super) fn with_slab(
        arena: &Arc<Arena>,
        shape: Shape,
        channels: usize,
        slab: usize,
    ) -> Self {
        let plane = shape[1] * shape[2] * channels.next_multiple_of(LANES);
        let spare = slab + 1;
        let values = arena.take((shape[0] + spare) * plane);
        Self { values, shape, spare, first: spare, channels, pending: None }
    }

    /// Planes that are written at a time.
    pub(crate) fn slab(&self) -> usize {
        self.spare - 1
    }

    /// Slabs in the order in which they may overwrite the map.
    pub(crate) fn slabs(&self) -> Vec<Range<usize>> {
        let (height, slab) = (self.shape[0], self.slab());
        let mut slabs: Vec<Range<usize>> =
            (0..height).step_by(slab).map(|first| first..(first + slab).min(height)).collect();
        if self.first == 0 {
            slabs.reverse();
        }
        slabs
    }

    /// Where the planes of `slab` of the next map go, and this map without the planes that are
    /// overwritten already or by it.
    ///
    /// Slabs come in the order of [`FeatureMap::slabs`], and their outputs read one plane beyond the
    /// slab on both sides: the next map lies a slab and a plane away from this one, so what is read
    /// is never what was written.
    pub(crate) fn overlay(&mut self, slab: &Range<usize>) -> (&mut [f32], Source<'_>) {
        let (plane, stride, shape) = (self.plane(), self.stride(), self.shape);
        let (target, values, planes) = if self.first > 0 {
            let (before, after) = self.values.split_at_mut(slab.end * plane);
            let kept = self.first.max(slab.end);
            let values = &after[(kept - slab.end) * plane..];
            (&mut before[slab.start * plane..], values, kept - self.first..shape[0])
        } else {
            let place = self.spare + slab.start;
            let (before, after) = self.values.split_at_mut(place * plane);
            let planes = 0..place.min(shape[0]);
            (&mut after[..slab.len() * plane], &before[..planes.end * plane], planes)
        };
        debug_assert!(planes.start <= slab.start.saturating_sub(1));
        debug_assert!(planes.end >= (slab.end + 1).min(shape[0]));
        (target, Source { values, planes, shape, stride, pending: self.pending.as_ref() })
    }

    /// Makes the overlaid map the map.
    pub(crate) fn settle_overlay(&mut self, pending: Pending) {
        self.first = self.spare - self.first;
        self.pending = Some(pending);
    }

    /// The map's values.
    pub(crate) fn data(&self) -> &[f32] {
        let plane = self.plane();
        &self.values[self.first * plane..(self.first + self.shape[0]) * plane]
    }

    /// The map's values, to be written.
    pub(crate) fn data_mut(&mut self) -> &mut [f32] {
        let (plane, first) = (self.plane(), self.first);
        &mut self.values[first * plane..(first + self.shape[0]) * plane]
    }

    /// Channels with padding: the distance of neighbours along `d`.
    pub(crate) fn stride(&self) -> usize {
        self.channels.next_multiple_of(LANES)
    }

    /// Floats in one plane across `h`.
    pub(crate) fn plane(&self) -> usize {
        self.shape[1] * self.shape[2] * self.stride()
    }

    /// The whole map as a conv unit's input.
    pub(crate) fn source(&self) -> Source<'_> {
        Source {
            values: self.data(),
            planes: 0..self.shape[0],
            shape: self.shape,
            stride: self.stride(),
            pending: self.pending.as_ref(),
        }
    }

    /// Values after normalisation and activation, for comparisons: real channels only, `[h, w, d, channel]`.
    #[cfg(test)]
    pub(crate) fn settled(&self) -> Vec<f32> {
        let stride = self.stride();
        let mut values = Vec::with_capacity(self.data().len() / stride * self.channels);
        for voxel in self.data().chunks_exact(stride) {
            for (channel, &value) in voxel[..self.channels].iter().enumerate() {
                values.push(match &self.pending {
                    Some(pending) => {
                        let value = value * pending.scale[channel] + pending.shift[channel];
                        value.max(value * LEAKY_SLOPE)
                    }
                    None => value,
                });
            }
        }
        values
    }
}

fn slab_planes(height: usize, plane: usize) -> usize {
    let planes = (SLAB_VALUES / plane).next_multiple_of(SLAB_PLANES).max(SLAB_PLANES);
    planes.min(height.next_multiple_of(SLAB_PLANES))
}

/// One of the maps that a convolution reads, perhaps only some planes of it.
#[derive(Debug, Clone)]
pub(crate) struct Source<'a> {
    pub(crate) values: &'a [f32],
    /// Planes across `h` that `values` holds; a reader touches no other plane inside the map.
    pub(crate) planes: Range<usize>,
    /// Shape of the whole map.
    pub(crate) shape: Shape,
    pub(crate) stride: usize,
    pub(crate) pending: Option<&'a Pending>,
}

impl<'a> Source<'a> {
    /// All voxels along `d` at `(h, w)`, or `None` outside the map, where convolutions see zeros.
    #[inline(always)]
    pub(crate) fn row(&self, h: isize, w: isize) -> Option<&'a [f32]> {
        let (h, w) = (usize::try_from(h).ok()?, usize::try_from(w).ok()?);
        if h >= self.shape[0] || w >= self.shape[1] {
            return None;
        }
        let length = self.shape[2] * self.stride;
        let start = ((h - self.planes.start) * self.shape[1] + w) * length;
        Some(&self.values[start..start + length])
    }
}
