//! Where the voxels of a regular grid lie in the patient.

/// Relative volume below which the three steps of a grid count as lying in one plane.
const DEGENERATE: f64 = 1e-6;

/// Why a grid is refused.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum GeometryError {
    /// An axis without voxels.
    #[error("grid of {shape:?} voxels has an empty axis")]
    Empty {
        /// `[slices, rows, columns]`.
        shape: [usize; 3],
    },
    /// A coordinate that is not a finite number.
    #[error("grid with a coordinate that is not a finite number")]
    NotFinite,
    /// Steps that lie in one plane or have no length.
    #[error("grid whose three axes do not span a volume")]
    Degenerate,
}

/// A regular grid of voxels in patient space.
///
/// The centre of voxel `[s, r, c]` lies at `origin_mm + s * slice_step_mm + r * row_step_mm + c * column_step_mm`
/// (LPS, millimetres). The steps need not be at right angles: a gantry tilt is a slice step that is not along the
/// normal of the plane.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GridGeometry {
    shape: [usize; 3],
    origin_mm: [f64; 3],
    steps_mm: [[f64; 3]; 3],
}

impl GridGeometry {
    /// Builds a grid of `shape` `[slices, rows, columns]` from the centre of its first voxel and the steps to the
    /// next slice, the next row and the next column.
    ///
    /// # Errors
    /// [`GeometryError`] for an empty axis, a coordinate that is not finite, or steps that span no volume.
    pub fn new(
        shape: [usize; 3],
        origin_mm: [f64; 3],
        steps_mm: [[f64; 3]; 3],
    ) -> Result<Self, GeometryError> {
        if shape.contains(&0) {
            return Err(GeometryError::Empty { shape });
        }
        let all_finite = origin_mm.iter().chain(steps_mm.as_flattened()).all(|v| v.is_finite());
        if !all_finite {
            return Err(GeometryError::NotFinite);
        }
        let geometry = Self { shape, origin_mm, steps_mm };
        let lengths: f64 = geometry.spacing_mm().iter().product();
        let spans_a_volume = lengths > 0.0 && geometry.determinant().abs() > DEGENERATE * lengths;
        if !spans_a_volume {
            return Err(GeometryError::Degenerate);
        }
        Ok(geometry)
    }

    /// `[slices, rows, columns]`.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Number of voxels.
    pub fn voxels(&self) -> usize {
        self.shape.iter().product()
    }

    /// Centre of the first voxel.
    pub fn origin_mm(&self) -> [f64; 3] {
        self.origin_mm
    }

    /// Steps to the next slice, the next row, the next column.
    pub fn steps_mm(&self) -> [[f64; 3]; 3] {
        self.steps_mm
    }

    /// Lengths of the three steps. For a tilted gantry the first is longer than the distance of the planes.
    pub fn spacing_mm(&self) -> [f64; 3] {
        self.steps_mm.map(|step| dot(step, step).sqrt())
    }

    /// Volume of one voxel in cubic millimetres.
    pub fn voxel_volume_mm3(&self) -> f64 {
        self.determinant().abs()
    }

    /// Unit normal of the image plane: row direction cross column direction, as Image Orientation (Patient) has them
    /// (PS3.3 C.7.6.2.1.1: first the direction of the row, that is along the columns' index).
    pub fn plane_normal(&self) -> [f64; 3] {
        let normal = cross(self.steps_mm[2], self.steps_mm[1]);
        let length = dot(normal, normal).sqrt();
        normal.map(|v| v / length)
    }

    /// Distance of neighbouring planes along their normal.
    pub fn plane_distance_mm(&self) -> f64 {
        dot(self.steps_mm[0], self.plane_normal()).abs()
    }

    /// Patient position of a (fractional) index `[slice, row, column]`.
    pub fn position_mm(&self, index: [f64; 3]) -> [f64; 3] {
        let mut position = self.origin_mm;
        for (step, i) in self.steps_mm.iter().zip(index) {
            for (p, s) in position.iter_mut().zip(step) {
                *p += i * s;
            }
        }
        position
    }

    /// Fractional index `[slice, row, column]` of a patient position; the inverse of [`Self::position_mm`].
    pub fn index(&self, position_mm: [f64; 3]) -> [f64; 3] {
        let [s, r, c] = self.steps_mm;
        let offset = subtract(position_mm, self.origin_mm);
        let determinant = self.determinant();
        [
            dot(offset, cross(r, c)) / determinant,
            dot(offset, cross(c, s)) / determinant,
            dot(offset, cross(s, r)) / determinant,
        ]
    }

    fn determinant(&self) -> f64 {
        let [s, r, c] = self.steps_mm;
        dot(s, cross(r, c))
    }
}

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

fn cross(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

fn subtract(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    #[expect(clippy::float_cmp, reason = "whole numbers stay whole")]
    fn keeps_a_gantry_tilt_as_shear() {
        let tilted = GridGeometry::new(
            [2, 4, 4],
            [0.0; 3],
            [[0.0, 1.0, 5.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]],
        )
        .unwrap();

        assert_eq!(tilted.plane_distance_mm(), 5.0);
        assert_eq!(tilted.plane_normal(), [0.0, 0.0, 1.0]);
        assert_eq!(tilted.voxel_volume_mm3(), 5.0);
        assert_eq!(tilted.position_mm([1.0, 0.0, 0.0]), [0.0, 1.0, 5.0]);
    }

    #[test]
    fn refuses_what_is_not_a_grid() {
        let steps = [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]];

        assert_eq!(
            GridGeometry::new([0, 1, 1], [0.0; 3], steps),
            Err(GeometryError::Empty { shape: [0, 1, 1] })
        );
        assert_eq!(
            GridGeometry::new([1; 3], [f64::NAN, 0.0, 0.0], steps),
            Err(GeometryError::NotFinite)
        );
        assert_eq!(
            GridGeometry::new([1; 3], [0.0; 3], [steps[1], steps[1], steps[2]]),
            Err(GeometryError::Degenerate)
        );
    }

    proptest! {
        #[test]
        fn index_inverts_position(
            origin in prop::array::uniform3(-500.0f64..500.0),
            noise in prop::array::uniform9(-0.3f64..0.3),
            index in prop::array::uniform3(-20.0f64..600.0),
        ) {
            let mut steps = [[0.0, 0.0, 3.0], [0.0, 0.8, 0.0], [0.8, 0.0, 0.0]];
            for (s, n) in steps.as_flattened_mut().iter_mut().zip(noise) {
                *s += n * 0.5;
            }
            let geometry = GridGeometry::new([600, 512, 512], origin, steps).unwrap();

            let back = geometry.index(geometry.position_mm(index));

            for (a, b) in back.iter().zip(index) {
                prop_assert!((a - b).abs() < 1e-7);
            }
        }
    }
}
