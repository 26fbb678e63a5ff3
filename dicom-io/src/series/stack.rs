//! Slices that make one volume, and how its voxels are loaded.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;

use dicom::object::InMemDicomObject;
use dicom_types::{
    FrameOfReferenceUid, GridGeometry, Modality, SeriesInstanceUid, SopClassUid, SopInstanceUid,
    StudyInstanceUid, TransferSyntaxUid, Volume,
};

use super::ReadSeriesError;
use super::pixels::{self, FrameLocation};

/// Instances or frames of one series that together are a regular grid of voxels.
#[derive(Debug, Clone)]
pub struct Stack {
    /// Study that the series belongs to.
    pub study_instance_uid: StudyInstanceUid,
    /// Series that the slices belong to.
    pub series_instance_uid: SeriesInstanceUid,
    /// Shared by all slices; `None` when none of them has one.
    pub frame_of_reference_uid: Option<FrameOfReferenceUid>,
    /// What the scanner is.
    pub modality: Modality,
    /// Where the voxels lie. The slice index grows along the normal of the plane (row direction cross column
    /// direction), rows and columns are those of the stored images.
    pub geometry: GridGeometry,
    /// One per slice index of `geometry`, in its order.
    pub slices: Vec<SourceFrame>,
    /// Image Orientation (Patient) of the first slice, decimal strings as stored.
    pub image_orientation_patient: [String; 6],
    /// Pixel Spacing of the first slice, row spacing first, decimal strings as stored.
    pub pixel_spacing: [String; 2],
    /// Slice Thickness of the first slice as stored, where it has one.
    pub slice_thickness: Option<String>,
    /// Whether any slice was compressed with loss, by its header or its transfer syntax.
    pub lossy_image_compression: bool,
    /// The first slice's data set without pixel data: what results copy from.
    pub header: Arc<InMemDicomObject>,
}

/// The image that one slice of a stack came from.
#[derive(Debug, Clone)]
pub struct SourceFrame {
    /// File that holds the instance.
    pub path: PathBuf,
    /// Its SOP class.
    pub sop_class_uid: SopClassUid,
    /// Its identity.
    pub sop_instance_uid: SopInstanceUid,
    /// Transfer syntax of the file.
    pub transfer_syntax_uid: TransferSyntaxUid,
    /// Frame in the instance, from 1; `None` for a single-frame instance.
    pub frame_number: Option<NonZeroU32>,
    /// Image Position (Patient), decimal strings as stored.
    pub image_position_patient: [String; 3],
    /// Image Position (Patient) in millimetres, LPS.
    pub image_position_patient_mm: [f64; 3],
    pub(super) pixels: FrameLocation,
}

impl Stack {
    /// Decodes the slices on rayon's threads and applies each one's modality transformation.
    ///
    /// Values are HU for CT, stored units for MR and PET, `[slice, row, column]`. Pixel Padding Value is left as it
    /// is, and MONOCHROME1 is not inverted: both concern display. Memory is the volume plus one frame per thread.
    ///
    /// # Errors
    /// [`ReadSeriesError`] naming the instance whose file cannot be read or decoded; a decoder that panics is such
    /// an error too.
    pub fn load(&self) -> Result<Volume, ReadSeriesError> {
        pixels::load(&self.geometry, &self.slices)
    }
}
