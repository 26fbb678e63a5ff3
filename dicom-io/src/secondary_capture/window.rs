//! Which values are black and which are white.

use dicom_types::Modality;

/// Soft tissue window of CT: centre 40 HU, width 400 HU.
const SOFT_TISSUE_HU: [f32; 2] = [-160.0, 240.0];
/// Share of the pixels that may be black or white without a difference, where values have no unit.
const TAIL: f64 = 0.01;

/// A linear ramp from values to grey.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Window {
    low: f32,
    high: f32,
    /// Whether high values are dark, as positron emission is read.
    inverted: bool,
}

impl Window {
    /// CT gets the soft tissue window; what has no fixed unit gets nearly all of the values that are shown.
    pub(super) fn choose(modality: Modality, shown: impl Iterator<Item = f32>) -> Self {
        let mut values: Vec<f32> = shown.filter(|value| value.is_finite()).collect();
        let [low, high] = match modality {
            Modality::Ct => SOFT_TISSUE_HU,
            Modality::Mr | Modality::Pt if values.is_empty() => [0.0, 1.0],
            Modality::Mr => [quantile(&mut values, TAIL), quantile(&mut values, 1.0 - TAIL)],
            Modality::Pt => [0.0, quantile(&mut values, 1.0 - TAIL)],
        };
        let high = if high > low { high } else { low + 1.0 };
        Self { low, high, inverted: modality == Modality::Pt }
    }

    /// Grey of a value, 0 to 255.
    pub(super) fn gray(&self, value: f32) -> f64 {
        let share = f64::from((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        255.0 * if self.inverted { 1.0 - share } else { share }
    }
}

fn quantile(values: &mut [f32], share: f64) -> f32 {
    let place = ((values.len() - 1) as f64 * share).round() as usize;
    *values.select_nth_unstable_by(place, f32::total_cmp).1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gray(window: Window, value: f32) -> u8 {
        window.gray(value).round() as u8
    }

    #[test]
    fn ct_has_the_soft_tissue_window_whatever_is_shown() {
        let window = Window::choose(Modality::Ct, [0.0, 3000.0].into_iter());

        assert_eq!(gray(window, -1000.0), 0);
        assert_eq!(gray(window, 40.0), 128);
        assert_eq!(gray(window, 1000.0), 255);
    }

    #[test]
    fn a_constant_picture_is_no_division_by_zero() {
        let window = Window::choose(Modality::Mr, [7.0; 5].into_iter());

        assert_eq!(gray(window, 7.0), 0);
    }

    #[test]
    fn positron_emission_is_dark_on_white() {
        let window = Window::choose(Modality::Pt, (0..=1000).map(|v| v as f32));

        assert_eq!(gray(window, 0.0), 255);
        assert_eq!(gray(window, 1000.0), 0);
    }
}
