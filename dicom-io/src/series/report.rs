//! What became of a set of files.

use std::path::PathBuf;

use dicom_types::{SeriesInstanceUid, SopInstanceUid};

use super::{InstanceName, ReadSeriesError, Stack};

/// Where every file of a set ended: in a stack, in a refusal, or beside the instance that it repeats.
#[derive(Debug)]
pub struct SeriesReport {
    /// The volumes, by Series Instance UID; within a series the one with most voxels first, then in the order of
    /// acquisition.
    pub stacks: Vec<Stack>,
    /// What is no volume, by Series Instance UID.
    pub refusals: Vec<Refusal>,
    /// Files that repeat an instance of the set.
    pub duplicates: Vec<Duplicate>,
}

/// Instances that are no volume, for one reason.
#[derive(Debug)]
pub struct Refusal {
    /// Series that they belong to, where they name one.
    pub series_instance_uid: Option<SeriesInstanceUid>,
    /// All that the reason keeps out, not only the one at fault.
    pub instances: Vec<RefusedInstance>,
    /// Names the instance at fault.
    pub reason: ReadSeriesError,
}

/// An instance, or a frame of it, that is not part of a volume.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RefusedInstance {
    /// The instance.
    pub name: InstanceName,
    /// File that holds it.
    pub path: PathBuf,
}

/// A file that repeats an instance with the same image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duplicate {
    /// The instance.
    pub sop_instance_uid: SopInstanceUid,
    /// The file that was used.
    pub kept: PathBuf,
    /// The file that was not.
    pub path: PathBuf,
}
