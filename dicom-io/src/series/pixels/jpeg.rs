//! JPEG (ISO/IEC 10918-1), 8-bit sequential and progressive.

use jpeg_decoder::{Decoder, PixelFormat as JpegFormat};

use super::DecodeFrameError;
use super::format::PixelFormat;

const CODEC: &str = "JPEG";

/// Decodes a frame to samples of a byte each.
pub(super) fn decode(data: &[u8], format: &PixelFormat) -> Result<Vec<u8>, DecodeFrameError> {
    let damaged = |error: jpeg_decoder::Error| match error {
        jpeg_decoder::Error::Unsupported(_) => DecodeFrameError::Unsupported {
            codec: CODEC,
            what: "another process than 8-bit baseline or progressive",
        },
        other => DecodeFrameError::damaged(CODEC, other.to_string()),
    };
    let mut decoder = Decoder::new(data);
    // The header first: it may state a size that nothing is behind.
    decoder.read_info().map_err(damaged)?;
    let info = decoder.info().ok_or_else(|| DecodeFrameError::damaged(CODEC, "no frame header"))?;
    let is_expected = (info.width, info.height) == (format.columns, format.rows)
        && info.pixel_format == JpegFormat::L8;
    if !is_expected {
        let bytes = info.pixel_format.pixel_bytes();
        return Err(DecodeFrameError::Mismatch {
            codec: CODEC,
            expected: format.describe(),
            found: format!("{}x{} with {bytes} bytes a pixel", info.width, info.height),
        });
    }
    let samples = decoder.decode().map_err(damaged)?;
    if samples.len() < format.pixels() {
        return Err(DecodeFrameError::damaged(CODEC, "the image breaks off"));
    }
    Ok(samples)
}
