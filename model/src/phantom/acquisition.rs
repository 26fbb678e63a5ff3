//! How a scan lies in the patient.

use dicom_types::GridGeometry;

use super::Torso;
use super::random::Stream;
use super::shape::Rotation;

/// Stream of random numbers drawn from the seed of an acquisition.
const PLACE: u64 = 4;

/// Orientation of the image planes before any tilt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Plane {
    /// Rows from front to back, columns from right to left, slices from feet to head.
    Axial,
    /// Rows from head to feet, columns from right to left, slices from front to back.
    Coronal,
    /// Rows from head to feet, columns from front to back, slices from right to left.
    Sagittal,
}

impl Plane {
    /// All three.
    pub const ALL: [Self; 3] = [Self::Axial, Self::Coronal, Self::Sagittal];

    /// Directions of slices, rows and columns in LPS.
    fn directions(self) -> [[f32; 3]; 3] {
        const LEFT: [f32; 3] = [1.0, 0.0, 0.0];
        const BACK: [f32; 3] = [0.0, 1.0, 0.0];
        const HEAD: [f32; 3] = [0.0, 0.0, 1.0];
        const FEET: [f32; 3] = [0.0, 0.0, -1.0];
        match self {
            Self::Axial => [HEAD, BACK, LEFT],
            Self::Coronal => [BACK, FEET, LEFT],
            Self::Sagittal => [LEFT, FEET, BACK],
        }
    }
}

/// Orientation, resolution and field of view of a scan of a torso.
#[derive(Debug, Clone)]
pub struct Acquisition {
    plane: Plane,
    reversed: bool,
    tilt: Rotation,
    spacing_mm: [f64; 3],
    /// Field of view along left-right, front-back and head-feet (before the tilt), over the torso's extent.
    coverage: [f64; 3],
    shift_mm: [f64; 3],
}

impl Acquisition {
    /// An upright scan of the whole torso with slices of 5 mm and pixels of 2 mm.
    pub fn new(plane: Plane) -> Self {
        Self {
            plane,
            reversed: false,
            tilt: Rotation::NONE,
            spacing_mm: [5.0, 2.0, 2.0],
            coverage: [1.0; 3],
            shift_mm: [0.0; 3],
        }
    }

    /// A scan as they come: any plane and slice order, half of them oblique by up to 30°, slices of 2 to 8 mm, the
    /// field of view off centre and at times cutting the torso.
    ///
    /// Pixels measure 1.5 to 4 mm; finer ones would cost time and change nothing at the spacing of the phantom pack.
    pub fn random(seed: u64) -> Self {
        let mut r = Stream::new(seed, PLACE);
        let plane = Plane::ALL[(r.uniform(0.0, 3.0) as usize).min(2)];
        let pixel_mm = f64::from(r.uniform(1.5, 4.0));
        let slice_mm = pixel_mm.max(f64::from(r.uniform(2.0, 8.0)));
        let oblique = r.chance(0.5);
        let degrees = if oblique { r.uniform(4.0, 30.0) } else { 0.0 };
        let axis = r.direction();
        let [width, depth, height] =
            [r.uniform(0.92, 1.15), r.uniform(0.95, 1.2), r.uniform(0.82, 1.1)].map(f64::from);
        Self::new(plane)
            .with_tilt(axis.map(f64::from), f64::from(degrees))
            .with_spacing_mm([slice_mm, pixel_mm, pixel_mm])
            .with_coverage([width, depth, height])
            .with_shift_mm(
                [r.uniform(-12.0, 12.0), r.uniform(-12.0, 12.0), r.uniform(-25.0, 25.0)]
                    .map(f64::from),
            )
            .with_slices_reversed(r.chance(0.5))
    }

    /// Turns the grid by `degrees` about `axis` (LPS, of any length but zero) through its middle.
    #[must_use]
    pub fn with_tilt(mut self, axis: [f64; 3], degrees: f64) -> Self {
        let length = axis.iter().map(|v| v * v).sum::<f64>().sqrt();
        let unit = axis.map(|v| (v / length) as f32);
        self.tilt = Rotation::about(unit, degrees.to_radians() as f32);
        self
    }

    /// Distances of slices, rows and columns.
    #[must_use]
    pub fn with_spacing_mm(mut self, spacing_mm: [f64; 3]) -> Self {
        self.spacing_mm = spacing_mm;
        self
    }

    /// Field of view over the torso's extent, left-right, front-back and head-feet. 1 shows all organs.
    #[must_use]
    pub fn with_coverage(mut self, coverage: [f64; 3]) -> Self {
        self.coverage = coverage;
        self
    }

    /// Moves the middle of the grid away from the torso's.
    #[must_use]
    pub fn with_shift_mm(mut self, shift_mm: [f64; 3]) -> Self {
        self.shift_mm = shift_mm;
        self
    }

    /// Numbers the slices the other way round.
    #[must_use]
    pub fn with_slices_reversed(mut self, reversed: bool) -> Self {
        self.reversed = reversed;
        self
    }

    /// The grid of this scan of `torso`.
    ///
    /// # Panics
    /// When a spacing, a coverage or a shift was given that is not a positive (for a shift: finite) number.
    pub fn grid(&self, torso: &Torso) -> GridGeometry {
        let extent = torso.extent_mm();
        let mut directions = self.plane.directions();
        if self.reversed {
            directions[0] = directions[0].map(|v| -v);
        }
        let mut shape = [0; 3];
        let mut steps = [[0.0; 3]; 3];
        let mut origin = torso.centre_mm();
        for (at, shift) in origin.iter_mut().zip(self.shift_mm) {
            *at += shift;
        }
        for axis in 0..3 {
            let along = (0..3).find(|&world| directions[axis][world] != 0.0).unwrap_or(0);
            let length_mm = extent[along] * self.coverage[along];
            shape[axis] = ((length_mm / self.spacing_mm[axis]).round() as usize).max(1);
            steps[axis] =
                self.tilt.apply(directions[axis]).map(|v| f64::from(v) * self.spacing_mm[axis]);
            let to_middle = 0.5 * (shape[axis] - 1) as f64;
            for (at, step) in origin.iter_mut().zip(steps[axis]) {
                *at -= to_middle * step;
            }
        }
        GridGeometry::new(shape, origin, steps)
            .expect("turned coordinate axes with positive spacing span a volume")
    }
}
