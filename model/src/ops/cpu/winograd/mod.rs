//! 3×3×3 convolution, stride 1, zero padding 1, by Winograd's F(4×4×4).
//!
//! Tiles of 4×4×4 outputs come from 6×6×6 inputs through 216 products instead of 1728. Each axis is
//! interpolated at 0, ±1/√2, ±√2 and infinity, whose rounding errors stay within a few times those
//! of the direct sum; kernels are transformed in float64 when they are loaded.

mod input;
mod output;
mod transform;

use std::{ops::Range, sync::Arc};

use rayon::prelude::*;

use self::{
    input::{Ring, Strip, ring},
    output::{OutputTile, Slices, restore_tile, slices},
    transform::{FREQUENCIES, INPUT, OUTPUT, kernel_transform},
};
use super::{
    arena::Arena,
    blocks::{Block, blocks, even_width},
    buffer::Buffer,
    direct::{merged, padded_inputs},
    gemm::{Product, Start, Strided, lanes_mut},
    map::{Shape, Source},
    simd::{Kernel, LANES, Level, Simd},
    statistics::{Moments, Tally},
};

/// Input channels transformed before they are multiplied, so that a block's transformed input stays
/// in the second-level cache.
const CHANNEL_GROUP: usize = 64;

/// Gap between the frequencies of a block: without it they would meet in the same cache sets.
const GAP: usize = LANES;

/// Transformed kernels of one layer.
#[derive(Debug)]
pub(crate) struct WinogradWeights {
    /// `[frequency][panel][input][panel width]`, inputs padded source by source.
    values: Buffer,
    /// Padded channels of each source.
    strides: Vec<usize>,
    outputs: usize,
    panel: usize,
}

impl WinogradWeights {
    /// Bytes that the transformed kernels of a layer take.
    pub(crate) fn bytes(outputs: usize, sources: &[usize]) -> usize {
        let inputs: usize = sources.iter().map(|input| input.next_multiple_of(LANES)).sum();
        FREQUENCIES * inputs * outputs.next_multiple_of(LANES) * size_of::<f32>()
    }

    /// Transforms `kernel`, `[output][input][3][3][3]`, whose inputs are the channels of the sources
    /// in turn.
    pub(crate) fn pack(level: Level, kernel: &[f32], outputs: usize, sources: &[usize]) -> Self {
        let inputs: usize = sources.iter().sum();
        let places = padded_inputs(sources);
        let padded = outputs.next_multiple_of(LANES);
        let panel = level.panel();
        let mut values = Buffer::zeroed(FREQUENCIES * places.len() * padded);
        let size = places.len() * padded;
        values.par_chunks_mut(size).enumerate().for_each(|(frequency, values)| {
            let transform = kernel_transform(frequency);
            for (start, values) in
                (0..padded).step_by(panel).zip(values.chunks_mut(places.len() * panel))
            {
                let width = values.len() / places.len();
                for (row, &input) in values.chunks_exact_mut(width).zip(&places) {
                    let Some(input) = input else { continue };
                    for (value, output) in row.iter_mut().zip(start..outputs) {
                        let taps = &kernel[(output * inputs + input) * 27..][..27];
                        let products = taps.iter().zip(&transform).map(|(&tap, c)| tap as f64 * c);
                        *value = products.sum::<f64>() as f32;
                    }
                }
            }
        });
        let strides = sources.iter().map(|channels| channels.next_multiple_of(LANES)).collect();
        Self { values, strides, outputs: padded, panel }
    }

    /// Writes output planes `planes` into `target` and returns their moments.
    ///
    /// `planes` starts at a multiple of four.
    pub(crate) fn apply(
        &self,
        level: Level,
        arena: &Arc<Arena>,
        sources: &[Source<'_>],
        target: &mut [f32],
        planes: Range<usize>,
        shape: Shape,
    ) -> Moments {
        let tiling = Tiling::of(shape, self.strides.iter().sum());
        let blocks = blocks(target, planes, shape, self.outputs, [OUTPUT, OUTPUT * tiling.width]);
        let group = self.strides.iter().copied().max().unwrap_or(LANES).min(CHANNEL_GROUP);
        let tiles = tiling.width * tiling.depth;
        let frequency = [tiles * group + GAP, tiles * self.outputs + GAP];
        let partial: Vec<Moments> = blocks
            .into_par_iter()
            .map(|block| {
                let mut scratch = arena.take(FREQUENCIES * (frequency[0] + frequency[1]));
                let (inputs, products) = scratch.split_at_mut(FREQUENCIES * frequency[0]);
                level.run(WinogradBlock {
                    weights: self,
                    sources,
                    block,
                    shape,
                    tiling: &tiling,
                    frequency,
                    inputs,
                    products,
                })
            })
            .collect();
        merged(&partial, self.outputs)
    }
}

/// Tiles that are multiplied together.
#[derive(Debug)]
struct Tiling {
    /// Along `w`.
    width: usize,
    /// Along `d`.
    depth: usize,
}

impl Tiling {
    /// Wide layers take more tiles at a time: their kernels are read once per block.
    fn of(shape: Shape, inputs: usize) -> Self {
        let tiles = match inputs {
            0..=64 => 12,
            65..=128 => 24,
            _ => 48,
        };
        let depth = even_width(shape[2].div_ceil(OUTPUT), tiles);
        let width = even_width(shape[1].div_ceil(OUTPUT), tiles / depth);
        Self { width, depth }
    }
}

struct WinogradBlock<'a> {
    weights: &'a WinogradWeights,
    sources: &'a [Source<'a>],
    block: Block<'a>,
    shape: Shape,
    tiling: &'a Tiling,
    /// Distance of frequencies in `inputs` and in `products`.
    frequency: [usize; 2],
    /// `[frequency][tile][channel of the group]`
    inputs: &'a mut [f32],
    /// `[frequency][tile][output]`
    products: &'a mut [f32],
}

/// Some tiles of a block: all along `w`, a range along `d`.
#[derive(Debug, Clone, Copy)]
struct Batch {
    /// First tile along `d`, and number of tiles.
    first: usize,
    depth: usize,
    width: usize,
}

impl Kernel for WinogradBlock<'_> {
    type Output = Moments;

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) -> Moments {
        let outputs = self.weights.outputs;
        let width = self.block.w.len().div_ceil(OUTPUT);
        let tiles = self.shape[2].div_ceil(OUTPUT);
        let mut ring = ring(simd);
        let mut slices = slices(simd);
        let mut tallies: Vec<Option<Tally>> = vec![None; outputs / LANES];
        for first in (0..tiles).step_by(self.tiling.depth) {
            let depth = self.tiling.depth.min(tiles - first);
            let batch = Batch { first, depth, width };
            let mut place = 0;
            for source in self.sources {
                for start in (0..source.stride).step_by(CHANNEL_GROUP) {
                    let group = start..(start + CHANNEL_GROUP).min(source.stride);
                    self.transform(simd, source, batch, group.clone(), &mut ring);
                    self.multiply(simd, batch, place, group.len());
                    place += group.len();
                }
            }
            self.restore(simd, batch, &mut slices, &mut tallies);
        }
        let mut moments = Moments::empty(outputs);
        let voxels = self.block.h.len() * self.block.w.len() * self.shape[2];
        for (index, tally) in tallies.iter().enumerate() {
            let tally = tally.as_ref().expect("every block has a tile");
            tally.close(voxels, index * LANES, &mut moments);
        }
        moments
    }
}

impl WinogradBlock<'_> {
    /// Transforms channels `group` of `source` for every tile of the batch.
    #[inline(always)]
    fn transform<S: Simd>(
        &mut self,
        simd: S,
        source: &Source<'_>,
        batch: Batch,
        group: Range<usize>,
        ring: &mut Ring<S::V>,
    ) {
        let frequency = self.frequency[0];
        for x in 0..batch.width {
            let h = self.block.h.start as isize - 1;
            let w = (self.block.w.start + x * OUTPUT) as isize - 1;
            let mut rows = [None; INPUT * INPUT];
            for (index, row) in rows.iter_mut().enumerate() {
                *row = source.row(h + (index / INPUT) as isize, w + (index % INPUT) as isize);
            }
            for channel in group.clone().step_by(LANES) {
                let strip = Strip { source, rows: &rows, channel, first: batch.first * OUTPUT };
                let base = x * batch.depth * group.len() + channel - group.start;
                let inputs = &mut *self.inputs;
                strip.transform(simd, batch.depth, ring, |tile, index, value| {
                    let place = index * frequency + tile * group.len() + base;
                    simd.store(value, lanes_mut(inputs, place));
                });
            }
        }
    }

    /// Multiplies `channels` transformed channels, whose kernels start at input `place`.
    #[inline(always)]
    fn multiply<S: Simd>(&mut self, simd: S, batch: Batch, place: usize, channels: usize) {
        let inputs: usize = self.weights.strides.iter().sum();
        let outputs = self.weights.outputs;
        let count = batch.width * batch.depth;
        for frequency in 0..FREQUENCIES {
            let rows = Strided {
                values: &self.inputs[frequency * self.frequency[0]..],
                stride: channels,
                count,
            };
            let kernels = &self.weights.values[frequency * inputs * outputs..][..inputs * outputs];
            let products = &mut self.products[frequency * self.frequency[1]..];
            for start in (0..outputs).step_by(self.weights.panel) {
                let width = self.weights.panel.min(outputs - start);
                simd.multiply(Product {
                    rows,
                    panel: &kernels[start * inputs + place * width..][..channels * width],
                    width,
                    target: &mut products[start..],
                    target_stride: outputs,
                    start: if place == 0 { Start::Zero } else { Start::Target },
                });
            }
        }
    }

    /// Transforms products back, writes the tiles and tallies their values.
    #[inline(always)]
    fn restore<S: Simd>(
        &mut self,
        simd: S,
        batch: Batch,
        slices: &mut Slices<S::V>,
        tallies: &mut [Option<Tally>],
    ) {
        let outputs = self.weights.outputs;
        let depth = self.shape[2];
        for index in 0..batch.width * batch.depth {
            let w = index / batch.depth * OUTPUT;
            let d = (batch.first + index % batch.depth) * OUTPUT;
            for (group, tally) in tallies.iter_mut().enumerate() {
                let tile = OutputTile {
                    products: &self.products[index * outputs + group * LANES..],
                    frequency: self.frequency[1],
                    rows: (self.block.w.len() - w).min(OUTPUT),
                    voxels: (depth - d).min(OUTPUT),
                    start: (w * depth + d) * outputs + group * LANES,
                    row_stride: depth * outputs,
                    voxel_stride: outputs,
                };
                restore_tile(simd, &tile, slices, &mut self.block.planes, tally);
            }
        }
    }
}
