//! Output tiles: transformed back, written, tallied.

use std::array;

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

/// Writes one tile into `planes`. A tally that is not begun yet starts at the tile's first voxel.
#[inline(always)]
pub(super) fn restore_tile<S: Simd>(
    simd: S,
    tile: &OutputTile<'_>,
    planes: &mut [&mut [f32]],
    tally: &mut Option<Tally>,
) {
    let zero = simd.splat(0.0);
    let mut slices = [[zero; INPUT * INPUT]; OUTPUT];
    for row in 0..INPUT * INPUT {
        let points = array::from_fn(|h| {
            simd.load(lanes(tile.products, (h * INPUT * INPUT + row) * tile.frequency))
        });
        let values = backward(simd, points);
        for (slice, &value) in slices.iter_mut().zip(&values) {
            slice[row] = value;
        }
    }
    let mut open = tally.as_ref().map(|tally| tally.open(simd));
    for (slice, plane) in slices.iter().zip(planes) {
        let mut lines = [[zero; INPUT]; OUTPUT];
        for d in 0..INPUT {
            let values = backward(simd, array::from_fn(|w| slice[w * INPUT + d]));
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
