//! Our objects in transfer syntaxes that take less room: Deflated Explicit VR Little Endian (PS3.5 A.5) and RLE Lossless
//! (PS3.5 A.4.2, annex G).

use std::io::Write as _;

use dicom::core::Tag;
use dicom::dictionary_std::tags;
use dicom_types::SopClassUid;
use flate2::Compression as Level;
use flate2::write::DeflateEncoder;

use crate::header::{HeaderLimits, ReadHeaderError, read_part10};
use crate::part10::{self, FileMeta};
use crate::seg::SegmentationType;

/// Most byte planes of a pixel: the header of an RLE frame has room for so many.
const MAX_PLANES: usize = 15;

/// A transfer syntax that an object of ours can be sent in beside the native one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// The whole data set, whatever the object.
    Deflated,
    /// The frames of label maps. Binary segmentations have one bit a pixel, which RLE Lossless does not hold.
    Rle,
}

/// Why an object is not rewritten.
#[derive(Debug, thiserror::Error)]
pub enum CompressError {
    /// The file is none of ours: not Explicit VR Little Endian, or its header cannot be read.
    #[error("object cannot be read")]
    Header(#[from] ReadHeaderError),
    /// No native pixels of one or two bytes, or not as many as the header says.
    #[error("pixel data cannot be encapsulated")]
    Pixels,
}

impl Compression {
    /// Transfer Syntax UID.
    pub const fn uid(self) -> &'static str {
        match self {
            Self::Deflated => "1.2.840.10008.1.2.1.99",
            Self::Rle => "1.2.840.10008.1.2.5",
        }
    }

    /// Whether objects of a SOP class can be in it.
    pub fn is_for(self, sop_class_uid: &SopClassUid) -> bool {
        self == Self::Deflated || *sop_class_uid == SegmentationType::Labelmap.sop_class_uid()
    }

    /// The data set of a Part 10 file in Explicit VR Little Endian, rewritten. The same input gives the same bytes.
    ///
    /// # Errors
    /// [`CompressError`]
    pub fn dataset(self, file: &[u8]) -> Result<Vec<u8>, CompressError> {
        let header = read_part10(file, HeaderLimits::for_files())?;
        let dataset = file.get(header.dataset_offset as usize..).ok_or(CompressError::Pixels)?;
        match self {
            Self::Deflated => deflated(dataset).ok_or(CompressError::Pixels),
            Self::Rle => {
                let number = |tag: Tag| -> Option<usize> {
                    header.dataset.get(tag)?.to_int::<u32>().ok().map(|value| value as usize)
                };
                let layout = || {
                    let bits = number(tags::BITS_ALLOCATED)?;
                    let is_plain = bits % 8 == 0 && number(tags::SAMPLES_PER_PIXEL)? == 1;
                    is_plain.then_some(())?;
                    Some(Layout {
                        pixels: number(tags::ROWS)? * number(tags::COLUMNS)?,
                        columns: number(tags::COLUMNS)?,
                        bytes: bits / 8,
                        frames: number(tags::NUMBER_OF_FRAMES)?,
                    })
                };
                let start = header.pixel_data_offset.ok_or(CompressError::Pixels)?;
                let layout = layout().ok_or(CompressError::Pixels)?;
                encapsulated(dataset, start as usize, layout).ok_or(CompressError::Pixels)
            }
        }
    }

    /// The same as a Part 10 file.
    ///
    /// # Errors
    /// [`CompressError`]
    pub fn file(self, file: &[u8]) -> Result<Vec<u8>, CompressError> {
        let dataset = self.dataset(file)?;
        let start = part10::locate_dataset(file, true).ok().flatten();
        let (sop_class_uid, sop_instance_uid) = start
            .and_then(|start| start.sop_class_uid.zip(start.sop_instance_uid))
            .ok_or(CompressError::Pixels)?;
        let transfer_syntax_uid = self.uid().parse().map_err(|_| CompressError::Pixels)?;
        let meta = FileMeta {
            sop_class_uid,
            sop_instance_uid,
            transfer_syntax_uid,
            source_ae_title: None,
        };
        let mut bytes = meta.encode();
        bytes.extend_from_slice(&dataset);
        Ok(bytes)
    }
}

fn deflated(dataset: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Level::default());
    encoder.write_all(dataset).ok()?;
    let mut bytes = encoder.finish().ok()?;
    // PS3.5 A.5: a stream of odd length is followed by a null byte.
    if bytes.len() % 2 == 1 {
        bytes.push(0);
    }
    Some(bytes)
}

/// How native pixels lie.
#[derive(Clone, Copy)]
struct Layout {
    pixels: usize,
    columns: usize,
    /// Bytes of a pixel.
    bytes: usize,
    frames: usize,
}

/// The data set whose Pixel Data element begins at `start`, its frames run-length encoded behind a Basic Offset Table.
fn encapsulated(dataset: &[u8], start: usize, layout: Layout) -> Option<Vec<u8>> {
    let element = dataset.get(start..)?;
    // Explicit VR Little Endian: tag, representation, two reserved bytes, length.
    let length = u32::from_le_bytes(element.get(8..12)?.try_into().ok()?) as usize;
    let pixels = element.get(12..)?.get(..length)?;
    let frame_bytes = layout.pixels * layout.bytes;
    let is_whole = element.len() == 12 + length
        && length == (frame_bytes * layout.frames).next_multiple_of(2)
        && (1..=MAX_PLANES).contains(&layout.bytes)
        && frame_bytes > 0;
    if element.get(..4)? != [0xE0, 0x7F, 0x10, 0x00] || !is_whole {
        return None;
    }
    let frames: Vec<Vec<u8>> = pixels
        .chunks_exact(frame_bytes)
        .take(layout.frames)
        .map(|frame| rle_frame(frame, layout))
        .collect();
    let mut bytes = dataset[..start].to_vec();
    bytes.extend_from_slice(&[0xE0, 0x7F, 0x10, 0x00, b'O', b'B', 0, 0, 0xFF, 0xFF, 0xFF, 0xFF]);
    put_item(&mut bytes, frames.len() * 4);
    let mut offset = 0_usize;
    for frame in &frames {
        bytes.extend_from_slice(&u32::try_from(offset).ok()?.to_le_bytes());
        offset += 8 + frame.len();
    }
    for frame in &frames {
        put_item(&mut bytes, frame.len());
        bytes.extend_from_slice(frame);
    }
    bytes.extend_from_slice(&[0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0]);
    Some(bytes)
}

fn put_item(bytes: &mut Vec<u8>, length: usize) {
    bytes.extend_from_slice(&[0xFE, 0xFF, 0x00, 0xE0]);
    bytes.extend_from_slice(&(length as u32).to_le_bytes());
}

/// One frame: a header of 64 bytes, then each byte plane, the most significant first (PS3.5 G.2, G.5).
fn rle_frame(frame: &[u8], layout: Layout) -> Vec<u8> {
    let mut segments = Vec::new();
    let mut header = [0_u32; 16];
    header[0] = layout.bytes as u32;
    for plane in 0..layout.bytes {
        header[1 + plane] = 64 + segments.len() as u32;
        let of_pixel = layout.bytes - 1 - plane;
        let plane: Vec<u8> = frame.iter().skip(of_pixel).step_by(layout.bytes).copied().collect();
        // Every row is encoded by itself (PS3.5 G.3.1).
        for row in plane.chunks(layout.columns) {
            pack_bits(row, &mut segments);
        }
        if segments.len() % 2 == 1 {
            segments.push(0);
        }
    }
    let mut bytes: Vec<u8> = header.iter().flat_map(|number| number.to_le_bytes()).collect();
    bytes.extend_from_slice(&segments);
    bytes
}

/// Runs of two and more equal bytes as a negative count and the byte, all others as a count and themselves.
fn pack_bits(row: &[u8], out: &mut Vec<u8>) {
    const LONGEST: usize = 128;
    let run_at = |at: usize| {
        let byte = row[at];
        row[at..].iter().take(LONGEST).take_while(|other| **other == byte).count()
    };
    let mut at = 0;
    while at < row.len() {
        let run = run_at(at);
        if run >= 2 {
            out.extend_from_slice(&[(257 - run) as u8, row[at]]);
            at += run;
            continue;
        }
        let mut end = at + 1;
        while end < row.len() && end - at < LONGEST && run_at(end) < 3 {
            end += 1;
        }
        out.push((end - at - 1) as u8);
        out.extend_from_slice(&row[at..end]);
        at = end;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// PS3.5 G.3.2.
    fn unpacked(mut packed: &[u8], length: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < length {
            let (count, rest) = packed.split_first().unwrap();
            let count = count.cast_signed();
            if count >= 0 {
                let (literal, rest) = rest.split_at(count as usize + 1);
                bytes.extend_from_slice(literal);
                packed = rest;
            } else {
                bytes.extend(std::iter::repeat_n(rest[0], 1 + isize::from(count).unsigned_abs()));
                packed = &rest[1..];
            }
        }
        bytes
    }

    proptest! {
        #[test]
        fn rows_come_back_as_they_were(row in proptest::collection::vec(0_u8..3, 1..700)) {
            let mut packed = Vec::new();
            pack_bits(&row, &mut packed);

            prop_assert_eq!(unpacked(&packed, row.len()), row);
        }
    }

    #[test]
    fn a_run_takes_two_bytes_and_a_byte_plane_follows_the_other() {
        let frame: Vec<u8> = [0x0102_u16; 4].iter().flat_map(|pixel| pixel.to_le_bytes()).collect();

        let encoded = rle_frame(&frame, Layout { pixels: 4, columns: 4, bytes: 2, frames: 1 });

        assert_eq!(encoded[..12], [2, 0, 0, 0, 64, 0, 0, 0, 66, 0, 0, 0]);
        assert_eq!(encoded[64..], [253, 1, 253, 2]);
    }
}
