//! Leases: a worker's right to a job for some time.

use std::time::Duration;

use dicom_types::{SeriesInstanceUid, StudyInstanceUid};
use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::digest::Sha256Digest;
use crate::outbox::enqueue;
use crate::provenance::{Event, EventKind, ReasonCode};
use crate::store::sql::{Row, Statement, Transaction, locking, shape, values};
use crate::store::{DatabaseError, Store};

use super::JobId;
use super::outcome::{AttemptLimit, LeaseError};
use super::rule::{count_started, lock_and_find_closed, names_of};
use super::state::{Lane, Priority};

/// Which job a worker asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextJob {
    /// The one that a message pointed to.
    Id(JobId),
    /// The most urgent that is due, the oldest first.
    MostUrgent,
    /// The oldest of those that are due and have waited longer than this, so that nothing waits for ever; but a stat
    /// job before it, and the most urgent where none has waited so long.
    LongestWaiting(Duration),
    /// The oldest stat job that is due.
    Stat,
    /// The oldest job of the shadow lane, and none while a job of production is due or in the hands of the worker. No
    /// other request gets one, unless it names one.
    Shadow,
}

/// A job on lease. `lease_number` tells this lease from every other one of the same job, so that a worker that was
/// asleep cannot finish what another has taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeasedJob {
    /// The job.
    pub job_id: JobId,
    /// Study of the series.
    pub study_instance_uid: StudyInstanceUid,
    /// The series.
    pub series_instance_uid: SeriesInstanceUid,
    /// Name of the protocol.
    pub protocol_name: String,
    /// Its revision; the text is [`Store::protocol_revision`]'s.
    pub protocol_revision: Sha256Digest,
    /// Digest of the model pack.
    pub pack_digest: Sha256Digest,
    /// How soon it is wanted.
    pub priority: Priority,
    /// Whether its results leave the house.
    pub lane: Lane,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// When the job was made. Dates in results come from here, never from the clock.
    pub created_at: OffsetDateTime,
    /// Name of the worker that holds the lease.
    pub worker: String,
    /// Number of the lease.
    pub lease_number: u64,
    /// When the lease runs out, by the database's clock.
    pub lease_expires_at: OffsetDateTime,
}

/// What became of leases that ran out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lapsed {
    /// Jobs that are queued again.
    pub requeued: Vec<JobId>,
    /// Jobs that had used up their attempts.
    pub quarantined: Vec<JobId>,
    /// Deliveries that will be tried again.
    pub deliveries: u64,
}

/// Leases the first of some jobs that are due, in some order. `$4` names the protocols that are closed, each between
/// commas.
macro_rules! leasing {
    ($which:ident, $order:literal) => {
        Statement::Each {
            postgres: concat!(
                leasing!(@ $which, "strpos", $order),
                " for update skip locked) and state = 'queued' returning job_id"
            ),
            sqlite: concat!(
                leasing!(@ $which, "instr", $order),
                ") and state = 'queued' returning job_id"
            ),
        }
    };
    (@ $which:ident, $find:literal, $order:literal) => {
        concat!(
            "update job set state = 'running', attempt = attempt + 1, lease_number = lease_number + 1, \
                    lease_owner = $1, lease_expires_at = $2, started_at = coalesce(started_at, $3), \
                    reason_code = null, reason = null \
              where job_id = (select job_id from job where state = 'queued' and next_attempt_at <= $3 and ",
            $find,
            "($4, ',' || protocol_name || ',') = 0 and ",
            leasing!(# $which, $find),
            " order by ",
            $order,
            " limit 1"
        )
    };
    (# named, $find:literal) => { "job_id = $5" };
    (# production, $find:literal) => { "lane = 'production'" };
    (# stat, $find:literal) => { "lane = 'production' and priority = 0" };
    (# shadow, $find:literal) => {
        concat!(
            "lane = 'shadow' and not exists \
               (select 1 from job as own \
                 where own.state = 'running' and own.lane = 'production' and own.lease_owner = $1) \
              and not exists \
               (select 1 from job as other \
                 where other.state = 'queued' and other.lane = 'production' and other.next_attempt_at <= $3 and ",
            $find,
            "($4, ',' || other.protocol_name || ',') = 0)"
        )
    };
}

impl Store {
    /// Whether a stat job waits for a worker.
    ///
    /// # Errors
    /// Where the database cannot answer.
    pub async fn stat_job_waits(&self) -> Result<bool, DatabaseError> {
        self.is_one_due(
            "select 1 as one from job \
              where state = 'queued' and lane = 'production' and priority = 0 and next_attempt_at <= $1 limit 1",
        )
        .await
    }

    /// Whether a job of the shadow lane waits for a worker with nothing else to do.
    ///
    /// # Errors
    /// Where the database cannot answer.
    pub async fn shadow_job_waits(&self) -> Result<bool, DatabaseError> {
        self.is_one_due(
            "select 1 as one from job \
              where state = 'queued' and lane = 'shadow' and next_attempt_at <= $1 limit 1",
        )
        .await
    }

    async fn is_one_due(&self, statement: &'static str) -> Result<bool, DatabaseError> {
        let now = self.pool.now().await?;
        Ok(self.pool.row(statement, values![now]).await?.is_some())
    }

    /// Gives `worker` a lease of `ttl` on a job, or nothing where the job is not queued, not due yet, taken, or of a
    /// protocol whose hours or limits keep it waiting.
    ///
    /// The attempt is counted here. Two workers never get the same job.
    ///
    /// # Errors
    /// Where the database cannot do it.
    pub async fn lease_job(
        &self,
        next: NextJob,
        worker: &str,
        ttl: Duration,
    ) -> Result<Option<LeasedJob>, DatabaseError> {
        let mut transaction = self.begin().await?;
        let now = transaction.now();
        let expires_at = now + ttl;
        let closed = names_of(&lock_and_find_closed(&mut transaction).await?);
        let mut bound = values![worker, expires_at, now, closed];
        let statement = match next {
            NextJob::Id(job_id) => {
                bound.extend(values![*job_id.as_uuid()]);
                leasing!(named, "job_id")
            }
            NextJob::MostUrgent => leasing!(production, "priority, created_at, job_id"),
            NextJob::LongestWaiting(ageing) => {
                bound.extend(values![now - ageing]);
                leasing!(
                    production,
                    "case when priority = 0 then 0 when created_at <= $5 then 1 else 2 + priority end, \
                     created_at, job_id"
                )
            }
            NextJob::Stat => leasing!(stat, "created_at, job_id"),
            NextJob::Shadow => leasing!(shadow, "created_at, job_id"),
        };
        let taken = transaction.row(statement, bound).await?;
        let Some(taken) = taken else { return Ok(None) };
        let job_id = JobId::from(taken.get::<Uuid>("job_id")?);
        let job = leased_job(&mut transaction, job_id).await?;
        transaction
            .execute("delete from outbox where job_id = $1", values![*job_id.as_uuid()])
            .await?;
        if job.attempt == 1 {
            count_started(&mut transaction, job_id).await?;
        }
        let event = about(EventKind::JobLeased, &job);
        transaction.record(event.with(json!({ "worker": worker, "attempt": job.attempt })));
        transaction.commit().await?;
        Ok(Some(job))
    }

    /// Prolongs a lease to `ttl` from now and returns when it runs out.
    ///
    /// # Errors
    /// [`LeaseError::Lost`] where the job is not this worker's any more: stop working on it.
    pub async fn renew_lease(
        &self,
        lease: &LeasedJob,
        ttl: Duration,
    ) -> Result<OffsetDateTime, LeaseError> {
        let mut transaction = self.begin().await?;
        let expires_at = transaction.now() + ttl;
        let renewed = transaction
            .execute(
                "update job set lease_expires_at = $1 \
                  where job_id = $2 and state = 'running' and lease_owner = $3 and lease_number = $4",
                values![expires_at, *lease.job_id.as_uuid(), &lease.worker, lease.lease_number],
            )
            .await?;
        if renewed != 1 {
            return Err(LeaseError::Lost { job: lease.job_id });
        }
        transaction.commit().await?;
        Ok(expires_at)
    }

    /// Gives a job back unfinished, at once for another worker. The attempt does not count.
    ///
    /// # Errors
    /// [`LeaseError::Lost`] where the job is not this worker's any more.
    pub async fn give_back(&self, lease: &LeasedJob, why: ReasonCode) -> Result<(), LeaseError> {
        let mut transaction = self.begin().await?;
        let now = transaction.now();
        let given_back = transaction
            .execute(
                "update job set state = 'queued', attempt = attempt - 1, lease_owner = null, \
                        lease_expires_at = null, next_attempt_at = $1 \
                  where job_id = $2 and state = 'running' and lease_owner = $3 and lease_number = $4",
                values![now, *lease.job_id.as_uuid(), &lease.worker, lease.lease_number],
            )
            .await?;
        if given_back != 1 {
            return Err(LeaseError::Lost { job: lease.job_id });
        }
        enqueue(&mut transaction, lease.job_id, now).await?;
        let event = about(EventKind::JobGivenBack, lease).because(why);
        transaction.record(event.with(json!({ "worker": lease.worker })));
        transaction.commit().await?;
        Ok(())
    }

    /// Takes back the leases that ran out: jobs are queued and published again or, past `limit` attempts, quarantined;
    /// deliveries become due again.
    ///
    /// # Errors
    /// Where the database cannot do it.
    pub async fn lapse(&self, limit: AttemptLimit) -> Result<Lapsed, DatabaseError> {
        let mut transaction = self.begin().await?;
        let mut lapsed = Lapsed::default();
        let expired = transaction
            .rows(
                locking!(
                    "select job_id from job \
                      where state = 'running' and lease_expires_at < $1 \
                      order by lease_expires_at \
                      limit 100",
                    ""
                ),
                values![transaction.now()],
            )
            .await?;
        for row in &expired {
            let job_id = JobId::from(row.get::<Uuid>("job_id")?);
            lapse_job(&mut transaction, job_id, limit, &mut lapsed).await?;
        }
        lapsed.deliveries = crate::delivery::lapse(&mut transaction).await?;
        let nothing_lapsed = lapsed == Lapsed::default();
        if !nothing_lapsed {
            transaction.commit().await?;
        }
        Ok(lapsed)
    }
}

async fn lapse_job(
    transaction: &mut Transaction,
    job_id: JobId,
    limit: AttemptLimit,
    lapsed: &mut Lapsed,
) -> Result<(), DatabaseError> {
    let now = transaction.now();
    let job = leased_job(transaction, job_id).await?;
    let detail = json!({ "worker": job.worker, "attempt": job.attempt });
    let event = about(EventKind::LeaseLapsed, &job).because(ReasonCode::LEASE_LAPSED).with(detail);
    transaction.record(event);
    if limit.allows_another_after(job.attempt) {
        transaction
            .execute(
                "update job set state = 'queued', lease_owner = null, lease_expires_at = null, \
                        next_attempt_at = $1, reason_code = $2 \
                  where job_id = $3 and state = 'running'",
                values![now, ReasonCode::LEASE_LAPSED.as_str(), *job_id.as_uuid()],
            )
            .await?;
        enqueue(transaction, job_id, now).await?;
        lapsed.requeued.push(job_id);
    } else {
        transaction
            .execute(
                "update job set state = 'quarantined', lease_owner = null, lease_expires_at = null, \
                        finished_at = $1, reason_code = $2 \
                  where job_id = $3 and state = 'running'",
                values![now, ReasonCode::LEASE_LAPSED.as_str(), *job_id.as_uuid()],
            )
            .await?;
        let event = about(EventKind::JobQuarantined, &job).because(ReasonCode::LEASE_LAPSED);
        transaction.record(event.with(json!({ "attempts": job.attempt })));
        lapsed.quarantined.push(job_id);
    }
    Ok(())
}

/// An event about a job on lease.
pub(super) fn about(kind: EventKind, job: &LeasedJob) -> Event {
    Event::new(kind).of_series(&job.study_instance_uid, &job.series_instance_uid).of_job(job.job_id)
}

/// A running job as its worker sees it.
async fn leased_job(
    transaction: &mut Transaction,
    job_id: JobId,
) -> Result<LeasedJob, DatabaseError> {
    let row = transaction
        .row(
            "select job.job_id, series.study_instance_uid, job.series_instance_uid, job.protocol_name, \
                    job.protocol_revision_sha256, job.pack_digest, job.priority, job.lane, job.attempt, job.created_at, \
                    job.lease_owner, job.lease_number, job.lease_expires_at \
               from job \
               join series on series.series_instance_uid = job.series_instance_uid \
              where job.job_id = $1",
            values![*job_id.as_uuid()],
        )
        .await?
        .ok_or_else(|| shape("job_id"))?;
    read_lease(&row)
}

fn read_lease(row: &Row) -> Result<LeasedJob, DatabaseError> {
    Ok(LeasedJob {
        job_id: row.get::<Uuid>("job_id")?.into(),
        study_instance_uid: row.parse("study_instance_uid")?,
        series_instance_uid: row.parse("series_instance_uid")?,
        protocol_name: row.get("protocol_name")?,
        protocol_revision: row.get("protocol_revision_sha256")?,
        pack_digest: row.get("pack_digest")?,
        priority: Priority::from_rank(row.get("priority")?).ok_or_else(|| shape("priority"))?,
        lane: row.parse("lane")?,
        attempt: row.get::<i64>("attempt")? as u32,
        created_at: row.get("created_at")?,
        worker: row.get("lease_owner")?,
        lease_number: row.get::<i64>("lease_number")? as u64,
        lease_expires_at: row.get("lease_expires_at")?,
    })
}
