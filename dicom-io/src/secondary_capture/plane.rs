//! Cuts through a volume along the patient's axes.

use dicom_types::{GridGeometry, Mask, Volume};

/// A plane of the patient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plane {
    /// Across the body.
    Axial,
    /// From side to side.
    Coronal,
    /// From front to back.
    Sagittal,
}

impl Plane {
    /// Axes of patient space (LPS) that run to the right and up in the picture, and whether the value grows that way.
    fn axes(self) -> [(usize, bool); 2] {
        match self {
            Self::Axial => [(0, true), (1, false)],
            Self::Coronal => [(0, true), (2, true)],
            Self::Sagittal => [(1, true), (2, true)],
        }
    }

    /// Side of the patient at the left, right, top and bottom of the picture.
    pub(super) fn letters(self) -> [&'static str; 4] {
        match self {
            Self::Axial => ["R", "L", "A", "P"],
            Self::Coronal => ["R", "L", "H", "F"],
            Self::Sagittal => ["A", "P", "H", "F"],
        }
    }

    /// Axis of patient space (LPS) that the plane is moved along, and whether its value grows from the first slice on:
    /// from the head down, from the front back, from the right to the left.
    pub(super) fn through(self) -> (usize, bool) {
        match self {
            Self::Axial => (2, false),
            Self::Coronal => (1, true),
            Self::Sagittal => (0, true),
        }
    }

    /// Width and height of the plane inside a box.
    pub(super) fn size_mm(self, bounds: [[f64; 2]; 3]) -> [f64; 2] {
        self.axes().map(|(axis, _)| bounds[axis][1] - bounds[axis][0])
    }
}

/// A plane as a picture: where its pixels lie in the patient.
#[derive(Debug, Clone)]
pub(super) struct Cut {
    pub(super) plane: Plane,
    pub(super) width: usize,
    pub(super) height: usize,
    origin_mm: [f64; 3],
    right_mm: [f64; 3],
    down_mm: [f64; 3],
}

impl Cut {
    /// The part of `plane` through `center_mm` that lies inside `bounds`.
    pub(super) fn new(
        plane: Plane,
        bounds: [[f64; 2]; 3],
        center_mm: [f64; 3],
        pixels_per_mm: f64,
    ) -> Self {
        let [width, height] =
            plane.size_mm(bounds).map(|size| (size * pixels_per_mm).round().max(1.0) as usize);
        let [(horizontal, right_grows), (vertical, up_grows)] = plane.axes();
        let step = 1.0 / pixels_per_mm;
        let mut origin_mm = center_mm;
        let mut right_mm = [0.0; 3];
        let mut down_mm = [0.0; 3];
        right_mm[horizontal] = if right_grows { step } else { -step };
        down_mm[vertical] = if up_grows { -step } else { step };
        let start = |axis: usize, grows: bool| {
            if grows { bounds[axis][0] + step / 2.0 } else { bounds[axis][1] - step / 2.0 }
        };
        origin_mm[horizontal] = start(horizontal, right_grows);
        origin_mm[vertical] = start(vertical, !up_grows);
        Self { plane, width, height, origin_mm, right_mm, down_mm }
    }

    /// Calls `visit` with pixel number and fractional voxel index of every pixel.
    fn for_each(&self, geometry: &GridGeometry, mut visit: impl FnMut(usize, [f64; 3])) {
        let origin = geometry.index(self.origin_mm);
        let step_of = |step_mm: [f64; 3]| -> [f64; 3] {
            let position = std::array::from_fn(|i| self.origin_mm[i] + step_mm[i]);
            let index = geometry.index(position);
            std::array::from_fn(|i| index[i] - origin[i])
        };
        let (right, down) = (step_of(self.right_mm), step_of(self.down_mm));
        for row in 0..self.height {
            for column in 0..self.width {
                let index = std::array::from_fn(|i| {
                    origin[i] + column as f64 * right[i] + row as f64 * down[i]
                });
                visit(row * self.width + column, index);
            }
        }
    }

    /// Values of the volume, trilinear; nothing outside of its voxels.
    pub(super) fn sample(&self, volume: &Volume) -> Vec<Option<f32>> {
        let shape = volume.geometry().shape();
        let values = volume.values();
        let mut pixels = vec![None; self.width * self.height];
        self.for_each(volume.geometry(), |pixel, index| {
            pixels[pixel] = inside(index, shape).then(|| {
                let mut sum = 0.0;
                for_each_corner(index, shape, |[s, r, c], weight| {
                    let value = values[(s * shape[1] + r) * shape[2] + c];
                    sum += weight * f64::from(value);
                });
                sum as f32
            });
        });
        pixels
    }

    /// How much of each pixel the mask covers, 0 to 1, its outline smoothed between voxels.
    pub(super) fn coverage(&self, geometry: &GridGeometry, mask: &Mask) -> Vec<f64> {
        let shape = geometry.shape();
        let extent = mask.extent();
        let mut coverage = vec![0.0; self.width * self.height];
        self.for_each(geometry, |pixel, index| {
            let is_near = (0..3).all(|i| {
                index[i] > extent.start[i] as f64 - 1.0 && index[i] < extent.end[i] as f64
            });
            if !is_near || !inside(index, shape) {
                return;
            }
            let mut share = 0.0;
            for_each_corner(index, shape, |voxel, weight| {
                if weight > 0.0 && mask.contains(voxel) {
                    share += weight;
                }
            });
            // The outline is where half of the weight lies inside; one step of the ramp softens it.
            coverage[pixel] = ((share - 0.5) * 4.0 + 0.5).clamp(0.0, 1.0);
        });
        coverage
    }
}

fn inside(index: [f64; 3], shape: [usize; 3]) -> bool {
    (0..3).all(|i| index[i] >= -0.5 && index[i] < shape[i] as f64 - 0.5)
}

/// Calls `visit` with the eight voxels around `index` and their weights; what lies outside counts as the edge.
fn for_each_corner(index: [f64; 3], shape: [usize; 3], mut visit: impl FnMut([usize; 3], f64)) {
    let clamped: [f64; 3] = std::array::from_fn(|i| index[i].clamp(0.0, (shape[i] - 1) as f64));
    let low = clamped.map(|v| v.floor() as usize);
    for corner in 0..8 {
        let mut weight = 1.0;
        let voxel = std::array::from_fn(|i| {
            let fraction = clamped[i] - low[i] as f64;
            if corner >> i & 1 == 0 {
                weight *= 1.0 - fraction;
                low[i]
            } else {
                weight *= fraction;
                (low[i] + 1).min(shape[i] - 1)
            }
        });
        visit(voxel, weight);
    }
}
