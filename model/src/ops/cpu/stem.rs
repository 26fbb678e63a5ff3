//! The first convolution: one input channel, stride 1.

use std::sync::Arc;

use rayon::prelude::*;

use super::{
    arena::Arena,
    blocks::{Block, blocks, even_width},
    direct::merged,
    gemm::{Panels, Product, Start, Strided},
    map::Shape,
    simd::{Kernel, Level, Simd},
    statistics::{Moments, moments_of},
};

/// Voxels whose neighbourhoods are laid out at a time.
const BLOCK_VOXELS: usize = 192;

const TAPS: usize = 27;

/// Packed kernels, depth `[kh][kw][kd]`.
#[derive(Debug)]
pub(crate) struct StemWeights {
    panels: Panels,
}

impl StemWeights {
    /// Packs `kernel`, `[output][input][3][3][3]`, summed over inputs: the image is one channel that
    /// the published network reads three times.
    pub(crate) fn pack(level: Level, kernel: &[f32], outputs: usize, inputs: usize) -> Self {
        let folded = |tap: usize, output: usize| {
            let taps = (0..inputs).map(|input| kernel[(output * inputs + input) * TAPS + tap]);
            taps.map(f64::from).sum::<f64>() as f32
        };
        Self { panels: Panels::pack(level, TAPS, outputs, folded) }
    }

    /// Convolves `image`, `[h, w, d]`, into `target`.
    pub(crate) fn apply(
        &self,
        level: Level,
        arena: &Arc<Arena>,
        image: &[f32],
        target: &mut [f32],
        shape: Shape,
    ) -> Moments {
        let outputs = self.panels.columns();
        let width = even_width(shape[1], BLOCK_VOXELS.div_ceil(shape[2]));
        let partial: Vec<Moments> = blocks(target, 0..shape[0], shape, outputs, [1, width])
            .into_par_iter()
            .map(|block| {
                let mut scratch = arena.take(width * shape[2] * TAPS);
                level.run(StemBlock { weights: self, image, shape, block, scratch: &mut scratch })
            })
            .collect();
        merged(&partial, outputs)
    }
}

struct StemBlock<'a> {
    weights: &'a StemWeights,
    image: &'a [f32],
    shape: Shape,
    block: Block<'a>,
    scratch: &'a mut [f32],
}

impl Kernel for StemBlock<'_> {
    type Output = Moments;

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) -> Moments {
        let outputs = self.weights.panels.columns();
        let depth = self.shape[2];
        let count = self.block.w.len() * depth;
        self.lay_out_neighbourhoods();
        let target = &mut *self.block.planes[0];
        for (first, panel) in self.weights.panels.panels() {
            simd.multiply(Product {
                rows: Strided { values: self.scratch, stride: TAPS, count },
                panel,
                width: panel.len() / TAPS,
                target: &mut target[first..],
                target_stride: outputs,
                start: Start::Zero,
            });
        }
        let mut moments = Moments::empty(outputs);
        moments_of(simd, target, outputs, &mut moments);
        moments
    }
}

impl StemBlock<'_> {
    #[inline(always)]
    fn lay_out_neighbourhoods(&mut self) {
        let [height, width, depth] = self.shape;
        for (row, target) in self.scratch.chunks_exact_mut(depth * TAPS).enumerate() {
            for segment in 0..9 {
                let h = (self.block.h.start + segment / 3).wrapping_sub(1);
                let w = (self.block.w.start + row + segment % 3).wrapping_sub(1);
                let line = (h < height && w < width).then(|| {
                    let start = (h * width + w) * depth;
                    &self.image[start..start + depth]
                });
                for d in 0..depth {
                    let taps = &mut target[d * TAPS + segment * 3..][..3];
                    match line {
                        Some(line) => {
                            taps[0] = if d > 0 { line[d - 1] } else { 0.0 };
                            taps[1] = line[d];
                            taps[2] = if d + 1 < depth { line[d + 1] } else { 0.0 };
                        }
                        None => taps.fill(0.0),
                    }
                }
            }
        }
    }
}
