//! JPEG Lossless (ISO/IEC 10918-1 annex H): one component, 2 to 16 bits, all predictors.

mod bits;
mod huffman;

use bits::{Bits, Segments};
use huffman::HuffmanTable;

use super::DecodeFrameError;
use super::format::PixelFormat;

const CODEC: &str = "JPEG Lossless";

const SOI: u8 = 0xD8;
const EOI: u8 = 0xD9;
const SOS: u8 = 0xDA;
const DHT: u8 = 0xC4;
const DRI: u8 = 0xDD;
/// Frame header of the lossless, sequential, Huffman-coded process.
const SOF3: u8 = 0xC3;

/// Decodes a frame to little-endian words in `out`; returns the precision of the samples.
pub(super) fn decode(
    data: &[u8],
    format: &PixelFormat,
    out: &mut Vec<u8>,
) -> Result<u32, DecodeFrameError> {
    let image = read_headers(data)?;
    let found = (image.columns, image.rows);
    if found != (format.columns, format.rows) {
        return Err(DecodeFrameError::Mismatch {
            codec: CODEC,
            expected: format.describe(),
            found: format!("{}x{}x1", image.columns, image.rows),
        });
    }
    // Every sample has a bit at least.
    if image.entropy_coded.len().saturating_mul(8) < format.pixels() {
        return Err(damaged("the image breaks off"));
    }
    out.clear();
    out.resize(format.pixels() * 2, 0);
    match image.predictor {
        1 => decode_scan(&image, out, |left, _, _| left)?,
        2 => decode_scan(&image, out, |_, above, _| above)?,
        3 => decode_scan(&image, out, |_, _, corner| corner)?,
        4 => decode_scan(&image, out, |left, above, corner| left + above - corner)?,
        5 => decode_scan(&image, out, |left, above, corner| left + ((above - corner) >> 1))?,
        6 => decode_scan(&image, out, |left, above, corner| above + ((left - corner) >> 1))?,
        7 => decode_scan(&image, out, |left, above, _| (left + above) >> 1)?,
        _ => return Err(unsupported("a predictor outside 1 to 7")),
    }
    Ok(image.precision)
}

fn damaged(what: &str) -> DecodeFrameError {
    DecodeFrameError::damaged(CODEC, what)
}

fn unsupported(what: &'static str) -> DecodeFrameError {
    DecodeFrameError::Unsupported { codec: CODEC, what }
}

/// What stands in front of the entropy-coded data.
struct Image<'a> {
    precision: u32,
    rows: u16,
    columns: u16,
    table: HuffmanTable,
    predictor: u8,
    point_transform: u32,
    /// Samples between restarts; 0 for none.
    restart_interval: usize,
    entropy_coded: &'a [u8],
}

fn read_headers(data: &[u8]) -> Result<Image<'_>, DecodeFrameError> {
    let mut frame = None;
    let mut tables = [None, None, None, None];
    let mut restart_interval = 0;
    let mut markers = Markers { rest: data };
    while let Some((marker, body)) = markers.next_segment()? {
        match marker {
            SOF3 => frame = Some(frame_header(body)?),
            DHT => read_tables(body, &mut tables)?,
            DRI => {
                let &[high, low] = body else { return Err(damaged("restart interval")) };
                restart_interval = usize::from(u16::from_be_bytes([high, low]));
            }
            0xC0..=0xC2 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF => {
                return Err(unsupported("another process than the lossless, Huffman-coded one"));
            }
            SOS => {
                let (precision, rows, columns) = frame.ok_or_else(|| damaged("no frame header"))?;
                let &[1, _, selector, predictor, _, approximation] = body else {
                    return Err(damaged("scan header"));
                };
                let table = tables.get_mut(usize::from(selector >> 4)).and_then(Option::take);
                let table = table.ok_or_else(|| damaged("no table for the scan"))?;
                let point_transform = u32::from(approximation & 0x0F);
                if point_transform >= precision {
                    return Err(damaged("point transform"));
                }
                return Ok(Image {
                    precision,
                    rows,
                    columns,
                    table,
                    predictor,
                    point_transform,
                    restart_interval,
                    entropy_coded: markers.rest,
                });
            }
            _ => {}
        }
    }
    Err(damaged("no scan"))
}

/// Precision, rows, columns.
fn frame_header(body: &[u8]) -> Result<(u32, u16, u16), DecodeFrameError> {
    let &[precision, y1, y0, x1, x0, components, ..] = body else {
        return Err(damaged("frame header"));
    };
    if components != 1 {
        return Err(unsupported("several components"));
    }
    if !(2..=16).contains(&precision) {
        return Err(damaged("precision"));
    }
    Ok((precision.into(), u16::from_be_bytes([y1, y0]), u16::from_be_bytes([x1, x0])))
}

fn read_tables(
    mut body: &[u8],
    tables: &mut [Option<HuffmanTable>; 4],
) -> Result<(), DecodeFrameError> {
    while let Some((&[selector, ref counts @ ..], rest)) = body.split_first_chunk::<17>() {
        let symbols: usize = counts.iter().map(|&count| usize::from(count)).sum();
        let (symbols, rest) =
            rest.split_at_checked(symbols).ok_or_else(|| damaged("Huffman table"))?;
        let table = HuffmanTable::new(counts, symbols).ok_or_else(|| damaged("Huffman table"))?;
        if let Some(slot) = tables.get_mut(usize::from(selector & 0x0F)) {
            *slot = Some(table);
        }
        body = rest;
    }
    Ok(())
}

/// Walks marker segments up to the first scan.
struct Markers<'a> {
    rest: &'a [u8],
}

impl<'a> Markers<'a> {
    /// The next marker that has a body, and that body; `None` at the end.
    fn next_segment(&mut self) -> Result<Option<(u8, &'a [u8])>, DecodeFrameError> {
        loop {
            let Some((&[0xFF, marker], rest)) = self.rest.split_first_chunk::<2>() else {
                return Ok(None);
            };
            if marker == 0xFF {
                // Fill byte.
                self.rest = self.rest.get(1..).unwrap_or_default();
                continue;
            }
            self.rest = rest;
            if marker == SOI {
                continue;
            }
            if marker == EOI {
                return Ok(None);
            }
            let (length, _) = rest.split_first_chunk::<2>().ok_or_else(|| damaged("marker"))?;
            let length = usize::from(u16::from_be_bytes(*length));
            let body = rest.get(2..length).ok_or_else(|| damaged("marker"))?;
            self.rest = rest.get(length..).unwrap_or_default();
            return Ok(Some((marker, body)));
        }
    }
}

/// Decodes all samples; `predict` takes the neighbours to the left, above, and above to the left.
fn decode_scan(
    image: &Image<'_>,
    out: &mut [u8],
    predict: impl Fn(i32, i32, i32) -> i32,
) -> Result<(), DecodeFrameError> {
    let columns = usize::from(image.columns);
    let rows_between_restarts = match image.restart_interval {
        0 => usize::MAX,
        interval if interval % columns == 0 => interval / columns,
        _ => return Err(unsupported("restarts inside a row")),
    };
    let start = 1_i32 << (image.precision - image.point_transform - 1);
    let mut segments = Segments::new(image.entropy_coded);
    let mut bits = Bits::new(segments.next_segment());
    let mut above = vec![0_u16; columns];
    let mut row = vec![0_u16; columns];
    let mut first_row = true;
    let (words, _) = out.as_chunks_mut::<2>();
    for (y, words) in words.chunks_exact_mut(columns).enumerate() {
        if y > 0 && y % rows_between_restarts == 0 {
            bits = Bits::new(segments.next_segment());
            first_row = true;
        }
        let mut left = 0;
        let mut corner = 0;
        for (x, (sample, &above)) in row.iter_mut().zip(&above).enumerate() {
            let above = i32::from(above);
            let prediction = match (x, first_row) {
                (0, true) => start,
                (0, false) => above,
                (_, true) => left,
                (_, false) => predict(left, above, corner),
            };
            // Sums are taken modulo 2^16 (H.1.2.1).
            let value = (prediction + bits.difference(&image.table)) as u16;
            *sample = value;
            left = i32::from(value);
            corner = above;
        }
        if bits.is_exhausted() {
            return Err(damaged("the image breaks off"));
        }
        for (word, sample) in words.iter_mut().zip(&row) {
            *word = (sample << image.point_transform).to_le_bytes();
        }
        std::mem::swap(&mut above, &mut row);
        first_row = false;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
