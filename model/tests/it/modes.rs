//! The fast mode against the reference, on torsos that the built-in pack was not trained on.

use dicom_types::{Mask, Modality};
use prosector_model::phantom::{Acquisition, Contrast, HELD_OUT_SEED, Plane, Structure, Torso};
use prosector_model::{
    Control, Mode, OrientationCode, Pack, SegmentRequest, Segmenter, SegmenterOptions,
};

/// Lowest mean Dice that a structure may have between the modes.
const DICE_FLOOR: f64 = 0.95;

/// The built-in pack with windows of half the size, so that a torso takes many.
fn many_windows() -> Result<Pack, Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let built_in = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("phantom/pack");
    for entry in std::fs::read_dir(built_in)? {
        let entry = entry?;
        std::fs::copy(entry.path(), folder.path().join(entry.file_name()))?;
    }
    let manifest = folder.path().join("pack.toml");
    let text = std::fs::read_to_string(&manifest)?;
    let smaller = text.replace("window = [64, 64, 64]", "window = [32, 32, 32]");
    assert_ne!(text, smaller);
    std::fs::write(&manifest, smaller)?;
    Ok(Pack::open(folder.path())?)
}

#[test]
fn fast_needs_fewer_windows_and_finds_the_same_organs() {
    let segmenter = Segmenter::new(&many_windows().unwrap(), SegmenterOptions::default()).unwrap();
    let prompts = Structure::ALL.map(Structure::prompt);
    let mut windows = [0, 0];
    let mut dice = [0.0; Structure::ALL.len()];
    let torsos = [HELD_OUT_SEED, HELD_OUT_SEED + 1];
    for seed in torsos {
        let torso = Torso::random(seed);
        let grid = Acquisition::new(Plane::Axial).with_spacing_mm([5.0, 3.0, 3.0]).grid(&torso);
        let volume = torso.sample(&grid, Contrast::Ct, seed);
        let segment = |mode| {
            let request = SegmentRequest {
                volume: &volume,
                modality: Modality::Ct,
                orientation: OrientationCode::Ras,
                prompts: &prompts,
                mode,
            };
            segmenter.segment(&request, &Control::default()).unwrap()
        };

        let [reference, fast] = Mode::ALL.map(segment);

        windows[0] += reference.windows;
        windows[1] += fast.windows;
        for (sum, (one, other)) in dice.iter_mut().zip(reference.masks.iter().zip(&fast.masks)) {
            let both: u64 = [one, other].into_iter().map(Mask::count).sum();
            *sum += 2.0 * one.count_common(other) as f64 / both as f64;
        }
    }

    assert!(windows[1] * 10 <= windows[0] * 7, "{windows:?}");
    for (structure, sum) in Structure::ALL.into_iter().zip(dice) {
        let mean = sum / torsos.len() as f64;
        assert!(mean >= DICE_FLOOR, "{structure:?}: mean Dice {mean:.3}");
    }
}
