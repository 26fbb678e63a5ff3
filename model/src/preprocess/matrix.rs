//! Small matrices, row-major, in float64.

/// Rows of a 3x3 matrix.
pub(crate) type Matrix3 = [[f64; 3]; 3];

/// `index -> linear * index + offset`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Affine {
    pub(crate) linear: Matrix3,
    pub(crate) offset: [f64; 3],
}

impl Affine {
    pub(crate) const IDENTITY: Self =
        Self { linear: [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], offset: [0.0; 3] };

    pub(crate) fn apply(&self, index: [f64; 3]) -> [f64; 3] {
        let moved = multiply_vector(&self.linear, index);
        std::array::from_fn(|k| moved[k] + self.offset[k])
    }

    /// `self` after `first`.
    pub(crate) fn after(&self, first: &Self) -> Self {
        Self { linear: multiply(&self.linear, &first.linear), offset: self.apply(first.offset) }
    }

    /// The inverse map, or nothing for a singular one.
    pub(crate) fn inverse(&self) -> Option<Self> {
        self.solve(&Self::IDENTITY)
    }

    /// `inverse(self) * right`, by elimination with partial pivoting.
    pub(crate) fn solve(&self, right: &Self) -> Option<Self> {
        let linear = solve(self.linear, right.linear)?;
        let difference: [f64; 3] = std::array::from_fn(|k| right.offset[k] - self.offset[k]);
        let columns =
            [[difference[0], 0.0, 0.0], [difference[1], 0.0, 0.0], [difference[2], 0.0, 0.0]];
        let offset = solve(self.linear, columns)?.map(|row| row[0]);
        Some(Self { linear, offset })
    }

    /// All elements rounded to float32.
    pub(crate) fn rounded(&self) -> Self {
        let round = |value: f64| f64::from(value as f32);
        Self { linear: self.linear.map(|row| row.map(round)), offset: self.offset.map(round) }
    }

    /// The twelve elements that are not fixed.
    pub(crate) fn elements(&self) -> impl Iterator<Item = f64> {
        self.linear.into_iter().flatten().chain(self.offset)
    }

    /// Column `k` of the linear part.
    pub(crate) fn column(&self, k: usize) -> [f64; 3] {
        self.linear.map(|row| row[k])
    }

    /// Whether every output depends on the input of the same axis alone.
    pub(crate) fn is_diagonal(&self) -> bool {
        (0..3).all(|r| (0..3).all(|c| r == c || self.linear[r][c] == 0.0))
    }
}

pub(crate) fn transpose(m: &Matrix3) -> Matrix3 {
    std::array::from_fn(|r| std::array::from_fn(|c| m[c][r]))
}

pub(crate) fn multiply(a: &Matrix3, b: &Matrix3) -> Matrix3 {
    std::array::from_fn(|r| {
        std::array::from_fn(|c| a[r][0] * b[0][c] + a[r][1] * b[1][c] + a[r][2] * b[2][c])
    })
}

pub(crate) fn multiply_vector(m: &Matrix3, v: [f64; 3]) -> [f64; 3] {
    m.map(|row| row[0] * v[0] + row[1] * v[1] + row[2] * v[2])
}

pub(crate) fn diagonal(values: [f64; 3]) -> Matrix3 {
    std::array::from_fn(|r| std::array::from_fn(|c| if r == c { values[r] } else { 0.0 }))
}

/// Lengths of the columns.
pub(crate) fn column_norms(m: &Matrix3) -> [f64; 3] {
    std::array::from_fn(|c| (0..3).map(|r| m[r][c] * m[r][c]).sum::<f64>().sqrt())
}

pub(crate) fn invert(m: &Matrix3) -> Option<Matrix3> {
    solve(*m, diagonal([1.0; 3]))
}

/// `inverse(a) * b` by LU with partial pivoting; nothing for a singular `a`.
#[expect(clippy::needless_range_loop, reason = "indices name rows and columns of two matrices")]
fn solve(mut a: Matrix3, mut b: Matrix3) -> Option<Matrix3> {
    for k in 0..3 {
        let pivot = (k..3).max_by(|&p, &q| a[p][k].abs().total_cmp(&a[q][k].abs()))?;
        if a[pivot][k] == 0.0 || !a[pivot][k].is_finite() {
            return None;
        }
        a.swap(k, pivot);
        b.swap(k, pivot);
        for r in k + 1..3 {
            let factor = a[r][k] / a[k][k];
            for c in k + 1..3 {
                a[r][c] -= factor * a[k][c];
            }
            for c in 0..3 {
                b[r][c] -= factor * b[k][c];
            }
        }
    }
    for k in (0..3).rev() {
        for c in 0..3 {
            let known: f64 = (k + 1..3).map(|j| a[k][j] * b[j][c]).sum();
            b[k][c] = (b[k][c] - known) / a[k][k];
        }
    }
    Some(b)
}

/// Upper-triangular `Z` with positive diagonal and `Zt * Z = m`; nothing when `m` is not positive definite.
pub(crate) fn cholesky_upper(m: &Matrix3) -> Option<Matrix3> {
    let mut lower = [[0.0; 3]; 3];
    for r in 0..3 {
        for c in 0..=r {
            let known: f64 = (0..c).map(|k| lower[r][k] * lower[c][k]).sum();
            let rest: f64 = m[r][c] - known;
            if r == c {
                if rest <= 0.0 || !rest.is_finite() {
                    return None;
                }
                lower[r][r] = rest.sqrt();
            } else {
                lower[r][c] = rest / lower[c][c];
            }
        }
    }
    Some(transpose(&lower))
}

/// Orthogonal factor of the polar decomposition: the nearest orthogonal matrix. `m` must be regular.
pub(crate) fn polar_factor(m: &Matrix3) -> Matrix3 {
    // Newton's iteration towards the orthogonal factor converges quadratically for every regular matrix.
    let mut current = *m;
    for _ in 0..100 {
        let Some(inverse) = invert(&current) else { return current };
        let inverse_transposed = transpose(&inverse);
        let mut change: f64 = 0.0;
        for r in 0..3 {
            for c in 0..3 {
                let next = 0.5 * (current[r][c] + inverse_transposed[r][c]);
                change = change.max((next - current[r][c]).abs());
                current[r][c] = next;
            }
        }
        if change < 1e-14 {
            break;
        }
    }
    current
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn solve_inverts_what_apply_does() {
        let affine = Affine {
            linear: [[0.0, 0.9, 0.1], [-0.7, 0.0, 0.0], [0.0, 0.2, 2.5]],
            offset: [10.0, -3.0, 7.0],
        };

        let back = affine.inverse().unwrap().after(&affine);

        for (found, expected) in back.elements().zip(Affine::IDENTITY.elements()) {
            assert!((found - expected).abs() < 1e-14);
        }
    }

    #[test]
    fn a_singular_matrix_has_no_inverse() {
        let flat = [[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [0.0, 0.0, 1.0]];

        assert_eq!(invert(&flat), None);
    }

    #[test]
    fn cholesky_and_polar_factors_reproduce_their_matrix() {
        let m = [[1.0, 0.3, 0.0], [0.0, 0.9, 0.2], [0.1, 0.0, 1.1]];
        let square = multiply(&transpose(&m), &m);

        let upper = cholesky_upper(&square).unwrap();
        let rotation = polar_factor(&m);

        let again = multiply(&transpose(&upper), &upper);
        let identity = multiply(&transpose(&rotation), &rotation);
        for r in 0..3 {
            for c in 0..3 {
                assert!((again[r][c] - square[r][c]).abs() < 1e-14);
                assert!((identity[r][c] - f64::from(u8::from(r == c))).abs() < 1e-14);
            }
        }
    }
}
