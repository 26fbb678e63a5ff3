//! What an entry of the ledger says.

use dicom_types::{SeriesInstanceUid, SopInstanceUid, StudyInstanceUid};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::digest::Sha256Digest;
use crate::intake::AssociationId;
use crate::job::JobId;
use crate::store::DatabaseError;
use crate::store::sql::Row;
use crate::words::words;

use super::ReasonCode;

words! {
    /// What happened.
    EventKind, ParseEventKindError;
    /// A process began its work.
    ServiceStarted = "service_started",
    /// A process ended in order.
    ServiceStopped = "service_stopped",
    /// A protocol was seen in this wording for the first time.
    ProtocolRegistered = "protocol_registered",
    /// An association request was refused.
    AssociationRejected = "association_rejected",
    /// A connection ended before an association could be asked for, as TLS did not come about.
    ConnectionRefused = "connection_refused",
    /// Of what a peer proposed to send on an accepted association, something cannot be taken.
    ContextsRefused = "contexts_refused",
    /// An association ended.
    AssociationEnded = "association_ended",
    /// Instances of one series became durable.
    InstancesReceived = "instances_received",
    /// An instance was refused before it became durable.
    InstanceRefused = "instance_refused",
    /// An instance came again with other bytes, or in another place of the hierarchy.
    InstanceConflict = "instance_conflict",
    /// A study came with a second patient id or accession number.
    IdentityDiffers = "identity_differs",
    /// A result of ours came back and was put aside.
    OwnResultReturned = "own_result_returned",
    /// A series was found complete.
    SeriesSettled = "series_settled",
    /// Of the series of a study, a protocol takes this one.
    SeriesChosen = "series_chosen",
    /// Protocols were read and are in force.
    ProtocolsLoaded = "protocols_loaded",
    /// Protocols were read, are wrong, and are not in force: the old ones stay.
    ProtocolsRefused = "protocols_refused",
    /// No protocol applies to a series.
    NothingMatched = "nothing_matched",
    /// A job was made.
    JobCreated = "job_created",
    /// A newer job took a job's place.
    JobSuperseded = "job_superseded",
    /// A worker took a job.
    JobLeased = "job_leased",
    /// A worker gave a job back unfinished.
    JobGivenBack = "job_given_back",
    /// A worker's lease ran out.
    LeaseLapsed = "lease_lapsed",
    /// An attempt did not succeed and the job will be tried again.
    JobDelayed = "job_delayed",
    /// A job ended with results.
    JobDone = "job_done",
    /// A job ended without a voxel in any target.
    JobEmpty = "job_empty",
    /// A job has results that a person is to look at before they are sent.
    JobHeld = "job_held",
    /// A job's input cannot be processed.
    JobRejected = "job_rejected",
    /// A job cannot be done for a reason that is not its input's.
    JobFailed = "job_failed",
    /// A job used up its attempts.
    JobQuarantined = "job_quarantined",
    /// A person cancelled a job.
    JobCancelled = "job_cancelled",
    /// A person asked for another run of an ended job.
    JobRetried = "job_retried",
    /// A person released a held or quarantined job.
    JobReleased = "job_released",
    /// A destination accepted a result and was asked to commit to it.
    ResultSent = "result_sent",
    /// A sender asked to commit to instances and was told which ones are safe.
    CommitmentAnswered = "commitment_answered",
    /// A destination has a result, and where it was asked to, has committed to it.
    ResultDelivered = "result_delivered",
    /// A destination did not accept a result yet; it will be sent again.
    DeliveryDelayed = "delivery_delayed",
    /// A result will not be sent again.
    DeliveryFailed = "delivery_failed",
    /// A destination does not take a result in this form; the same job's result in another form takes its place.
    DeliveryReplaced = "delivery_replaced",
    /// A person asked to send a result again.
    DeliveryRetried = "delivery_retried",
    /// Stored bytes were removed by the retention rules.
    Purged = "purged",
    /// Someone read patient identifiers or searched by them.
    IdentifiersRead = "identifiers_read",
    /// Someone read entries of the ledger.
    LedgerRead = "ledger_read",
    /// A person signed in to the page.
    SignedIn = "signed_in",
    /// Somebody tried to sign in and was refused.
    SignInRefused = "sign_in_refused",
    /// A phantom went through listener, queue and worker, and came out as it should.
    SelfTestPassed = "self_test_passed",
    /// A phantom did not come out, or not as it should.
    SelfTestFailed = "self_test_failed",
    /// The ledger's end was signed with a key outside the database.
    RootSigned = "root_signed",
    /// Series of a PACS are to be fetched for a protocol.
    BackfillOrdered = "backfill_ordered",
    /// A person had results recalled.
    RecallOrdered = "recall_ordered",
    /// A result was recalled.
    ResultRecalled = "result_recalled",
}

/// Something to record. Identifiers are UIDs, AE titles and our own ids; `detail` holds numbers, digests and words of
/// ours, never text from a data set.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// Why, where there is a why.
    pub reason_code: Option<ReasonCode>,
    /// The study concerned.
    pub study_instance_uid: Option<StudyInstanceUid>,
    /// The series concerned.
    pub series_instance_uid: Option<SeriesInstanceUid>,
    /// The instance concerned: received or made.
    pub sop_instance_uid: Option<SopInstanceUid>,
    /// The job concerned.
    pub job_id: Option<JobId>,
    /// The association concerned.
    pub association_id: Option<AssociationId>,
    /// Name of the destination concerned.
    pub destination: Option<String>,
    /// An object with further facts, or null.
    pub detail: serde_json::Value,
}

impl Event {
    /// An event of `kind` about nothing yet.
    pub fn new(kind: EventKind) -> Self {
        Self {
            kind,
            reason_code: None,
            study_instance_uid: None,
            series_instance_uid: None,
            sop_instance_uid: None,
            job_id: None,
            association_id: None,
            destination: None,
            detail: serde_json::Value::Null,
        }
    }

    /// The same event with a reason.
    #[must_use]
    pub fn because(mut self, reason_code: ReasonCode) -> Self {
        self.reason_code = Some(reason_code);
        self
    }

    /// The same event about `series_instance_uid` in `study_instance_uid`.
    #[must_use]
    pub fn of_series(mut self, study: &StudyInstanceUid, series: &SeriesInstanceUid) -> Self {
        self.study_instance_uid = Some(study.clone());
        self.series_instance_uid = Some(series.clone());
        self
    }

    /// The same event about an instance.
    #[must_use]
    pub fn of_instance(mut self, sop_instance_uid: &SopInstanceUid) -> Self {
        self.sop_instance_uid = Some(sop_instance_uid.clone());
        self
    }

    /// The same event about a job.
    #[must_use]
    pub fn of_job(mut self, job_id: JobId) -> Self {
        self.job_id = Some(job_id);
        self
    }

    /// The same event about an association.
    #[must_use]
    pub fn of_association(mut self, association_id: Option<AssociationId>) -> Self {
        self.association_id = association_id;
        self
    }

    /// The same event about a destination.
    #[must_use]
    pub fn to_destination(mut self, destination: &str) -> Self {
        self.destination = Some(destination.to_owned());
        self
    }

    /// The same event with further facts.
    #[must_use]
    pub fn with(mut self, detail: serde_json::Value) -> Self {
        self.detail = detail;
        self
    }
}

/// An entry of the ledger.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedEvent {
    /// Place in the ledger, from 1 without gaps.
    pub seq: u64,
    /// When it was recorded, by the database's clock; never earlier than the entry before.
    pub recorded_at: OffsetDateTime,
    /// The process that recorded it.
    pub actor: String,
    /// What it says.
    pub event: Event,
    /// Hash of the entry before.
    pub previous_hash: Sha256Digest,
    /// Hash of this entry.
    pub hash: Sha256Digest,
}

/// The columns that [`recorded_event`] reads.
macro_rules! event_columns {
    () => {
        "seq, recorded_at, kind, reason_code, actor, study_instance_uid, series_instance_uid, sop_instance_uid, \
         job_id, association_id, destination, detail, previous_hash, hash"
    };
}
pub(crate) use event_columns;

pub(crate) fn recorded_event(row: &Row) -> Result<RecordedEvent, DatabaseError> {
    let detail: String = row.get("detail")?;
    Ok(RecordedEvent {
        seq: row.get::<i64>("seq")? as u64,
        recorded_at: row.get("recorded_at")?,
        actor: row.get("actor")?,
        event: Event {
            kind: row.parse("kind")?,
            reason_code: row.parse_optional("reason_code")?,
            study_instance_uid: row.parse_optional("study_instance_uid")?,
            series_instance_uid: row.parse_optional("series_instance_uid")?,
            sop_instance_uid: row.parse_optional("sop_instance_uid")?,
            job_id: row.get::<Option<Uuid>>("job_id")?.map(JobId::from),
            association_id: row.get::<Option<Uuid>>("association_id")?.map(AssociationId::from),
            destination: row.get("destination")?,
            detail: serde_json::from_str(&detail)
                .map_err(|_| crate::store::sql::shape("detail"))?,
        },
        previous_hash: row.get("previous_hash")?,
        hash: row.get("hash")?,
    })
}
