//! Takes bytes out of the spool that nothing needs any more.

use std::time::Duration;

use anyhow::Result;
use prosector_storage::{PurgeError, RetentionPolicy, Spool, Store};
use tokio_util::sync::CancellationToken;

/// Longest time between two looks. Shorter retention is looked after more often.
const LOOK: Duration = Duration::from_mins(10);
/// Shortest time between two looks.
const SHORTEST: Duration = Duration::from_secs(1);
/// Instances and results removed at a time.
const BATCH: u32 = 500;

/// Looks after the spool's `[spool.retention]`.
#[derive(Debug)]
pub(crate) struct Retention {
    pub(crate) store: Store,
    pub(crate) spool: Spool,
    pub(crate) policy: RetentionPolicy,
}

impl Retention {
    /// Purges until `cancel`. Several processes may do so at once: a row is marked by one of them.
    ///
    /// # Errors
    /// Never: a store or spool that is away is waited for.
    pub(crate) async fn run(self, cancel: CancellationToken) -> Result<()> {
        let shortest = self.policy.instances.min(self.policy.results);
        let pause = (shortest / 4).clamp(SHORTEST, LOOK);
        loop {
            if let Err(error) = self.purge(&cancel).await {
                let error = format!("{:#}", anyhow::Error::new(error));
                tracing::error!(error, "cannot remove from the spool what nothing needs");
            }
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn purge(&self, cancel: &CancellationToken) -> Result<(), PurgeError> {
        while !cancel.is_cancelled() {
            let purged = self.store.purge(&self.spool, &self.policy, BATCH).await?;
            if purged.instances + purged.results > 0 {
                let (instances, results) = (purged.instances, purged.results);
                tracing::info!(instances, results, "removed from the spool");
            }
            if purged.instances.max(purged.results) < u64::from(BATCH) {
                break;
            }
        }
        Ok(())
    }
}
