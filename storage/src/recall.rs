//! Recall: results of a faulty pack or protocol are found, what was not sent stays here, and what was sent is retracted.

use dicom_types::{SeriesInstanceUid, SopClassUid, SopInstanceUid, StudyInstanceUid};
use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::delivery::DeliveryState;
use crate::digest::Sha256Digest;
use crate::ids::id;
use crate::job::{JobId, NewResult, ResultForm, insert_result};
use crate::provenance::{Event, EventKind, ReasonCode};
use crate::spool::SpoolKey;
use crate::store::sql::{Row, Value, values};
use crate::store::{DatabaseError, Store};

id! {
    /// Identifier of a recall.
    RecallId
}

/// Which results are recalled: those that satisfy everything that is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecallScope {
    /// Pack or protocol.
    pub of: RecallSubject,
    /// Made at this time or later.
    pub since: Option<OffsetDateTime>,
}

/// What is faulty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecallSubject {
    /// The model pack with this digest.
    Pack(Sha256Digest),
    /// The protocol of this name.
    Protocol(String),
}

/// A job with results that can be recalled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecallableJob {
    /// The job.
    pub job_id: JobId,
    /// Its study.
    pub study_instance_uid: StudyInstanceUid,
    /// The series that was segmented.
    pub series_instance_uid: SeriesInstanceUid,
    /// Name of the protocol.
    pub protocol_name: String,
    /// Digest of the model pack.
    pub pack_digest: Sha256Digest,
    /// Its results.
    pub results: Vec<RecallableResult>,
}

/// A result that can be recalled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecallableResult {
    /// Itself.
    pub sop_instance_uid: SopInstanceUid,
    /// Its series.
    pub series_instance_uid: SeriesInstanceUid,
    /// Its SOP Class.
    pub sop_class_uid: SopClassUid,
    /// Its form.
    pub form: ResultForm,
    /// Where its bytes are, unless retention removed them.
    pub spool_key: Option<SpoolKey>,
    /// Destinations that have it, or may have it: it was sent there and no refusal came back for good.
    pub sent_to: Vec<String>,
    /// Destinations that it waits for.
    pub waits_for: Vec<String>,
}

impl RecallableJob {
    /// Destinations that may have any of the results, each once.
    pub fn destinations(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.results.iter().flat_map(|result| result.sent_to.iter().cloned()).collect();
        names.sort();
        names.dedup();
        names
    }
}

impl Store {
    /// The results of `scope` that were not recalled yet, in the order of their jobs' ends.
    ///
    /// # Errors
    /// Where the database cannot answer.
    pub async fn recallable(
        &self,
        scope: &RecallScope,
    ) -> Result<Vec<RecallableJob>, DatabaseError> {
        let (subject, value) = match &scope.of {
            RecallSubject::Pack(digest) => ("job.pack_digest = $1", Value::from(digest)),
            RecallSubject::Protocol(name) => ("job.protocol_name = $1", Value::from(name)),
        };
        let statement = format!(
            "select job.job_id, series.study_instance_uid, job.series_instance_uid, job.protocol_name, \
                    job.pack_digest, result.sop_instance_uid, result.series_instance_uid as result_series_uid, \
                    result.sop_class_uid, result.form, result.spool_key, result.purged_at, delivery.destination, \
                    delivery.state, delivery.attempt \
               from job \
               join series on series.series_instance_uid = job.series_instance_uid \
               join result on result.job_id = job.job_id \
               left join delivery on delivery.sop_instance_uid = result.sop_instance_uid \
              where {subject} and result.created_at >= $2 and result.form <> 'rejection_note' \
                and not exists (select 1 from recalled_result \
                                 where recalled_result.sop_instance_uid = result.sop_instance_uid) \
              order by job.finished_at, job.job_id, result.sop_instance_uid, delivery.destination"
        );
        let since = scope.since.unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let mut bound = vec![value];
        bound.extend(values![since]);
        let mut jobs: Vec<RecallableJob> = Vec::new();
        for row in &self.pool.rows(statement, bound).await? {
            let job_id = JobId::from(row.get::<Uuid>("job_id")?);
            if jobs.last().is_none_or(|job| job.job_id != job_id) {
                jobs.push(read_job(row, job_id)?);
            }
            if let Some(job) = jobs.last_mut() {
                add_result(job, row)?;
            }
        }
        Ok(jobs)
    }

    /// Records that a person recalls the results of `scope`.
    ///
    /// # Errors
    /// Where the database cannot do it.
    pub async fn order_recall(
        &self,
        scope: &RecallScope,
        reason_code: &ReasonCode,
    ) -> Result<RecallId, DatabaseError> {
        let recall_id = Uuid::new_v4();
        let (pack, protocol) = match &scope.of {
            RecallSubject::Pack(digest) => (Some(digest), None),
            RecallSubject::Protocol(name) => (None, Some(name.as_str())),
        };
        let mut transaction = self.begin().await?;
        let now = transaction.now();
        transaction
            .execute(
                "insert into recall (recall_id, subject, since, reason_code, ordered_by, ordered_at) \
                 values ($1, $2, $3, $4, $5, $6)",
                values![
                    recall_id,
                    match pack {
                        Some(digest) => format!("pack {digest}"),
                        None => format!("protocol {}", protocol.unwrap_or_default()),
                    },
                    scope.since,
                    reason_code.as_str(),
                    self.actor.as_str(),
                    now,
                ],
            )
            .await?;
        let event = Event::new(EventKind::RecallOrdered).because(reason_code.clone()).with(json!({
            "recall_id": recall_id.to_string(), "pack_digest": pack.map(ToString::to_string),
            "protocol": protocol,
            "since": scope.since.map(crate::store::instant::to_text),
        }));
        transaction.record(event);
        transaction.commit().await?;
        Ok(recall_id.into())
    }

    /// Recalls the results of one job: what waits is not sent any more, and `note`, durable in the spool, goes where
    /// they have been sent. Without a note they are only marked. Returns how many results were recalled; those that
    /// somebody else recalled meanwhile are left as they are.
    ///
    /// # Errors
    /// Where the database cannot do it.
    pub async fn recall_results(
        &self,
        recall_id: RecallId,
        reason_code: &ReasonCode,
        job: &RecallableJob,
        note: Option<&NewResult>,
    ) -> Result<u64, DatabaseError> {
        let mut transaction = self.begin().await?;
        let now = transaction.now();
        if let Some(note) = note {
            insert_result(&mut transaction, job.job_id, note).await?;
        }
        let mut recalled = 0;
        for result in &job.results {
            let marked = transaction
                .execute(
                    "insert into recalled_result (sop_instance_uid, recall_id, note_sop_instance_uid, recalled_at) \
                     values ($1, $2, $3, $4) \
                     on conflict (sop_instance_uid) do nothing",
                    values![
                        result.sop_instance_uid.as_str(),
                        *recall_id.as_uuid(),
                        note.map(|note| note.sop_instance_uid.as_str()),
                        now,
                    ],
                )
                .await?;
            if marked == 0 {
                continue;
            }
            recalled += 1;
            transaction
                .execute(
                    "update delivery set state = 'cancelled', reason_code = $1 \
                      where sop_instance_uid = $2 and state in ('pending', 'failed')",
                    values![reason_code.as_str(), result.sop_instance_uid.as_str()],
                )
                .await?;
            let event = Event::new(EventKind::ResultRecalled)
                .because(reason_code.clone())
                .of_series(&job.study_instance_uid, &job.series_instance_uid)
                .of_instance(&result.sop_instance_uid)
                .of_job(job.job_id)
                .with(json!({
                    "recall_id": recall_id.to_string(),
                    "rejection_note": note.map(|note| note.sop_instance_uid.as_str()),
                    "sent_to": result.sent_to, "stopped": result.waits_for,
                }));
            transaction.record(event);
        }
        if recalled > 0 {
            transaction.commit().await?;
        }
        Ok(recalled)
    }
}

fn read_job(row: &Row, job_id: JobId) -> Result<RecallableJob, DatabaseError> {
    Ok(RecallableJob {
        job_id,
        study_instance_uid: row.parse("study_instance_uid")?,
        series_instance_uid: row.parse("series_instance_uid")?,
        protocol_name: row.get("protocol_name")?,
        pack_digest: row.get("pack_digest")?,
        results: Vec::new(),
    })
}

/// Adds the row's result, or to the one before the row's destination.
fn add_result(job: &mut RecallableJob, row: &Row) -> Result<(), DatabaseError> {
    let sop_instance_uid: SopInstanceUid = row.parse("sop_instance_uid")?;
    if job.results.last().is_none_or(|result| result.sop_instance_uid != sop_instance_uid) {
        let is_there = row.get::<Option<OffsetDateTime>>("purged_at")?.is_none();
        let spool_key: SpoolKey = row.parse("spool_key")?;
        job.results.push(RecallableResult {
            sop_instance_uid,
            series_instance_uid: row.parse("result_series_uid")?,
            sop_class_uid: row.parse("sop_class_uid")?,
            form: row.parse("form")?,
            spool_key: is_there.then_some(spool_key),
            sent_to: Vec::new(),
            waits_for: Vec::new(),
        });
    }
    let Some(result) = job.results.last_mut() else { return Ok(()) };
    let Some(destination) = row.get::<Option<String>>("destination")? else { return Ok(()) };
    let attempts: i64 = row.get("attempt")?;
    match row.parse::<DeliveryState>("state")? {
        DeliveryState::Delivered | DeliveryState::Sent | DeliveryState::Sending => {
            result.sent_to.push(destination);
        }
        // An attempt whose answer never came may have been stored all the same.
        DeliveryState::Pending | DeliveryState::Failed => {
            if attempts > 0 {
                result.sent_to.push(destination.clone());
            }
            result.waits_for.push(destination);
        }
        DeliveryState::Cancelled if attempts > 0 => result.sent_to.push(destination),
        DeliveryState::Cancelled => {}
    }
    Ok(())
}
