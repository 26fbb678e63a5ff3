//! Waiting longer after each failure.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// The wait doubles from `first` to `longest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Backoff {
    pub(crate) first: Duration,
    pub(crate) longest: Duration,
}

impl Backoff {
    /// The wait after attempt number `attempt` (from 1) of `what`, up to a quarter shorter than the rule says: many
    /// that failed together must not come back together. The same for the same arguments.
    pub(crate) fn after(self, attempt: u32, what: impl Hash) -> Duration {
        let doublings = attempt.saturating_sub(1).min(20);
        let wait = self.first.saturating_mul(1 << doublings).min(self.longest);
        let mut hasher = DefaultHasher::new();
        (what, attempt).hash(&mut hasher);
        let fraction = (hasher.finish() % 1000) as f64 / 1000.0;
        wait.mul_f64(1.0 - 0.25 * fraction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_differ_between_jobs() {
        let backoff = Backoff { first: Duration::from_secs(4), longest: Duration::from_mins(1) };

        for (attempt, rule) in [(1, 4), (2, 8), (3, 16), (5, 60), (4_000_000_000, 60)] {
            let wait = backoff.after(attempt, "job").as_secs_f64();
            assert!(wait <= f64::from(rule) && wait >= 0.75 * f64::from(rule), "{attempt}: {wait}");
        }
        assert_ne!(backoff.after(1, "job"), backoff.after(1, "other"));
    }
}
