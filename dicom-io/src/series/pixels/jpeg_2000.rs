//! JPEG 2000 and High-Throughput JPEG 2000 (ISO/IEC 15444-1 and -15), through `openjpeg`.

use jpeg2k::{DecodeParameters, Image};

use super::DecodeFrameError;
use super::format::PixelFormat;
use super::rescale::Rescale;
use super::samples::convert_numbers;

const CODEC: &str = "JPEG 2000";
/// Start of codestream, then the size marker (ISO/IEC 15444-1 A.4.1, A.5.1).
const CODESTREAM: [u8; 4] = [0xFF, 0x4F, 0xFF, 0x51];

/// Decodes a frame to values.
pub(super) fn decode(
    data: &[u8],
    format: &PixelFormat,
    rescale: &Rescale,
    values: &mut [f32],
) -> Result<(), DecodeFrameError> {
    // The header first: it may state a size that nothing is behind.
    let stated = stated_size(data)
        .ok_or_else(|| DecodeFrameError::damaged(CODEC, "no codestream header"))?;
    let expected = (format.columns.into(), format.rows.into(), 1);
    if stated != expected {
        let (columns, rows, components) = stated;
        return Err(DecodeFrameError::Mismatch {
            codec: CODEC,
            expected: format.describe(),
            found: format!("{columns}x{rows}x{components}"),
        });
    }
    let parameters = DecodeParameters::new().strict(true);
    let image = Image::from_bytes_with(data, parameters)
        .map_err(|error| DecodeFrameError::damaged(CODEC, error.to_string()))?;
    let component = match image.components() {
        [component] if component.data().len() == format.pixels() => component,
        _ => return Err(DecodeFrameError::damaged(CODEC, "the image breaks off")),
    };

    // Pixel Representation decides the sign. An encoder that was told otherwise has kept the bits: the number modulo
    // 2^precision is the stored one.
    let numbers = component.data().iter().map(|&number| i64::from(number));
    if component.is_signed() == format.is_signed {
        convert_numbers(numbers, rescale, values);
    } else {
        let modulus = 1_i64 << component.precision().min(32);
        let half = if format.is_signed { modulus / 2 } else { modulus };
        let numbers = numbers.map(|number| {
            let stored = number.rem_euclid(modulus);
            if stored >= half { stored - modulus } else { stored }
        });
        convert_numbers(numbers, rescale, values);
    }
    Ok(())
}

/// Columns, rows and components that the codestream states.
fn stated_size(data: &[u8]) -> Option<(u32, u32, u16)> {
    let start = data.windows(CODESTREAM.len()).position(|window| window == CODESTREAM)?;
    // Marker, length and capabilities come before the sizes.
    let sizes = data.get(start + 8..)?;
    let (words, _) = sizes.get(..32)?.as_chunks::<4>();
    let word = |i: usize| words.get(i).map(|word| u32::from_be_bytes(*word));
    let columns = word(0)?.checked_sub(word(2)?)?;
    let rows = word(1)?.checked_sub(word(3)?)?;
    let components = sizes.get(32..34)?;
    Some((columns, rows, u16::from_be_bytes([components[0], components[1]])))
}
