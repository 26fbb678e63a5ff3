//! Measures the built-in pack, or the pack in a folder, on torsos that it was not trained on.
//!
//! `phantom_accuracy TORSOS [PACK [MODE]]` prints, for CT and MR in axial, coronal, sagittal and oblique scans, the mean
//! Dice of every structure on the stored grid, and its lowest. With a mode it prints the agreement of that mode with the
//! reference in place of the truth, windows and time of both.

use std::path::Path;
use std::time::Duration;

use dicom_types::{Mask, Modality};
use prosector_model::phantom::{Acquisition, Contrast, HELD_OUT_SEED, Plane, Structure, Torso};
use prosector_model::{
    Control, Mode, OrientationCode, Pack, SegmentError, SegmentRequest, Segmenter, SegmenterOptions,
};

#[expect(clippy::print_stdout, reason = "the table is what the program is for")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let torsos: u64 =
        arguments.first().ok_or("usage: phantom_accuracy TORSOS [PACK [MODE]]")?.parse()?;
    let pack = match arguments.get(1) {
        Some(folder) => Pack::open(Path::new(folder))?,
        None => Pack::phantom(),
    };
    let mode: Option<Mode> = arguments.get(2).map(|mode| mode.parse()).transpose()?;
    let segmenter = Segmenter::new(&pack, SegmenterOptions::default())?;
    let prompts = Structure::ALL.map(Structure::prompt);
    println!("mean (lowest) | {}", prompts.join(" | "));
    let axial = Acquisition::new(Plane::Axial);
    let scans = [
        ("axial", axial.clone()),
        ("coronal", Acquisition::new(Plane::Coronal)),
        ("sagittal", Acquisition::new(Plane::Sagittal)),
        ("oblique", axial.with_tilt([1.0, -0.6, 0.4], 22.0)),
    ];
    for (modality, contrast) in [(Modality::Ct, Contrast::Ct), (Modality::Mr, Contrast::Mr)] {
        for (name, acquisition) in &scans {
            let mut scores: Vec<Vec<f64>> = vec![Vec::new(); Structure::ALL.len()];
            let mut cost = [(0, Duration::ZERO); 2];
            for seed in HELD_OUT_SEED..HELD_OUT_SEED + torsos {
                let torso = Torso::random(seed);
                let grid = acquisition.grid(&torso);
                let volume = torso.sample(&grid, contrast, seed);
                let orientation = OrientationCode::default();
                let segment = |mode, (windows, time): &mut (usize, Duration)| {
                    let prompts = &prompts;
                    let request =
                        SegmentRequest { volume: &volume, modality, orientation, prompts, mode };
                    let found = segmenter.segment(&request, &Control::default())?;
                    *windows += found.windows;
                    *time += found.times.encode + found.times.decode;
                    Ok::<_, SegmentError>(found.masks)
                };
                let reference = segment(Mode::Reference, &mut cost[0])?;
                let (masks, truths) = if let Some(mode) = mode {
                    (segment(mode, &mut cost[1])?, reference)
                } else {
                    let truth = |structure| torso.truth(&grid, structure);
                    (reference, Structure::ALL.into_iter().map(truth).collect())
                };
                for ((mask, truth), scores) in masks.iter().zip(&truths).zip(&mut scores) {
                    scores.push(dice(mask, truth));
                }
            }
            if let Some(mode) = mode {
                let [(windows, time), (other_windows, other_time)] = cost;
                println!(
                    "reference {windows} windows, {time:.2?}; {mode} {other_windows}, {other_time:.2?}"
                );
            }
            let cells: Vec<String> = scores
                .iter()
                .map(|scores| {
                    let mean = scores.iter().sum::<f64>() / scores.len() as f64;
                    let lowest = scores.iter().copied().fold(1.0, f64::min);
                    format!("{mean:.3} ({lowest:.3})")
                })
                .collect();
            println!("{contrast:?} {name} | {}", cells.join(" | "));
        }
    }
    Ok(())
}

fn dice(one: &Mask, other: &Mask) -> f64 {
    2.0 * one.count_common(other) as f64 / (one.count() + other.count()) as f64
}
