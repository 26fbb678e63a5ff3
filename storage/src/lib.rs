#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod audit;
mod audit_forwarding;
mod backfill;
mod commitment;
mod delivery;
mod digest;
mod ids;
mod intake;
mod job;
mod outbox;
mod provenance;
mod recall;
mod retention;
mod spool;
mod store;
mod words;

pub use audit::{
    Answer, AnswerAbout, AuditFilter, Counts, Cursor, DecisionSummary, DeliveryCount, DeliveryRow,
    DeliverySummary, EventFilter, JobCount, JobDetail, JobSummary, Listing, OpenDelivery, Page,
    ParseCursorError, Recognised, ResultSummary, Sender, SeriesSummary, StoredInstance, StudyStory,
    StudySummary, Why, WhyEntry, WhyWhat,
};
pub use audit_forwarding::{AuditAssociation, AuditBatch, AuditEntry};
pub use backfill::{
    BackfillOf, BackfillSeries, BackfillState, Fetched, ParseBackfillStateError, PlannedSeries,
};
pub use commitment::{
    AwaitedDelivery, Commitment, CommitmentReference, CommitmentVerdict, DeliveryVerdict,
    NewCommitment, Reported,
};
pub use delivery::{
    AfterDeliveryFailure, DeliveryError, DeliveryFailure, DeliveryId, DeliveryState,
    DueDestination, LeasedDelivery, ParseDeliveryStateError,
};
pub use digest::{ParseDigestError, Sha256Digest};
pub use intake::{
    AssociationEnd, AssociationId, AssociationOutcome, InstanceOutcome, Intake, IntakeCommitter,
    IntakeError, IntakeLimits, NewAssociation, NewInstance, ParseAssociationOutcomeError,
    PatientIdentity,
};
pub use job::{
    AfterFailure, AttemptLimit, ChosenSeries, ComparedJob, Decision, DecisionOutcome, Failure,
    Finding, FindingKind, Hold, Hours, JobFailure, JobId, JobInputs, JobOutcome, JobState, Lane,
    Lapsed, LeaseError, LeasedJob, NewDelivery, NewJob, NewResult, NextJob, OperatorError, Ordered,
    ParseDecisionOutcomeError, ParseFindingKindError, ParseHoursError, ParseJobStateError,
    ParseLaneError, ParsePriorityError, ParseResultFormError, Priority, ProtocolRevision,
    ProtocolRule, RecordedDuration, RecordedRouting, ResultForm, Retried, RoutingCursor,
    RoutingPage, RoutingRecord, SettleCandidate, SettleError, SettlePolicy, Settled, ShadowPair,
    StudyToChoose, Taken, TargetMeasurement, read_taken,
};
pub use outbox::OutboxEntry;
pub use provenance::{
    Event, EventKind, ExportedEntry, LedgerDefect, LedgerRoot, LedgerVerdict, ParseEventKindError,
    ParseReasonCodeError, ParseRootPublicKeyError, ReasonCode, RecordedEvent, RootKey,
    RootKeyError, RootPublicKey, SignedRoot, SignedRootError,
};
pub use recall::{RecallId, RecallScope, RecallSubject, RecallableJob, RecallableResult};
pub use retention::{PurgeError, Purged, RetentionPolicy};
pub use spool::{
    BucketCredentials, BucketOptions, FinishedFile, LocalFiles, ParseSpoolKeyError, ReconcileError,
    Reconciled, Space, Spool, SpoolError, SpoolKey, SpoolOptions, SpoolWriter,
};
pub use store::{DatabaseError, SchemaError, Store};
