//! Intake: from a finished file to a durable instance, many at a time.
//!
//! Owns associations, the recording of instances and the group commit that makes a C-STORE success mean "durable".

mod association;
mod committer;
mod instance;

pub use association::{
    AssociationEnd, AssociationId, AssociationOutcome, NewAssociation, ParseAssociationOutcomeError,
};
pub use committer::{Intake, IntakeCommitter, IntakeError, IntakeLimits};
pub use instance::{InstanceOutcome, NewInstance, PatientIdentity};
