//! The test at its time of day.

use std::time::Duration;

use anyhow::Result;
use time::{OffsetDateTime, Time};
use tokio_util::sync::CancellationToken;

use super::SelfTest;

/// Runs the test once a day.
#[derive(Debug)]
pub(crate) struct Nightly {
    pub(crate) test: SelfTest,
    /// Time of day, UTC.
    pub(crate) at: Time,
}

impl Nightly {
    /// Tests until `cancel`.
    ///
    /// # Errors
    /// Never: a test that cannot be recorded is said in the log.
    pub(crate) async fn run(self, cancel: CancellationToken) -> Result<()> {
        loop {
            let wait = until(self.at, OffsetDateTime::now_utc());
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                () = tokio::time::sleep(wait) => {}
            }
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                verdict = self.test.run() => if let Err(error) = verdict {
                    tracing::error!(error = format!("{error:#}"), "self-test not recorded");
                }
            }
        }
    }
}

/// From `now` to the next time that it is `at`.
fn until(at: Time, now: OffsetDateTime) -> Duration {
    let today = now.replace_time(at);
    let next = if today > now { today } else { today + time::Duration::DAY };
    (next - now).try_into().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use time::macros::{datetime, time};

    use super::*;

    #[test]
    fn the_next_time_is_today_or_tomorrow() {
        let now = datetime!(2026-02-28 12:00 UTC);

        assert_eq!(until(time!(13:00), now), Duration::from_hours(1));
        assert_eq!(until(time!(12:00), now), Duration::from_hours(24));
        assert_eq!(until(time!(3:00), now), Duration::from_hours(15));
    }
}
