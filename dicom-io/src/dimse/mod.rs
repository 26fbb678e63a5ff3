//! DIMSE messages (PS3.7): command sets, statuses, and the data sets of storage commitment.

mod command;
mod commitment;
mod status;

pub use command::{
    Attributes, CommandField, CommandSet, DecodeCommandError, MAX_COMMAND_BYTES, Priority,
};
pub use commitment::{
    CommitmentReport, CommitmentRequest, DecodeCommitmentError, FailureReason, ReferencedInstance,
    STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE,
};
pub(crate) use commitment::{
    MAX_COMMITMENT_BYTES, SYNTAXES as COMMITMENT_SYNTAXES, encode_dataset,
};
pub use status::{Status, StatusCategory, StoreStatus};
