//! Average pooling with kernel equal to stride.

use rayon::prelude::*;

use super::{
    gemm::{lanes, lanes_mut},
    map::{FeatureMap, LEAKY_SLOPE},
    simd::{Kernel, LANES, Level, Simd},
};

/// Means over cubes of edge `ratio` after normalisation and activation, real channels only:
/// `[h/ratio, w/ratio, d/ratio, channel]`.
pub(crate) fn average_pool(level: Level, map: &FeatureMap, ratio: usize) -> Vec<f32> {
    let grid = map.shape.map(|length| length / ratio);
    let stride = map.stride();
    let planes: Vec<Vec<f32>> = map
        .data()
        .par_chunks(map.plane())
        .map(|plane| level.run(PoolPlane { map, plane, ratio }))
        .collect();
    let scale = 1.0 / (ratio * ratio * ratio) as f64;
    let mut pooled = Vec::with_capacity(grid.iter().product::<usize>() * map.channels);
    for planes in planes.chunks_exact(ratio) {
        for cell in 0..grid[1] * grid[2] {
            for channel in 0..map.channels {
                let place = cell * stride + channel;
                let sum: f64 = planes.iter().map(|plane| f64::from(plane[place])).sum();
                pooled.push((sum * scale) as f32);
            }
        }
    }
    pooled
}

/// Sums of one plane, `[w/ratio, d/ratio, stride]`.
struct PoolPlane<'a> {
    map: &'a FeatureMap,
    plane: &'a [f32],
    ratio: usize,
}

impl Kernel for PoolPlane<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Vec<f32> {
        let [_, width, depth] = self.map.shape;
        let (stride, ratio) = (self.map.stride(), self.ratio);
        let cells = depth / ratio;
        let mut sums = vec![0.0; width / ratio * cells * stride];
        let slope = simd.splat(LEAKY_SLOPE);
        for (w, row) in self.plane.chunks_exact(depth * stride).enumerate() {
            for (cell, voxels) in row.chunks_exact(ratio * stride).enumerate() {
                let first = (w / ratio * cells + cell) * stride;
                for channel in (0..stride).step_by(LANES) {
                    let mut sum = simd.load(lanes(&sums, first + channel));
                    for voxel in 0..ratio {
                        let mut value = simd.load(lanes(voxels, voxel * stride + channel));
                        if let Some(pending) = &self.map.pending {
                            let scale = simd.load(lanes(&pending.scale, channel));
                            let shift = simd.load(lanes(&pending.shift, channel));
                            value = simd.mul_add(value, scale, shift);
                            value = simd.max(value, simd.mul(value, slope));
                        }
                        sum = simd.add(sum, value);
                    }
                    simd.store(sum, lanes_mut(&mut sums, first + channel));
                }
            }
        }
        sums
    }
}
