//! Segmentation objects (PS3.3 A.51): built from masks, and read again before they are sent.

mod check;
mod color;
mod content;
pub(crate) mod decimal;
mod enums;
pub(crate) mod frames;
mod identity;
pub(crate) mod modules;
mod pixels;
mod raw_elements;
pub(crate) mod sop;
mod source_attributes;
mod text;
pub(crate) mod writer;

pub use check::{ReadSegment, SegMismatch, check, check_labelmap, read};
pub use color::recommended_display_cielab;
pub use content::{SegProvenance, SegmentConcept, SegmentDescription, SegmentInput};
pub use enums::{SegmentationType, SegmentsOverlap};
pub use identity::{SegIdentity, derived_uid};
pub use raw_elements::ReadSourceAttributesError;
pub use sop::{BuildSegError, Segmentation, SegmentationOutcome, build, build_labelmap};
pub use text::LongString;
