//! What goes into a segmentation: segments, and how they came about.

use dicom_types::Mask;

use super::text::LongString;
use crate::coded_concept::CodedConcept;

/// What a segment shows, in codes (PS3.3 C.8.20.4).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SegmentConcept {
    /// Segmented Property Category, such as 91723000 SCT "Anatomical Structure".
    pub property_category: CodedConcept,
    /// Segmented Property Type, such as 10200004 SCT "Liver".
    pub property_type: CodedConcept,
    /// Segmented Property Type Modifier: the side, where the type does not say it.
    pub property_type_modifier: Option<CodedConcept>,
    /// Anatomic Region, for lesions and tissue.
    pub anatomic_region: Option<CodedConcept>,
    /// Anatomic Region Modifier; written only with a region.
    pub anatomic_region_modifier: Option<CodedConcept>,
}

/// One segment without its voxels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentDescription {
    /// Segment Label, what viewers list.
    pub label: LongString,
    /// The text that the model was given. One job has a prompt once: Tracking UID is derived from it.
    pub prompt: String,
    /// What it shows.
    pub concept: SegmentConcept,
    /// Recommended display colour, sRGB.
    pub rgb: [u8; 3],
}

/// A segment and its voxels.
#[derive(Debug, Clone, Copy)]
pub struct SegmentInput<'a> {
    /// What it is.
    pub description: &'a SegmentDescription,
    /// Its voxels, on the stored grid of the stack.
    pub mask: &'a Mask,
}

/// How a result came about, written into it so that the file alone can tell.
///
/// The texts are fitted to the lengths and characters that their attributes allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegProvenance {
    /// Version of this software.
    pub software_version: String,
    /// Name of the model pack.
    pub model_name: String,
    /// Version of the model pack.
    pub model_version: String,
    /// SHA-256 of the model pack, lower-case hexadecimal.
    pub pack_digest: String,
    /// Name of the protocol.
    pub protocol_name: String,
    /// Revision of the protocol.
    pub protocol_revision: String,
    /// What tells this installation from others: Device Serial Number.
    pub device_serial_number: String,
    /// What a reader must know of the status of the result, such as "Research use, not for diagnosis".
    pub notice: String,
}
