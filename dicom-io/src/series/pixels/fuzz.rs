//! Frames made of a fuzzer's bytes.

use super::format::PixelFormat;
use super::rescale::Rescale;
use super::samples::{SampleLayout, convert};
use super::{jpeg, jpeg_2000, jpeg_lossless, jpeg_ls, rle};

/// Decodes `bytes` as a frame: the first byte says by which codec, then come rows, columns and how samples are stored.
///
/// A codec of others may panic, which costs the frame an error wherever frames are decoded; here it counts.
pub(crate) fn fuzz_pixel_data(bytes: &[u8]) {
    let Some((&[codec, rows, columns, depth], data)) = bytes.split_first_chunk() else { return };
    let bits_allocated = if depth & 1 == 0 { 16 } else { 8 };
    let bits_stored = u32::from(depth >> 2) % bits_allocated + 1;
    let format = PixelFormat {
        rows: u16::from(rows).max(1),
        columns: u16::from(columns).max(1),
        bits_allocated,
        bits_stored,
        high_bit: bits_stored - 1,
        is_signed: depth & 2 != 0,
    };
    let mut plane = vec![0.0; format.pixels()];
    let mut decoded = Vec::new();
    let rescale = Rescale::IDENTITY;
    match codec % 5 {
        0 => {
            if rle::decode(data, &format, &mut decoded).is_ok() {
                convert(&decoded, SampleLayout::native(&format, false), &rescale, &mut plane);
            }
        }
        1 => {
            if let Ok(samples) = jpeg::decode(data, &format) {
                convert(&samples, SampleLayout::decoded(&format, 1, 8), &rescale, &mut plane);
            }
        }
        2 => {
            if let Ok(precision) = jpeg_lossless::decode(data, &format, &mut decoded) {
                let layout = SampleLayout::decoded(&format, 2, precision);
                convert(&decoded, layout, &rescale, &mut plane);
            }
        }
        3 => {
            if let Ok(image) = jpeg_ls::decode(data, &format) {
                let layout = SampleLayout::decoded(&format, image.bytes, image.precision);
                convert(&image.samples, layout, &rescale, &mut plane);
            }
        }
        _ => drop(jpeg_2000::decode(data, &format, &rescale, &mut plane)),
    }
    assert!(plane.iter().all(|value| value.is_finite()));
}
