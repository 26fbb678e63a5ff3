//! JPEG (ISO/IEC 10918-1): 8-bit sequential and progressive, and lossless of up to 16 bits.

use jpeg_decoder::{Decoder, PixelFormat as JpegFormat};

use super::DecodeFrameError;
use super::format::PixelFormat;

const CODEC: &str = "JPEG";

/// Decodes a frame to little-endian samples; returns them with the bytes of each.
pub(super) fn decode(
    data: &[u8],
    format: &PixelFormat,
) -> Result<(Vec<u8>, usize), DecodeFrameError> {
    let damaged = |error: jpeg_decoder::Error| match error {
        jpeg_decoder::Error::Unsupported(_) => DecodeFrameError::Unsupported {
            codec: CODEC,
            what: "another process than 8-bit baseline, 8-bit progressive or lossless",
        },
        other => DecodeFrameError::damaged(CODEC, other.to_string()),
    };
    let mut decoder = Decoder::new(data);
    decoder.read_info().map_err(damaged)?;
    let info = decoder.info();
    let shape = info.map(|info| (info.width, info.height, info.pixel_format));
    let bytes = match shape {
        Some((width, height, JpegFormat::L8))
            if (width, height) == (format.columns, format.rows) =>
        {
            1
        }
        Some((width, height, JpegFormat::L16))
            if (width, height) == (format.columns, format.rows) =>
        {
            2
        }
        Some((width, height, pixels)) => {
            let samples = pixels.pixel_bytes();
            return Err(DecodeFrameError::Mismatch {
                codec: CODEC,
                expected: format.describe(),
                found: format!("{width}x{height} with {samples} bytes a pixel"),
            });
        }
        None => return Err(DecodeFrameError::damaged(CODEC, "no frame header")),
    };
    let mut samples = decoder.decode().map_err(damaged)?;
    if bytes == 2 && cfg!(target_endian = "big") {
        samples.as_chunks_mut::<2>().0.iter_mut().for_each(|pair| pair.swap(0, 1));
    }
    if samples.len() < format.pixels() * bytes {
        return Err(DecodeFrameError::damaged(CODEC, "the image breaks off"));
    }
    Ok((samples, bytes))
}
