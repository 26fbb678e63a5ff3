//! A scalar volume on a regular grid.

use crate::GridGeometry;

/// Why values and grid do not make a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VolumeError {
    /// The number of values is not that of the grid.
    #[error("{found} values for a grid of {expected} voxels")]
    Length {
        /// Voxels of the grid.
        expected: usize,
        /// Values given.
        found: usize,
    },
}

/// Voxel values after the modality transformation (HU for CT), `[slice, row, column]`, column fastest.
#[derive(Debug, Clone, PartialEq)]
pub struct Volume {
    geometry: GridGeometry,
    values: Vec<f32>,
}

impl Volume {
    /// Joins values with their grid.
    ///
    /// # Errors
    /// [`VolumeError::Length`] when the numbers of values and voxels differ.
    pub fn new(geometry: GridGeometry, values: Vec<f32>) -> Result<Self, VolumeError> {
        if values.len() != geometry.voxels() {
            return Err(VolumeError::Length { expected: geometry.voxels(), found: values.len() });
        }
        Ok(Self { geometry, values })
    }

    /// Where the voxels lie.
    pub fn geometry(&self) -> &GridGeometry {
        &self.geometry
    }

    /// The values, `[slice, row, column]`, column fastest.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Gives the values back without a copy.
    pub fn into_values(self) -> Vec<f32> {
        self.values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_a_wrong_number_of_values() {
        let steps = [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]];
        let geometry = GridGeometry::new([2, 2, 2], [0.0; 3], steps).unwrap();

        assert_eq!(
            Volume::new(geometry, vec![0.0; 7]),
            Err(VolumeError::Length { expected: 8, found: 7 })
        );
    }
}
