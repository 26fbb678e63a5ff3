//! Segmentation objects (PS3.3 A.51): built from masks, and read again before they are sent.

mod check;
mod color;
mod content;
pub(crate) mod decimal;
mod enums;
pub(crate) mod frames;
mod identity;
pub(crate) mod modules;
pub(crate) mod origin;
mod pixels;
mod raw_elements;
pub(crate) mod sop;
pub(crate) mod source_attributes;
pub(crate) mod text;
pub(crate) mod writer;

pub use check::{
    ReadSegment, SegMismatch, check, check_document, check_labelmap, check_structure_set, read,
};
pub use color::recommended_display_cielab;
pub use content::{SegProvenance, SegmentConcept, SegmentDescription, SegmentInput};
pub use enums::{SegmentationType, SegmentsOverlap};
pub use identity::{SegIdentity, derived_uid, frame_of_reference_of};
pub use raw_elements::ReadSourceAttributesError;
pub use sop::{BuildSegError, Segmentation, SegmentationOutcome, build, build_labelmap, overlap};
pub use text::LongString;
