//! The transforms along one axis.
//!
//! With `a = 1/√2` and `b = √2` the interpolation points are 0, a, -a, b, -b and infinity; `a·b = 1`
//! keeps most coefficients at one.

use crate::ops::cpu::simd::Simd;

/// Edge of a tile's output.
pub(super) const OUTPUT: usize = 4;

/// Edge of a tile's input, and number of points per axis.
pub(super) const INPUT: usize = 6;

/// Points of a tile.
pub(super) const FREQUENCIES: usize = INPUT * INPUT * INPUT;

const A: f32 = std::f32::consts::FRAC_1_SQRT_2;
const B: f32 = std::f32::consts::SQRT_2;
/// Squares of both points, exact where the points are not.
const A_SQUARED: f32 = 0.5;
const B_SQUARED: f32 = 2.0;

/// Weights of the 27 taps, `[h][w][d]`, at one frequency.
pub(super) fn kernel_transform(frequency: usize) -> [f64; 27] {
    let axes = [frequency / (INPUT * INPUT), frequency / INPUT % INPUT, frequency % INPUT];
    let [h, w, d] = axes.map(kernel_row);
    std::array::from_fn(|tap| h[tap / 9] * w[tap / 3 % 3] * d[tap % 3])
}

/// A kernel read as a polynomial at one point, over the product of distances to the other points.
fn kernel_row(point: usize) -> [f64; 3] {
    let (a, b) = (0.5_f64.sqrt(), 2.0_f64.sqrt());
    let (position, distances) = match point {
        0 => (0.0, 1.0),
        1 => (a, -1.5),
        2 => (-a, -1.5),
        3 => (b, 6.0),
        4 => (-b, 6.0),
        _ => return [0.0, 0.0, 1.0],
    };
    [1.0 / distances, position / distances, position * position / distances]
}

/// Six inputs to six points.
#[inline(always)]
pub(super) fn forward<S: Simd>(simd: S, x: [S::V; INPUT]) -> [S::V; INPUT] {
    let (a, b) = (simd.splat(A), simd.splat(B));
    let (a_squared, b_squared) = (simd.splat(A_SQUARED), simd.splat(B_SQUARED));
    let both = simd.splat(A_SQUARED + B_SQUARED);
    let even_a = simd.neg_mul_add(b_squared, x[2], x[4]);
    let odd_a = simd.neg_mul_add(b_squared, x[1], x[3]);
    let even_b = simd.neg_mul_add(a_squared, x[2], x[4]);
    let odd_b = simd.neg_mul_add(a_squared, x[1], x[3]);
    [
        simd.neg_mul_add(both, x[2], simd.add(x[0], x[4])),
        simd.mul_add(a, odd_a, even_a),
        simd.neg_mul_add(a, odd_a, even_a),
        simd.mul_add(b, odd_b, even_b),
        simd.neg_mul_add(b, odd_b, even_b),
        simd.neg_mul_add(both, x[3], simd.add(x[1], x[5])),
    ]
}

/// Six points to four outputs.
#[inline(always)]
pub(super) fn backward<S: Simd>(simd: S, m: [S::V; INPUT]) -> [S::V; OUTPUT] {
    let (a, b) = (simd.splat(A), simd.splat(B));
    let (a_squared, b_squared) = (simd.splat(A_SQUARED), simd.splat(B_SQUARED));
    let (a_cubed, b_cubed) = (simd.splat(A * A_SQUARED), simd.splat(B * B_SQUARED));
    let (sum_a, difference_a) = (simd.add(m[1], m[2]), simd.sub(m[1], m[2]));
    let (sum_b, difference_b) = (simd.add(m[3], m[4]), simd.sub(m[3], m[4]));
    [
        simd.add(simd.add(m[0], sum_a), sum_b),
        simd.mul_add(a, difference_a, simd.mul(b, difference_b)),
        simd.mul_add(a_squared, sum_a, simd.mul(b_squared, sum_b)),
        simd.mul_add(a_cubed, difference_a, simd.mul_add(b_cubed, difference_b, m[5])),
    ]
}
