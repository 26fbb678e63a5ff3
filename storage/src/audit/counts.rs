//! Counts for metrics: how much is waiting, and for how long.

use std::time::Duration;

use time::OffsetDateTime;

use crate::delivery::DeliveryState;
use crate::job::{JobState, Priority};
use crate::store::sql::{shape, values};
use crate::store::{DatabaseError, Store};

/// Jobs of one state and priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobCount {
    /// Held, queued, running or quarantined.
    pub state: JobState,
    /// Their priority.
    pub priority: Priority,
    /// How many.
    pub count: u64,
    /// How long the oldest has been there.
    pub oldest_age: Duration,
}

/// Deliveries to one destination that have not come to an end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryCount {
    /// The destination.
    pub destination: String,
    /// Pending, sending or failed.
    pub state: DeliveryState,
    /// How many.
    pub count: u64,
    /// How long the oldest has been there.
    pub oldest_age: Duration,
}

/// What is waiting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts {
    /// Jobs of production that need something: a worker, or a person.
    pub jobs: Vec<JobCount>,
    /// Deliveries that need something.
    pub deliveries: Vec<DeliveryCount>,
    /// Jobs that the queue has not heard of.
    pub outbox: u64,
    /// Series that are not settled.
    pub unsettled_series: u64,
    /// Associations that are open.
    pub open_associations: u64,
}

impl Store {
    /// Counts what is waiting. What has ended is left out, so that the cost follows the work, not the history.
    ///
    /// # Errors
    /// Where the database cannot answer.
    pub async fn counts(&self) -> Result<Counts, DatabaseError> {
        let now = self.pool.now().await?;
        let rows = self
            .pool
            .rows(
                "select state, priority, count(*) as jobs, min(created_at) as oldest from job \
                  where state in ('held', 'queued', 'running', 'quarantined') and lane = 'production' \
                  group by state, priority \
                  order by state, priority",
                values![],
            )
            .await?;
        let mut jobs = Vec::with_capacity(rows.len());
        for row in &rows {
            let priority = Priority::from_rank(row.get("priority")?);
            jobs.push(JobCount {
                state: row.parse("state")?,
                priority: priority.ok_or_else(|| shape("priority"))?,
                count: row.get::<i64>("jobs")? as u64,
                oldest_age: age(now, row.get("oldest")?),
            });
        }
        let rows = self
            .pool
            .rows(
                "select destination, state, count(*) as deliveries, min(created_at) as oldest from delivery \
                  where state in ('pending', 'sending', 'sent', 'failed') \
                  group by destination, state \
                  order by destination, state",
                values![],
            )
            .await?;
        let mut deliveries = Vec::with_capacity(rows.len());
        for row in &rows {
            deliveries.push(DeliveryCount {
                destination: row.get("destination")?,
                state: row.parse("state")?,
                count: row.get::<i64>("deliveries")? as u64,
                oldest_age: age(now, row.get("oldest")?),
            });
        }
        let row = self
            .pool
            .row(
                "select (select count(*) from outbox) as outbox, \
                        (select count(*) from series where revision > settled_revision) as unsettled, \
                        (select count(*) from association where ended_at is null) as open_associations",
                values![],
            )
            .await?
            .ok_or_else(|| shape("outbox"))?;
        Ok(Counts {
            jobs,
            deliveries,
            outbox: row.get::<i64>("outbox")? as u64,
            unsettled_series: row.get::<i64>("unsettled")? as u64,
            open_associations: row.get::<i64>("open_associations")? as u64,
        })
    }
}

fn age(now: OffsetDateTime, since: OffsetDateTime) -> Duration {
    (now - since).try_into().unwrap_or_default()
}
