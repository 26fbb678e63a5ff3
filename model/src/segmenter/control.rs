//! Progress, and the way to stop.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::SegmentError;

/// Windows done of all windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Windows that are finished.
    pub done: usize,
    /// Windows in all.
    pub windows: usize,
}

/// A hand on a segmentation that runs: stops it, and hears how far it is.
#[derive(Clone, Default)]
pub struct Control {
    pub(super) cancelled: Arc<AtomicBool>,
    pub(super) progress: Option<Arc<dyn Fn(Progress) + Send + Sync>>,
}

impl Control {
    /// A hand that calls `progress` after every window, on the thread that computes.
    pub fn with_progress(progress: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        Self { cancelled: Arc::default(), progress: Some(Arc::new(progress)) }
    }

    /// Stops the segmentation between two layers of the network.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    pub(super) fn check(&self) -> Result<(), SegmentError> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(SegmentError::Cancelled);
        }
        Ok(())
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("cancelled", &self.cancelled).finish_non_exhaustive()
    }
}
