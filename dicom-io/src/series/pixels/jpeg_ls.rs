//! JPEG-LS (ISO/IEC 14495-1), through `charls`.

use charls::CharLS;

use super::DecodeFrameError;
use super::format::PixelFormat;

const CODEC: &str = "JPEG-LS";

/// Samples of a frame, little endian, and how wide they are.
pub(super) struct Decoded {
    pub(super) samples: Vec<u8>,
    pub(super) bytes: usize,
    pub(super) precision: u32,
}

/// Decodes a frame.
pub(super) fn decode(data: &[u8], format: &PixelFormat) -> Result<Decoded, DecodeFrameError> {
    let damaged = |error: charls::Error| DecodeFrameError::damaged(CODEC, error.to_string());
    // The header first: it may state a size that nothing is behind.
    let info = CharLS::default().get_frame_info(data).map_err(damaged)?;
    let matches = info.width == u32::from(format.columns)
        && info.height == u32::from(format.rows)
        && info.component_count == 1;
    if !matches {
        return Err(DecodeFrameError::Mismatch {
            codec: CODEC,
            expected: format.describe(),
            found: format!("{}x{}x{}", info.width, info.height, info.component_count),
        });
    }
    let mut samples = CharLS::default().decode(data).map_err(damaged)?;
    let precision = info.bits_per_sample.unsigned_abs();
    let bytes = if precision > 8 { 2 } else { 1 };
    if bytes == 2 && cfg!(target_endian = "big") {
        samples.as_chunks_mut::<2>().0.iter_mut().for_each(|pair| pair.swap(0, 1));
    }
    if samples.len() < format.pixels() * bytes {
        return Err(DecodeFrameError::damaged(CODEC, "the image breaks off"));
    }
    Ok(Decoded { samples, bytes, precision })
}
