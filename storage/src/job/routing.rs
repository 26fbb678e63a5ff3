//! What routing knew of a series, kept for choices among the series of a study and for rules to be tried on the past.

use std::collections::BTreeMap;
use std::time::Duration;

use dicom_types::{Phi, SeriesInstanceUid, StudyInstanceUid};
use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::digest::Sha256Digest;
use crate::outbox::enqueue;
use crate::provenance::{Event, EventKind, ReasonCode};
use crate::store::sql::{Statement, Transaction, shape, values};
use crate::store::{DatabaseError, Store};

use super::settle::{Decision, NewJob, SettleError, Settled, insert_job, note_decisions};
use super::{JobId, JobState, cancel_deliveries};

/// Protocols that took a series, with the revision of each.
pub type Taken = BTreeMap<String, Sha256Digest>;

/// What is kept of a series when it settles.
#[derive(Debug, Clone, PartialEq)]
pub struct RoutingRecord {
    /// Its facts, one line without line breaks and tabs.
    pub facts: Phi<String>,
    /// Protocols that took it.
    pub taken: Taken,
    /// Whether a protocol matches that takes one series of the study.
    pub awaits_choice: bool,
}

/// A study whose series are all settled, and in which a choice is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StudyToChoose {
    /// The study.
    pub study_instance_uid: StudyInstanceUid,
    /// Tells this state of the study from a later one.
    generation: u64,
}

/// What is kept of a settled series.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedRouting {
    /// The series.
    pub series_instance_uid: SeriesInstanceUid,
    /// Its revision that settled.
    pub revision: u64,
    /// Its facts, one line.
    pub facts: Phi<String>,
    /// Protocols that took it.
    pub taken: Taken,
}

/// What a choice among the series of a study came to, for one series.
#[derive(Debug, Clone, PartialEq)]
pub struct ChosenSeries {
    /// The series.
    pub series_instance_uid: SeriesInstanceUid,
    /// Its revision that the choice is about.
    pub revision: u64,
    /// What was decided about it.
    pub decisions: Vec<Decision>,
    /// Protocols that take it by now.
    pub taken: Taken,
    /// Jobs that it is chosen for.
    pub jobs: Vec<NewJob>,
}

/// How far a reader of the past has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutingCursor {
    settled_at: OffsetDateTime,
    study_instance_uid: String,
}

/// Recorded series of some whole studies.
#[derive(Debug, Clone)]
pub struct RoutingPage {
    /// For each series a line: its facts, a tab, the protocols that took it as a JSON object.
    pub lines: Phi<String>,
    /// Where the next page begins.
    pub next: RoutingCursor,
}

/// How long the device worked on a series.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedDuration {
    /// Name of the protocol.
    pub protocol_name: String,
    /// Its revision.
    pub protocol_revision: Sha256Digest,
    /// Time on the device.
    pub device: Duration,
    /// Facts of the series, one line.
    pub facts: Phi<String>,
}

macro_rules! waiting {
    ($awaits:literal) => {
        concat!(
            "select study_routing.study_instance_uid, study_routing.generation from study_routing \
               join study on study.study_instance_uid = study_routing.study_instance_uid \
              where ",
            $awaits,
            " and study.last_received_at <= $1 \
                and not exists (select 1 from series \
                                 where series.study_instance_uid = study_routing.study_instance_uid \
                                   and series.revision > series.settled_revision) \
              order by study_routing.settled_at \
              limit $2"
        )
    };
}

macro_rules! page {
    ($lines:literal) => {
        concat!(
            "select ",
            $lines,
            " as lines from study_routing \
               join routing_fact on routing_fact.study_instance_uid = study_routing.study_instance_uid \
              where (study_routing.settled_at, study_routing.study_instance_uid) > ($1, $2) \
                and (study_routing.settled_at, study_routing.study_instance_uid) <= ($3, $4)"
        )
    };
}

impl Store {
    /// Studies in which a choice is to be made: every series is settled, and nothing came for `quiet`.
    ///
    /// # Errors
    /// Where the database cannot answer.
    pub async fn studies_to_choose(
        &self,
        quiet: Duration,
        limit: u32,
    ) -> Result<Vec<StudyToChoose>, DatabaseError> {
        let now = self.pool.now().await?;
        let rows = self
            .pool
            .rows(
                Statement::Each {
                    postgres: waiting!("study_routing.awaits_choice"),
                    sqlite: waiting!("study_routing.awaits_choice = 1"),
                },
                values![now - quiet, limit],
            )
            .await?;
        rows.iter()
            .map(|row| {
                Ok(StudyToChoose {
                    study_instance_uid: row.parse("study_instance_uid")?,
                    generation: row.get::<i64>("generation")? as u64,
                })
            })
            .collect()
    }

    /// What is kept of the series of a study, or of one series.
    ///
    /// # Errors
    /// Where the database cannot answer.
    pub async fn recorded_series(&self, uid: &str) -> Result<Vec<RecordedRouting>, DatabaseError> {
        let rows = self
            .pool
            .rows(
                "select series_instance_uid, revision, facts, taken from routing_fact \
                  where study_instance_uid = $1 or series_instance_uid = $1 \
                  order by series_instance_uid",
                values![uid],
            )
            .await?;
        rows.iter()
            .map(|row| {
                let taken: String = row.get("taken")?;
                Ok(RecordedRouting {
                    series_instance_uid: row.parse("series_instance_uid")?,
                    revision: row.get::<i64>("revision")? as u64,
                    facts: Phi::new(row.get("facts")?),
                    taken: read_taken(&taken).ok_or_else(|| shape("taken"))?,
                })
            })
            .collect()
    }

    /// Records the choice among the series of a study and makes its jobs, in one transaction.
    ///
    /// A new job takes the place of the other jobs of its protocol in the whole study. A job that had given way to
    /// another one and is chosen again is queued again.
    ///
    /// # Errors
    /// [`SettleError::StudyChanged`] where instances came since: look at the study again once it is quiet.
    pub async fn settle_study(
        &self,
        study: &StudyToChoose,
        series: &[ChosenSeries],
    ) -> Result<Settled, SettleError> {
        let mut transaction = self.begin().await?;
        close_choice(&mut transaction, study).await?;
        let mut settled = Settled::default();
        for chosen in series {
            let study_uid = &study.study_instance_uid;
            let uid = &chosen.series_instance_uid;
            note_decisions(&mut transaction, uid, chosen.revision, &chosen.decisions).await?;
            transaction
                .execute(
                    "update routing_fact set taken = $1 where series_instance_uid = $2",
                    values![taken_text(&chosen.taken), uid.as_str()],
                )
                .await?;
            for job in &chosen.jobs {
                let event = Event::new(EventKind::SeriesChosen).of_series(study_uid, uid);
                let event = event.of_job(job.job_id).with(json!({
                    "protocol": job.protocol_name, "protocol_revision": job.protocol_revision.to_string(),
                    "series_of_study": series.len(),
                }));
                transaction.record(event);
                let is_new = insert_job(&mut transaction, (study_uid, uid), job).await?;
                let is_revived = !is_new && revive(&mut transaction, study_uid, uid, job).await?;
                if is_new || is_revived {
                    settled.created.push(job.job_id);
                } else {
                    settled.known.push(job.job_id);
                }
                supersede_in_study(&mut transaction, study_uid, job, &mut settled).await?;
            }
        }
        transaction.commit().await?;
        Ok(settled)
    }

    /// The next recorded series of whole studies that settled at `since` or later, in the order in which they settled.
    ///
    /// # Errors
    /// Where the database cannot answer.
    pub async fn recorded_page(
        &self,
        since: OffsetDateTime,
        after: Option<&RoutingCursor>,
        studies: u32,
    ) -> Result<Option<RoutingPage>, DatabaseError> {
        let (from, from_study) = match after {
            Some(cursor) => (cursor.settled_at, cursor.study_instance_uid.as_str()),
            None => (since, ""),
        };
        let last = self
            .pool
            .row(
                "select settled_at, study_instance_uid from \
                   (select settled_at, study_instance_uid from study_routing \
                     where (settled_at, study_instance_uid) > ($1, $2) \
                     order by settled_at, study_instance_uid limit $3) as page \
                  order by settled_at desc, study_instance_uid desc limit 1",
                values![from, from_study, studies],
            )
            .await?;
        let Some(last) = last else { return Ok(None) };
        let next = RoutingCursor {
            settled_at: last.get("settled_at")?,
            study_instance_uid: last.get("study_instance_uid")?,
        };
        // The database joins the lines: a row of its own for each series costs more than reading it.
        let row = self
            .pool
            .row(
                Statement::Each {
                    postgres: page!("string_agg(routing_fact.facts || chr(9) || routing_fact.taken, chr(10))"),
                    sqlite: page!("group_concat(routing_fact.facts || char(9) || routing_fact.taken, char(10))"),
                },
                values![from, from_study, next.settled_at, next.study_instance_uid.as_str()],
            )
            .await?;
        let lines: Option<String> = row.map(|row| row.get("lines")).transpose()?.flatten();
        Ok(Some(RoutingPage { lines: Phi::new(lines.unwrap_or_default()), next }))
    }

    /// How long the device worked on the series of the latest jobs that are done, up to `limit`.
    ///
    /// # Errors
    /// Where the database cannot answer.
    pub async fn recorded_durations(
        &self,
        limit: u32,
    ) -> Result<Vec<RecordedDuration>, DatabaseError> {
        let rows = self
            .pool
            .rows(
                "select job.protocol_name, job.protocol_revision_sha256, event.detail, routing_fact.facts \
                   from (select job_id, series_instance_uid, protocol_name, protocol_revision_sha256 from job \
                          where state = 'done' and lane = 'production' order by created_at desc limit $1) as job \
                   join event on event.job_id = job.job_id and event.kind = 'job_done' \
                   join routing_fact on routing_fact.series_instance_uid = job.series_instance_uid",
                values![limit],
            )
            .await?;
        let mut durations = Vec::with_capacity(rows.len());
        for row in &rows {
            let detail: String = row.get("detail")?;
            let detail: serde_json::Value =
                serde_json::from_str(&detail).map_err(|_| shape("detail"))?;
            let Some(infer_ms) = detail["work"]["infer_ms"].as_u64() else { continue };
            durations.push(RecordedDuration {
                protocol_name: row.get("protocol_name")?,
                protocol_revision: row.get("protocol_revision_sha256")?,
                device: Duration::from_millis(infer_ms),
                facts: Phi::new(row.get("facts")?),
            });
        }
        Ok(durations)
    }
}

/// Keeps what routing knew of a series that settles.
pub(super) async fn keep(
    transaction: &mut Transaction,
    study: &StudyInstanceUid,
    series: &SeriesInstanceUid,
    revision: u64,
    record: &RoutingRecord,
) -> Result<(), DatabaseError> {
    let now = transaction.now();
    transaction
        .execute(
            "insert into routing_fact (series_instance_uid, study_instance_uid, revision, facts, taken, recorded_at) \
             values ($1, $2, $3, $4, $5, $6) \
             on conflict (series_instance_uid) do update \
                set revision = excluded.revision, facts = excluded.facts, taken = excluded.taken, \
                    recorded_at = excluded.recorded_at",
            values![
                series.as_str(),
                study.as_str(),
                revision,
                record.facts.expose().replace('\0', ""),
                taken_text(&record.taken),
                now,
            ],
        )
        .await?;
    transaction
        .execute(
            Statement::Each {
                postgres: "insert into study_routing (study_instance_uid, settled_at, awaits_choice) \
                           values ($1, $2, $3 <> 0) \
                           on conflict (study_instance_uid) do update \
                              set settled_at = excluded.settled_at, generation = study_routing.generation + 1, \
                                  awaits_choice = study_routing.awaits_choice or excluded.awaits_choice",
                sqlite: "insert into study_routing (study_instance_uid, settled_at, awaits_choice) \
                         values ($1, $2, $3) \
                         on conflict (study_instance_uid) do update \
                            set settled_at = excluded.settled_at, generation = study_routing.generation + 1, \
                                awaits_choice = max(study_routing.awaits_choice, excluded.awaits_choice)",
            },
            values![study.as_str(), now, i64::from(record.awaits_choice)],
        )
        .await?;
    Ok(())
}

async fn close_choice(
    transaction: &mut Transaction,
    study: &StudyToChoose,
) -> Result<(), SettleError> {
    let closed = transaction
        .execute(
            Statement::Each {
                postgres: "update study_routing set awaits_choice = false \
                            where study_instance_uid = $1 and generation = $2 and awaits_choice \
                              and not exists (select 1 from series where series.study_instance_uid = $1 \
                                               and series.revision > series.settled_revision)",
                sqlite: "update study_routing set awaits_choice = 0 \
                          where study_instance_uid = $1 and generation = $2 and awaits_choice = 1 \
                            and not exists (select 1 from series where series.study_instance_uid = $1 \
                                             and series.revision > series.settled_revision)",
            },
            values![study.study_instance_uid.as_str(), study.generation],
        )
        .await?;
    if closed != 1 {
        return Err(SettleError::StudyChanged { study: study.study_instance_uid.clone() });
    }
    Ok(())
}

/// Queues a job again, or holds it, that had given way to another series. What was recalled is not made again.
async fn revive(
    transaction: &mut Transaction,
    study: &StudyInstanceUid,
    series: &SeriesInstanceUid,
    job: &NewJob,
) -> Result<bool, DatabaseError> {
    let now = transaction.now();
    let state = if job.hold.is_some() { JobState::Held } else { JobState::Queued };
    let revived = transaction
        .execute(
            "update job set state = $3, superseded_by = null, attempt = 0, next_attempt_at = $1, \
                    finished_at = null, reason_code = $4, reason = null \
              where job_id = $2 and state = 'superseded' \
                and not exists (select 1 from recalled_result \
                                  join result on result.sop_instance_uid = recalled_result.sop_instance_uid \
                                 where result.job_id = $2)",
            values![
                now,
                *job.job_id.as_uuid(),
                state.as_str(),
                job.hold.as_ref().map(ReasonCode::as_str),
            ],
        )
        .await?;
    if revived != 1 {
        return Ok(false);
    }
    if job.hold.is_none() {
        enqueue(transaction, job.job_id, now).await?;
    }
    let event = Event::new(EventKind::JobRetried).because(ReasonCode::SERIES_CHOSEN);
    transaction.record(event.of_series(study, series).of_job(job.job_id));
    Ok(true)
}

async fn supersede_in_study(
    transaction: &mut Transaction,
    study: &StudyInstanceUid,
    job: &NewJob,
    settled: &mut Settled,
) -> Result<(), DatabaseError> {
    let now = transaction.now();
    let rows = transaction
        .rows(
            "update job set state = 'superseded', superseded_by = $1, finished_at = coalesce(finished_at, $2), \
                    lease_owner = null, lease_expires_at = null, reason_code = $5, reason = null \
              where series_instance_uid in (select series_instance_uid from series where study_instance_uid = $3) \
                and protocol_name = $4 and lane = $6 and job_id <> $1 and state <> 'superseded' \
             returning job_id, series_instance_uid",
            values![
                *job.job_id.as_uuid(),
                now,
                study.as_str(),
                &job.protocol_name,
                ReasonCode::SERIES_CHOSEN.as_str(),
                job.lane.as_str(),
            ],
        )
        .await?;
    for row in &rows {
        let old = JobId::from(row.get::<Uuid>("job_id")?);
        transaction
            .execute("delete from outbox where job_id = $1", values![*old.as_uuid()])
            .await?;
        cancel_deliveries(transaction, old).await?;
        let event = Event::new(EventKind::JobSuperseded)
            .because(ReasonCode::SERIES_CHOSEN)
            .of_series(study, &row.parse("series_instance_uid")?)
            .of_job(old)
            .with(json!({ "superseded_by": job.job_id.to_string() }));
        transaction.record(event);
        settled.superseded.push(old);
    }
    Ok(())
}

fn taken_text(taken: &Taken) -> String {
    let named = taken.iter().map(|(name, revision)| (name.clone(), json!(revision.to_string())));
    serde_json::Value::Object(named.collect()).to_string()
}

/// Reads the protocols that took a series from the text of a line.
pub fn read_taken(text: &str) -> Option<Taken> {
    let named: BTreeMap<String, String> = serde_json::from_str(text).ok()?;
    named.into_iter().map(|(name, revision)| Some((name, revision.parse().ok()?))).collect()
}
