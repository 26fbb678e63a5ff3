//! Output tiles: transformed back, written, tallied.

use super::transform::{INPUT, OUTPUT, backward};
use crate::ops::cpu::{
    gemm::{lanes, lanes_mut},
    simd::Simd,
    statistics::Tally,
};

/// Sixteen channels of a tile, and where its voxels go.
pub(super) struct OutputTile<'a> {
    /// Starts at the first frequency.
    pub(super) products: &'a [f32],
    /// Distance of frequencies.
    pub(super) frequency: usize,
    /// Rows and voxels of the tile inside the map; planes are as many as there are targets.
    pub(super) rows: usize,
    pub(super) voxels: usize,
    /// Place of the first voxel in every plane.
    pub(super) start: usize,
    pub(super) row_stride: usize,
    pub(super) voxel_stride: usize,
}

/// A tile transformed along `h`: per plane, 6×6 points across `w` and `d`.
pub(super) type Slices<V> = [[V; INPUT * INPUT]; OUTPUT];

/// Slices to begin with; what is in them does not matter.
#[inline(always)]
pub(super) fn slices<S: Simd>(simd: S) -> Slices<S::V> {
    [[simd.splat(0.0); INPUT * INPUT]; OUTPUT]
}

/// Writes one tile into `planes`. A tally that is not begun yet starts at the tile's first voxel.
#[inline(always)]
pub(super) fn restore_tile<S: Simd>(
    simd: S,
    tile: &OutputTile<'_>,
    slices: &mut Slices<S::V>,
    planes: &mut [&mut [f32]],
    tally: &mut Option<Tally>,
) {
    let zero = simd.splat(0.0);
    for row in 0..INPUT * INPUT {
        let mut points = [zero; INPUT];
        for (h, point) in points.iter_mut().enumerate() {
            let place = (h * INPUT * INPUT + row) * tile.frequency;
            *point = simd.load(lanes(tile.products, place));
        }
        let values = backward(simd, points);
        for (slice, &value) in slices.iter_mut().zip(&values) {
            slice[row] = value;
        }
    }
    let mut open = tally.as_ref().map(|tally| tally.open(simd));
    for (slice, plane) in slices.iter().zip(planes) {
        let mut lines = [[zero; INPUT]; OUTPUT];
        for d in 0..INPUT {
            let mut points = [zero; INPUT];
            for (w, point) in points.iter_mut().enumerate() {
                *point = slice[w * INPUT + d];
            }
            let values = backward(simd, points);
            for (line, &value) in lines.iter_mut().zip(&values) {
                line[d] = value;
            }
        }
        for (w, line) in lines.iter().enumerate().take(tile.rows) {
            let values = backward(simd, *line);
            let start = tile.start + w * tile.row_stride;
            for (d, &value) in values.iter().enumerate().take(tile.voxels) {
                let target = lanes_mut(plane, start + d * tile.voxel_stride);
                simd.store(value, target);
                let open = open.get_or_insert_with(|| {
                    let begun = Tally::new(*target);
                    let first = begun.open(simd);
                    *tally = Some(begun);
                    first
                });
                open.add(simd, value);
            }
        }
    }
    if let (Some(open), Some(tally)) = (open, tally) {
        open.put_back(simd, tally);
    }
}
