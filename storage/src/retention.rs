//! Retention: which bytes are not needed any more. Rows stay.

use std::time::Duration;

use serde_json::json;

use crate::provenance::{Event, EventKind};
use crate::spool::{Spool, SpoolError, SpoolKey};
use crate::store::sql::{Statement, locking, values};
use crate::store::{DatabaseError, Store};

/// How long bytes are kept once nothing needs them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionPolicy {
    /// Received instances, from the last instance of their series on.
    pub instances: Duration,
    /// Results, from their making on.
    pub results: Duration,
}

/// What was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Purged {
    /// Received instances.
    pub instances: u64,
    /// Results.
    pub results: u64,
}

/// Why retention stopped half-way. What was done stays done; the rest is done next time.
#[derive(Debug, thiserror::Error)]
pub enum PurgeError {
    /// A file could not be removed.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The rows could not be read or changed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// Marks up to `$3` rows of a table that are needless as purged at `$1`, and returns where their bytes are.
macro_rules! mark_purged {
    ($table:literal, $needless:literal) => {
        locking!(
            concat!(
                "with needless as materialized ( select sop_instance_uid from ",
                $table,
                " where purged_at is null and ",
                $needless,
                " limit $3"
            ),
            concat!(
                ") update ",
                $table,
                " set purged_at = $1 \
                  where sop_instance_uid in (select sop_instance_uid from needless) \
                 returning spool_key"
            )
        )
    };
}

impl Store {
    /// Removes up to `limit` instances and as many results whose time is over.
    ///
    /// An instance is kept while its series is unsettled, while a job on the series is held, queued, running or in
    /// quarantine, and while a delivery of such a job is under way. A result is kept until each of its deliveries was
    /// accepted or cancelled; one that was given up may be tried again by a person.
    ///
    /// The row is marked before the file goes, so that no row promises a file that is not there.
    ///
    /// # Errors
    /// [`PurgeError`].
    pub async fn purge(
        &self,
        spool: &Spool,
        policy: &RetentionPolicy,
        limit: u32,
    ) -> Result<Purged, PurgeError> {
        let instances = self.mark_purged_instances(policy.instances, limit).await?;
        for key in &instances {
            spool.remove(key).await?;
        }
        let results = self.mark_purged_results(policy.results, limit).await?;
        for key in &results {
            spool.remove(key).await?;
        }
        Ok(Purged { instances: instances.len() as u64, results: results.len() as u64 })
    }

    async fn mark_purged_instances(
        &self,
        keep: Duration,
        limit: u32,
    ) -> Result<Vec<SpoolKey>, DatabaseError> {
        self.mark_purged(
            "instances",
            keep,
            limit,
            mark_purged!(
                "instance",
                "series_instance_uid in ( \
               select series.series_instance_uid from series \
                where series.last_received_at < $2 \
                  and series.revision = series.settled_revision \
                  and not exists (select 1 from job \
                        where job.series_instance_uid = series.series_instance_uid \
                          and job.state in ('held', 'queued', 'running', 'quarantined')) \
                  and not exists (select 1 from job \
                        join delivery on delivery.job_id = job.job_id \
                       where job.series_instance_uid = series.series_instance_uid \
                         and delivery.state in ('pending', 'sending', 'sent')))"
            ),
        )
        .await
    }

    async fn mark_purged_results(
        &self,
        keep: Duration,
        limit: u32,
    ) -> Result<Vec<SpoolKey>, DatabaseError> {
        self.mark_purged(
            "results",
            keep,
            limit,
            mark_purged!(
                "result",
                "created_at < $2 \
             and not exists (select 1 from delivery \
                   where delivery.sop_instance_uid = result.sop_instance_uid \
                     and delivery.state in ('pending', 'sending', 'sent', 'failed'))"
            ),
        )
        .await
    }

    /// Marks what `statement` finds, and records how much of `what` that was.
    async fn mark_purged(
        &self,
        what: &str,
        keep: Duration,
        limit: u32,
        statement: Statement,
    ) -> Result<Vec<SpoolKey>, DatabaseError> {
        let mut transaction = self.begin().await?;
        let now = transaction.now();
        let rows = transaction.rows(statement, values![now, now - keep, limit]).await?;
        let keys = rows.iter().map(|row| row.parse("spool_key")).collect::<Result<Vec<_>, _>>()?;
        if !keys.is_empty() {
            let event = Event::new(EventKind::Purged).with(json!({ what: keys.len() }));
            transaction.record(event);
        }
        transaction.commit().await?;
        Ok(keys)
    }
}
