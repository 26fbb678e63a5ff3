//! Why an instance is not part of a volume, or a volume cannot be read.

use std::fmt;
use std::num::NonZeroU32;

use dicom_types::{GeometryError, SopClassUid, SopInstanceUid};

use super::pixels::DecodeFrameError;
use crate::header::ReadHeaderError;

/// Names an instance, or one frame of it, in an error.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct InstanceName {
    /// `None` for a file that has no valid SOP Instance UID; its path stands in [`super::RefusedInstance`].
    pub sop_instance_uid: Option<SopInstanceUid>,
    /// Frame of an enhanced multi-frame instance.
    pub frame_number: Option<NonZeroU32>,
}

impl InstanceName {
    pub(super) fn new(uid: &SopInstanceUid, frame_number: Option<NonZeroU32>) -> Self {
        Self { sop_instance_uid: Some(uid.clone()), frame_number }
    }
}

impl fmt::Display for InstanceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.sop_instance_uid {
            Some(uid) => write!(f, "instance {uid}")?,
            None => f.write_str("file without a valid SOP Instance UID")?,
        }
        match self.frame_number {
            Some(number) => write!(f, " frame {number}"),
            None => Ok(()),
        }
    }
}

/// Why instances do not make a volume.
///
/// Every variant names the instance at fault, by its UID alone: nothing about the patient is repeated.
#[derive(Debug, thiserror::Error)]
pub enum ReadSeriesError {
    /// The file could not be opened or read.
    #[error("cannot read {instance}")]
    Read {
        /// The instance at fault.
        instance: InstanceName,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is no DICOM file, or its header breaks off or contradicts itself.
    #[error("cannot read the header of a {instance}")]
    Header {
        /// The instance at fault; no header, no name.
        instance: InstanceName,
        /// What is wrong with it.
        source: ReadHeaderError,
    },
    /// The header made its parser panic.
    #[error("the header of a {instance} broke its parser down")]
    HeaderParser {
        /// The instance at fault; no header, no name.
        instance: InstanceName,
    },
    /// An attribute without which the instance cannot be placed or decoded.
    #[error("{instance} has no valid {attribute}")]
    Attribute {
        /// The instance at fault.
        instance: InstanceName,
        /// Name of the attribute that is missing, empty or not legal.
        attribute: &'static str,
    },
    /// Not an image of a kind that holds cross-sections.
    #[error("{instance} is of SOP class {sop_class_uid}, which holds no cross-sections")]
    SopClass {
        /// The instance at fault.
        instance: InstanceName,
        /// Its SOP class.
        sop_class_uid: SopClassUid,
    },
    /// Modality (0008,0060) contradicts the SOP class.
    #[error("{instance} has a Modality that contradicts its SOP class")]
    Modality {
        /// The instance at fault.
        instance: InstanceName,
    },
    /// A scout, a screen capture, a mosaic: the value of Image Type says that it is no cross-section.
    #[error("{instance} is no cross-section: its Image Type holds {image_type}")]
    ImageType {
        /// The instance at fault.
        instance: InstanceName,
        /// The telling value.
        image_type: &'static str,
    },
    /// Pixels that are not one grey value each, or in a form that has no decoder.
    #[error("pixels of {instance} cannot be used: {what}")]
    Pixels {
        /// The instance at fault.
        instance: InstanceName,
        /// What is unusual about them.
        what: &'static str,
    },
    /// No decoder for the transfer syntax.
    #[error("pixels of {instance} are in a transfer syntax that has no decoder")]
    TransferSyntax {
        /// The instance at fault.
        instance: InstanceName,
    },
    /// Image Orientation (Patient) is no pair of unit vectors at right angles.
    #[error("{instance} has an orientation that is not two unit vectors at right angles")]
    Orientation {
        /// The instance at fault.
        instance: InstanceName,
    },
    /// Nothing else in the series lies in parallel to this slice.
    #[error("{instance} is a single slice, which spans no volume")]
    SingleSlice {
        /// The only instance of the stack.
        instance: InstanceName,
    },
    /// Slices are missing, or their distance changes.
    #[error("gap of {gap_mm:.3} mm after {instance}, expected {expected_mm:.3} mm")]
    SliceGap {
        /// The slice in front of the gap.
        instance: InstanceName,
        /// Distance to the next slice along the normal.
        gap_mm: f64,
        /// Median distance of the slices of the stack.
        expected_mm: f64,
    },
    /// The slice is shifted in its plane against the line that the others follow.
    #[error("{instance} lies {distance_mm:.3} mm off the line of its stack")]
    OffLine {
        /// The slice furthest from the line.
        instance: InstanceName,
        /// Its distance in the plane.
        distance_mm: f64,
    },
    /// Two slices at one position that no attribute tells apart.
    #[error("{instance} lies at the position of {other}, and nothing tells them apart")]
    SamePosition {
        /// The later of the two.
        instance: InstanceName,
        /// The earlier of the two.
        other: InstanceName,
    },
    /// Two files with one SOP Instance UID that describe different images.
    #[error("{instance} came twice with different content")]
    Conflict {
        /// The instance at fault.
        instance: InstanceName,
    },
    /// A series with instances of several studies.
    #[error("{instance} names another study than the rest of its series")]
    Study {
        /// The instance at fault.
        instance: InstanceName,
    },
    /// The steps of the grid span no volume.
    #[error("the grid that begins with {instance} cannot be built")]
    Grid {
        /// First slice of the stack.
        instance: InstanceName,
        /// What is wrong with the grid.
        source: GeometryError,
    },
    /// More voxels than a volume may have.
    #[error(
        "the grid that begins with {instance} has {voxels} voxels, at most {limit} are allowed"
    )]
    TooLarge {
        /// First slice of the stack.
        instance: InstanceName,
        /// Voxels asked for.
        voxels: usize,
        /// Voxels allowed.
        limit: usize,
    },
    /// Fewer bytes of pixel data than the image needs.
    #[error("pixel data of {instance} breaks off: {found} bytes of {expected}")]
    Truncated {
        /// The instance at fault.
        instance: InstanceName,
        /// Bytes needed.
        expected: u64,
        /// Bytes there.
        found: u64,
    },
    /// The compressed pixel data could not be decoded.
    #[error("cannot decode the pixels of {instance}")]
    Decode {
        /// The instance at fault.
        instance: InstanceName,
        /// What the decoder met.
        source: DecodeFrameError,
    },
}

impl ReadSeriesError {
    /// Whether the file could not be read at all, which says nothing about the instance in it.
    pub fn is_unread(&self) -> bool {
        matches!(self, Self::Read { .. })
    }
}
