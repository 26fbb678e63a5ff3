//! Orientation and spacing of one image.

use super::attributes::Decimals;

/// Largest error of the length of a direction, and of the cosine of the angle between the two.
///
/// Orientations stored with two decimals pass; anything worse is no orientation.
const ORTHONORMAL_TOLERANCE: f64 = 0.01;
/// Error up to which directions are taken as they are stored: what is left of float32 or of nine digits.
///
/// PS3.3 C.7.6.2.1.1 places pixels with the stored numbers, and the reference keeps them too: there the sign of such an
/// error decides how the resampled grid is placed, a part of a voxel to either side.
const AS_STORED: f64 = 1e-6;
/// Largest difference between the directions of slices of one stack: a tenth of a pixel at the far side of 200.
const SAME_DIRECTION: f64 = 5e-4;
/// Largest relative difference between the pixel spacings of slices of one stack: a twentieth of a pixel over 512.
const SAME_SPACING: f64 = 1e-4;

/// Where the pixels of an image lie relative to its first one. Vectors are LPS.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plane {
    /// Direction along a row: towards the next column.
    pub(super) row_direction: [f64; 3],
    /// Direction along a column: towards the next row.
    pub(super) column_direction: [f64; 3],
    /// Row direction cross column direction.
    pub(super) normal: [f64; 3],
    /// Distance of neighbouring rows, then of neighbouring columns.
    pub(super) spacing_mm: [f64; 2],
}

impl Plane {
    /// Takes Image Orientation (Patient) as it is stored, or, where its rounding shows, normalised: unit lengths, and the
    /// column direction at a right angle to the row direction. `None` when it is too far from that.
    pub(super) fn new(orientation: &Decimals<6>, spacing: &Decimals<2>) -> Option<Self> {
        let [rx, ry, rz, cx, cy, cz] = orientation.value;
        let row = [rx, ry, rz];
        let column = [cx, cy, cz];
        let lengths = [length(row) - 1.0, length(column) - 1.0];
        let error = lengths.into_iter().chain([dot(row, column)]).map(f64::abs).fold(0.0, f64::max);
        let (row_direction, column_direction) = if error <= AS_STORED {
            (row, column)
        } else if error <= ORTHONORMAL_TOLERANCE {
            let row = unit(row);
            (row, unit(subtract(column, scale(row, dot(column, row)))))
        } else {
            return None;
        };
        let normal = unit(cross(row_direction, column_direction));
        Some(Self { row_direction, column_direction, normal, spacing_mm: spacing.value })
    }

    /// Whether slices of the two planes can belong to one stack.
    pub(super) fn is_parallel_to(&self, other: &Self) -> bool {
        let near = |a: [f64; 3], b: [f64; 3]| {
            a.iter().zip(b).all(|(a, b)| (a - b).abs() <= SAME_DIRECTION)
        };
        let same_spacing = self
            .spacing_mm
            .iter()
            .zip(other.spacing_mm)
            .all(|(a, b)| (a - b).abs() <= SAME_SPACING * a.abs());
        same_spacing
            && near(self.row_direction, other.row_direction)
            && near(self.column_direction, other.column_direction)
    }
}

pub(super) fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

pub(super) fn cross(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

pub(super) fn subtract(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
}

pub(super) fn scale(a: [f64; 3], factor: f64) -> [f64; 3] {
    a.map(|v| v * factor)
}

pub(super) fn length(a: [f64; 3]) -> f64 {
    dot(a, a).sqrt()
}

fn unit(a: [f64; 3]) -> [f64; 3] {
    scale(a, 1.0 / length(a))
}
