//! How one scan shows each tissue.

use super::random::{Stream, normal_pair};
use super::shape::dot;
use super::tissue::Tissue;

/// Streams of random numbers drawn from the seed of an acquisition.
const INTENSITY: u64 = 2;
const NOISE: u64 = 3;

/// Physics of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Contrast {
    /// CT in Hounsfield units, in an arterial, portal or late phase after contrast medium.
    Ct,
    /// MR with T1-like or T2-like weighting, with or without fat suppression, in arbitrary units.
    Mr,
}

/// The intensities, bias field and noise of one scan.
#[derive(Debug, Clone)]
pub(super) struct Appearance {
    contrast: Contrast,
    signals: [f32; Tissue::COUNT],
    /// Wave vector and phase of the texture and of the bias field.
    texture: [([f32; 3], f32); 2],
    texture_amplitude: f32,
    bias: ([f32; 3], f32),
    bias_amplitude: f32,
    noise: f32,
    noise_seed: u64,
}

impl Appearance {
    pub(super) fn random(contrast: Contrast, seed: u64) -> Self {
        let mut r = Stream::new(seed, INTENSITY);
        let mut signals = [0.0; Tissue::COUNT];
        for (tissue, signal) in match contrast {
            Contrast::Ct => random_ct(&mut r),
            Contrast::Mr => random_mr(&mut r),
        } {
            signals[tissue as usize] = signal;
        }
        let (texture_amplitude, bias_amplitude, noise) = match contrast {
            Contrast::Ct => (r.uniform(2.0, 8.0), 0.0, r.uniform(4.0, 18.0)),
            Contrast::Mr => {
                let scale = r.uniform(150.0, 1500.0);
                signals = signals.map(|signal| signal * scale);
                (r.uniform(0.02, 0.05), r.uniform(0.0, 0.2), scale * r.uniform(0.008, 0.025))
            }
        };
        let wave = |r: &mut Stream, low: f32, high: f32| {
            let length_mm = r.uniform(low, high);
            let along = r.direction().map(|v| v * std::f32::consts::TAU / length_mm);
            (along, r.uniform(0.0, std::f32::consts::TAU))
        };
        Self {
            contrast,
            signals,
            texture: [wave(&mut r, 18.0, 45.0), wave(&mut r, 18.0, 45.0)],
            texture_amplitude,
            bias: wave(&mut r, 500.0, 1000.0),
            bias_amplitude,
            noise,
            noise_seed: Stream::new(seed, NOISE).seed(),
        }
    }

    pub(super) fn signal(&self, tissue: Tissue) -> f32 {
        self.signals[tissue as usize]
    }

    /// What is stored for a voxel whose mean signal is `signal`, `offset_mm` away from the torso's centre.
    pub(super) fn measured(&self, signal: f32, offset_mm: [f32; 3], voxel: u64) -> f32 {
        let [first, second] =
            self.texture.map(|(wave, phase)| (dot(wave, offset_mm) + phase).sin());
        let texture = self.texture_amplitude * first * second;
        let [real, imaginary] = normal_pair(self.noise_seed, voxel).map(|v| v * self.noise);
        let value = match self.contrast {
            Contrast::Ct => {
                let filled = ((signal + 1000.0) / 1000.0).clamp(0.0, 1.0);
                (signal + filled * texture + real).max(-1024.0)
            }
            Contrast::Mr => {
                let bias =
                    1.0 + self.bias_amplitude * (dot(self.bias.0, offset_mm) + self.bias.1).sin();
                let shown = signal * bias * (1.0 + texture);
                // Magnitude of a complex signal: the noise of the background is positive.
                ((shown + real).powi(2) + imaginary * imaginary).sqrt()
            }
        };
        value.round()
    }
}

/// Signals in HU.
fn random_ct(r: &mut Stream) -> Vec<(Tissue, f32)> {
    // Arterial, portal, late: mean enhancement of each organ.
    const PHASES: [[f32; 6]; 3] = [
        // aorta, vena cava, kidney, liver, spleen, heart
        [280.0, 90.0, 140.0, 75.0, 115.0, 200.0],
        [170.0, 145.0, 195.0, 110.0, 130.0, 150.0],
        [135.0, 115.0, 165.0, 95.0, 112.0, 120.0],
    ];
    let phase = PHASES[(r.uniform(0.0, 3.0) as usize).min(2)];
    let [aorta, cava, kidney, liver, spleen, heart] =
        phase.map(|hu| hu * r.uniform(0.92, 1.08) + r.uniform(-3.0, 3.0));
    let bone = r.uniform(180.0, 420.0);
    let fat = r.uniform(-115.0, -85.0);
    let lung = r.uniform(-880.0, -740.0);
    let stomach = if r.chance(0.3) { r.uniform(100.0, 300.0) } else { r.uniform(-5.0, 40.0) };
    vec![
        (Tissue::Air, -1000.0),
        (Tissue::Table, r.uniform(-400.0, 150.0)),
        (Tissue::Skin, r.uniform(20.0, 60.0)),
        (Tissue::Fat, fat),
        (Tissue::Muscle, r.uniform(40.0, 65.0)),
        (Tissue::Rib, bone * r.uniform(0.8, 1.4)),
        (Tissue::Canal, r.uniform(10.0, 35.0)),
        (Tissue::Bowel, r.uniform(0.0, 35.0)),
        (Tissue::Heart, heart),
        (Tissue::Stomach, stomach),
        (Tissue::VenaCava, cava),
        (Tissue::LeftLung, lung),
        (Tissue::RightLung, lung + r.uniform(-25.0, 25.0)),
        (Tissue::Liver, liver),
        (Tissue::Spleen, spleen),
        (Tissue::LeftKidney, kidney),
        (Tissue::RightKidney, kidney + r.uniform(-6.0, 6.0)),
        (Tissue::Aorta, aorta),
        (Tissue::Vertebra, bone),
    ]
}

/// Signals relative to the brightest tissue.
fn random_mr(r: &mut Stream) -> Vec<(Tissue, f32)> {
    let t2_like = r.chance(0.5);
    let fat_suppressed = r.chance(0.35);
    // Fat is suppressed in T1-like scans to show a contrast medium.
    let bright_blood = !t2_like && (r.chance(0.5) || fat_suppressed);
    let blood = if bright_blood { 1.0 } else { 0.12 };
    let fat = match (fat_suppressed, t2_like) {
        (true, false) => 0.15,
        (true, true) => 0.32,
        (false, true) => 0.75,
        (false, false) => 0.9,
    };
    let [muscle, liver, spleen, kidney, bowel, fluid, marrow, canal] = if t2_like {
        [0.2, 0.34, 0.6, 0.76, 0.46, 1.0, 0.4, 0.95]
    } else {
        [0.34, 0.64, 0.45, 0.53, 0.27, 0.18, 0.5, 0.25]
    };
    // A suppressed marrow loses the share of its fat.
    let marrow = if fat_suppressed { 0.7 * marrow } else { marrow };
    let mut vary = |signal: f32| signal * r.uniform(0.93, 1.07);
    let kidney = vary(kidney);
    let blood_left = vary(blood);
    vec![
        (Tissue::Air, 0.0),
        (Tissue::Table, 0.0),
        (Tissue::Skin, vary(0.4)),
        (Tissue::Fat, vary(fat)),
        (Tissue::Muscle, vary(muscle)),
        (Tissue::Rib, vary(0.2)),
        (Tissue::Canal, vary(canal)),
        (Tissue::Bowel, vary(bowel)),
        (Tissue::Heart, vary(0.5 * (blood + muscle) + 0.1)),
        (Tissue::Stomach, vary(fluid)),
        (Tissue::VenaCava, vary(blood + 0.08)),
        (Tissue::LeftLung, vary(0.05)),
        (Tissue::RightLung, vary(0.05)),
        (Tissue::Liver, vary(liver)),
        (Tissue::Spleen, vary(spleen)),
        (Tissue::LeftKidney, kidney),
        (Tissue::RightKidney, kidney),
        (Tissue::Aorta, blood_left),
        (Tissue::Vertebra, vary(marrow)),
    ]
}
