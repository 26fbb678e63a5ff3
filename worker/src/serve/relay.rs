//! From the outbox to the queue, and from lapsed leases back into the outbox.

use std::time::Duration;

use anyhow::Result;
use prosector_storage::{AttemptLimit, OutboxEntry, Store};
use tokio_util::sync::CancellationToken;

use crate::config::Leases;
use crate::queue::{Announcement, Queue};

/// How often the outbox is looked into.
const LOOK: Duration = Duration::from_millis(50);
/// How often leases and old messages are looked at, at least.
const CARE: Duration = Duration::from_secs(5);
/// Wait after a broker or store that did not answer.
const TROUBLE: Duration = Duration::from_secs(2);
/// Jobs published at a time.
const BATCH: u32 = 100;
/// How long a claim on outbox rows lasts.
const CLAIM: Duration = Duration::from_secs(30);
/// A published job that nobody took for so long is published again: the broker may have lost it.
const STALE: Duration = Duration::from_mins(2);

/// Publishes what the outbox holds, and queues again what a dead worker left.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) store: Store,
    pub(super) queue: Queue,
    pub(super) leases: Leases,
}

impl Relay {
    /// Relays until `cancel`.
    ///
    /// # Errors
    /// Never: a store or broker that is away is waited for.
    pub(super) async fn run(self, cancel: CancellationToken) -> Result<()> {
        // A broker that keeps silent delays what is published, and nothing else.
        tokio::join!(self.keep_publishing(&cancel), self.keep_caring(&cancel));
        Ok(())
    }

    async fn keep_publishing(&self, cancel: &CancellationToken) {
        let mut was_down = false;
        loop {
            let pause = match self.publish().await {
                Ok(_) => {
                    if was_down {
                        tracing::info!("jobs are being published again");
                    }
                    was_down = false;
                    LOOK
                }
                Err(error) => {
                    if !was_down {
                        tracing::warn!(error = format!("{error:#}"), "jobs wait in the outbox");
                    }
                    was_down = true;
                    TROUBLE
                }
            };
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn keep_caring(&self, cancel: &CancellationToken) {
        loop {
            self.care().await;
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(self.leases.heartbeat().min(CARE)) => {}
            }
        }
    }

    async fn publish(&self) -> Result<usize> {
        let entries = self.store.take_outbox(BATCH, CLAIM).await?;
        if entries.is_empty() {
            return Ok(0);
        }
        let announcements: Vec<Announcement> = entries.iter().map(announcement).collect();
        self.queue.publish(&announcements).await?;
        self.store.mark_published(&entries).await?;
        Ok(entries.len())
    }

    async fn care(&self) {
        match self.store.lapse(AttemptLimit(self.leases.attempts)).await {
            Ok(lapsed) => {
                for job in &lapsed.requeued {
                    tracing::warn!(job.id = %job, "lease lapsed, job queued again");
                }
                for job in &lapsed.quarantined {
                    tracing::error!(job.id = %job, "lease lapsed, job put into quarantine");
                }
            }
            Err(error) => tracing::error!(
                error = format!("{:#}", anyhow::Error::new(error)),
                "cannot look after leases"
            ),
        }
        if let Err(error) = self.store.republish(STALE).await {
            tracing::error!(
                error = format!("{:#}", anyhow::Error::new(error)),
                "cannot look after published jobs"
            );
        }
    }
}

fn announcement(entry: &OutboxEntry) -> Announcement {
    Announcement { job_id: entry.job_id, priority: entry.priority }
}
