//! From a volume in patient space to the network's input: orient, resample, crop, normalise.
//!
//! Axes of the result are `[H, W, D]`, D fastest. What each axis means in the patient follows from the orientation code.

mod matrix;
mod normalise;
mod orientation;
mod resample;

#[cfg(test)]
mod tests;

use dicom_types::{GridGeometry, Modality, Volume};

pub(crate) use matrix::Affine;
use normalise::{Clip, Normalisation, crop, foreground_box, normalise};
pub(crate) use orientation::OrientedGrid;
pub use orientation::{OrientationCode, ParseOrientationError};
use resample::{ResampledGrid, resample};

use crate::pack::Preprocessing;

/// Most voxels of a resampled volume: 16 GiB of values.
const MAX_VOXELS: u64 = 1 << 32;

/// Why a volume cannot be prepared.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PreprocessError {
    /// A voxel value that is not a finite number.
    #[error("volume has voxel values that are not finite numbers")]
    NotFinite,
    /// The axes of the grid fall together in float32.
    #[error("axes of the grid do not span a volume")]
    Degenerate,
    /// The resampled volume would not fit.
    #[error("resampling to {spacing_mm:?} mm would make {shape:?} voxels")]
    TooLarge {
        /// Spacing of the pack.
        spacing_mm: [f64; 3],
        /// Voxels along H, W, D.
        shape: [usize; 3],
    },
    /// Nothing to crop to.
    #[error("no voxel above zero")]
    NoForeground,
    /// Nothing to divide by.
    #[error("all voxel values are the same after clipping")]
    Constant,
}

/// A volume ready for the network, and the way back.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Prepared {
    /// Normalised values `[H, W, D]`, D fastest.
    pub(crate) values: Vec<f32>,
    /// Voxels along H, W, D.
    pub(crate) shape: [usize; 3],
    /// The stored grid along the model's axes.
    pub(crate) oriented: OrientedGrid,
    /// Index of the oriented grid to index of `values`.
    pub(crate) from_oriented: Affine,
    /// What was done to the intensities.
    pub(crate) normalisation: Normalisation,
}

/// Prepares `volume` as the reference does, in parallel.
///
/// # Errors
/// [`PreprocessError`] for a volume that has no foreground or contrast, or becomes too large.
// SAT data/inference_dataset.py, Inference_Dataset.__getitem__.
pub(crate) fn prepare(
    volume: &Volume,
    modality: Modality,
    code: OrientationCode,
    settings: &Preprocessing,
) -> Result<Prepared, PreprocessError> {
    use rayon::prelude::*;
    let is_finite = |part: &[f32]| part.iter().all(|value| value.is_finite());
    if !volume.values().par_chunks(1 << 16).all(is_finite) {
        return Err(PreprocessError::NotFinite);
    }
    let (oriented, grid) = grids(volume.geometry(), code, settings)?;
    let spaced = resample(volume.values(), &oriented, &grid);
    let (start, end) = foreground_box(&spaced, grid.shape).ok_or(PreprocessError::NoForeground)?;
    let mut values = crop(spaced, grid.shape, start, end);
    let clip = match modality {
        Modality::Ct => Clip::Range(settings.ct_clip_hu),
        Modality::Mr | Modality::Pt => Clip::Percentiles(settings.other_clip_percentiles),
    };
    let normalisation = normalise(&mut values, clip).ok_or(PreprocessError::Constant)?;
    let to_grid = match grid.to_oriented {
        Some(map) => map.inverse().ok_or(PreprocessError::Degenerate)?,
        None => Affine::IDENTITY,
    };
    let offset = std::array::from_fn(|k| to_grid.offset[k] - start[k] as f64);
    Ok(Prepared {
        values,
        shape: std::array::from_fn(|k| end[k] - start[k]),
        oriented,
        from_oriented: Affine { linear: to_grid.linear, offset },
        normalisation,
    })
}

/// The stored grid along the model's axes, and the one that it is resampled onto.
fn grids(
    geometry: &GridGeometry,
    code: OrientationCode,
    settings: &Preprocessing,
) -> Result<(OrientedGrid, ResampledGrid), PreprocessError> {
    let oriented = OrientedGrid::new(geometry, code);
    let grid =
        ResampledGrid::new(&oriented, settings.spacing_mm).ok_or(PreprocessError::Degenerate)?;
    let voxels = grid.shape.iter().try_fold(1u64, |n, &extent| n.checked_mul(extent as u64));
    if voxels.is_none_or(|n| n > MAX_VOXELS) {
        let spacing_mm = settings.spacing_mm;
        return Err(PreprocessError::TooLarge { spacing_mm, shape: grid.shape });
    }
    Ok((oriented, grid))
}

/// Voxels along H, W, D of a grid once it is resampled, before cropping.
///
/// # Errors
/// [`PreprocessError`] for a grid that cannot be resampled.
pub(crate) fn resampled_shape(
    geometry: &GridGeometry,
    code: OrientationCode,
    settings: &Preprocessing,
) -> Result<[usize; 3], PreprocessError> {
    Ok(grids(geometry, code, settings)?.1.shape)
}
