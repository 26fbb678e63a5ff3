//! The mask product: every voxel's features times every target's embedding, and the sigmoid.

use std::{ops::Range, sync::Arc};

use rayon::prelude::*;

use super::{
    arena::Arena,
    gemm::{Product, Start, Strided, lanes, lanes_mut},
    map::FeatureMap,
    simd::{Kernel, LANES, Level, Simd},
    transposed::settle,
};

/// Probabilities held at a time by one thread.
const STRIP_VALUES: usize = 48 << 10;

/// Embeddings of the targets, padded like the features.
#[derive(Debug)]
pub(crate) struct MaskWeights {
    values: Vec<f32>,
    stride: usize,
    targets: usize,
}

impl MaskWeights {
    /// From `[target][channel]`.
    pub(crate) fn pack(embeddings: &[f32], channels: usize) -> Self {
        let stride = channels.next_multiple_of(LANES);
        let mut values = Vec::with_capacity(embeddings.len() / channels * stride);
        for embedding in embeddings.chunks_exact(channels) {
            values.extend_from_slice(embedding);
            values.resize(values.len().next_multiple_of(stride), 0.0);
        }
        Self { values, stride, targets: embeddings.len() / channels }
    }
}

/// Hands `visit` the probabilities of all targets, strip by strip.
///
/// `planes[h]` is passed along with every strip of plane `h`, and with no other; planes beyond
/// `planes` are not computed. A strip is some rows along `w` and `[target][w][d]` probabilities.
pub(crate) fn masks<P: Send>(
    level: Level,
    arena: &Arc<Arena>,
    features: &FeatureMap,
    weights: &MaskWeights,
    planes: &mut [P],
    visit: &(impl Fn(&mut P, usize, Range<usize>, &[f32]) + Sync),
) {
    if weights.targets == 0 {
        return;
    }
    let [_, width, depth] = features.shape;
    let rows = (STRIP_VALUES / (weights.targets * depth)).clamp(1, width);
    planes.par_iter_mut().enumerate().for_each(|(h, plane)| {
        let mut probabilities = arena.take(weights.targets * rows * depth);
        let mut scratch = arena.take(2 * level.panel() * weights.stride);
        for start in (0..width).step_by(rows) {
            let strip = start..(start + rows).min(width);
            let probabilities = &mut probabilities[..weights.targets * strip.len() * depth];
            level.run(MaskStrip {
                features,
                weights,
                first: (h * width + strip.start) * depth,
                probabilities,
                scratch: &mut scratch,
            });
            visit(plane, h, strip, probabilities);
        }
    });
}

struct MaskStrip<'a> {
    features: &'a FeatureMap,
    weights: &'a MaskWeights,
    /// First voxel.
    first: usize,
    /// `[target][voxel]`.
    probabilities: &'a mut [f32],
    /// A panel of features as they are stored, and turned.
    scratch: &'a mut [f32],
}

impl Kernel for MaskStrip<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let stride = self.weights.stride;
        let source = self.features.source();
        let count = self.probabilities.len() / self.weights.targets;
        let (stored, turned) = self.scratch.split_at_mut(S::PANEL * stride);
        let mut done = 0;
        while done < count {
            let width = if count - done >= S::PANEL { S::PANEL } else { LANES };
            let voxels = &source.values[(self.first + done) * stride..][..width * stride];
            settle(simd, &source, voxels, &mut stored[..width * stride]);
            let turned = &mut turned[..width * stride];
            for (voxel, channels) in stored[..width * stride].chunks_exact(stride).enumerate() {
                for (channel, &value) in channels.iter().enumerate() {
                    turned[channel * width + voxel] = value;
                }
            }
            simd.multiply(Product {
                rows: Strided { values: &self.weights.values, stride, count: self.weights.targets },
                panel: turned,
                width,
                target: &mut self.probabilities[done..],
                target_stride: count,
                start: Start::Zero,
            });
            done += width;
        }
        for place in (0..self.probabilities.len()).step_by(LANES) {
            let logits = simd.load(lanes(self.probabilities, place));
            simd.store(sigmoid(simd, logits), lanes_mut(self.probabilities, place));
        }
    }
}

/// `1 / (1 + e^-x)`, relative error below 3e-7.
#[inline(always)]
fn sigmoid<S: Simd>(simd: S, x: S::V) -> S::V {
    const LIMIT: f32 = 87.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    /// Adding it leaves the rounded exponent, biased by 127, in the low mantissa bits.
    const ROUND: f32 = 12_582_912.0 + 127.0;
    let negative = simd.sub(simd.splat(0.0), x);
    let y = simd.min(simd.max(negative, simd.splat(-LIMIT)), simd.splat(LIMIT));
    let biased = simd.mul_add(y, simd.splat(std::f32::consts::LOG2_E), simd.splat(ROUND));
    let exponent = simd.sub(biased, simd.splat(ROUND));
    let rest = simd.neg_mul_add(exponent, simd.splat(LN2_HIGH), y);
    let rest = simd.neg_mul_add(exponent, simd.splat(LN2_LOW), rest);
    // The exponential's series: the rest is at most ln(2)/2, where seven terms leave 5e-9.
    let mut series = simd.splat(1.0 / 5040.0);
    for factorial in [720.0, 120.0, 24.0, 6.0, 2.0, 1.0, 1.0] {
        series = simd.mul_add(series, rest, simd.splat(1.0 / factorial));
    }
    let exponential = simd.mul(series, simd.into_exponent(biased));
    simd.div(simd.splat(1.0), simd.add(simd.splat(1.0), exponential))
}
