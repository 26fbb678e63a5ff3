//! When the jobs of a protocol may begin, and how many of them.
//!
//! Rules are those of the protocols in force, by name, and not those of the wording that made a job: whoever narrows a
//! window means the jobs that wait already.

use std::fmt;
use std::str::FromStr;

use time::{OffsetDateTime, Time};

use crate::provenance::ReasonCode;
use crate::store::sql::{Row, Statement, Transaction, shape, values};
use crate::store::{DatabaseError, Store};

use super::JobId;

const OUTSIDE_HOURS: ReasonCode = ReasonCode::new("outside_hours");
const CONCURRENT_LIMIT: ReasonCode = ReasonCode::new("concurrent_limit_reached");
const DAILY_LIMIT: ReasonCode = ReasonCode::new("daily_limit_reached");

/// A window of the day in UTC, from its first minute to the minute before its end; over midnight where it ends before
/// it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hours {
    from: Time,
    until: Time,
}

/// A text that is no window of the day.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no window of the day; write it as in \"20:00-06:00\"")]
pub struct ParseHoursError {
    text: String,
}

impl Hours {
    /// Whether the time of the day lies in it.
    pub fn contains(self, time: Time) -> bool {
        if self.from < self.until {
            return self.from <= time && time < self.until;
        }
        self.from <= time || time < self.until
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [(a, b), (c, d)] = [self.from, self.until].map(|time| (time.hour(), time.minute()));
        write!(f, "{a:02}:{b:02}-{c:02}:{d:02}")
    }
}

impl FromStr for Hours {
    type Err = ParseHoursError;

    fn from_str(text: &str) -> Result<Self, ParseHoursError> {
        let time = |text: &str| {
            let (hour, minute) = text.split_once(':')?;
            let is_plain = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
            if !is_plain(hour) || !is_plain(minute) {
                return None;
            }
            Time::from_hms(hour.parse().ok()?, minute.parse().ok()?, 0).ok()
        };
        let window = text.split_once('-').and_then(|(from, until)| {
            Some(Self { from: time(from.trim())?, until: time(until.trim())? })
        });
        // A window that ends where it begins is nothing, or the whole day: nobody can tell.
        let window = window.filter(|window| window.from != window.until);
        window.ok_or_else(|| ParseHoursError { text: text.to_owned() })
    }
}

/// When the jobs of a protocol may begin, and how many of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProtocolRule {
    /// Name of the protocol.
    pub protocol_name: String,
    /// Windows in one of which its jobs begin; none: at any time.
    pub hours: Vec<Hours>,
    /// Jobs that run at the same time, over all workers.
    pub concurrent: Option<u32>,
    /// Jobs that are first begun between two midnights, UTC.
    pub per_day: Option<u32>,
}

/// A protocol none of whose jobs may begin now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Closed {
    pub(crate) protocol_name: String,
    pub(crate) reason_code: ReasonCode,
    /// For a person.
    pub(crate) reason: String,
}

const RULES: &str = "select protocol_rule.protocol_name, protocol_rule.hours, protocol_rule.concurrent_limit, \
                            protocol_rule.daily_limit, protocol_rule.day, protocol_rule.started, \
                            (select count(*) from job \
                              where job.state = 'running' and job.lane = 'production' \
                                and job.protocol_name = protocol_rule.protocol_name) as running \
                       from protocol_rule \
                      where hours <> '' or concurrent_limit is not null or daily_limit is not null \
                      order by protocol_name";

impl Store {
    /// Puts these rules in the place of all others.
    ///
    /// # Errors
    /// Where the database cannot do it.
    pub async fn set_protocol_rules(&self, rules: &[ProtocolRule]) -> Result<(), DatabaseError> {
        let mut transaction = self.begin().await?;
        transaction
            .execute(
                "update protocol_rule set hours = '', concurrent_limit = null, daily_limit = null \
                  where hours <> '' or concurrent_limit is not null or daily_limit is not null",
                values![],
            )
            .await?;
        for rule in rules {
            let hours: Vec<String> = rule.hours.iter().map(ToString::to_string).collect();
            transaction
                .execute(
                    "insert into protocol_rule (protocol_name, hours, concurrent_limit, daily_limit) \
                     values ($1, $2, $3, $4) \
                     on conflict (protocol_name) do update \
                        set hours = excluded.hours, concurrent_limit = excluded.concurrent_limit, \
                            daily_limit = excluded.daily_limit",
                    values![
                        &rule.protocol_name,
                        hours.join(","),
                        rule.concurrent.map(i64::from),
                        rule.per_day.map(i64::from),
                    ],
                )
                .await?;
        }
        transaction.commit().await
    }

    /// Protocols none of whose jobs may begin now.
    pub(crate) async fn closed_protocols(&self) -> Result<Vec<Closed>, DatabaseError> {
        let now = self.pool.now().await?;
        closed_of(&self.pool.rows(RULES, values![]).await?, now)
    }
}

/// Protocols none of whose jobs may begin now; nobody else begins a job of one with a limit until the transaction ends.
pub(super) async fn lock_and_find_closed(
    transaction: &mut Transaction,
) -> Result<Vec<Closed>, DatabaseError> {
    const LIMITED: &str = "select protocol_name from protocol_rule \
                            where concurrent_limit is not null or daily_limit is not null \
                            order by protocol_name for update";
    // Only a statement of its own, begun after the lock is held, counts what the last holder has begun.
    let lock = Statement::Each { postgres: LIMITED, sqlite: "select 1 as one" };
    transaction.rows(lock, values![]).await?;
    let rows = transaction.rows(RULES, values![]).await?;
    closed_of(&rows, transaction.now())
}

/// The names as the leasing statements want them: each between commas.
pub(super) fn names_of(closed: &[Closed]) -> String {
    let mut text = ",".to_owned();
    for closed in closed {
        text.push_str(&closed.protocol_name);
        text.push(',');
    }
    text
}

/// Counts a job that is begun for the first time.
pub(super) async fn count_started(
    transaction: &mut Transaction,
    job_id: JobId,
) -> Result<(), DatabaseError> {
    let now = transaction.now();
    transaction
        .execute(
            "update protocol_rule set started = case when day = $1 then started + 1 else 1 end, day = $1 \
              where daily_limit is not null \
                and protocol_name = (select protocol_name from job \
                                      where job_id = $2 and started_at = $3 and lane = 'production')",
            values![day_of(now), *job_id.as_uuid(), now],
        )
        .await?;
    Ok(())
}

fn closed_of(rows: &[Row], now: OffsetDateTime) -> Result<Vec<Closed>, DatabaseError> {
    let mut closed = Vec::new();
    for row in rows {
        if let Some((reason_code, reason)) = reason(row, now)? {
            closed.push(Closed { protocol_name: row.get("protocol_name")?, reason_code, reason });
        }
    }
    Ok(closed)
}

fn reason(row: &Row, now: OffsetDateTime) -> Result<Option<(ReasonCode, String)>, DatabaseError> {
    let text: String = row.get("hours")?;
    let windows = text.split(',').filter(|window| !window.is_empty());
    let windows: Result<Vec<Hours>, _> = windows.map(str::parse).collect();
    let windows: Vec<Hours> = windows.map_err(|_| shape("hours"))?;
    if !windows.is_empty() && !windows.iter().any(|window| window.contains(now.time())) {
        let reason = format!("jobs of this protocol begin within {text} UTC");
        return Ok(Some((OUTSIDE_HOURS, reason)));
    }
    let running: i64 = row.get("running")?;
    let limit: Option<i64> = row.get("concurrent_limit")?;
    if let Some(limit) = limit.filter(|limit| running >= *limit) {
        let reason = format!("{running} jobs of this protocol run, and {limit} may");
        return Ok(Some((CONCURRENT_LIMIT, reason)));
    }
    let is_today = row.get::<i64>("day")? == day_of(now);
    let started: i64 = if is_today { row.get("started")? } else { 0 };
    let limit: Option<i64> = row.get("daily_limit")?;
    if let Some(limit) = limit.filter(|limit| started >= *limit) {
        let reason =
            format!("{started} jobs of this protocol were begun today, UTC, and {limit} may");
        return Ok(Some((DAILY_LIMIT, reason)));
    }
    Ok(None)
}

/// Days since 1970-01-01, UTC.
fn day_of(time: OffsetDateTime) -> i64 {
    time.unix_timestamp().div_euclid(86_400)
}

#[cfg(test)]
mod tests {
    use time::macros::time;

    use super::*;

    #[test]
    fn a_window_holds_its_first_minute_and_not_its_end_also_over_midnight() {
        let day: Hours = "08:30-17:00".parse().unwrap();
        let night: Hours = " 20:00 - 06:00 ".parse().unwrap();
        let contained = [
            time!(0:00),
            time!(5:59:59),
            time!(6:00),
            time!(8:30),
            time!(16:59),
            time!(17:00),
            time!(20:00),
        ]
        .map(|time| (day.contains(time), night.contains(time)));

        assert_eq!(contained.map(|(day, _)| day), [false, false, false, true, true, false, false]);
        assert_eq!(
            contained.map(|(_, night)| night),
            [true, true, false, false, false, false, true]
        );
        assert_eq!(
            (day.to_string(), night.to_string()),
            ("08:30-17:00".into(), "20:00-06:00".into())
        );
    }

    #[test]
    fn what_is_no_window_is_refused() {
        for text in
            ["", "8-17", "08:00", "08:00-24:00", "08:00-08:00", "08:00-09:60", "a-b", "08:00-+9:00"]
        {
            assert!(text.parse::<Hours>().is_err(), "{text}");
        }
    }
}
