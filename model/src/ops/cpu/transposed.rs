//! Transposed convolution with kernel 2 and stride 2: every voxel becomes eight, none overlap, so
//! it is a matrix product whose result is laid out as the finer map is.

use std::{ops::Range, sync::Arc};

use rayon::prelude::*;

use super::{
    arena::Arena,
    gemm::{Panels, Product, Start, Strided, lanes, lanes_mut},
    map::{LEAKY_SLOPE, Source},
    simd::{Kernel, LANES, Level, Simd},
};

/// Packed kernels of one transposed convolution.
#[derive(Debug)]
pub(crate) struct TransposedWeights {
    /// One matrix `[input, (c, output)]` per place `(a, b)` across `h` and `w`; `c` is along `d`.
    panels: [Panels; 4],
    /// Padded, twice: for both places along `d`.
    bias: Vec<f32>,
    outputs: usize,
}

impl TransposedWeights {
    /// Packs `kernel`, `[input][output][2][2][2]`, and `bias`.
    pub(crate) fn pack(
        level: Level,
        kernel: &[f32],
        bias: &[f32],
        inputs: usize,
        outputs: usize,
    ) -> Self {
        let padded = outputs.next_multiple_of(LANES);
        let panels = std::array::from_fn(|place| {
            Panels::pack(level, inputs.next_multiple_of(LANES), 2 * padded, |input, column| {
                let (c, output) = (column / padded, column % padded);
                if input < inputs && output < outputs {
                    kernel[(input * outputs + output) * 8 + place * 2 + c]
                } else {
                    0.0
                }
            })
        });
        let mut half = bias.to_vec();
        half.resize(padded, 0.0);
        Self { panels, bias: half.repeat(2), outputs: padded }
    }

    /// Writes planes `planes` of the finer map into `target`.
    pub(crate) fn apply(
        &self,
        level: Level,
        arena: &Arc<Arena>,
        source: &Source<'_>,
        target: &mut [f32],
        planes: Range<usize>,
    ) {
        let [_, width, depth] = source.shape;
        // Two rows of the finer map come from each row of the coarser.
        let rows = 2 * 2 * depth * self.outputs;
        let min_blocks = (4096 / depth).max(1);
        target.par_chunks_mut(rows).with_min_len(min_blocks.min(16)).enumerate().for_each(
            |(index, target)| {
                let mut scratch = arena.take(depth * source.stride);
                level.run(TransposedRows {
                    weights: self,
                    source,
                    h: planes.start + index / width,
                    w: index % width,
                    target,
                    scratch: &mut scratch,
                });
            },
        );
    }
}

struct TransposedRows<'a> {
    weights: &'a TransposedWeights,
    source: &'a Source<'a>,
    /// Plane of the finer map.
    h: usize,
    /// Row of the coarser map.
    w: usize,
    target: &'a mut [f32],
    scratch: &'a mut [f32],
}

impl Kernel for TransposedRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let depth = self.source.shape[2];
        let stride = self.source.stride;
        let row = self
            .source
            .row((self.h / 2) as isize, self.w as isize)
            .expect("a finer plane lies over a plane of the coarser map");
        settle(simd, self.source, row, self.scratch);
        let columns = 2 * self.weights.outputs;
        for (b, target) in self.target.chunks_exact_mut(depth * columns).enumerate() {
            for (first, panel) in self.weights.panels[self.h % 2 * 2 + b].panels() {
                simd.multiply(Product {
                    rows: Strided { values: self.scratch, stride, count: depth },
                    panel,
                    width: panel.len() / stride,
                    target: &mut target[first..],
                    target_stride: columns,
                    start: Start::Bias(&self.weights.bias[first..]),
                });
            }
        }
    }
}

/// Copies voxels with normalisation and activation applied.
#[inline(always)]
pub(crate) fn settle<S: Simd>(simd: S, source: &Source<'_>, voxels: &[f32], target: &mut [f32]) {
    let Some(pending) = source.pending else {
        target.copy_from_slice(voxels);
        return;
    };
    let slope = simd.splat(LEAKY_SLOPE);
    for channel in (0..source.stride).step_by(LANES) {
        let scale = simd.load(lanes(&pending.scale, channel));
        let shift = simd.load(lanes(&pending.shift, channel));
        for place in (channel..voxels.len()).step_by(source.stride) {
            let value = simd.mul_add(simd.load(lanes(voxels, place)), scale, shift);
            simd.store(simd.max(value, simd.mul(value, slope)), lanes_mut(target, place));
        }
    }
}
