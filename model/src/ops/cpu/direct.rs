//! Direct 3×3×3 convolution with zero padding 1 and stride 1 or 2: the exact oracle of the fast
//! path, and the path of strided and of very wide layers.

use std::{ops::Range, sync::Arc};

use rayon::prelude::*;

use super::{
    arena::Arena,
    blocks::{Block, blocks, even_width},
    gemm::{Gathered, Panels, Product, Start, lanes, lanes_mut},
    map::{LEAKY_SLOPE, Shape, Source},
    simd::{Kernel, LANES, Level, Simd},
    statistics::{Moments, moments_of},
};

/// Output voxels per block, so that packed weights are reused before they leave the cache.
const BLOCK_VOXELS: usize = 128;

/// Taps of the kernel across `h` and `w`; those along `d` follow each other in memory.
const SEGMENTS: usize = 9;

/// Packed kernels of one layer.
#[derive(Debug)]
pub(crate) struct DirectWeights {
    /// Depth runs over `[kh][kw][kd][input channel]`, inputs padded source by source.
    panels: Panels,
    /// Padded channels of each source.
    strides: Vec<usize>,
    step: usize,
}

impl DirectWeights {
    /// Packs `kernel`, `[output][input][3][3][3]`, whose inputs are the channels of the sources in
    /// turn. `step` is the convolution's stride.
    pub(crate) fn pack(
        level: Level,
        kernel: &[f32],
        outputs: usize,
        sources: &[usize],
        step: usize,
    ) -> Self {
        let inputs: usize = sources.iter().sum();
        let places = padded_inputs(sources);
        let panels = Panels::pack(level, 27 * places.len(), outputs, |depth, output| {
            let (tap, place) = (depth / places.len(), depth % places.len());
            places[place].map_or(0.0, |input| kernel[(output * inputs + input) * 27 + tap])
        });
        let strides = sources.iter().map(|channels| channels.next_multiple_of(LANES)).collect();
        Self { panels, strides, step }
    }

    /// Writes output planes `planes` into `target` and returns their moments.
    pub(crate) fn apply(
        &self,
        level: Level,
        arena: &Arc<Arena>,
        sources: &[Source<'_>],
        target: &mut [f32],
        planes: Range<usize>,
        shape: Shape,
    ) -> Moments {
        let outputs = self.panels.columns();
        let width = even_width(shape[1], BLOCK_VOXELS.div_ceil(shape[2]));
        let blocks = blocks(target, planes, shape, outputs, [1, width]);
        let inputs: usize = self.strides.iter().sum();
        let patch = [(width - 1) * self.step + 3, (shape[2] - 1) * self.step + 3];
        let partial: Vec<Moments> = blocks
            .into_par_iter()
            .map(|block| {
                let mut scratch = arena.take(3 * patch[0] * patch[1] * inputs);
                level.run(DirectBlock {
                    weights: self,
                    sources,
                    block,
                    patch,
                    scratch: &mut scratch,
                })
            })
            .collect();
        merged(&partial, outputs)
    }
}

/// Moments of all blocks, in their order.
pub(crate) fn merged(partial: &[Moments], channels: usize) -> Moments {
    let mut moments = Moments::empty(channels);
    for block in partial {
        moments.merge(block);
    }
    moments
}

/// For every padded input place of the sources side by side, the kernel's input channel.
pub(crate) fn padded_inputs(sources: &[usize]) -> Vec<Option<usize>> {
    let mut places = Vec::new();
    let mut first = 0;
    for &channels in sources {
        places.extend((first..first + channels).map(Some));
        places.resize(places.len().next_multiple_of(LANES), None);
        first += channels;
    }
    places
}

struct DirectBlock<'a> {
    weights: &'a DirectWeights,
    sources: &'a [Source<'a>],
    block: Block<'a>,
    /// Rows along `w` and voxels along `d` of the patch.
    patch: [usize; 2],
    scratch: &'a mut [f32],
}

impl Kernel for DirectBlock<'_> {
    type Output = Moments;

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) -> Moments {
        let step = self.weights.step;
        let inputs: usize = self.weights.strides.iter().sum();
        let outputs = self.weights.panels.columns();
        self.fill_patch(simd, inputs);

        let target = &mut *self.block.planes[0];
        let depth = target.len() / (outputs * self.block.w.len());
        let starts: Vec<usize> = (0..self.block.w.len() * depth)
            .map(|voxel| (voxel / depth * self.patch[1] + voxel % depth) * step * inputs)
            .collect();
        let row = self.patch[1] * inputs;
        for (first, panel) in self.weights.panels.panels() {
            let width = panel.len() / (27 * inputs);
            for (segment, panel) in panel.chunks_exact(3 * inputs * width).enumerate() {
                let (kh, kw) = (segment / 3, segment % 3);
                simd.multiply(Product {
                    rows: Gathered {
                        values: self.scratch,
                        starts: &starts,
                        shift: (kh * self.patch[0] + kw) * row,
                    },
                    panel,
                    width,
                    target: &mut target[first..],
                    target_stride: outputs,
                    start: if segment == 0 { Start::Zero } else { Start::Target },
                });
            }
        }
        debug_assert_eq!(SEGMENTS * 3, 27);

        let mut moments = Moments::empty(outputs);
        moments_of(simd, target, outputs, &mut moments);
        moments
    }
}

impl DirectBlock<'_> {
    /// Lays out what the block reads: normalised, activated, zero outside the map.
    #[inline(always)]
    fn fill_patch<S: Simd>(&mut self, simd: S, inputs: usize) {
        let step = self.weights.step;
        let row_length = self.patch[1] * inputs;
        for (index, target) in self.scratch.chunks_exact_mut(row_length).enumerate() {
            let (kh, x) = (index / self.patch[0], index % self.patch[0]);
            let h = (self.block.h.start * step + kh) as isize - 1;
            let w = (self.block.w.start * step + x) as isize - 1;
            let mut first = 0;
            for source in self.sources {
                match source.row(h, w) {
                    Some(row) => {
                        fill_row(simd, source, row, &mut target[first..], inputs);
                    }
                    None => {
                        for voxel in target[first..].chunks_mut(inputs) {
                            voxel[..source.stride].fill(0.0);
                        }
                    }
                }
                first += source.stride;
            }
        }
    }
}

/// One row with a zero voxel in front and, where the patch has room, behind.
#[inline(always)]
fn fill_row<S: Simd>(
    simd: S,
    source: &Source<'_>,
    row: &[f32],
    target: &mut [f32],
    target_stride: usize,
) {
    let slope = simd.splat(LEAKY_SLOPE);
    let voxels = target.len().div_ceil(target_stride);
    for voxel in 0..voxels {
        for channel in (0..source.stride).step_by(LANES) {
            let inside = voxel > 0 && (voxel - 1) * source.stride < row.len();
            let mut value = simd.splat(0.0);
            if inside {
                value = simd.load(lanes(row, (voxel - 1) * source.stride + channel));
                if let Some(pending) = source.pending {
                    let scale = simd.load(lanes(&pending.scale, channel));
                    let shift = simd.load(lanes(&pending.shift, channel));
                    value = simd.mul_add(value, scale, shift);
                    value = simd.max(value, simd.mul(value, slope));
                }
            }
            simd.store(value, lanes_mut(target, voxel * target_stride + channel));
        }
    }
}
