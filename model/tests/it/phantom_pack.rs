//! The built-in pack on torsos that it was not trained on.

use dicom_types::{Mask, Modality};
use prosector_model::phantom::{Acquisition, Contrast, HELD_OUT_SEED, Plane, Structure, Torso};
use prosector_model::{
    Control, Mode, OrientationCode, Pack, SegmentRequest, Segmenter, SegmenterOptions,
};

const TORSOS: [u64; 2] = [HELD_OUT_SEED, HELD_OUT_SEED + 1];

fn scans() -> [Acquisition; 4] {
    let scan = |plane| Acquisition::new(plane).with_spacing_mm([5.0, 3.0, 3.0]);
    [
        scan(Plane::Axial),
        scan(Plane::Coronal),
        scan(Plane::Sagittal),
        scan(Plane::Axial).with_tilt([1.0, -0.6, 0.4], 22.0),
    ]
}

/// Lowest mean Dice over all scans that the pack may have for any structure.
const DICE_FLOOR: f64 = 0.90;

fn dice(one: &Mask, other: &Mask) -> f64 {
    2.0 * one.count_common(other) as f64 / (one.count() + other.count()) as f64
}

#[test]
fn finds_the_organs_of_unseen_torsos_in_every_plane_and_never_swaps_left_and_right() {
    let segmenter = Segmenter::new(&Pack::phantom(), SegmenterOptions::default()).unwrap();
    let prompts = Structure::ALL.map(Structure::prompt);
    let mut sums = [0.0; Structure::ALL.len()];
    let mut scores = 0;

    for seed in TORSOS {
        let torso = Torso::random(seed);
        for scan in scans() {
            let grid = scan.grid(&torso);
            for (modality, contrast) in [(Modality::Ct, Contrast::Ct), (Modality::Mr, Contrast::Mr)]
            {
                let volume = torso.sample(&grid, contrast, seed);
                let request = SegmentRequest {
                    volume: &volume,
                    modality,
                    orientation: OrientationCode::Ras,
                    prompts: &prompts,
                    mode: Mode::default(),
                };
                let found = segmenter.segment(&request, &Control::default()).unwrap();

                scores += 1;
                for (i, structure) in Structure::ALL.into_iter().enumerate() {
                    let truth = torso.truth(&grid, structure);
                    sums[i] += dice(&found.masks[i], &truth);
                    let Some(other_side) = structure.mirrored() else { continue };
                    let here = found.masks[i].count_common(&truth);
                    let there = found.masks[i].count_common(&torso.truth(&grid, other_side));
                    assert!(
                        here > 10 * there,
                        "{contrast:?} {scan:?}: {there} voxels of {structure:?} lie on the other side, {here} on its own"
                    );
                }
            }
        }
    }

    for (structure, sum) in Structure::ALL.into_iter().zip(sums) {
        let mean = sum / f64::from(scores);
        assert!(mean >= DICE_FLOOR, "{structure:?}: mean Dice {mean:.3}");
    }
}

#[test]
fn understands_other_words_for_the_same_organ() {
    let torso = Torso::random(HELD_OUT_SEED);
    let grid = Acquisition::new(Plane::Axial).with_spacing_mm([6.0, 4.0, 4.0]).grid(&torso);
    let volume = torso.sample(&grid, Contrast::Ct, 1);
    let prompts = ["left kidney", "the kidney left", "liver", "The Whole Liver"];
    let segmenter = Segmenter::new(&Pack::phantom(), SegmenterOptions::default()).unwrap();

    let request = SegmentRequest {
        volume: &volume,
        modality: Modality::Ct,
        orientation: OrientationCode::Ras,
        prompts: &prompts,
        mode: Mode::default(),
    };
    let found = segmenter.segment(&request, &Control::default()).unwrap();

    for pair in found.masks.chunks_exact(2) {
        assert!(pair[0].count() > 0);
        assert!(dice(&pair[0], &pair[1]) > 0.9);
    }
}
