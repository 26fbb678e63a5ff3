//! Rows times packed panels: the one matrix product under every convolution.

use super::simd::{LANES, Level, Simd};

/// A right-hand matrix `[depth, columns]`, stored panel by panel: all of a panel's columns for one
/// depth stand together, so that the kernel reads it from front to end.
///
/// Columns are padded with zeros to a multiple of [`LANES`]; the last panel may be narrower than
/// the others.
#[derive(Debug)]
pub(crate) struct Panels {
    values: Vec<f32>,
    depth: usize,
    columns: usize,
    width: usize,
}

impl Panels {
    /// Packs `value(depth, column)` for `columns` real columns.
    pub(crate) fn pack(
        level: Level,
        depth: usize,
        columns: usize,
        mut value: impl FnMut(usize, usize) -> f32,
    ) -> Self {
        let padded = columns.next_multiple_of(LANES);
        let width = level.panel();
        let mut values = Vec::with_capacity(depth * padded);
        for start in (0..padded).step_by(width) {
            for row in 0..depth {
                for column in start..(start + width).min(padded) {
                    values.push(if column < columns { value(row, column) } else { 0.0 });
                }
            }
        }
        Self { values, depth, columns: padded, width }
    }

    /// First columns and values of every panel.
    #[inline(always)]
    pub(crate) fn panels(&self) -> impl Iterator<Item = (usize, &[f32])> {
        let starts = (0..self.columns).step_by(self.width);
        starts.zip(self.values.chunks(self.depth * self.width))
    }

    /// Columns with padding.
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }
}

/// The left-hand matrix of a product: `count` rows, each a slice as long as the panel is deep.
pub(crate) trait Operand {
    fn count(&self) -> usize;
    fn row(&self, index: usize) -> &[f32];
}

/// Rows that follow each other at a fixed distance.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Strided<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) stride: usize,
    pub(crate) count: usize,
}

impl Operand for Strided<'_> {
    #[inline(always)]
    fn count(&self) -> usize {
        self.count
    }

    #[inline(always)]
    fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.stride..]
    }
}

/// Rows that start at listed places plus a common shift.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gathered<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) starts: &'a [usize],
    pub(crate) shift: usize,
}

impl Operand for Gathered<'_> {
    #[inline(always)]
    fn count(&self) -> usize {
        self.starts.len()
    }

    #[inline(always)]
    fn row(&self, index: usize) -> &[f32] {
        &self.values[self.starts[index] + self.shift..]
    }
}

/// One panel's product and where it goes.
pub(crate) struct Product<'a, A> {
    pub(crate) rows: A,
    /// `[depth][panel width]`.
    pub(crate) panel: &'a [f32],
    /// Width of this panel: [`LANES`] or the level's panel width.
    pub(crate) width: usize,
    /// Result of row `i` starts at `i · target_stride`.
    pub(crate) target: &'a mut [f32],
    pub(crate) target_stride: usize,
    pub(crate) start: Start<'a>,
}

/// What a product is added to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Start<'a> {
    Zero,
    /// What the target already holds.
    Target,
    /// The same values for every row, one per column of the panel.
    Bias(&'a [f32]),
}

/// Runs a product in blocks of `BIG`, `SMALL` and single rows, `VECTORS` vectors wide.
#[inline(always)]
pub(crate) fn multiply<S: Simd, const BIG: usize, const SMALL: usize, const VECTORS: usize>(
    simd: S,
    mut product: Product<'_, impl Operand>,
) {
    if product.width == VECTORS * LANES {
        blocks::<S, BIG, SMALL, VECTORS>(simd, &mut product);
    } else {
        blocks::<S, BIG, SMALL, 1>(simd, &mut product);
    }
}

#[inline(always)]
fn blocks<S: Simd, const BIG: usize, const SMALL: usize, const VECTORS: usize>(
    simd: S,
    product: &mut Product<'_, impl Operand>,
) {
    let count = product.rows.count();
    let mut row = 0;
    while row + BIG <= count {
        block::<S, BIG, VECTORS>(simd, product, row);
        row += BIG;
    }
    while row + SMALL <= count {
        block::<S, SMALL, VECTORS>(simd, product, row);
        row += SMALL;
    }
    while row < count {
        block::<S, 1, VECTORS>(simd, product, row);
        row += 1;
    }
}

#[inline(always)]
fn block<S: Simd, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    product: &mut Product<'_, impl Operand>,
    first: usize,
) {
    let stride = product.target_stride;
    let mut sums = [[simd.splat(0.0); VECTORS]; ROWS];
    for (row, sums) in sums.iter_mut().enumerate() {
        for (vector, sum) in sums.iter_mut().enumerate() {
            match product.start {
                Start::Zero => (),
                Start::Target => {
                    let place = (first + row) * stride + vector * LANES;
                    *sum = simd.load(lanes(product.target, place));
                }
                Start::Bias(bias) => *sum = simd.load(lanes(bias, vector * LANES)),
            }
        }
    }
    let depth = product.panel.len() / (VECTORS * LANES);
    let mut rows: [&[f32]; ROWS] = [&[]; ROWS];
    for (row, values) in rows.iter_mut().enumerate() {
        *values = &product.rows.row(first + row)[..depth];
    }
    let (panel, _) = product.panel.as_chunks::<LANES>();
    let (panel, _) = panel.as_chunks::<VECTORS>();
    let panel = &panel[..depth];
    for (step, lines) in panel.iter().enumerate() {
        let mut weights = [simd.splat(0.0); VECTORS];
        for (weights, line) in weights.iter_mut().zip(lines) {
            *weights = simd.load(line);
        }
        for (sums, values) in sums.iter_mut().zip(&rows) {
            let value = simd.splat(values[step]);
            for (sum, &weights) in sums.iter_mut().zip(&weights) {
                *sum = simd.mul_add(value, weights, *sum);
            }
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        for (vector, &sum) in sums.iter().enumerate() {
            let place = (first + row) * stride + vector * LANES;
            simd.store(sum, lanes_mut(product.target, place));
        }
    }
}

/// The sixteen floats at `place`.
#[inline(always)]
pub(crate) fn lanes(values: &[f32], place: usize) -> &[f32; LANES] {
    values[place..].first_chunk().expect("a whole vector lies inside every padded map")
}

/// The sixteen floats at `place`, to be written.
#[inline(always)]
pub(crate) fn lanes_mut(values: &mut [f32], place: usize) -> &mut [f32; LANES] {
    values[place..].first_chunk_mut().expect("a whole vector lies inside every padded map")
}
