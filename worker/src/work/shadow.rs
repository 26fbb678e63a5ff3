//! The shadow lane: candidates that run beside production, with what production leaves of the device.
//!
//! A job of the lane begins when no job of production is in hand here and none is due in the store. When one comes, the
//! shadow job stops at the next window of its scan and is given back; nothing of production waits for more than that.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use prosector_storage::NextJob;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Worker;

/// How often an idle worker looks for a job of the lane.
const LOOK: Duration = Duration::from_secs(1);

/// How many jobs of production are in hand.
#[derive(Debug)]
pub(super) struct InHand(watch::Sender<usize>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Held(watch::Sender<usize>);

impl Default for InHand {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl InHand {
    /// Counts one more.
    pub(super) fn hold(&self) -> Held {
        self.0.send_modify(|count| *count += 1);
        Held(self.0.clone())
    }

    fn is_empty(&self) -> bool {
        *self.0.borrow() == 0
    }

    /// Waits until there is one.
    async fn any(&self) {
        // The sender lives as long as this.
        let _ = self.0.subscribe().wait_for(|count| *count > 0).await;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Worker {
    /// Works on the shadow lane until `cancel`, and gives back what is in hand then.
    ///
    /// # Errors
    /// When the device fails.
    pub(super) async fn run_shadow_lane(self: Arc<Self>, cancel: CancellationToken) -> Result<()> {
        loop {
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                () = tokio::time::sleep(LOOK) => {}
            }
            if !self.tally.in_hand.is_empty() {
                continue;
            }
            // A store that is away is noticed where jobs of production are taken.
            if !self.store.shadow_job_waits().await.unwrap_or(false) {
                continue;
            }
            let Ok(Some(lease)) = self.lease(NextJob::Shadow).await else { continue };
            let yields = cancel.child_token();
            let work = self.work_on(&lease, yields.clone());
            tokio::pin!(work);
            tokio::select! {
                ended = &mut work => ended?,
                () = self.tally.in_hand.any() => {
                    yields.cancel();
                    work.await?;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_held_counts_until_it_is_dropped() {
        let in_hand = InHand::default();
        assert!(in_hand.is_empty());
        let held = [in_hand.hold(), in_hand.hold()];
        in_hand.any().await;
        assert!(!in_hand.is_empty());
        drop(held);
        assert!(in_hand.is_empty());
        let never = tokio::time::timeout(Duration::from_millis(20), in_hand.any()).await;
        assert!(never.is_err());
    }
}
