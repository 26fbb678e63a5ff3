//! From patient space to the model's axes, without moving a voxel.

use std::fmt;
use std::str::FromStr;

use dicom_types::GridGeometry;

use super::matrix::{Affine, column_norms, polar_factor};

/// Order of the model's axes over the patient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OrientationCode {
    /// H towards Right, W towards Anterior, D towards Superior: axial data, the default.
    #[default]
    Ras,
    /// H towards Anterior, W towards Superior, D towards Right: sagittal data.
    Asr,
}

impl OrientationCode {
    /// The code's letters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ras => "RAS",
            Self::Asr => "ASR",
        }
    }

    /// World axis (0 Right, 1 Anterior, 2 Superior) of H, W and D.
    fn world_axes(self) -> [usize; 3] {
        match self {
            Self::Ras => [0, 1, 2],
            Self::Asr => [1, 2, 0],
        }
    }
}

impl fmt::Display for OrientationCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A code that is neither RAS nor ASR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("orientation code is neither RAS nor ASR")]
pub struct ParseOrientationError;

impl FromStr for OrientationCode {
    type Err = ParseOrientationError;

    fn from_str(text: &str) -> Result<Self, ParseOrientationError> {
        match text {
            "RAS" => Ok(Self::Ras),
            "ASR" => Ok(Self::Asr),
            _ => Err(ParseOrientationError),
        }
    }
}

/// Changes the convention: a grid `[slice, row, column]` in LPS becomes axes `(i, j, k)` = (column, row, slice) with an
/// affine to RAS millimetres. The only place of the crate in which patient axes change their meaning.
///
/// Returns the number of voxels along i, j, k, the distance in memory of neighbours along each, and the affine.
fn stored_axes_in_ras(geometry: &GridGeometry) -> ([usize; 3], [isize; 3], Affine) {
    let [slices, rows, columns] = geometry.shape();
    let [slice_step, row_step, column_step] = geometry.steps_mm();
    let origin = geometry.origin_mm();
    let steps = [column_step, row_step, slice_step];
    let signs = [-1.0, -1.0, 1.0];
    let affine = Affine {
        linear: std::array::from_fn(|world| {
            std::array::from_fn(|axis| signs[world] * steps[axis][world])
        }),
        offset: std::array::from_fn(|world| signs[world] * origin[world]),
    };
    let strides = [1, columns as isize, (rows * columns) as isize];
    ([columns, rows, slices], strides, affine)
}

/// The stored grid seen along the model's axes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OrientedGrid {
    /// Voxels along H, W, D.
    pub(crate) shape: [usize; 3],
    /// Place of voxel (0, 0, 0) in the stored values.
    pub(crate) start: usize,
    /// Distance in the stored values of neighbours along H, W, D.
    pub(crate) strides: [isize; 3],
    /// Index to RAS millimetres, rounded to float32 as the reference does.
    pub(crate) affine: Affine,
    /// For each model axis, the axis of `[slice, row, column]` that it runs along, and whether it runs backwards.
    pub(crate) sources: [(usize, bool); 3],
}

impl OrientedGrid {
    pub(crate) fn new(geometry: &GridGeometry, code: OrientationCode) -> Self {
        let (shape, strides, affine) = stored_axes_in_ras(geometry);
        let world = closest_world_axes(&affine);
        let mut oriented = Self { shape, start: 0, strides, affine, sources: [(0, false); 3] };
        for (axis, wanted) in code.world_axes().into_iter().enumerate() {
            let (source, backwards) = (0..3)
                .find_map(|i| (world[i].0 == wanted).then_some((i, world[i].1)))
                .expect("every world axis is taken once");
            let n = shape[source];
            let mut column = affine.column(source);
            oriented.shape[axis] = n;
            oriented.strides[axis] = strides[source];
            // (i, j, k) is (column, row, slice).
            oriented.sources[axis] = (2 - source, backwards);
            if backwards {
                oriented.start += strides[source] as usize * (n - 1);
                oriented.strides[axis] = -strides[source];
                for (offset, step) in oriented.affine.offset.iter_mut().zip(&mut column) {
                    *offset += *step * (n - 1) as f64;
                    *step = -*step;
                }
            }
            for (row, step) in oriented.affine.linear.iter_mut().zip(column) {
                row[axis] = step;
            }
        }
        oriented.affine = oriented.affine.rounded();
        oriented
    }

    /// Place of a voxel in the stored values.
    pub(crate) fn place(&self, index: [usize; 3]) -> usize {
        let mut place = self.start as isize;
        for (i, stride) in index.into_iter().zip(self.strides) {
            place += i as isize * stride;
        }
        place as usize
    }

    /// Values along the model's axes, D fastest.
    #[cfg(test)]
    pub(crate) fn values(&self, volume: &dicom_types::Volume) -> Vec<f32> {
        let [h, w, d] = self.shape;
        let stored = volume.values();
        let mut values = Vec::with_capacity(h * w * d);
        for a in 0..h {
            for b in 0..w {
                values.extend((0..d).map(|c| stored[self.place([a, b, c])]));
            }
        }
        values
    }
}

/// For each array axis the world axis that it follows most closely, and whether it runs against it. An axis that is
/// taken is not given twice.
fn closest_world_axes(affine: &Affine) -> [(usize, bool); 3] {
    let norms = column_norms(&affine.linear);
    let mut directions = affine.linear;
    for row in &mut directions {
        for (value, norm) in row.iter_mut().zip(norms) {
            *value /= norm;
        }
    }
    let rotation = polar_factor(&directions);
    let mut taken = [false; 3];
    std::array::from_fn(|axis| {
        let mut best = 0;
        let mut best_size = -1.0;
        for world in 0..3 {
            let size = rotation[world][axis].abs();
            if !taken[world] && size > best_size {
                (best, best_size) = (world, size);
            }
        }
        taken[best] = true;
        (best, rotation[best][axis] < 0.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axial_series_has_columns_to_the_left_and_rows_to_the_back() {
        // Image Orientation (Patient) 1\0\0\0\1\0, slices upwards.
        let geometry = GridGeometry::new(
            [4, 3, 2],
            [-10.0, -20.0, 30.0],
            [[0.0, 0.0, 5.0], [0.0, 2.0, 0.0], [1.0, 0.0, 0.0]],
        )
        .unwrap();

        let grid = OrientedGrid::new(&geometry, OrientationCode::Ras);

        assert_eq!(grid.shape, [2, 3, 4]);
        assert_eq!(grid.sources, [(2, true), (1, true), (0, false)]);
        assert_eq!(grid.place([0, 0, 0]), 5);
        // The voxel furthest to the right and front, lowest: column 0, row 0, slice 0 lies at RAS (10, 20, 30).
        let corner = grid.affine.apply([1.0, 2.0, 0.0]);
        for (found, expected) in corner.into_iter().zip([10.0, 20.0, 30.0]) {
            assert!((found - expected).abs() < 1e-9, "{corner:?}");
        }
    }

    #[test]
    fn a_sagittal_series_read_as_asr_keeps_its_slices_as_the_last_axis() {
        // Columns run backwards (posterior), rows downwards, slices to the left.
        let geometry = GridGeometry::new(
            [5, 4, 3],
            [0.0; 3],
            [[4.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]],
        )
        .unwrap();

        let grid = OrientedGrid::new(&geometry, OrientationCode::Asr);

        assert_eq!(grid.shape, [3, 4, 5]);
        assert_eq!(grid.sources, [(2, true), (1, true), (0, true)]);
    }
}
