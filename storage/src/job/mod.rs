//! Jobs: one protocol on one series each.
//!
//! Owns a job's identity, its states and every transition between them. A transition is a guarded update: it happens
//! only where the row still has the state and the lease that its caller believes in.

mod finding;
mod id;
mod lease;
mod operator;
mod order;
mod outcome;
mod routing;
mod rule;
mod settle;
mod shadow;
mod state;

pub use finding::{Finding, FindingKind, ParseFindingKindError};
pub use id::{JobId, JobInputs};
pub use lease::{Lapsed, LeasedJob, NextJob};
pub use operator::{OperatorError, Retried};
pub use order::Ordered;
pub use outcome::{
    AfterFailure, AttemptLimit, Failure, Hold, JobFailure, JobOutcome, LeaseError, NewDelivery,
    NewResult, TargetMeasurement,
};
pub use routing::{
    ChosenSeries, RecordedDuration, RecordedRouting, RoutingCursor, RoutingPage, RoutingRecord,
    StudyToChoose, Taken, read_taken,
};
pub use rule::{Hours, ParseHoursError, ProtocolRule};
pub use settle::{
    Decision, DecisionOutcome, NewJob, ParseDecisionOutcomeError, ProtocolRevision,
    SettleCandidate, SettleError, SettlePolicy, Settled,
};
pub use shadow::{ComparedJob, ShadowPair};
pub use state::{
    JobState, Lane, ParseJobStateError, ParseLaneError, ParsePriorityError, ParseResultFormError,
    Priority, ResultForm,
};

pub(crate) use finding::read_finding;
pub(crate) use outcome::{cancel_deliveries, insert_result};
pub(crate) use rule::Closed;
