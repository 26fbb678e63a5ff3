//! What the training program is fed.

use dicom_types::{GridGeometry, Modality};

use super::random::Stream;
use super::{Acquisition, Contrast, Structures, Torso};
use crate::pack::Preprocessing;
use crate::preprocess::{Affine, OrientationCode, Prepared, PreprocessError, prepare};
use crate::sliding_window::{Mode, windows};

/// Stream of random numbers drawn from the seed of a window.
const CHOICE: u64 = 5;

/// One window of a random scan of a random torso, as the network sees it, with the truth.
#[derive(Debug, Clone)]
pub struct TrainingWindow {
    /// What was scanned.
    pub contrast: Contrast,
    /// Voxels of the scan inside the window, along H, W, D; the rest is padding.
    pub extent: [usize; 3],
    /// Normalised values of the whole window, D fastest.
    pub image: Vec<f32>,
    /// Where the truth was taken, in voxels from each voxel, 0 to 1 along H, W, D.
    pub offset: [f64; 3],
    /// Structures at every voxel plus `offset`, D fastest.
    pub structures: Vec<Structures>,
}

impl TrainingWindow {
    /// The window of `seed`, prepared by `settings` as the segmenter does it.
    ///
    /// The truth is taken between the voxels so that a loss can be taken where it counts, on interpolated
    /// probabilities, and not at the centres of coarse voxels alone.
    ///
    /// # Errors
    /// [`PreprocessError`] for settings that do not fit a torso.
    pub fn random(seed: u64, settings: &Preprocessing) -> Result<Self, PreprocessError> {
        let mut r = Stream::new(seed, CHOICE);
        let torso = Torso::random(seed);
        let (contrast, modality) =
            if r.chance(0.5) { (Contrast::Ct, Modality::Ct) } else { (Contrast::Mr, Modality::Mr) };
        let grid = Acquisition::random(seed).grid(&torso);
        let volume = torso.sample(&grid, contrast, seed);
        let prepared = prepare(&volume, modality, OrientationCode::Ras, settings)?;
        let to_oriented = prepared.from_oriented.inverse().ok_or(PreprocessError::Degenerate)?;
        let all = windows(prepared.shape, settings.window, Mode::Reference);
        let window = all[(r.uniform(0.0, all.len() as f32) as usize).min(all.len() - 1)];
        let extent = window.shape();
        let offset = [0; 3].map(|_| f64::from(r.uniform(0.0, 1.0)));
        let [height, width, depth] = settings.window;
        let mut image = Vec::with_capacity(height * width * depth);
        let mut structures = Vec::with_capacity(height * width * depth);
        for h in 0..height {
            for w in 0..width {
                for d in 0..depth {
                    let [x, y, z] = [window.start[0] + h, window.start[1] + w, window.start[2] + d];
                    let inside = h < extent[0] && w < extent[1] && d < extent[2];
                    let place = (x * prepared.shape[1] + y) * prepared.shape[2] + z;
                    image.push(if inside { prepared.values[place] } else { 0.0 });
                    let point = [x as f64 + offset[0], y as f64 + offset[1], z as f64 + offset[2]];
                    let position = position_mm(&prepared, &to_oriented, &grid, point);
                    structures.push(torso.structures_at(position));
                }
            }
        }
        Ok(Self { contrast, extent, image, offset, structures })
    }
}

/// Patient position of a fractional index `[H, W, D]` of the prepared values.
fn position_mm(
    prepared: &Prepared,
    to_oriented: &Affine,
    grid: &GridGeometry,
    index: [f64; 3],
) -> [f64; 3] {
    let oriented = to_oriented.apply(index);
    let mut stored = [0.0; 3];
    for (axis, (source, backwards)) in prepared.oriented.sources.into_iter().enumerate() {
        let last = (prepared.oriented.shape[axis] - 1) as f64;
        stored[source] = if backwards { last - oriented[axis] } else { oriented[axis] };
    }
    grid.position_mm(stored)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pack;
    use crate::phantom::{HELD_OUT_SEED, Structure};

    #[test]
    fn the_truth_lies_where_the_image_shows_it() {
        let pack = Pack::phantom();
        let settings = &pack.manifest().preprocessing;
        for seed in HELD_OUT_SEED..HELD_OUT_SEED + 4 {
            let window = TrainingWindow::random(seed, settings).unwrap();

            let mean = |structure: Structure, wanted: bool| {
                let [height, width, depth] = settings.window;
                let mut values = Vec::new();
                for (i, here) in window.structures.iter().enumerate() {
                    let voxel = [i / (width * depth), i / depth % width, i % depth];
                    let inside = (0..3).all(|axis| voxel[axis] < window.extent[axis]);
                    let in_body = here.contains(Structure::Body);
                    if inside && in_body && here.contains(structure) == wanted {
                        values.push(window.image[i]);
                    }
                }
                assert_eq!(window.structures.len(), height * width * depth);
                values.iter().sum::<f32>() / values.len() as f32
            };
            // Lungs are the darkest organ of any scan.
            let (lung, others) = (mean(Structure::Lung, true), mean(Structure::Lung, false));
            assert!(lung < others - 0.5, "seed {seed}: {lung} in the lungs, {others} elsewhere");
        }
    }
}
