//! Input tiles: read, normalised, activated, transformed.

use super::transform::{INPUT, OUTPUT, forward};
use crate::ops::cpu::{
    gemm::lanes,
    map::{LEAKY_SLOPE, Source},
    simd::Simd,
};

/// Columns kept while walking along `d`: neighbouring tiles share two of six.
const RING: usize = 8;

/// Sixteen channels of the tiles that follow each other along `d`.
pub(super) struct Strip<'a> {
    pub(super) source: &'a Source<'a>,
    /// The 6×6 rows across `h` and `w` that the tiles read; none outside the map.
    pub(super) rows: &'a [Option<&'a [f32]>; INPUT * INPUT],
    pub(super) channel: usize,
    /// First output voxel along `d`.
    pub(super) first: usize,
}

/// One position along `d`: 6×6 values across `h` and `w`, transformed along both.
type Column<V> = [V; INPUT * INPUT];

/// The latest columns.
pub(super) type Ring<V> = [Column<V>; RING];

/// A ring to begin with; what is in it does not matter.
#[inline(always)]
pub(super) fn ring<S: Simd>(simd: S) -> Ring<S::V> {
    [[simd.splat(0.0); INPUT * INPUT]; RING]
}

impl Strip<'_> {
    /// Hands `write` the tile, the frequency and the value of everything in `tiles` tiles.
    #[inline(always)]
    pub(super) fn transform<S: Simd>(
        &self,
        simd: S,
        tiles: usize,
        ring: &mut Ring<S::V>,
        mut write: impl FnMut(usize, usize, S::V),
    ) {
        let zero = simd.splat(0.0);
        for tile in 0..tiles {
            let start = tile * OUTPUT;
            let known = if tile == 0 { 0 } else { INPUT - OUTPUT };
            for index in start + known..start + INPUT {
                self.column(simd, self.first + index, &mut ring[index % RING]);
            }
            #[expect(clippy::needless_range_loop, reason = "the row is read in six columns")]
            for row in 0..INPUT * INPUT {
                let mut along = [zero; INPUT];
                for (index, value) in along.iter_mut().enumerate() {
                    *value = ring[(start + index) % RING][row];
                }
                let points = forward(simd, along);
                for (index, &point) in points.iter().enumerate() {
                    write(tile, row * INPUT + index, point);
                }
            }
        }
    }

    /// Transforms the column one voxel before output voxel `next` along `d`.
    #[inline(always)]
    fn column<S: Simd>(&self, simd: S, next: usize, column: &mut Column<S::V>) {
        let zero = simd.splat(0.0);
        if next == 0 || next > self.source.shape[2] {
            *column = [zero; INPUT * INPUT];
            return;
        }
        let place = (next - 1) * self.source.stride + self.channel;
        match self.source.pending {
            Some(pending) => {
                let scale = simd.load(lanes(&pending.scale, self.channel));
                let shift = simd.load(lanes(&pending.shift, self.channel));
                let slope = simd.splat(LEAKY_SLOPE);
                self.plane(simd, place, column, |value| {
                    let value = simd.mul_add(value, scale, shift);
                    simd.max(value, simd.mul(value, slope))
                });
            }
            None => self.plane(simd, place, column, |value| value),
        }
    }

    #[inline(always)]
    fn plane<S: Simd>(
        &self,
        simd: S,
        place: usize,
        column: &mut Column<S::V>,
        settle: impl Fn(S::V) -> S::V,
    ) {
        let zero = simd.splat(0.0);
        let mut along_w = [[zero; INPUT]; INPUT];
        for (h, line) in along_w.iter_mut().enumerate() {
            let mut values = [zero; INPUT];
            for (w, value) in values.iter_mut().enumerate() {
                if let Some(row) = self.rows[h * INPUT + w] {
                    *value = settle(simd.load(lanes(row, place)));
                }
            }
            *line = forward(simd, values);
        }
        for w in 0..INPUT {
            let mut values = [zero; INPUT];
            for (value, line) in values.iter_mut().zip(&along_w) {
                *value = line[w];
            }
            let points = forward(simd, values);
            for (h, &point) in points.iter().enumerate() {
                column[h * INPUT + w] = point;
            }
        }
    }
}
