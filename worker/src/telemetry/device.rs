//! How busy the computing device of this process is.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Milliseconds that the device has computed since the first look.
static BUSY_MS: AtomicU64 = AtomicU64::new(0);
static SINCE: OnceLock<Instant> = OnceLock::new();

/// Runs `work` on the device and counts its time.
pub(crate) fn busy<T>(work: impl FnOnce() -> T) -> T {
    SINCE.get_or_init(Instant::now);
    let start = Instant::now();
    ::metrics::gauge!("prosector_device_busy").set(1.0);
    let done = work();
    let busy_ms = start.elapsed().as_millis() as u64;
    BUSY_MS.fetch_add(busy_ms, Ordering::Relaxed);
    ::metrics::gauge!("prosector_device_busy").set(0.0);
    ::metrics::counter!("prosector_device_busy_milliseconds_total").increment(busy_ms);
    done
}

/// How busy the device was since its first job, for people.
pub(crate) fn device_text() -> String {
    let Some(since) = SINCE.get() else {
        return "the device of this process has had no job yet".to_owned();
    };
    let elapsed_ms = since.elapsed().as_millis().max(1) as f64;
    let share = BUSY_MS.load(Ordering::Relaxed) as f64 / elapsed_ms;
    format!(
        "the device of this process was busy {:.0} % of the time since its first job",
        100.0 * share.min(1.0)
    )
}
