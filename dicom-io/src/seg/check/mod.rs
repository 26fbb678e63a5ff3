//! Reads a segmentation again before it is sent and compares it with its masks in patient space.
//!
//! Nothing here is shared with the code that writes: the object is read from its bytes by a parser of its own, bits are
//! taken out one frame after the other, positions come from the numbers that were written, patient and study are held
//! against the header that the series was read from.

mod contours;
mod frames;
mod identity;
mod labels;
mod object;
mod read;
mod segments;
mod voxels;

use dicom_types::SopInstanceUid;

use super::content::SegmentInput;
use super::enums::SegmentationType;
use crate::series::Stack;
use frames::Frames;
use object::Parsed;
pub use read::{ReadSegment, read};

/// What a segmentation and its masks, its source or itself disagree about. No message repeats a patient's values.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SegMismatch {
    /// The bytes are no data set.
    #[error("the object cannot be parsed")]
    Unreadable,
    /// An attribute is missing or has a value of the wrong kind.
    #[error("{attribute} is missing or malformed")]
    Malformed {
        /// Keyword of the attribute.
        attribute: &'static str,
    },
    /// An attribute says something that a segmentation of this kind and source cannot say.
    #[error("{attribute} has an unexpected value")]
    Unexpected {
        /// Keyword of the attribute.
        attribute: &'static str,
    },
    /// The object belongs to another patient or study than the source, or says so in other bytes.
    #[error("{attribute} is not that of the source")]
    Identity {
        /// Keyword of the attribute.
        attribute: &'static str,
    },
    /// A segment is not described as it should be.
    #[error("{attribute} of segment {number} is not that of its target")]
    Segment {
        /// Segment Number.
        number: u16,
        /// Keyword of the attribute.
        attribute: &'static str,
    },
    /// The number of segments is not that of the masks with voxels.
    #[error("{found} segments for {expected} targets that were found")]
    SegmentCount {
        /// Masks with voxels.
        expected: usize,
        /// Segments described.
        found: usize,
    },
    /// The rows or columns of a frame run another way, or with other steps, than those of the source.
    #[error("frame {frame} is turned, mirrored or scaled in its plane")]
    Plane {
        /// Number of the frame, from 1.
        frame: usize,
    },
    /// A frame does not lie on a slice of the source.
    #[error("frame {frame} lies {distance_mm:.3} mm off the nearest slice of the source")]
    Position {
        /// Number of the frame, from 1.
        frame: usize,
        /// Distance of the first pixels' centres.
        distance_mm: f64,
    },
    /// A frame names another image as its source than the one that it lies on.
    #[error("frame {frame} does not refer to instance {instance}, on which it lies")]
    Reference {
        /// Number of the frame, from 1.
        frame: usize,
        /// The instance of the slice.
        instance: SopInstanceUid,
    },
    /// The dimension index of a frame contradicts its segment or its position.
    #[error("dimension index of frame {frame} contradicts its segment or position")]
    DimensionIndex {
        /// Number of the frame, from 1.
        frame: usize,
    },
    /// Two frames show the same segment on the same slice.
    #[error("frame {frame} repeats segment {number} on a slice")]
    RepeatedFrame {
        /// Number of the frame, from 1.
        frame: usize,
        /// Segment Number.
        number: u16,
    },
    /// A slice of a mask has voxels but no frame.
    #[error("segment {number} has no frame on slice {slice}")]
    MissingFrame {
        /// Segment Number.
        number: u16,
        /// Slice of the source, from 0.
        slice: usize,
    },
    /// The pixels inside the contours of a slice are not those of the mask.
    #[error("contours of region {number} on slice {slice} enclose other voxels than its mask has")]
    Contour {
        /// Number of the region.
        number: u16,
        /// Slice of the source, from 0.
        slice: usize,
    },
    /// The pixels of a frame are not those of the mask at the place where it lies.
    #[error("frame {frame} differs from the mask of segment {number}")]
    Voxels {
        /// Number of the frame, from 1.
        frame: usize,
        /// Segment Number.
        number: u16,
    },
}

/// Checks that the Part 10 file `bytes` is a binary segmentation of `stack` that shows `segments`, each where its mask
/// lies in the patient, described as it should be, for the right patient and study.
///
/// `segments` are the inputs of [`super::build`], those without a voxel included.
///
/// # Errors
/// [`SegMismatch`] names the first difference.
pub fn check(
    bytes: &[u8],
    stack: &Stack,
    segments: &[SegmentInput<'_>],
) -> Result<(), SegMismatch> {
    check_kind(SegmentationType::Binary, bytes, stack, segments)
}

/// Checks a label map as [`check`] does a binary segmentation; `segments` are the inputs of
/// [`super::build_labelmap`].
///
/// # Errors
/// [`SegMismatch`] names the first difference.
pub fn check_labelmap(
    bytes: &[u8],
    stack: &Stack,
    segments: &[SegmentInput<'_>],
) -> Result<(), SegMismatch> {
    check_kind(SegmentationType::Labelmap, bytes, stack, segments)
}

/// Checks that the Part 10 file `bytes` belongs to the patient and the study of `stack`, has a series of its own and
/// is of `sop_class_uid`: what can be said of a result that shows no voxels, such as a report.
///
/// # Errors
/// [`SegMismatch`] names the first difference.
pub fn check_document(bytes: &[u8], stack: &Stack, sop_class_uid: &str) -> Result<(), SegMismatch> {
    identity::check_document(&Parsed::from_bytes(bytes)?, stack, sop_class_uid)
}

/// Checks that the Part 10 file `bytes` is a structure set of `stack` whose contours enclose the masks of `segments`,
/// the inputs of [`crate::rtstruct::build`].
///
/// # Errors
/// [`SegMismatch`] names the first difference.
pub fn check_structure_set(
    bytes: &[u8],
    stack: &Stack,
    segments: &[SegmentInput<'_>],
) -> Result<(), SegMismatch> {
    let object = Parsed::from_bytes(bytes)?;
    identity::check_document(&object, stack, crate::rtstruct::SOP_CLASS_UID)?;
    let present: Vec<_> =
        segments.iter().filter(|segment| segment.mask.count() > 0).copied().collect();
    contours::check(&object, stack, &present)
}

fn check_kind(
    kind: SegmentationType,
    bytes: &[u8],
    stack: &Stack,
    segments: &[SegmentInput<'_>],
) -> Result<(), SegMismatch> {
    let present: Vec<_> =
        segments.iter().filter(|segment| segment.mask.count() > 0).copied().collect();
    let object = Parsed::from_bytes(bytes)?;
    let bits = match kind {
        SegmentationType::Binary => 1,
        SegmentationType::Labelmap if present.len() < 256 => 8,
        SegmentationType::Labelmap => 16,
    };
    identity::check(&object, stack, kind, bits)?;
    segments::check(&object, &present, kind)?;
    let frames = Frames::read(&object, stack, kind, present.len())?;
    frames.check_references(&object, stack)?;
    frames.check_dimension_index()?;
    match kind {
        SegmentationType::Binary => voxels::check(&object, &frames, stack, &present),
        SegmentationType::Labelmap => labels::check(&object, &frames, stack, &present, bits),
    }
}
