//! How a job ends, or is put off.

use std::num::NonZeroU32;
use std::time::Duration;

use dicom_types::{SeriesInstanceUid, SopClassUid, SopInstanceUid};
use serde_json::json;
use time::OffsetDateTime;

use crate::delivery::{DeliveryId, fallbacks_text};
use crate::digest::Sha256Digest;
use crate::outbox::enqueue;
use crate::provenance::{EventKind, ReasonCode};
use crate::spool::SpoolKey;
use crate::store::sql::{Transaction, values};
use crate::store::{DatabaseError, Store};

use super::finding::{Finding, for_ledger, replace_findings};
use super::lease::{LeasedJob, about};
use super::state::{Lane, ResultForm};
use super::{JobId, JobState};

/// How many attempts a job has before it is quarantined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttemptLimit(pub NonZeroU32);

impl AttemptLimit {
    pub(super) fn allows_another_after(self, attempt: u32) -> bool {
        attempt < self.0.get()
    }
}

/// Why a worker may not go on with a job.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// The lease ran out, or the job was cancelled or superseded. What was made of it is to be dropped.
    #[error("lease on job {job} is lost")]
    Lost {
        /// The job.
        job: JobId,
    },
    /// The database did not do it.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// What a job found of one target.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetMeasurement {
    /// The target's text prompt.
    pub prompt: String,
    /// Its Segment Number in the result, where it has a voxel.
    pub segment_number: Option<u32>,
    /// Voxels in the mask.
    pub voxel_count: u64,
    /// Volume of the mask in millilitres.
    pub volume_ml: f64,
}

/// A destination that a result goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDelivery {
    /// Name of the destination in the configuration.
    pub destination: String,
    /// Results of the same job in other forms, one of which takes this one's place where the destination refuses it,
    /// in the order in which they are tried.
    pub fallbacks: Vec<SopInstanceUid>,
}

/// A result object, durable in the spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewResult {
    /// Its SOP Instance UID, derived from the job.
    pub sop_instance_uid: SopInstanceUid,
    /// Its Series Instance UID, derived from the job.
    pub series_instance_uid: SeriesInstanceUid,
    /// Its SOP Class.
    pub sop_class_uid: SopClassUid,
    /// Its form.
    pub form: ResultForm,
    /// Digest of its bytes.
    pub sha256: Sha256Digest,
    /// Their number.
    pub size_bytes: u64,
    /// Where they are.
    pub spool_key: SpoolKey,
    /// The result of the same job that it refers to: it goes out behind that one.
    pub refers_to: Option<SopInstanceUid>,
    /// Where they go.
    pub deliveries: Vec<NewDelivery>,
}

impl NewResult {
    /// The same, without a destination.
    fn sent_nowhere(&self) -> Self {
        Self { deliveries: Vec::new(), ..self.clone() }
    }
}

/// How a job ended well.
#[derive(Debug, Clone, PartialEq)]
pub enum JobOutcome {
    /// With results.
    Done {
        /// Measurements, in the order of the protocol's targets.
        targets: Vec<TargetMeasurement>,
        /// What is odd about them.
        findings: Vec<Finding>,
        /// Why the results are kept back until a person releases them, where they are.
        hold: Option<Hold>,
        /// The results.
        results: Vec<NewResult>,
        /// Timings and the like for the ledger: numbers, digests and words of ours.
        detail: serde_json::Value,
    },
    /// Without a voxel in any target.
    Empty {
        /// Measurements, all zero.
        targets: Vec<TargetMeasurement>,
        /// What is odd about them.
        findings: Vec<Finding>,
        /// Timings and the like for the ledger.
        detail: serde_json::Value,
    },
}

/// Why results are not sent before a person has looked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// As a code.
    pub reason_code: ReasonCode,
    /// For a person: prompts and numbers, never a value from a data set.
    pub reason: String,
}

/// How a failure is to be treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It may pass: try again, not sooner than this from now.
    Retry {
        /// Backoff with jitter.
        after: Duration,
    },
    /// The machine cannot do it at the moment, whatever the job: try again, not sooner than this from now. The attempt
    /// does not count.
    Wait {
        /// Backoff with jitter.
        after: Duration,
    },
    /// The input cannot be processed.
    Reject,
    /// The job cannot be done although its input is good.
    Fail,
}

/// Why an attempt did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFailure {
    /// How it is to be treated.
    pub failure: Failure,
    /// Why, as a code.
    pub reason_code: ReasonCode,
    /// Why, for a person: UIDs and numbers, never a value from a data set.
    pub reason: String,
}

/// What became of a job whose attempt did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterFailure {
    /// It will be tried again.
    Delayed {
        /// Not before.
        until: OffsetDateTime,
    },
    /// It ended: rejected, failed or quarantined.
    Ended(JobState),
}

impl Store {
    /// Ends a job well: measurements, results, deliveries and ledger commit together, and only under this lease. What is
    /// to be held waits for [`Store::release_job`] with all its deliveries. Results of the shadow lane get no delivery and
    /// wait for nobody, whatever `outcome` says.
    ///
    /// # Errors
    /// [`LeaseError::Lost`] where the job is not this worker's any more: the results are to be removed.
    pub async fn finish_job(
        &self,
        lease: &LeasedJob,
        outcome: &JobOutcome,
    ) -> Result<(), LeaseError> {
        let hold = match (outcome, lease.lane) {
            (JobOutcome::Done { hold, .. }, Lane::Production) => hold.as_ref(),
            _ => None,
        };
        let (state, kind, targets, findings, results, detail) = match outcome {
            JobOutcome::Done { targets, findings, results, detail, .. } => {
                let (state, kind) = match hold {
                    Some(_) => (JobState::Held, EventKind::JobHeld),
                    None => (JobState::Done, EventKind::JobDone),
                };
                (state, kind, targets, findings, results.as_slice(), detail)
            }
            JobOutcome::Empty { targets, findings, detail } => {
                (JobState::Empty, EventKind::JobEmpty, targets, findings, [].as_slice(), detail)
            }
        };
        let kept: Vec<NewResult>;
        let results = match lease.lane {
            Lane::Production => results,
            Lane::Shadow => {
                kept = results.iter().map(NewResult::sent_nowhere).collect();
                &kept
            }
        };
        let mut transaction = self.begin().await?;
        let reason = hold.map(|hold| (&hold.reason_code, hold.reason.as_str()));
        end(&mut transaction, lease, state, reason).await?;
        replace_targets(&mut transaction, lease.job_id, targets).await?;
        replace_findings(&mut transaction, lease.job_id, findings).await?;
        forget_failed_deliveries(&mut transaction, lease.job_id).await?;
        for result in results {
            insert_result(&mut transaction, lease.job_id, result).await?;
        }
        let results: Vec<_> = results
            .iter()
            .map(|result| {
                json!({
                    "sop_instance_uid": result.sop_instance_uid.as_str(), "form": result.form.as_str(),
                    "sha256": result.sha256.to_string(),
                    "destinations": result.deliveries.iter().map(|to| &to.destination).collect::<Vec<_>>(),
                })
            })
            .collect();
        let detail = json!({
            "attempt": lease.attempt, "worker": lease.worker, "results": results, "work": detail,
            "findings": for_ledger(findings),
        });
        let mut event = about(kind, lease).with(detail);
        event.reason_code = hold.map(|hold| hold.reason_code.clone());
        transaction.record(event);
        transaction.commit().await?;
        Ok(())
    }

    /// Puts a job off or ends it badly. A job that may be tried again but has used up `limit` is quarantined.
    ///
    /// # Errors
    /// [`LeaseError::Lost`] where the job is not this worker's any more.
    pub async fn fail_job(
        &self,
        lease: &LeasedJob,
        failure: &JobFailure,
        limit: AttemptLimit,
    ) -> Result<AfterFailure, LeaseError> {
        let mut transaction = self.begin().await?;
        let may_retry = limit.allows_another_after(lease.attempt);
        let (after, kind) = match failure.failure {
            Failure::Retry { after } if may_retry => {
                (AfterFailure::Delayed { until: transaction.now() + after }, EventKind::JobDelayed)
            }
            Failure::Wait { after } => {
                (AfterFailure::Delayed { until: transaction.now() + after }, EventKind::JobDelayed)
            }
            Failure::Retry { .. } => {
                (AfterFailure::Ended(JobState::Quarantined), EventKind::JobQuarantined)
            }
            Failure::Reject => (AfterFailure::Ended(JobState::Rejected), EventKind::JobRejected),
            Failure::Fail => (AfterFailure::Ended(JobState::Failed), EventKind::JobFailed),
        };
        match after {
            AfterFailure::Delayed { until } => {
                delay(&mut transaction, lease, failure, until).await?;
            }
            AfterFailure::Ended(state) => {
                let reason = (&failure.reason_code, failure.reason.as_str());
                end(&mut transaction, lease, state, Some(reason)).await?;
            }
        }
        let detail = json!({
            "attempt": lease.attempt, "worker": lease.worker, "reason": failure.reason,
        });
        let event = about(kind, lease).because(failure.reason_code.clone()).with(detail);
        transaction.record(event);
        transaction.commit().await?;
        Ok(after)
    }
}

async fn end(
    transaction: &mut Transaction,
    lease: &LeasedJob,
    state: JobState,
    reason: Option<(&ReasonCode, &str)>,
) -> Result<(), LeaseError> {
    let finished_at = state.is_terminal().then(|| transaction.now());
    let ended = transaction
        .execute(
            "update job set state = $1, reason_code = $2, reason = $3, finished_at = $4, lease_owner = null, \
                    lease_expires_at = null \
              where job_id = $5 and state = 'running' and lease_owner = $6 and lease_number = $7",
            values![
                state.as_str(),
                reason.map(|(code, _)| code.as_str()),
                reason.map(|(_, text)| text),
                finished_at,
                *lease.job_id.as_uuid(),
                &lease.worker,
                lease.lease_number,
            ],
        )
        .await?;
    if ended == 1 { Ok(()) } else { Err(LeaseError::Lost { job: lease.job_id }) }
}

async fn delay(
    transaction: &mut Transaction,
    lease: &LeasedJob,
    failure: &JobFailure,
    until: OffsetDateTime,
) -> Result<(), LeaseError> {
    let delayed = transaction
        .execute(
            "update job set state = 'queued', reason_code = $1, reason = $2, next_attempt_at = $3, \
                    attempt = attempt - $7, lease_owner = null, lease_expires_at = null \
              where job_id = $4 and state = 'running' and lease_owner = $5 and lease_number = $6",
            values![
                failure.reason_code.as_str(),
                &failure.reason,
                until,
                *lease.job_id.as_uuid(),
                &lease.worker,
                lease.lease_number,
                u32::from(matches!(failure.failure, Failure::Wait { .. })),
            ],
        )
        .await?;
    if delayed != 1 {
        return Err(LeaseError::Lost { job: lease.job_id });
    }
    enqueue(transaction, lease.job_id, until).await?;
    Ok(())
}

async fn replace_targets(
    transaction: &mut Transaction,
    job_id: JobId,
    targets: &[TargetMeasurement],
) -> Result<(), DatabaseError> {
    transaction
        .execute("delete from job_target where job_id = $1", values![*job_id.as_uuid()])
        .await?;
    for (index, target) in targets.iter().enumerate() {
        transaction
            .execute(
                "insert into job_target (job_id, target_number, prompt, segment_number, voxel_count, volume_ml) \
                 values ($1, $2, $3, $4, $5, $6)",
                values![
                    *job_id.as_uuid(),
                    index as u64 + 1,
                    &target.prompt,
                    target.segment_number.map(i64::from),
                    target.voxel_count,
                    target.volume_ml,
                ],
            )
            .await?;
    }
    Ok(())
}

/// Inserts a result and its deliveries. A job that a person runs again replaces its own result and sends it again.
pub(crate) async fn insert_result(
    transaction: &mut Transaction,
    job_id: JobId,
    result: &NewResult,
) -> Result<(), DatabaseError> {
    let now = transaction.now();
    transaction
        .execute(
            "insert into result (sop_instance_uid, series_instance_uid, sop_class_uid, job_id, form, sha256, \
             size_bytes, spool_key, created_at, refers_to) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
             on conflict (sop_instance_uid) do update \
                set sha256 = excluded.sha256, size_bytes = excluded.size_bytes, spool_key = excluded.spool_key, \
                    purged_at = null, refers_to = excluded.refers_to",
            values![
                result.sop_instance_uid.as_str(),
                result.series_instance_uid.as_str(),
                result.sop_class_uid.as_str(),
                *job_id.as_uuid(),
                result.form.as_str(),
                result.sha256,
                result.size_bytes,
                result.spool_key.as_str(),
                now,
                result.refers_to.as_ref().map(SopInstanceUid::as_str),
            ],
        )
        .await?;
    for delivery in &result.deliveries {
        let id = DeliveryId::derive(&result.sop_instance_uid, &delivery.destination);
        transaction
            .execute(
                "insert into delivery (delivery_id, sop_instance_uid, job_id, destination, state, next_attempt_at, \
                 created_at, fallbacks) values ($1, $2, $3, $4, 'pending', $5, $5, $6) \
                 on conflict (sop_instance_uid, destination) do update \
                    set state = 'pending', attempt = 0, lease_owner = null, lease_expires_at = null, \
                        next_attempt_at = excluded.next_attempt_at, delivered_at = null, reason_code = null, \
                        fallbacks = excluded.fallbacks, replaced_by = null",
                values![
                    *id.as_uuid(),
                    result.sop_instance_uid.as_str(),
                    *job_id.as_uuid(),
                    &delivery.destination,
                    now,
                    fallbacks_text(&delivery.fallbacks),
                ],
            )
            .await?;
    }
    Ok(())
}

/// What an earlier run could not deliver is wanted again only as far as this run asks for it.
async fn forget_failed_deliveries(
    transaction: &mut Transaction,
    job_id: JobId,
) -> Result<(), DatabaseError> {
    transaction
        .execute(
            "update delivery set state = 'cancelled', reason_code = null where job_id = $1 and state = 'failed'",
            values![*job_id.as_uuid()],
        )
        .await?;
    Ok(())
}

/// Stops what has not been sent of a job. A transfer under way is left to end; it is not repeated.
pub(crate) async fn cancel_deliveries(
    transaction: &mut Transaction,
    job_id: JobId,
) -> Result<(), DatabaseError> {
    transaction
        .execute(
            "update delivery set state = 'cancelled' where job_id = $1 and state in ('pending', 'failed')",
            values![*job_id.as_uuid()],
        )
        .await?;
    Ok(())
}
