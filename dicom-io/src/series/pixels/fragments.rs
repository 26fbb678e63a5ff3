//! Cutting encapsulated pixel data into frames (PS3.5 A.4).

use std::io;
use std::ops::Range;

use super::DecodeFrameError;
use super::source::{Bytes, PixelSource};

/// Bytes of an item header: tag and length.
const ITEM_HEADER: u64 = 8;
/// Most fragments of one instance.
const MAX_FRAGMENTS: usize = 1 << 22;
const ITEM: [u8; 4] = [0xFE, 0xFF, 0x00, 0xE0];
const SEQUENCE_DELIMITATION: [u8; 4] = [0xFE, 0xFF, 0xDD, 0xE0];

/// Where the pieces of one frame lie in the file.
pub(super) type FramePieces = Vec<Range<u64>>;

/// Why frames cannot be found.
#[derive(Debug)]
pub(super) enum FindFramesError {
    Io(io::Error),
    Layout(DecodeFrameError),
}

impl From<io::Error> for FindFramesError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn layout_error(what: &'static str) -> FindFramesError {
    FindFramesError::Layout(DecodeFrameError::Fragments { what })
}

/// Finds the pieces of every frame: by the extended offset table, by the basic one, by one fragment a frame, or by
/// where a compressed image begins.
pub(super) fn find_frames(
    bytes: &Bytes,
    source: &PixelSource,
) -> Result<Vec<FramePieces>, FindFramesError> {
    let items = read_items(bytes, source)?;
    let Some((table, fragments)) = items.split_first() else {
        return Err(layout_error("there is no offset table item"));
    };
    let frames = source.file.frames as usize;
    if fragments.is_empty() {
        return Err(layout_error("there are no fragments"));
    }
    if frames == 1 {
        return Ok(vec![fragments.to_vec()]);
    }
    if fragments.len() == frames {
        return Ok(fragments.iter().map(|fragment| vec![fragment.clone()]).collect());
    }
    // Offsets count from the first byte of the item header that follows the table.
    let origin = table.end;
    if source.extended_offsets.len() == frames {
        return group_by_offset(fragments, origin, &source.extended_offsets);
    }
    let offsets = basic_offsets(bytes, table)?;
    if offsets.len() == frames {
        return group_by_offset(fragments, origin, &offsets);
    }
    group_by_start(bytes, fragments, frames)
}

/// Value ranges of all items, the offset table's first.
fn read_items(bytes: &Bytes, source: &PixelSource) -> Result<Vec<Range<u64>>, FindFramesError> {
    let end = source.file.element.offset + source.file.element.available;
    let mut items = Vec::new();
    let mut position = source.file.element.offset;
    let mut header = Vec::with_capacity(ITEM_HEADER as usize);
    // A missing sequence delimiter at the end of the file does no harm.
    while position + ITEM_HEADER <= end {
        header.clear();
        bytes.read(position..position + ITEM_HEADER, &mut header)?;
        let &[t0, t1, t2, t3, l0, l1, l2, l3] = header.as_slice() else {
            return Err(layout_error("an item header breaks off"));
        };
        match [t0, t1, t2, t3] {
            ITEM => {}
            SEQUENCE_DELIMITATION => break,
            _ => return Err(layout_error("something stands between the fragments")),
        }
        let start = position + ITEM_HEADER;
        let length = u64::from(u32::from_le_bytes([l0, l1, l2, l3]));
        if start + length > end {
            return Err(layout_error("a fragment breaks off"));
        }
        if items.len() > MAX_FRAGMENTS {
            return Err(layout_error("there are too many fragments"));
        }
        items.push(start..start + length);
        position = start + length;
    }
    Ok(items)
}

fn basic_offsets(bytes: &Bytes, table: &Range<u64>) -> Result<Vec<u64>, FindFramesError> {
    let mut raw = Vec::new();
    bytes.read(table.clone(), &mut raw)?;
    let (entries, _) = raw.as_chunks::<4>();
    Ok(entries.iter().map(|entry| u64::from(u32::from_le_bytes(*entry))).collect())
}

fn group_by_offset(
    fragments: &[Range<u64>],
    origin: u64,
    offsets: &[u64],
) -> Result<Vec<FramePieces>, FindFramesError> {
    let mut groups: Vec<FramePieces> = vec![Vec::new(); offsets.len()];
    let is_ascending = offsets.is_sorted_by(|a, b| a < b);
    if !is_ascending || offsets.first() != Some(&0) {
        return Err(layout_error("the offset table is out of order"));
    }
    for fragment in fragments {
        let offset = fragment.start - ITEM_HEADER - origin;
        let frame = offsets.partition_point(|&start| start <= offset) - 1;
        let Some(group) = groups.get_mut(frame) else { continue };
        let begins_a_frame = offsets.get(frame) == Some(&offset);
        if group.is_empty() != begins_a_frame {
            return Err(layout_error("the offset table points between fragments"));
        }
        group.push(fragment.clone());
    }
    if groups.iter().any(Vec::is_empty) {
        return Err(layout_error("the offset table names frames without fragments"));
    }
    Ok(groups)
}

/// A fragment that starts with the signature of a JPEG family image starts a frame.
fn group_by_start(
    bytes: &Bytes,
    fragments: &[Range<u64>],
    frames: usize,
) -> Result<Vec<FramePieces>, FindFramesError> {
    let mut groups: Vec<FramePieces> = Vec::new();
    let mut start = Vec::new();
    for fragment in fragments {
        start.clear();
        let length = (fragment.end - fragment.start).min(4);
        bytes.read(fragment.start..fragment.start + length, &mut start)?;
        let is_jpeg = start.starts_with(&[0xFF, 0xD8, 0xFF]);
        let is_jpeg_2000 = start.starts_with(&[0xFF, 0x4F, 0xFF, 0x51]);
        match groups.last_mut() {
            Some(group) if !is_jpeg && !is_jpeg_2000 => group.push(fragment.clone()),
            _ => groups.push(vec![fragment.clone()]),
        }
    }
    if groups.len() != frames {
        return Err(layout_error("neither an offset table nor the fragments tell"));
    }
    Ok(groups)
}
