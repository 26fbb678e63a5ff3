//! One cross-section on its way into a stack.

use std::sync::Arc;

use dicom_types::{FrameOfReferenceUid, Modality, SeriesInstanceUid, StudyInstanceUid};

use super::attributes::Decimals;
use super::plane::Plane;
use super::split_facts::SplitFacts;
use super::{InstanceName, SourceFrame};

/// What all frames of an instance share.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct InstanceFacts {
    pub(super) study_instance_uid: StudyInstanceUid,
    pub(super) series_instance_uid: SeriesInstanceUid,
    pub(super) frame_of_reference_uid: Option<FrameOfReferenceUid>,
    pub(super) modality: Modality,
    pub(super) instance_number: Option<i64>,
    pub(super) rows: u16,
    pub(super) columns: u16,
    pub(super) lossy: bool,
}

/// One cross-section: a single-frame instance or a frame of an enhanced one.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    pub(super) instance: Arc<InstanceFacts>,
    pub(super) source: SourceFrame,
    pub(super) plane: Plane,
    pub(super) orientation_text: [String; 6],
    pub(super) spacing_text: [String; 2],
    pub(super) slice_thickness: Option<String>,
    pub(super) facts: SplitFacts,
}

impl Frame {
    pub(super) fn name(&self) -> InstanceName {
        InstanceName::new(&self.source.sop_instance_uid, self.source.frame_number)
    }

    /// Order of acquisition as the scanner numbers it; the UID decides between equals.
    pub(super) fn order(&self) -> (Option<i64>, u32, &str) {
        let frame = self.source.frame_number.map_or(0, std::num::NonZeroU32::get);
        (self.instance.instance_number, frame, self.source.sop_instance_uid.as_str())
    }

    pub(super) fn position_mm(&self) -> [f64; 3] {
        self.source.image_position_patient_mm
    }

    /// Whether two files hold the same image as far as their headers tell; the compression may differ.
    pub(super) fn shows_the_same_as(&self, other: &Self) -> bool {
        let a = &self.instance;
        let b = &other.instance;
        let same_instance = a.study_instance_uid == b.study_instance_uid
            && a.series_instance_uid == b.series_instance_uid
            && a.frame_of_reference_uid == b.frame_of_reference_uid
            && (a.rows, a.columns) == (b.rows, b.columns);
        same_instance
            && self.plane == other.plane
            && self.source.image_position_patient == other.source.image_position_patient
            && self.source.pixels.rescale == other.source.pixels.rescale
    }
}

/// Placement of a frame, read from a data set or its functional groups.
#[derive(Debug)]
pub(super) struct Placement {
    pub(super) position: Decimals<3>,
    pub(super) orientation: Decimals<6>,
    pub(super) spacing: Decimals<2>,
    pub(super) slice_thickness: Option<String>,
}
