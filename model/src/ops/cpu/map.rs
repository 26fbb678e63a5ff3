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

/// A dense map in a loaned buffer.
#[derive(Debug)]
pub(crate) struct FeatureMap {
    pub(crate) values: Loan,
    pub(crate) shape: Shape,
    /// Real channels.
    pub(crate) channels: usize,
    /// Set by every conv unit; absent on maps that are read as they are.
    pub(crate) pending: Option<Pending>,
}

impl FeatureMap {
    /// A map of any content.
    pub(crate) fn new(arena: &Arc<Arena>, shape: Shape, channels: usize) -> Self {
        let length = shape.iter().product::<usize>() * channels.next_multiple_of(LANES);
        Self { values: arena.take(length), shape, channels, pending: None }
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
            values: &self.values,
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
        let mut values = Vec::with_capacity(self.values.len() / stride * self.channels);
        for voxel in self.values.chunks_exact(stride) {
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
