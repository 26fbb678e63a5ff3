//! From stored samples to values.

use super::format::PixelFormat;
use super::rescale::Rescale;

/// How samples lie in memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct SampleLayout {
    /// 1, 2 or 4.
    pub(super) bytes: usize,
    pub(super) big_endian: bool,
    /// Bits above the value, to be ignored.
    pub(super) unused_above: u32,
    /// Bits below the value, to be ignored.
    pub(super) unused_below: u32,
    pub(super) is_signed: bool,
}

impl SampleLayout {
    /// Samples as the header describes them.
    pub(super) fn native(format: &PixelFormat, big_endian: bool) -> Self {
        Self {
            bytes: format.sample_bytes(),
            big_endian,
            unused_above: format.bits_allocated - 1 - format.high_bit,
            unused_below: format.high_bit + 1 - format.bits_stored,
            is_signed: format.is_signed,
        }
    }

    /// Little-endian samples of a decoder: the value in the lowest bits. The sign stands in the highest bit that both
    /// the header and the compressed image have.
    pub(super) fn decoded(format: &PixelFormat, bytes: usize, precision: u32) -> Self {
        let bits = 8 * bytes as u32;
        Self {
            bytes,
            big_endian: false,
            unused_above: bits.saturating_sub(format.bits_stored.min(precision)),
            unused_below: 0,
            is_signed: format.is_signed,
        }
    }
}

/// Converts as many samples as `values` holds; `raw` holds at least as many.
pub(super) fn convert(raw: &[u8], layout: SampleLayout, rescale: &Rescale, values: &mut [f32]) {
    let above = layout.unused_above;
    let unused = layout.unused_above + layout.unused_below;
    match (layout.bytes, layout.is_signed, layout.big_endian) {
        (1, false, _) => {
            map(raw, rescale, values, |[b]: [u8; 1]| i32::from((b << above) >> unused));
        }
        (1, true, _) => {
            map(raw, rescale, values, |[b]: [u8; 1]| i32::from(((b << above) as i8) >> unused));
        }
        (2, false, false) => {
            map(raw, rescale, values, |b| i32::from((u16::from_le_bytes(b) << above) >> unused));
        }
        (2, true, false) => {
            map(raw, rescale, values, |b| i32::from((i16::from_le_bytes(b) << above) >> unused));
        }
        (2, false, true) => {
            map(raw, rescale, values, |b| i32::from((u16::from_be_bytes(b) << above) >> unused));
        }
        (2, true, true) => {
            map(raw, rescale, values, |b| i32::from((i16::from_be_bytes(b) << above) >> unused));
        }
        (_, is_signed, big_endian) => wide(raw, rescale, values, |b| {
            let sample = if big_endian { u32::from_be_bytes(b) } else { u32::from_le_bytes(b) };
            let shifted = sample << above;
            if is_signed {
                i64::from((shifted as i32) >> unused)
            } else {
                i64::from(shifted >> unused)
            }
        }),
    }
}

/// Applies `rescale` to samples that a decoder gave as numbers.
pub(super) fn convert_numbers(
    numbers: impl Iterator<Item = i64>,
    rescale: &Rescale,
    values: &mut [f32],
) {
    for (value, number) in values.iter_mut().zip(numbers) {
        *value = apply(rescale, number);
    }
}

/// Offsets up to this are added in f32 without rounding to samples of 16 bits.
const EXACT_OFFSET: f64 = 8_388_608.0;

fn map<const N: usize>(
    raw: &[u8],
    rescale: &Rescale,
    values: &mut [f32],
    sample: impl Fn([u8; N]) -> i32,
) {
    let (samples, _) = raw.as_chunks::<N>();
    match *rescale {
        // The common case of CT, at the speed of memory: sums of integers below 2^24 are exact in f32.
        Rescale::Linear { slope: 1.0, intercept }
            if intercept.fract() == 0.0 && intercept.abs() <= EXACT_OFFSET =>
        {
            let offset = intercept as i32;
            for (value, bytes) in values.iter_mut().zip(samples) {
                *value = (sample(*bytes) + offset) as f32;
            }
        }
        Rescale::Linear { slope, intercept } => {
            for (value, bytes) in values.iter_mut().zip(samples) {
                *value = (f64::from(sample(*bytes)) * slope + intercept) as f32;
            }
        }
        Rescale::Table { .. } => {
            for (value, bytes) in values.iter_mut().zip(samples) {
                *value = apply(rescale, sample(*bytes).into());
            }
        }
    }
}

fn wide(raw: &[u8], rescale: &Rescale, values: &mut [f32], sample: impl Fn([u8; 4]) -> i64) {
    let (samples, _) = raw.as_chunks::<4>();
    convert_numbers(samples.iter().map(|bytes| sample(*bytes)), rescale, values);
}

fn apply(rescale: &Rescale, stored: i64) -> f32 {
    match rescale {
        Rescale::Linear { slope, intercept } => (stored as f64 * slope + intercept) as f32,
        Rescale::Table { first, values } => {
            let last = values.len().saturating_sub(1) as i64;
            let index = (stored - first).clamp(0, last) as usize;
            values.get(index).copied().unwrap_or_default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: Rescale = Rescale::IDENTITY;

    fn format(
        bits_allocated: u32,
        bits_stored: u32,
        high_bit: u32,
        is_signed: bool,
    ) -> PixelFormat {
        PixelFormat { rows: 1, columns: 2, bits_allocated, bits_stored, high_bit, is_signed }
    }

    fn native(raw: &[u8], format: PixelFormat, big_endian: bool) -> Vec<f32> {
        let mut values = vec![0.0; raw.len() / format.sample_bytes()];
        convert(raw, SampleLayout::native(&format, big_endian), &IDENTITY, &mut values);
        values
    }

    #[test]
    fn extends_the_sign_from_bits_stored() {
        let minus_one_in_12_bits = [0xFF, 0x0F, 0x00, 0x08];

        assert_eq!(native(&minus_one_in_12_bits, format(16, 12, 11, true), false), [-1.0, -2048.0]);
        assert_eq!(
            native(&minus_one_in_12_bits, format(16, 12, 11, false), false),
            [4095.0, 2048.0]
        );
        assert_eq!(native(&[0x7F, 0x40], format(8, 7, 6, true), false), [-1.0, -64.0]);
    }

    #[test]
    fn ignores_bits_outside_the_stored_ones() {
        let overlay_above = [0x01, 0xF0];
        let left_aligned = [0x1F, 0xFF];

        assert_eq!(native(&overlay_above, format(16, 12, 11, false), false), [1.0]);
        assert_eq!(native(&left_aligned, format(16, 12, 15, false), false), [4081.0]);
        assert_eq!(native(&left_aligned, format(16, 12, 15, true), false), [-15.0]);
    }

    #[test]
    fn reads_big_endian_and_wide_samples() {
        assert_eq!(native(&[0x01, 0x02], format(16, 16, 15, false), true), [258.0]);
        assert_eq!(native(&[0xFF, 0xFE], format(16, 16, 15, true), true), [-2.0]);
        assert_eq!(native(&[0xFE, 0xFF, 0xFF, 0xFF], format(32, 32, 31, true), false), [-2.0]);
        assert_eq!(
            native(&[0xFF, 0xFF, 0xFF, 0xFF], format(32, 32, 31, false), true),
            [4_294_967_295.0]
        );
    }

    #[test]
    fn rescales_with_slope_and_offset() {
        let layout = SampleLayout::native(&format(16, 16, 15, true), false);
        let mut values = vec![0.0];

        let rescale = Rescale::Linear { slope: 1.0, intercept: -1024.0 };
        convert(&[0x00, 0x80], layout, &rescale, &mut values);
        assert_eq!(values, vec![-33792.0]);
        convert(&[3, 0], layout, &Rescale::Linear { slope: 0.5, intercept: 0.25 }, &mut values);
        assert_eq!(values, vec![1.75]);
        let table = Rescale::Table { first: 2, values: [10.0, 20.0, 30.0].into() };
        for (stored, expected) in [(0, 10.0), (3, 20.0), (9, 30.0)] {
            convert(&[stored, 0], layout, &table, &mut values);
            assert_eq!(values, vec![expected]);
        }
    }
}
