//! DIMSE messages (PS3.7): command sets and statuses.

mod command;
mod status;

pub use command::{
    Attributes, CommandField, CommandSet, DecodeCommandError, MAX_COMMAND_BYTES, Priority,
};
pub use status::{Status, StatusCategory, StoreStatus};
