//! Enumerated values of the segmentation modules, in the standard's spelling.

use dicom_types::SopClassUid;

/// Segmentation Type (0062,0001).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentationType {
    /// One bit a voxel, one frame a segment and slice; segments may overlap.
    Binary,
    /// One number a voxel, one frame a slice.
    Labelmap,
}

impl SegmentationType {
    /// The defined term of PS3.3 C.8.20.2.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Binary => "BINARY",
            Self::Labelmap => "LABELMAP",
        }
    }

    /// Word that tells the UIDs of objects of this kind from those of others of the same job.
    pub(crate) fn uid_word(self) -> &'static str {
        match self {
            Self::Binary => "seg",
            Self::Labelmap => "labelmap",
        }
    }

    /// The SOP class that carries it (PS3.4 B.5).
    ///
    /// # Panics
    /// Never: the UIDs are constants.
    pub fn sop_class_uid(self) -> SopClassUid {
        let uid = match self {
            Self::Binary => "1.2.840.10008.5.1.4.1.1.66.4",
            Self::Labelmap => "1.2.840.10008.5.1.4.1.1.66.7",
        };
        uid.parse().expect("a constant UID is well formed")
    }
}

/// Segments Overlap (0062,0013).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentsOverlap {
    /// At least one voxel belongs to two segments.
    Yes,
    /// No voxel does.
    No,
}

impl SegmentsOverlap {
    /// The enumerated value of PS3.3 C.8.20.2.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Yes => "YES",
            Self::No => "NO",
        }
    }
}
