//! Series that are fetched from a PACS for one protocol: what is planned, under way and done.

use std::collections::BTreeSet;

use dicom_types::{SeriesInstanceUid, StudyInstanceUid};
use serde_json::json;

use crate::job::Priority;
use crate::provenance::{Event, EventKind, ReasonCode};
use crate::store::sql::{shape, values};
use crate::store::{DatabaseError, Store};
use crate::words::words;

words! {
    /// How far the fetching of a series has come.
    BackfillState, ParseBackfillStateError;
    /// It has not been asked for.
    Waiting = "waiting",
    /// The PACS was asked to send it.
    Requested = "requested",
    /// It is here.
    Received = "received",
    /// It did not come.
    Failed = "failed",
}

/// A series to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedSeries {
    /// Its study.
    pub study_instance_uid: StudyInstanceUid,
    /// The series.
    pub series_instance_uid: SeriesInstanceUid,
    /// Instances that the PACS says it has.
    pub expected_instances: Option<u64>,
}

/// A series of a backfill, as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackfillSeries {
    /// What was planned.
    pub planned: PlannedSeries,
    /// How far it has come.
    pub state: BackfillState,
    /// Why it failed.
    pub reason_code: Option<String>,
    /// Instances received of it by now.
    pub received_instances: u64,
}

/// How fetching a series ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched {
    /// It is here.
    Received,
    /// It did not come, or not whole.
    Failed(ReasonCode),
}

/// What a series was fetched for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BackfillOf {
    /// Names of the protocols that it was fetched for.
    pub protocols: BTreeSet<String>,
    /// Whether it had come by itself before.
    pub was_here: bool,
}

impl Store {
    /// Plans series to be fetched from `source` for a protocol; those that were planned before stay as they are, and
    /// those that failed are tried again. Returns how many are new or tried again.
    ///
    /// # Errors
    /// Where the database cannot do it.
    pub async fn plan_backfill(
        &self,
        source: &str,
        protocol_name: &str,
        series: &[PlannedSeries],
    ) -> Result<u64, DatabaseError> {
        let mut transaction = self.begin().await?;
        let now = transaction.now();
        let mut planned = 0;
        for PlannedSeries { study_instance_uid, series_instance_uid, expected_instances } in series
        {
            planned += transaction
                .execute(
                    "insert into backfill_series (protocol_name, series_instance_uid, study_instance_uid, source, \
                     state, was_here, expected_instances, planned_at, changed_at) \
                     select $1, $2, $3, $4, 'waiting', \
                            exists (select 1 from series where series_instance_uid = $2), $5, $6, $6 \
                      where true \
                     on conflict (protocol_name, series_instance_uid) do update \
                        set state = 'waiting', reason_code = null, source = excluded.source, \
                            expected_instances = excluded.expected_instances, changed_at = excluded.changed_at \
                      where backfill_series.state = 'failed'",
                    values![
                        protocol_name,
                        series_instance_uid.as_str(),
                        study_instance_uid.as_str(),
                        source,
                        expected_instances.map(|count| count as i64),
                        now,
                    ],
                )
                .await?;
        }
        let event = Event::new(EventKind::BackfillOrdered)
            .with(json!({ "source": source, "protocol": protocol_name, "series": planned }));
        transaction.record(event);
        transaction.commit().await?;
        Ok(planned)
    }

    /// Series of a backfill, in the order in which they were planned.
    ///
    /// # Errors
    /// Where the database cannot do it.
    pub async fn backfill(
        &self,
        source: &str,
        protocol_name: &str,
    ) -> Result<Vec<BackfillSeries>, DatabaseError> {
        let rows = self
            .pool
            .rows(
                "select backfill_series.series_instance_uid, backfill_series.study_instance_uid, \
                        backfill_series.state, backfill_series.expected_instances, backfill_series.reason_code, \
                        coalesce(series.instance_count, 0) as received \
                   from backfill_series \
                   left join series on series.series_instance_uid = backfill_series.series_instance_uid \
                  where backfill_series.source = $1 and backfill_series.protocol_name = $2 \
                  order by backfill_series.planned_at, backfill_series.series_instance_uid",
                values![source, protocol_name],
            )
            .await?;
        rows.iter()
            .map(|row| {
                let expected: Option<i64> = row.get("expected_instances")?;
                Ok(BackfillSeries {
                    planned: PlannedSeries {
                        study_instance_uid: row.parse("study_instance_uid")?,
                        series_instance_uid: row.parse("series_instance_uid")?,
                        expected_instances: expected.map(|count| count as u64),
                    },
                    state: row.parse("state")?,
                    reason_code: row.get("reason_code")?,
                    received_instances: row.get::<i64>("received")? as u64,
                })
            })
            .collect()
    }

    /// Notes that the PACS is being asked for a series.
    ///
    /// # Errors
    /// Where the database cannot do it.
    pub async fn backfill_requested(
        &self,
        protocol_name: &str,
        series: &SeriesInstanceUid,
    ) -> Result<(), DatabaseError> {
        let mut transaction = self.begin().await?;
        let now = transaction.now();
        transaction
            .execute(
                "update backfill_series \
                    set state = 'requested', attempt = attempt + 1, changed_at = $1, \
                        was_here = was_here or (attempt = 0 and exists \
                            (select 1 from series where series.series_instance_uid = backfill_series.series_instance_uid)) \
                  where protocol_name = $2 and series_instance_uid = $3",
                values![now, protocol_name, series.as_str()],
            )
            .await?;
        transaction.commit().await
    }

    /// Notes how fetching a series ended. One that had come before is looked at again, so that the protocol gets its
    /// turn.
    ///
    /// # Errors
    /// Where the database cannot do it.
    pub async fn backfill_ended(
        &self,
        protocol_name: &str,
        series: &SeriesInstanceUid,
        fetched: &Fetched,
    ) -> Result<(), DatabaseError> {
        let mut transaction = self.begin().await?;
        let now = transaction.now();
        let (state, reason_code) = match fetched {
            Fetched::Received => (BackfillState::Received, None),
            Fetched::Failed(code) => (BackfillState::Failed, Some(code.as_str())),
        };
        transaction
            .execute(
                "update backfill_series set state = $1, reason_code = $2, changed_at = $3 \
                  where protocol_name = $4 and series_instance_uid = $5",
                values![state.as_str(), reason_code, now, protocol_name, series.as_str()],
            )
            .await?;
        if *fetched == Fetched::Received {
            transaction
                .execute(
                    "update series set revision = revision + 1 \
                      where series_instance_uid = $1 and revision = settled_revision \
                        and not exists (select 1 from job where job.series_instance_uid = $1 \
                                           and job.protocol_name = $2)",
                    values![series.as_str(), protocol_name],
                )
                .await?;
        }
        transaction.commit().await
    }

    /// What a series was fetched for; no protocol where it came by itself.
    ///
    /// # Errors
    /// Where the database cannot do it.
    pub async fn backfill_of(
        &self,
        series: &SeriesInstanceUid,
    ) -> Result<BackfillOf, DatabaseError> {
        let rows = self
            .pool
            .rows(
                "select protocol_name, was_here from backfill_series \
                  where series_instance_uid = $1 and state <> 'waiting'",
                values![series.as_str()],
            )
            .await?;
        let mut of = BackfillOf::default();
        for row in &rows {
            of.protocols.insert(row.get("protocol_name")?);
            of.was_here |= row.get::<bool>("was_here")?;
        }
        Ok(of)
    }

    /// Series that were fetched and have not settled, and jobs of the lowest priority that have not ended.
    ///
    /// # Errors
    /// Where the database cannot do it.
    pub async fn backfill_under_way(&self) -> Result<u64, DatabaseError> {
        let row = self
            .pool
            .row(
                "select (select count(*) from job \
                          where priority = $1 and state in ('queued', 'running')) \
                      + (select count(*) from backfill_series \
                           join series on series.series_instance_uid = backfill_series.series_instance_uid \
                          where backfill_series.state in ('requested', 'received') \
                            and series.revision > series.settled_revision) as under_way",
                values![i64::from(Priority::Backfill.rank())],
            )
            .await?
            .ok_or_else(|| shape("under_way"))?;
        Ok(row.get::<i64>("under_way")? as u64)
    }
}
