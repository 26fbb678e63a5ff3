//! The sagittal plane that parts left from right.

use dicom_types::{Modality, Volume};

/// Width of the body from which on both of its sides are in the volume, millimetres.
const BOTH_SIDES_MM: f64 = 200.0;
/// Voxels that are looked at on each axis, at most.
const SAMPLES: usize = 48;
/// What is less dense than this is air or lung, HU.
const AIR_HU: f32 = -300.0;
/// Of the brightest voxels, what is darker than this is background.
const BACKGROUND: f32 = 0.1;

/// Patient x of the middle of the body, millimetres, from where the volume is not air; nothing where only a part of the
/// body's width is in the volume.
pub(super) fn of_body(volume: &Volume, modality: Modality) -> Option<f64> {
    let geometry = volume.geometry();
    let [_, rows, columns] = geometry.shape();
    let steps = geometry.shape().map(|length| length.div_ceil(SAMPLES));
    let picks = |axis: usize| (0..geometry.shape()[axis]).step_by(steps[axis]);
    let mut samples = Vec::new();
    for slice in picks(0) {
        for row in picks(1) {
            for column in picks(2) {
                let value = volume.values()[(slice * rows + row) * columns + column];
                let x = geometry.position_mm([slice, row, column].map(|index| index as f64))[0];
                samples.push((x, value));
            }
        }
    }
    let threshold = match modality {
        Modality::Ct => AIR_HU,
        Modality::Mr | Modality::Pt => {
            BACKGROUND * samples.iter().map(|(_, value)| *value).fold(0.0, f32::max)
        }
    };
    let mut inside: Vec<f64> =
        samples.iter().filter(|(_, value)| *value > threshold).map(|(x, _)| *x).collect();
    inside.sort_by(f64::total_cmp);
    // A table or a tube beside the body is less than a fiftieth of it.
    let at = |part: f64| inside.get((part * inside.len() as f64) as usize).copied();
    let (low, high) = (at(0.02)?, at(0.98)?);
    (high - low >= BOTH_SIDES_MM).then_some(f64::midpoint(low, high))
}
