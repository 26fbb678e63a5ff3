//! What a person may do to a job.

use serde_json::json;
use uuid::Uuid;

use crate::outbox::enqueue;
use crate::provenance::{Event, EventKind, ReasonCode};
use crate::store::sql::{Transaction, values};
use crate::store::{DatabaseError, Store};

use super::{JobId, JobState, cancel_deliveries};

/// Why a person's wish was not followed.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// There is no such job.
    #[error("no job {job}")]
    Unknown {
        /// What was asked for.
        job: JobId,
    },
    /// The job is in a state in which this makes no sense.
    #[error("job {job} is {state}")]
    State {
        /// The job.
        job: JobId,
        /// Its state.
        state: JobState,
    },
    /// Its results were recalled: neither are they sent again nor made again.
    #[error("results of job {job} were recalled")]
    Recalled {
        /// The job.
        job: JobId,
    },
    /// The database did not do it.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// What a retry set in motion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retried {
    /// The job is queued again.
    Job,
    /// The job has its results; its failed deliveries are due again.
    Deliveries {
        /// How many.
        count: u64,
    },
}

impl Store {
    /// Cancels a job that has not ended, and what it has not delivered.
    ///
    /// A worker that has it on lease learns of it when it renews.
    ///
    /// # Errors
    /// [`OperatorError::State`] where the job has ended.
    pub async fn cancel_job(&self, job_id: JobId) -> Result<(), OperatorError> {
        let mut transaction = self.begin().await?;
        let now = transaction.now();
        let cancelled = transaction
            .execute(
                "update job set state = 'cancelled', reason_code = $1, finished_at = $2, lease_owner = null, \
                        lease_expires_at = null \
                  where job_id = $3 and state in ('held', 'queued', 'running')",
                values![ReasonCode::OPERATOR.as_str(), now, *job_id.as_uuid()],
            )
            .await?;
        if cancelled != 1 {
            return Err(why_not(&mut transaction, job_id).await);
        }
        transaction
            .execute("delete from outbox where job_id = $1", values![*job_id.as_uuid()])
            .await?;
        cancel_deliveries(&mut transaction, job_id).await?;
        note(&mut transaction, EventKind::JobCancelled, job_id).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Runs an ended job again, with all its attempts. Where the job is done but a delivery has failed, only that
    /// delivery is tried again: a form whose place another one took stays replaced.
    ///
    /// # Errors
    /// [`OperatorError::State`] where the job has not ended or was superseded, [`OperatorError::Recalled`].
    pub async fn retry_job(&self, job_id: JobId) -> Result<Retried, OperatorError> {
        let mut transaction = self.begin().await?;
        let now = transaction.now();
        let recalled = transaction
            .row(
                "select 1 as one from recalled_result \
                   join result on result.sop_instance_uid = recalled_result.sop_instance_uid \
                  where result.job_id = $1 limit 1",
                values![*job_id.as_uuid()],
            )
            .await?;
        if recalled.is_some() {
            return Err(OperatorError::Recalled { job: job_id });
        }
        let count = transaction
            .execute(
                "update delivery set state = 'pending', attempt = 0, next_attempt_at = $1, replaced_by = null \
                  where job_id = $2 and state = 'failed' \
                    and exists (select 1 from job where job.job_id = delivery.job_id and job.state = 'done')",
                values![now, *job_id.as_uuid()],
            )
            .await?;
        if count > 0 {
            note(&mut transaction, EventKind::DeliveryRetried, job_id).await?;
            transaction.commit().await?;
            return Ok(Retried::Deliveries { count });
        }
        let states = "('done', 'empty', 'failed', 'rejected', 'quarantined', 'cancelled')";
        requeue(&mut transaction, job_id, states).await?;
        note(&mut transaction, EventKind::JobRetried, job_id).await?;
        transaction.commit().await?;
        Ok(Retried::Job)
    }

    /// Releases a held or quarantined job: what has results is sent, anything else runs with all its attempts.
    ///
    /// # Errors
    /// [`OperatorError::State`] where the job is neither.
    pub async fn release_job(&self, job_id: JobId) -> Result<(), OperatorError> {
        let mut transaction = self.begin().await?;
        if release_results(&mut transaction, job_id).await? {
            note(&mut transaction, EventKind::JobReleased, job_id).await?;
            transaction.commit().await?;
            return Ok(());
        }
        requeue(&mut transaction, job_id, "('held', 'quarantined')").await?;
        note(&mut transaction, EventKind::JobReleased, job_id).await?;
        transaction.commit().await?;
        Ok(())
    }
}

/// Lets the results of a held job go; false where it is not held or has none.
async fn release_results(
    transaction: &mut Transaction,
    job_id: JobId,
) -> Result<bool, DatabaseError> {
    let now = transaction.now();
    let released = transaction
        .execute(
            "update job set state = 'done', finished_at = $1, reason_code = null, reason = null \
              where job_id = $2 and state = 'held' \
                and exists (select 1 from result where result.job_id = job.job_id)",
            values![now, *job_id.as_uuid()],
        )
        .await?;
    if released == 0 {
        return Ok(false);
    }
    // The destination's patience begins now.
    transaction
        .execute(
            "update delivery set next_attempt_at = $1, created_at = $1 where job_id = $2 and state = 'pending'",
            values![now, *job_id.as_uuid()],
        )
        .await?;
    Ok(true)
}

async fn requeue(
    transaction: &mut Transaction,
    job_id: JobId,
    from_states: &'static str,
) -> Result<(), OperatorError> {
    let now = transaction.now();
    let statement = format!(
        "update job set state = 'queued', attempt = 0, next_attempt_at = $1, finished_at = null, reason_code = null, \
                reason = null \
          where job_id = $2 and state in {from_states}"
    );
    let requeued = transaction.execute(statement, values![now, *job_id.as_uuid()]).await?;
    if requeued != 1 {
        return Err(why_not(transaction, job_id).await);
    }
    enqueue(transaction, job_id, now).await?;
    Ok(())
}

async fn why_not(transaction: &mut Transaction, job_id: JobId) -> OperatorError {
    let row = transaction
        .row("select state from job where job_id = $1", values![*job_id.as_uuid()])
        .await;
    match row.and_then(|row| row.map(|row| row.parse::<JobState>("state")).transpose()) {
        Ok(Some(state)) => OperatorError::State { job: job_id, state },
        Ok(None) => OperatorError::Unknown { job: job_id },
        Err(error) => error.into(),
    }
}

/// Records what a person did to a job.
async fn note(
    transaction: &mut Transaction,
    kind: EventKind,
    job_id: JobId,
) -> Result<(), DatabaseError> {
    let row = transaction
        .row(
            "select series.study_instance_uid, series.series_instance_uid, job.job_id, job.state \
               from job \
               join series on series.series_instance_uid = job.series_instance_uid \
              where job.job_id = $1",
            values![*job_id.as_uuid()],
        )
        .await?;
    let Some(row) = row else { return Ok(()) };
    let job_id = JobId::from(row.get::<Uuid>("job_id")?);
    let state: String = row.get("state")?;
    let event = Event::new(kind)
        .because(ReasonCode::OPERATOR)
        .of_series(&row.parse("study_instance_uid")?, &row.parse("series_instance_uid")?)
        .of_job(job_id)
        .with(json!({ "state": state }));
    transaction.record(event);
    Ok(())
}
