//! Numbers of one mask.

use dicom_types::{Mask, Volume};

/// What was measured of a target.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TargetMeasurement {
    /// Voxels times the volume of a voxel, in millilitres.
    pub volume_ml: f64,
    /// Mean of the values inside, HU for CT; 0 where there is no voxel.
    pub mean: f64,
    /// Standard deviation of the values inside, over their number; 0 where there is no voxel.
    pub standard_deviation: f64,
}

/// Measures the voxels of `mask`, which is on the grid of `volume`.
pub fn measure(volume: &Volume, mask: &Mask) -> TargetMeasurement {
    let [_, rows, columns] = volume.geometry().shape();
    let values = volume.values();
    let at = |[s, r, c]: [usize; 3]| f64::from(values[(s * rows + r) * columns + c]);
    let count = mask.count();
    let mut sum = 0.0;
    mask.for_each(|voxel| sum += at(voxel));
    let mean = sum / count.max(1) as f64;
    // The second pass keeps the digits that a sum of squares would lose.
    let mut squares = 0.0;
    mask.for_each(|voxel| squares += (at(voxel) - mean).powi(2));
    TargetMeasurement {
        volume_ml: count as f64 * volume.geometry().voxel_volume_mm3() / 1000.0,
        mean,
        standard_deviation: (squares / count.max(1) as f64).sqrt(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dicom_types::GridGeometry;

    #[test]
    fn measures_volume_mean_and_deviation() {
        let steps = [[0.0, 0.0, 5.0], [0.0, 2.0, 0.0], [1.0, 0.0, 0.0]];
        let geometry = GridGeometry::new([2, 2, 2], [0.0; 3], steps).unwrap();
        let volume = Volume::new(geometry, (0..8).map(|v| v as f32).collect()).unwrap();
        let mask = Mask::from_fn([2, 2, 2], |[s, _, c]| s == 1 && c == 1);

        let measured = measure(&volume, &mask);

        // Values 5 and 7 in two voxels of 10 cubic millimetres.
        let expected = TargetMeasurement { volume_ml: 0.02, mean: 6.0, standard_deviation: 1.0 };
        assert_eq!(measured, expected);
    }

    #[test]
    fn a_mask_without_voxels_measures_nothing() {
        let steps = [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]];
        let geometry = GridGeometry::new([1, 1, 2], [0.0; 3], steps).unwrap();
        let volume = Volume::new(geometry, vec![3.0; 2]).unwrap();

        let measured = measure(&volume, &Mask::empty([1, 1, 2]));

        let nothing = TargetMeasurement { volume_ml: 0.0, mean: 0.0, standard_deviation: 0.0 };
        assert_eq!(measured, nothing);
    }
}
