//! Trilinear resampling onto the model's spacing.

use rayon::prelude::*;

use super::matrix::{
    Affine, cholesky_upper, column_norms, diagonal, invert, multiply, multiply_vector, transpose,
};
use super::orientation::OrientedGrid;

/// Spacing that differs by no more than this from the target is kept.
const SPACING_TOLERANCE_MM: f64 = 1e-3;
/// How exactly a corner must be the smallest on all axes to become the new origin.
const CORNER_TOLERANCE: f64 = 1e-8;
/// Edge of the block of output voxels that is computed at a time, so that source lines are read once.
const BLOCK: usize = 16;
/// Planes of H that one task computes.
const PLANES: usize = 8;

/// The grid that a volume is resampled onto.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ResampledGrid {
    /// Voxels along H, W, D.
    pub(crate) shape: [usize; 3],
    /// Index to RAS millimetres.
    pub(crate) affine: Affine,
    /// Index of this grid to index of the oriented grid; nothing when the voxels stay as they are.
    pub(crate) to_oriented: Option<Affine>,
}

impl ResampledGrid {
    /// Plans the grid; nothing when the oriented axes do not span a volume in float32.
    // SAT data/inference_dataset.py through monai's Spacing.
    pub(crate) fn new(source: &OrientedGrid, spacing_mm: [f64; 3]) -> Option<Self> {
        let old = source.affine;
        let lengths = column_norms(&old.linear);
        let spacing: [f64; 3] = std::array::from_fn(|k| {
            let is_close = (lengths[k] - spacing_mm[k]).abs() <= SPACING_TOLERANCE_MM;
            if is_close { lengths[k] } else { spacing_mm[k] }
        });
        let upper = cholesky_upper(&multiply(&transpose(&old.linear), &old.linear))?;
        let rotation = multiply(&old.linear, &invert(&upper)?);
        let linear = multiply(&rotation, &diagonal(spacing));
        let to_index = invert(&linear)?;

        let ends = source.shape.map(|n| n as f64 - 1.0);
        let mut world = [[0.0; 3]; 8];
        let mut corners = [[0.0; 3]; 8];
        for number in 0..8 {
            let bits = [number >> 2 & 1, number >> 1 & 1, number & 1];
            let index = std::array::from_fn(|k| if bits[k] == 1 { ends[k] } else { 0.0 });
            world[number] = old.apply(index);
            corners[number] = multiply_vector(&to_index, world[number]);
        }
        let bound = |k: usize, pick: fn(f64, f64) -> f64| {
            corners.iter().map(|corner| corner[k]).fold(corners[0][k], pick)
        };
        let low: [f64; 3] = std::array::from_fn(|k| bound(k, f64::min));
        let extent: [f64; 3] =
            std::array::from_fn(|k| (bound(k, f64::max) - low[k] + 1.0).round_ties_even());
        let first =
            (0..8).find(|&i| (0..3).all(|k| (low[k] - corners[i][k]).abs() <= CORNER_TOLERANCE));
        let offset = first.map_or_else(
            || {
                let old_centre = old.apply(source.shape.map(|n| n as f64 / 2.0));
                let new_centre = multiply_vector(&linear, extent.map(|n| n / 2.0));
                std::array::from_fn(|k| old_centre[k] - new_centre[k])
            },
            |corner| world[corner],
        );
        let affine = Affine { linear, offset };
        let shape = extent.map(|n| (n as usize).max(1));
        let to_oriented = old.solve(&affine)?;
        let stays = shape == source.shape
            && (is_close(&old, &affine) || is_close(&to_oriented, &Affine::IDENTITY));
        Some(if stays {
            Self { shape, affine: old, to_oriented: None }
        } else {
            Self { shape, affine, to_oriented: Some(to_oriented) }
        })
    }
}

/// `|a - b| <= 1e-3 + 1e-5 * |b|`, element by element.
fn is_close(a: &Affine, b: &Affine) -> bool {
    a.elements().zip(b.elements()).all(|(a, b)| (a - b).abs() <= 1e-3 + 1e-5 * b.abs())
}

/// Values of `stored` (the volume's own order) on the resampled grid, `[H, W, D]`, D fastest; in parallel.
///
/// Interpolated in float64 with source coordinates clamped to the volume.
pub(crate) fn resample(stored: &[f32], source: &OrientedGrid, grid: &ResampledGrid) -> Vec<f32> {
    let [h, w, d] = grid.shape;
    let mut values = vec![0.0f32; h * w * d];
    let sampler = Sampler::new(source, grid);
    values.par_chunks_mut(PLANES * w * d).enumerate().for_each(|(chunk, out)| {
        let first = chunk * PLANES;
        let planes = out.len() / (w * d);
        for w_start in (0..w).step_by(BLOCK) {
            for d_start in (0..d).step_by(BLOCK) {
                let d_end = (d_start + BLOCK).min(d);
                for a in 0..planes {
                    for b in w_start..(w_start + BLOCK).min(w) {
                        let row = &mut out[(a * w + b) * d..][d_start..d_end];
                        sampler.fill(stored, source, [first + a, b, d_start], row);
                    }
                }
            }
        }
    });
    values
}

/// Where output voxels take their values from.
enum Sampler {
    /// Voxels are copied.
    Copy,
    /// Each axis by itself: per output index both neighbours' distance from the start, and the second one's weight.
    Separable([Vec<Neighbours>; 3]),
    /// Axes mix (shear).
    General(NormalisedMap),
}

#[derive(Debug, Clone, Copy)]
struct Neighbours {
    near: isize,
    far: isize,
    weight: f64,
}

impl Neighbours {
    fn new(position: f64, n: usize, stride: isize) -> Self {
        let clamped = position.clamp(0.0, (n - 1) as f64);
        let near = clamped.floor();
        let far = (near as usize + 1).min(n - 1);
        Self { near: near as isize * stride, far: far as isize * stride, weight: clamped - near }
    }
}

impl Sampler {
    fn new(source: &OrientedGrid, grid: &ResampledGrid) -> Self {
        let Some(to_oriented) = grid.to_oriented else { return Self::Copy };
        let map = NormalisedMap::new(&to_oriented, source.shape, grid.shape);
        if !map.transform.is_diagonal() {
            return Self::General(map);
        }
        Self::Separable(std::array::from_fn(|k| {
            let axis = |i: usize| {
                let position = map.position(k, map.transform.linear[k][k] * map.base[k][i]);
                Neighbours::new(position, source.shape[k], source.strides[k])
            };
            (0..grid.shape[k]).map(axis).collect()
        }))
    }

    fn fill(&self, stored: &[f32], source: &OrientedGrid, first: [usize; 3], row: &mut [f32]) {
        let [a, b, d_start] = first;
        match self {
            Self::Copy => {
                for (c, value) in row.iter_mut().enumerate() {
                    *value = stored[source.place([a, b, d_start + c])];
                }
            }
            Self::Separable(axes) => {
                let (na, nb) = (axes[0][a], axes[1][b]);
                for (value, nc) in row.iter_mut().zip(&axes[2][d_start..]) {
                    *value = interpolate(stored, source.start as isize, [na, nb, *nc]);
                }
            }
            Self::General(map) => {
                for (c, value) in row.iter_mut().enumerate() {
                    let position = map.source([a, b, d_start + c]);
                    let neighbours = std::array::from_fn(|k| {
                        Neighbours::new(position[k], source.shape[k], source.strides[k])
                    });
                    *value = interpolate(stored, source.start as isize, neighbours);
                }
            }
        }
    }
}

fn interpolate(stored: &[f32], start: isize, [a, b, c]: [Neighbours; 3]) -> f32 {
    let line = |base: isize| {
        let near = f64::from(stored[(base + c.near) as usize]);
        let far = f64::from(stored[(base + c.far) as usize]);
        near * (1.0 - c.weight) + far * c.weight
    };
    let plane =
        |base: isize| line(base + b.near) * (1.0 - b.weight) + line(base + b.far) * b.weight;
    (plane(start + a.near) * (1.0 - a.weight) + plane(start + a.far) * a.weight) as f32
}

/// The map from output to source indices by way of normalised coordinates, as the reference evaluates it.
///
/// The detour leaves noise of about 1e-15 on positions that should be whole numbers, and beside zeros that noise decides
/// whether a voxel counts as foreground.
// torch.nn.functional.affine_grid and grid_sample with align_corners=False, through monai's AffineTransform.
struct NormalisedMap {
    transform: Affine,
    base: [Vec<f64>; 3],
    source_shape: [f64; 3],
}

impl NormalisedMap {
    fn new(to_oriented: &Affine, source: [usize; 3], output: [usize; 3]) -> Self {
        let normalising = |shape: [usize; 3]| Affine {
            linear: diagonal(shape.map(|n| 2.0 / n as f64)),
            offset: shape.map(|n| 1.0 / n as f64 - 1.0),
        };
        let from_output = Affine {
            linear: diagonal(output.map(|m| m as f64 / 2.0)),
            offset: output.map(|m| (m as f64 - 1.0) / 2.0),
        };
        let transform = normalising(source).after(to_oriented).after(&from_output);
        let base = output.map(|m| (0..m).map(|i| base_coordinate(i, m)).collect());
        Self { transform, base, source_shape: source.map(|n| n as f64) }
    }

    /// Source index of an output voxel.
    fn source(&self, index: [usize; 3]) -> [f64; 3] {
        let base: [f64; 3] = std::array::from_fn(|k| self.base[k][index[k]]);
        let moved = multiply_vector(&self.transform.linear, base);
        std::array::from_fn(|k| self.position(k, moved[k]))
    }

    fn position(&self, axis: usize, moved: f64) -> f64 {
        let n = self.source_shape[axis];
        ((moved + self.transform.offset[axis] + 1.0) * n - 1.0) / 2.0
    }
}

/// Normalised coordinate of the centre of voxel `i` of `m`.
fn base_coordinate(i: usize, m: usize) -> f64 {
    if m == 1 {
        return 0.0;
    }
    let step = 2.0 / (m - 1) as f64;
    let line = if i < m / 2 { -1.0 + i as f64 * step } else { 1.0 - (m - 1 - i) as f64 * step };
    line * (m - 1) as f64 / m as f64
}
