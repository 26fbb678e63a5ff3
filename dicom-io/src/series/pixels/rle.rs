//! RLE Lossless (PS3.5 annex G).

use super::DecodeFrameError;
use super::format::PixelFormat;

/// Bytes of the header: the number of segments and fifteen offsets.
const HEADER: usize = 64;
/// Most bytes that one byte can stand for: two are a run of 128.
const MAX_EXPANSION: usize = 64;

/// Decodes a frame to little-endian samples in `out`.
pub(super) fn decode(
    data: &[u8],
    format: &PixelFormat,
    out: &mut Vec<u8>,
) -> Result<(), DecodeFrameError> {
    let damaged = |what: &str| DecodeFrameError::damaged("RLE", what);
    let header = data.get(..HEADER).ok_or_else(|| damaged("no header"))?;
    let (words, _) = header.as_chunks::<4>();
    let words: Vec<_> = words.iter().map(|word| u32::from_le_bytes(*word) as usize).collect();
    let planes = format.sample_bytes();
    if words.first() != Some(&planes) {
        return Err(DecodeFrameError::Unsupported {
            codec: "RLE",
            what: "the number of segments is not that of the bytes of a sample",
        });
    }
    let starts = words.get(1..=planes).unwrap_or_default();
    let pixels = format.pixels();
    if data.len().saturating_mul(MAX_EXPANSION) < pixels * planes {
        return Err(damaged("a segment breaks off"));
    }
    out.clear();
    out.resize(pixels * planes, 0);
    for (plane, &start) in starts.iter().enumerate() {
        let end = starts.get(plane + 1).copied().unwrap_or(data.len());
        let segment = data.get(start..end).ok_or_else(|| damaged("offsets out of order"))?;
        // Segments run from the most significant byte to the least.
        let first = planes - 1 - plane;
        let samples = out.get_mut(first..).unwrap_or_default();
        let filled = unpack(segment, samples, planes);
        if filled < pixels {
            return Err(damaged("a segment breaks off"));
        }
    }
    Ok(())
}

/// Unpacks a segment into every `stride`-th byte of `out`; returns how many were written.
fn unpack(segment: &[u8], out: &mut [u8], stride: usize) -> usize {
    let total = out.len().div_ceil(stride);
    let mut written = 0;
    let mut rest = segment;
    while let Some((&control, after)) = rest.split_first() {
        if written >= total {
            break;
        }
        let place = out.get_mut(written * stride..).unwrap_or_default().iter_mut().step_by(stride);
        match control as i8 {
            count @ 0.. => {
                let literal = count as usize + 1;
                let (bytes, after) = after.split_at(literal.min(after.len()));
                written += bytes.len().min(total - written);
                place.zip(bytes).for_each(|(to, from)| *to = *from);
                rest = after;
            }
            -128 => rest = after,
            count => {
                let Some((&byte, after)) = after.split_first() else { break };
                let run = 1 - isize::from(count);
                let run = (run as usize).min(total - written);
                written += run;
                place.take(run).for_each(|to| *to = byte);
                rest = after;
            }
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(columns: u16, bits: u32) -> PixelFormat {
        PixelFormat {
            rows: 1,
            columns,
            bits_allocated: bits,
            bits_stored: bits,
            high_bit: bits - 1,
            is_signed: false,
        }
    }

    fn frame(segments: &[&[u8]]) -> Vec<u8> {
        let mut data = (segments.len() as u32).to_le_bytes().to_vec();
        let mut offset = HEADER as u32;
        for segment in segments {
            data.extend(offset.to_le_bytes());
            offset += segment.len() as u32;
        }
        data.resize(HEADER, 0);
        data.extend(segments.concat());
        data
    }

    #[test]
    fn unpacks_literals_runs_and_no_operations() {
        let high = [254, 1, 128, 0, 2];
        let low = [3, 10, 20, 30, 40];
        let mut out = Vec::new();

        decode(&frame(&[&high, &low]), &format(4, 16), &mut out).unwrap();

        assert_eq!(out, [10, 1, 20, 1, 30, 1, 40, 2]);
    }

    #[test]
    fn refuses_a_segment_that_breaks_off() {
        let mut out = Vec::new();

        let broken = decode(&frame(&[&[5, 1, 2]]), &format(6, 8), &mut out);

        assert_eq!(broken, Err(DecodeFrameError::damaged("RLE", "a segment breaks off")));
    }

    #[test]
    fn ignores_what_follows_the_last_pixel() {
        let mut out = Vec::new();

        decode(&frame(&[&[129, 7, 0, 9, 0]]), &format(3, 8), &mut out).unwrap();

        assert_eq!(out, [7, 7, 7]);
    }
}
