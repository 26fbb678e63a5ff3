//! Builds a segmentation object from masks.

use dicom::dictionary_std::tags;
use dicom_types::{SeriesInstanceUid, SopClassUid, SopInstanceUid};

use super::content::{SegProvenance, SegmentInput};
use super::enums::{SegmentationType, SegmentsOverlap};
use super::frames::{FramePlan, write_functional_groups};
use super::identity::SegIdentity;
use super::modules::{Parts, masks};
use super::origin::Origin;
use super::pixels::{FramePacker, append_labels, label_bytes, overlapping_pair, segments_overlap};
use super::raw_elements::ReadSourceAttributesError;
use super::source_attributes::SourceAttributes;
use super::writer::{ElementWriter, Vr};
use crate::part10::FileMeta;
use crate::series::Stack;

/// Longest value of a defined length (PS3.5 7.1.1), one less than the mark of an undefined length, and even.
const MAX_PIXEL_BYTES: u64 = 0xFFFF_FFFE;

/// Most frames: their functional groups must fit the 32 bits of a length too.
const MAX_FRAMES: usize = 4_000_000;

/// Explicit VR Little Endian.
const EXPLICIT_LITTLE: &str = "1.2.840.10008.1.2.1";

/// Why no segmentation can be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildSegError {
    /// A mask is on another grid than the stack.
    #[error("mask of segment {index} has shape {found:?}, the source has {expected:?}")]
    Shape {
        /// Index of the segment.
        index: usize,
        /// Shape of the source's grid, `[slice, row, column]`.
        expected: [usize; 3],
        /// Shape of the mask.
        found: [usize; 3],
    },
    /// More slices, rows, columns or segments than the object can number.
    #[error("{what}: {found}, at most {max} can be written")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How much there is.
        found: usize,
        /// How much can be written.
        max: usize,
    },
    /// Two segments of a label map share a voxel.
    #[error("segments {} and {} overlap, which a label map cannot say", indices[0], indices[1])]
    Overlap {
        /// Indices of two such segments.
        indices: [usize; 2],
    },
    /// The pixel data does not fit one object.
    #[error("{frames} frames take {bytes} bytes of pixel data, one object holds {MAX_PIXEL_BYTES}")]
    TooLarge {
        /// Frames that hold any voxel.
        frames: usize,
        /// Bytes that they take.
        bytes: u64,
    },
    /// A capture without a frame.
    #[error("there is no picture to write")]
    NoPicture,
    /// Frames of one object have one size.
    #[error("the pictures differ in size")]
    UnevenPictures,
    /// The source instance cannot be read for what the result copies from it.
    #[error("cannot copy from instance {instance}")]
    Source {
        /// The instance.
        instance: SopInstanceUid,
        /// Why not.
        source: ReadSourceAttributesError,
    },
    /// The file of a source instance holds another instance or study than the stack says.
    #[error("file of instance {instance} holds something else")]
    SourceChanged {
        /// The instance that was expected.
        instance: SopInstanceUid,
    },
}

/// What became of the masks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SegmentationOutcome {
    /// An object with a segment for every mask that has voxels.
    Object(Segmentation),
    /// No mask has a voxel: there is nothing to write, since an object needs a frame.
    AllEmpty,
}

/// A segmentation object.
#[derive(Clone, PartialEq, Eq)]
pub struct Segmentation {
    /// Part 10 file in Explicit VR Little Endian.
    pub bytes: Vec<u8>,
    /// Its series.
    pub series_instance_uid: SeriesInstanceUid,
    /// Its identity.
    pub sop_instance_uid: SopInstanceUid,
    /// Indices of the inputs that became segments; Segment Number is the place in this list, from 1.
    pub written: Vec<usize>,
    /// Indices of the inputs without a voxel, which were left out.
    pub empty: Vec<usize>,
    /// Number of frames.
    pub frames: usize,
}

impl std::fmt::Debug for Segmentation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Segmentation")
            .field("bytes", &self.bytes.len())
            .field("series_instance_uid", &self.series_instance_uid)
            .field("sop_instance_uid", &self.sop_instance_uid)
            .field("written", &self.written)
            .field("empty", &self.empty)
            .field("frames", &self.frames)
            .finish()
    }
}

/// Builds a binary segmentation of `stack` with a segment for every input that has voxels, in their order.
///
/// Patient, study and frame of reference are the source's (or, where it states none, the one of
/// [`frame_of_reference_of`](super::frame_of_reference_of)); text is copied as bytes together with the character set.
/// Frames are in the grid, the order and the decimal strings of the source: a gantry tilt stays in the positions. The
/// same inputs give the same bytes. Memory is the object itself and one frame.
///
/// # Errors
/// [`BuildSegError`]
pub fn build(
    stack: &Stack,
    segments: &[SegmentInput<'_>],
    identity: &SegIdentity,
    provenance: &SegProvenance,
) -> Result<SegmentationOutcome, BuildSegError> {
    build_kind(SegmentationType::Binary, stack, segments, identity, provenance)
}

/// Builds a label map of `stack`: one frame a slice, in each pixel the number of its segment.
///
/// As [`build`] otherwise. The value 0 is described as background.
///
/// # Errors
/// [`BuildSegError`], among them [`BuildSegError::Overlap`] when two masks share a voxel, which a label map cannot say.
pub fn build_labelmap(
    stack: &Stack,
    segments: &[SegmentInput<'_>],
    identity: &SegIdentity,
    provenance: &SegProvenance,
) -> Result<SegmentationOutcome, BuildSegError> {
    build_kind(SegmentationType::Labelmap, stack, segments, identity, provenance)
}

/// Two segments that share a voxel, which a label map cannot say, as indices.
pub fn overlap(segments: &[SegmentInput<'_>]) -> Option<[usize; 2]> {
    overlapping_pair(&masks(segments))
}

fn build_kind(
    kind: SegmentationType,
    stack: &Stack,
    segments: &[SegmentInput<'_>],
    identity: &SegIdentity,
    provenance: &SegProvenance,
) -> Result<SegmentationOutcome, BuildSegError> {
    refuse_what_cannot_be_written(stack, segments)?;
    let (written, empty): (Vec<usize>, Vec<usize>) =
        (0..segments.len()).partition(|&index| segments[index].mask.count() > 0);
    if written.is_empty() {
        return Ok(SegmentationOutcome::AllEmpty);
    }
    let kept: Vec<_> = written.iter().map(|&index| segments[index]).collect();
    let masks = masks(&kept);
    let [slices, rows, columns] = stack.geometry.shape();
    let (plan, overlap, pixel_bits) = match kind {
        SegmentationType::Binary => {
            (FramePlan::binary(&masks, slices), segments_overlap(&masks), 1)
        }
        SegmentationType::Labelmap => {
            if let Some(pair) = overlapping_pair(&masks) {
                return Err(BuildSegError::Overlap { indices: pair.map(|place| written[place]) });
            }
            let plan = FramePlan::labelmap(&masks, slices);
            (plan, SegmentsOverlap::No, 8 * label_bytes(masks.len()))
        }
    };
    if plan.frames.len() > MAX_FRAMES {
        let found = plan.frames.len();
        return Err(BuildSegError::TooMany { what: "frames", found, max: MAX_FRAMES });
    }
    let pixel_bytes = pixel_bytes(plan.frames.len(), rows * columns * pixel_bits)?;

    let source = read_source(stack)?;
    let parts = Parts {
        origin: Origin { stack, source: &source, identity, provenance },
        segments: &kept,
        plan: &plan,
        overlap,
        kind,
    };
    let sop_instance_uid = identity.sop_instance_uid(kind.uid_word());
    let modules = parts.write_modules();
    let mut groups = ElementWriter::new();
    write_functional_groups(stack, &plan, &mut groups);
    let pixel_vr = if pixel_bits > 8 { Vr(*b"OW") } else { Vr(*b"OB") };
    groups.header(tags::PIXEL_DATA, pixel_vr, pixel_bytes);
    let groups = groups.into_bytes();

    let mut bytes = file_meta(kind.sop_class_uid(), &sop_instance_uid).encode();
    let total = bytes.len() + modules.len() + groups.len() + pixel_bytes as usize;
    bytes.reserve_exact(total - bytes.len());
    bytes.extend_from_slice(&modules);
    bytes.extend_from_slice(&groups);
    let mut packer = FramePacker::new(rows, columns);
    for frame in &plan.frames {
        match frame.segment {
            Some(segment) => {
                bytes.extend_from_slice(packer.pack(masks[segment], frame.slice));
            }
            None => append_labels(&masks, frame.slice, pixel_bits / 8, &mut bytes),
        }
    }
    bytes.extend(packer.finish());
    bytes.resize(total, 0);
    Ok(SegmentationOutcome::Object(Segmentation {
        bytes,
        series_instance_uid: identity.series_instance_uid(kind.uid_word()),
        sop_instance_uid,
        written,
        empty,
        frames: plan.frames.len(),
    }))
}

/// The meta group of an object in Explicit VR Little Endian.
pub(crate) fn file_meta(sop_class_uid: SopClassUid, sop_instance_uid: &SopInstanceUid) -> FileMeta {
    FileMeta {
        sop_class_uid,
        sop_instance_uid: sop_instance_uid.clone(),
        transfer_syntax_uid: EXPLICIT_LITTLE.parse().expect("a constant UID is well formed"),
        source_ae_title: None,
    }
}

pub(crate) fn refuse_what_cannot_be_written(
    stack: &Stack,
    segments: &[SegmentInput<'_>],
) -> Result<(), BuildSegError> {
    let expected = stack.geometry.shape();
    for (index, segment) in segments.iter().enumerate() {
        let found = segment.mask.shape();
        if found != expected {
            return Err(BuildSegError::Shape { index, expected, found });
        }
    }
    let max = usize::from(u16::MAX);
    for (what, found) in
        [("rows", expected[1]), ("columns", expected[2]), ("segments", segments.len())]
    {
        if found > max {
            return Err(BuildSegError::TooMany { what, found, max });
        }
    }
    Ok(())
}

/// Even number of bytes that `frames` frames of `frame_bits` bits take.
fn pixel_bytes(frames: usize, frame_bits: usize) -> Result<u32, BuildSegError> {
    let bytes = (frames as u64 * frame_bits as u64).div_ceil(16) * 2;
    if bytes >= MAX_PIXEL_BYTES {
        return Err(BuildSegError::TooLarge { frames, bytes });
    }
    Ok(bytes as u32)
}

pub(crate) fn read_source(stack: &Stack) -> Result<SourceAttributes, BuildSegError> {
    let first = &stack.slices[0];
    let attributes = SourceAttributes::read(&first.path).map_err(|source| {
        BuildSegError::Source { instance: first.sop_instance_uid.clone(), source }
    })?;
    let is_expected = attributes.sop_instance_uid.as_deref()
        == Some(first.sop_instance_uid.as_str())
        && attributes.study_instance_uid.as_deref() == Some(stack.study_instance_uid.as_str());
    if !is_expected {
        return Err(BuildSegError::SourceChanged { instance: first.sop_instance_uid.clone() });
    }
    Ok(attributes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixel_data_is_even_and_fits_its_length() {
        assert_eq!(pixel_bytes(3, 23 * 38).unwrap(), 328);
        assert_eq!(pixel_bytes(1, 1).unwrap(), 2);
        assert!(matches!(
            pixel_bytes(131_072, 512 * 512),
            Err(BuildSegError::TooLarge { bytes: 4_294_967_296, .. })
        ));
        assert!(pixel_bytes(131_071, 512 * 512).is_ok());
    }
}
