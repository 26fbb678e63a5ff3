//! The queue inside one process: a bell. The rows say what there is to do.

use std::sync::Arc;

use tokio::sync::Notify;

/// Wakes workers of the same process.
#[derive(Debug, Clone, Default)]
pub(crate) struct Embedded {
    bell: Arc<Notify>,
}

impl Embedded {
    /// Wakes one worker, now or when it next listens.
    pub(super) fn publish(&self) {
        self.bell.notify_one();
    }

    /// Waits for the bell.
    pub(super) async fn next(&self) {
        self.bell.notified().await;
    }
}
