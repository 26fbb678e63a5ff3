//! The outbox: jobs that the queue has to hear of, written by the transaction that queues them.

use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;

use crate::job::{JobId, Priority};
use crate::store::sql::{Transaction, locking, shape, values};
use crate::store::{DatabaseError, Store};

/// A job to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxEntry {
    /// The job.
    pub job_id: JobId,
    /// The queue it goes to.
    pub priority: Priority,
    /// Tells this entry from a later one of the same job.
    enqueued_at: OffsetDateTime,
}

impl Store {
    /// Claims up to `limit` jobs that are due for publishing, for as long as `claim`. Whoever publishes calls
    /// [`Store::mark_published`] after the broker's confirmation; otherwise the claim ends and the jobs come again.
    ///
    /// # Errors
    /// Where the database cannot do it.
    pub async fn take_outbox(
        &self,
        limit: u32,
        claim: Duration,
    ) -> Result<Vec<OutboxEntry>, DatabaseError> {
        if !self.outbox_is_due().await? {
            return Ok(Vec::new());
        }
        let mut transaction = self.begin().await?;
        let now = transaction.now();
        let taken = transaction
            .rows(
                locking!(
                    "with due as materialized ( \
                       select job_id from outbox \
                        where not_before <= $2 and (claimed_until is null or claimed_until < $2) \
                        order by not_before \
                        limit $3",
                    ") \
                     update outbox set claimed_until = $1 \
                      where job_id in (select job_id from due) \
                     returning job_id, enqueued_at, \
                       (select priority from job where job.job_id = outbox.job_id) as priority"
                ),
                values![now + claim, now, limit],
            )
            .await?;
        transaction.commit().await?;
        let mut entries = Vec::with_capacity(taken.len());
        for row in &taken {
            let priority = Priority::from_rank(row.get("priority")?);
            entries.push(OutboxEntry {
                job_id: row.get::<Uuid>("job_id")?.into(),
                priority: priority.ok_or_else(|| shape("priority"))?,
                enqueued_at: row.get("enqueued_at")?,
            });
        }
        entries.sort_by_key(|entry| (entry.priority, entry.enqueued_at));
        Ok(entries)
    }

    /// Notes that the broker has these jobs.
    ///
    /// # Errors
    /// Where the database cannot do it; the jobs are then published once more, which does no harm.
    pub async fn mark_published(&self, entries: &[OutboxEntry]) -> Result<(), DatabaseError> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut transaction = self.begin().await?;
        let now = transaction.now();
        for entry in entries {
            let id = *entry.job_id.as_uuid();
            // The job first, as everywhere: two transactions never wait for each other.
            transaction
                .execute("update job set published_at = $1 where job_id = $2", values![now, id])
                .await?;
            transaction
                .execute(
                    "delete from outbox where job_id = $1 and enqueued_at = $2",
                    values![id, entry.enqueued_at],
                )
                .await?;
        }
        transaction.commit().await
    }

    /// Puts queued jobs that were published longer than `older_than` ago, and that nobody took, into the outbox once
    /// more: a broker that lost its messages gets them again. Returns how many.
    ///
    /// # Errors
    /// Where the database cannot do it.
    pub async fn republish(&self, older_than: Duration) -> Result<u64, DatabaseError> {
        let mut transaction = self.begin().await?;
        let now = transaction.now();
        let count = transaction
            .execute(
                "insert into outbox (job_id, enqueued_at, not_before) \
                 select job_id, $1, $1 from job \
                  where state = 'queued' and lane = 'production' and next_attempt_at <= $1 \
                    and coalesce(published_at, created_at) < $2 \
                 on conflict (job_id) do nothing",
                values![now, now - older_than],
            )
            .await?;
        transaction.commit().await?;
        Ok(count)
    }

    async fn outbox_is_due(&self) -> Result<bool, DatabaseError> {
        let now = self.pool.now().await?;
        let row = self
            .pool
            .row(
                "select 1 as one from outbox \
                  where not_before <= $1 and (claimed_until is null or claimed_until < $1) \
                  limit 1",
                values![now],
            )
            .await?;
        Ok(row.is_some())
    }
}

/// Puts a job into the outbox, to be published at `not_before`. Nobody hears of a job of the shadow lane: it is looked
/// for when nothing else waits.
pub(crate) async fn enqueue(
    transaction: &mut Transaction,
    job_id: JobId,
    not_before: OffsetDateTime,
) -> Result<(), DatabaseError> {
    transaction
        .execute(
            "insert into outbox (job_id, enqueued_at, not_before) \
             select job_id, $2, $3 from job where job_id = $1 and lane = 'production' \
             on conflict (job_id) do update \
                set enqueued_at = excluded.enqueued_at, not_before = excluded.not_before, claimed_until = null",
            values![*job_id.as_uuid(), transaction.now(), not_before],
        )
        .await?;
    Ok(())
}
