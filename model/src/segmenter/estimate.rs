//! What a volume will cost, before anything is begun.

use std::fmt;
use std::time::Duration;

use dicom_types::GridGeometry;

use crate::cost::Cost;
use crate::pack::Manifest;
use crate::preprocess::{OrientationCode, PreprocessError, resampled_shape};
use crate::sliding_window::{Mode, windows};

/// Estimate of the time and memory that a volume takes.
///
/// The volume is taken to be body up to its edges: cropping and skipped windows make it cheaper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// Windows.
    pub windows: usize,
    /// Multiply-adds of the network over all windows and targets.
    pub macs: u64,
    /// Time of the network at the speed that is known or assumed.
    pub duration: Duration,
    /// Bytes that are needed beside the sums of targets: parameters, one window's maps, the volume and its resampled
    /// copies, and the sum of weights.
    pub memory_bytes: u64,
    /// Bytes of sums if every target filled the volume. What does not fit in memory goes to the disk.
    pub sums_bytes: u64,
}

impl Estimate {
    /// Estimate for a grid and `targets` targets at `macs_per_second`.
    ///
    /// # Errors
    /// [`PreprocessError`] for a grid that cannot be resampled.
    pub fn new(
        manifest: &Manifest,
        geometry: &GridGeometry,
        orientation: OrientationCode,
        targets: usize,
        mode: Mode,
        macs_per_second: f64,
    ) -> Result<Self, PreprocessError> {
        let settings = &manifest.preprocessing;
        let shape = resampled_shape(geometry, orientation, settings)?;
        let voxels: u64 = shape.iter().map(|&extent| extent as u64).product();
        let windows = windows(shape, settings.window, mode).len();
        let cost = Cost::of(manifest);
        let targets = targets as u64;
        let per_window = cost.macs_per_window.saturating_add(targets * cost.macs_per_target);
        let macs = per_window.saturating_mul(windows as u64);
        let float = size_of::<f32>() as u64;
        // Parameters as they lie in the file, and transformed for the kernels, which makes those of fine levels larger.
        // The volume; resampled, cropped, and once more ordered where percentiles are taken; the sum of weights.
        let volumes = float * (geometry.voxels() as u64 + 4 * voxels);
        Ok(Self {
            windows,
            macs,
            duration: Duration::from_secs_f64(macs as f64 / macs_per_second),
            memory_bytes: 3 * cost.weight_bytes + cost.window_bytes + volumes,
            sums_bytes: float.saturating_mul(voxels).saturating_mul(targets),
        })
    }
}

impl fmt::Display for Estimate {
    /// `16 windows, 2.1 minutes, 5.9 GB`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = self.duration.as_secs_f64() / 60.0;
        let gigabytes = self.memory_bytes as f64 / 1e9;
        write!(f, "{} windows, {minutes:.1} minutes, {gigabytes:.1} GB", self.windows)
    }
}
