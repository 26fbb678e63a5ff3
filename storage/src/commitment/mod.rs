//! Storage commitment, both ways: what senders want to be sure of, and what destinations owe us.

mod answered;
mod awaited;

use dicom_types::{SopClassUid, SopInstanceUid};

pub use answered::{Commitment, CommitmentVerdict, NewCommitment, Reported};
pub use awaited::{AwaitedDelivery, DeliveryVerdict};

/// An instance that is referred to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CommitmentReference {
    /// Its SOP class.
    pub sop_class_uid: SopClassUid,
    /// Its UID.
    pub sop_instance_uid: SopInstanceUid,
}
