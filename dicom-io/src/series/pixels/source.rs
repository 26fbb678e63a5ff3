//! The bytes of frames in files.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use dicom::dictionary_std::tags;

use super::encoding::Encoding;
use super::format::PixelFormat;
use super::rescale::Rescale;
use crate::series::attributes::Attributes;
use crate::series::file::{PixelElement, inflate_range};

/// Pixel data of a file, as its header describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::series) struct PixelFile {
    pub(in crate::series) element: PixelElement,
    pub(in crate::series) encoding: Encoding,
    pub(in crate::series) format: PixelFormat,
    pub(in crate::series) frames: u32,
    /// Offset of the data set in the file.
    pub(in crate::series) dataset_offset: u64,
}

/// Pixel data of a file with what helps to find its frames.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::series) struct PixelSource {
    pub(in crate::series) file: PixelFile,
    /// Extended Offset Table (PS3.5 A.4), empty when there is none.
    pub(super) extended_offsets: Vec<u64>,
}

/// One frame of a file, and how its samples become values.
#[derive(Debug, Clone)]
pub(in crate::series) struct FrameLocation {
    pub(in crate::series) source: Arc<PixelSource>,
    /// From 0.
    pub(in crate::series) index: u32,
    pub(in crate::series) rescale: Rescale,
}

impl PixelSource {
    pub(in crate::series) fn new(dataset: Attributes<'_>, file: PixelFile) -> Self {
        let table = dataset.0.get(tags::EXTENDED_OFFSET_TABLE);
        let table = table.and_then(|table| table.to_bytes().ok()).unwrap_or_default();
        let (entries, _) = table.as_chunks::<8>();
        let extended_offsets = entries.iter().map(|entry| u64::from_le_bytes(*entry)).collect();
        Self { file, extended_offsets }
    }

    /// Bytes that native pixel data needs and has, when it has too few. Padding at the end does no harm.
    pub(in crate::series) fn missing_bytes(&self) -> Option<(u64, u64)> {
        let PixelFile { element, format, frames, .. } = self.file;
        let length = element.length?;
        let needed = format.frame_bytes() as u64 * u64::from(frames);
        let found = length.min(element.available);
        (found < needed).then_some((needed, found))
    }

    /// Where a native frame lies.
    pub(super) fn native_range(&self, index: u32) -> Range<u64> {
        let frame_bytes = self.file.format.frame_bytes() as u64;
        let start = self.file.element.offset + frame_bytes * u64::from(index);
        start..start + frame_bytes
    }
}

/// The bytes that offsets of a [`PixelElement`] refer to.
#[derive(Debug)]
pub(super) enum Bytes {
    File(File),
    /// Pixel data that was inflated, and where it starts in its data set.
    Memory {
        start: u64,
        bytes: Vec<u8>,
    },
}

impl Bytes {
    pub(super) fn open(path: &Path, source: &PixelSource) -> io::Result<Self> {
        let file = &source.file;
        if file.encoding != Encoding::DeflatedDataset {
            return Ok(Self::File(File::open(path)?));
        }
        let start = file.element.offset;
        let end = source.native_range(file.frames - 1).end;
        let bytes = inflate_range(path, file.dataset_offset, start..end)?;
        Ok(Self::Memory { start, bytes })
    }

    /// Appends the bytes of `range` to `out`.
    pub(super) fn read(&self, range: Range<u64>, out: &mut Vec<u8>) -> io::Result<()> {
        let length = range.end.saturating_sub(range.start) as usize;
        match self {
            Self::File(file) => {
                let start = out.len();
                out.resize(start + length, 0);
                file.read_exact_at(out.get_mut(start..).unwrap_or_default(), range.start)
            }
            Self::Memory { start, bytes } => {
                let range = (range.start - start) as usize..(range.end - start) as usize;
                let part = bytes.get(range);
                out.extend_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
        }
    }
}
