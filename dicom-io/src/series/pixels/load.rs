//! Loading the voxels of a stack.

use std::collections::HashMap;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use dicom_types::{GridGeometry, Volume};
use flate2::read::DeflateDecoder;
use rayon::prelude::*;

use super::encoding::Encoding;
use super::fragments::{FindFramesError, FramePieces, find_frames};
use super::samples::{SampleLayout, convert};
use super::source::{Bytes, FrameLocation};
use super::{DecodeFrameError, jpeg, jpeg_2000, jpeg_lossless, jpeg_ls, rle};
use crate::series::{InstanceName, ReadSeriesError, SourceFrame};

/// An open file and, for encapsulated pixel data, where its frames lie.
struct OpenFile {
    bytes: Bytes,
    frames: Vec<FramePieces>,
}

/// Buffers that a thread uses again for every frame.
#[derive(Default)]
struct Scratch {
    raw: Vec<u8>,
    decoded: Vec<u8>,
}

/// Decodes `slices` into the voxels of `geometry`, in parallel.
pub(in crate::series) fn load(
    geometry: &GridGeometry,
    slices: &[SourceFrame],
) -> Result<Volume, ReadSeriesError> {
    let shared = open_shared_files(slices)?;
    let [_, rows, columns] = geometry.shape();
    let mut values = vec![0.0_f32; geometry.voxels()];
    values.par_chunks_mut(rows * columns).zip(slices).try_for_each_init(
        Scratch::default,
        |scratch, (plane, slice)| {
            let own;
            let file = if let Some(file) = shared.get(slice.path.as_path()) {
                file
            } else {
                own = open(slice)?;
                &own
            };
            load_slice(slice, file, scratch, plane)
        },
    )?;
    let volume = Volume::new(*geometry, values);
    Ok(volume.expect("the values were allocated for this grid"))
}

/// Opens the files that hold several frames once, not once a frame.
fn open_shared_files(slices: &[SourceFrame]) -> Result<HashMap<&Path, OpenFile>, ReadSeriesError> {
    let mut files = HashMap::new();
    for slice in slices.iter().filter(|slice| slice.frame_number.is_some()) {
        let path = slice.path.as_path();
        if !files.contains_key(path) {
            files.insert(path, open(slice)?);
        }
    }
    Ok(files)
}

fn name(slice: &SourceFrame) -> InstanceName {
    InstanceName::new(&slice.sop_instance_uid, slice.frame_number)
}

fn open(slice: &SourceFrame) -> Result<OpenFile, ReadSeriesError> {
    let read_error = |source| ReadSeriesError::Read { instance: name(slice), source };
    let pixels = &slice.pixels.source;
    let bytes = Bytes::open(&slice.path, pixels).map_err(read_error)?;
    if !pixels.file.encoding.is_encapsulated() {
        return Ok(OpenFile { bytes, frames: Vec::new() });
    }
    match find_frames(&bytes, pixels) {
        Ok(frames) => Ok(OpenFile { bytes, frames }),
        Err(FindFramesError::Io(source)) => Err(read_error(source)),
        Err(FindFramesError::Layout(source)) => {
            Err(ReadSeriesError::Decode { instance: name(slice), source })
        }
    }
}

fn load_slice(
    slice: &SourceFrame,
    file: &OpenFile,
    scratch: &mut Scratch,
    plane: &mut [f32],
) -> Result<(), ReadSeriesError> {
    let location = &slice.pixels;
    read_frame(location, file, &mut scratch.raw)
        .map_err(|source| ReadSeriesError::Read { instance: name(slice), source })?;
    let codec = location.source.file.encoding.name();
    // Scratch and plane may be left half written by a panic; neither is used after the error.
    let decoded = catch_unwind(AssertUnwindSafe(|| decode_frame(location, scratch, plane)));
    decoded
        .unwrap_or(Err(DecodeFrameError::Panicked { codec }))
        .map_err(|source| ReadSeriesError::Decode { instance: name(slice), source })
}

/// Reads the bytes of a frame, its fragments joined.
fn read_frame(location: &FrameLocation, file: &OpenFile, raw: &mut Vec<u8>) -> std::io::Result<()> {
    raw.clear();
    if !location.source.file.encoding.is_encapsulated() {
        return file.bytes.read(location.source.native_range(location.index), raw);
    }
    let pieces = file.frames.get(location.index as usize).map(Vec::as_slice).unwrap_or_default();
    for piece in pieces {
        file.bytes.read(piece.clone(), raw)?;
    }
    Ok(())
}

fn decode_frame(
    location: &FrameLocation,
    scratch: &mut Scratch,
    plane: &mut [f32],
) -> Result<(), DecodeFrameError> {
    let Scratch { raw, decoded } = scratch;
    let format = &location.source.file.format;
    let rescale = &location.rescale;
    let encoding = location.source.file.encoding;
    let native = SampleLayout::native(format, encoding == Encoding::NativeBig);
    match encoding {
        Encoding::NativeLittle
        | Encoding::NativeBig
        | Encoding::DeflatedDataset
        | Encoding::EncapsulatedNative => {
            enough(raw, format.frame_bytes(), encoding)?;
            convert(raw, native, rescale, plane);
        }
        Encoding::DeflatedFrames => {
            decoded.clear();
            DeflateDecoder::new(raw.as_slice())
                .take(format.frame_bytes() as u64)
                .read_to_end(decoded)
                .map_err(|error| DecodeFrameError::damaged("deflate", error.to_string()))?;
            enough(decoded, format.frame_bytes(), encoding)?;
            convert(decoded, native, rescale, plane);
        }
        Encoding::Rle => {
            rle::decode(raw, format, decoded)?;
            convert(decoded, native, rescale, plane);
        }
        Encoding::JpegLossy => {
            let samples = jpeg::decode(raw, format)?;
            convert(&samples, SampleLayout::decoded(format, 1, 8), rescale, plane);
        }
        Encoding::JpegLossless => {
            let precision = jpeg_lossless::decode(raw, format, decoded)?;
            convert(decoded, SampleLayout::decoded(format, 2, precision), rescale, plane);
        }
        Encoding::JpegLs => {
            let image = jpeg_ls::decode(raw, format)?;
            let layout = SampleLayout::decoded(format, image.bytes, image.precision);
            convert(&image.samples, layout, rescale, plane);
        }
        Encoding::Jpeg2000 => jpeg_2000::decode(raw, format, rescale, plane)?,
    }
    Ok(())
}

fn enough(bytes: &[u8], needed: usize, encoding: Encoding) -> Result<(), DecodeFrameError> {
    if bytes.len() < needed {
        return Err(DecodeFrameError::damaged(encoding.name(), "the frame breaks off"));
    }
    Ok(())
}
