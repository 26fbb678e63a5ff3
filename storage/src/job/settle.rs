//! From a complete series to its jobs.

use std::collections::BTreeSet;
use std::time::Duration;

use dicom_types::{Phi, SeriesInstanceUid, SopInstanceUid, StudyInstanceUid};
use serde_json::json;
use time::OffsetDateTime;

use crate::digest::Sha256Digest;
use crate::outbox::enqueue;
use crate::provenance::{Event, EventKind, ReasonCode};
use crate::store::sql::{Transaction, Value, places, values};
use crate::store::{DatabaseError, Store};
use crate::words::words;

use super::routing::{RoutingRecord, keep};
use super::state::{JobState, Lane, Priority};
use super::{JobId, cancel_deliveries};

/// When a series with new instances is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettlePolicy {
    /// Silence after which a series is looked at, whatever its associations do.
    pub quiet: Duration,
    /// Silence that is enough where no association that brought an instance of the series is open any more.
    pub quiet_after_release: Duration,
}

/// A series that may be complete, with what the store knows as evidence.
#[derive(Debug, Clone, PartialEq)]
pub struct SettleCandidate {
    /// Its study.
    pub study_instance_uid: StudyInstanceUid,
    /// The series.
    pub series_instance_uid: SeriesInstanceUid,
    /// Modality, as received.
    pub modality: Option<String>,
    /// To be handed to [`Store::settle_series`], which refuses where instances came in between.
    pub revision: u64,
    /// Instances received.
    pub instance_count: u64,
    /// Smallest and largest Instance Number (0020,0013) among them.
    pub instance_numbers: Option<(i64, i64)>,
    /// When the first instance came.
    pub first_received_at: OffsetDateTime,
    /// When the last instance came.
    pub last_received_at: OffsetDateTime,
    /// Whether an association that brought an instance of the series is still open.
    pub association_open: bool,
    /// Whether the series was settled before: these are late instances.
    pub settled_before: bool,
    /// Header facts, as recorded with the first instance.
    pub header_facts: Option<Phi<serde_json::Value>>,
}

/// A protocol in one wording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProtocolRevision {
    /// Name of the protocol.
    pub protocol_name: String,
    /// Digest of `definition`: what identifies the revision.
    pub sha256: Sha256Digest,
    /// The whole protocol as text.
    pub definition: String,
}

words! {
    /// What routing made of a series.
    DecisionOutcome, ParseDecisionOutcomeError;
    /// The protocol applies; there is a job.
    Matched = "matched",
    /// The protocol does not apply.
    NotMatched = "not_matched",
    /// The series as a whole is not processed, whatever the protocols say.
    Refused = "refused",
}

/// A decision of routing, kept for `why`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The protocol that was considered; none where the decision is about the series as a whole.
    pub protocol_name: Option<String>,
    /// What was decided.
    pub outcome: DecisionOutcome,
    /// Why, as a code.
    pub reason_code: ReasonCode,
    /// Why, for a person; never a value from a data set.
    pub reason: String,
}

/// A job to make.
#[derive(Debug, Clone, PartialEq)]
pub struct NewJob {
    /// Derived by [`JobId::derive`].
    pub job_id: JobId,
    /// Name of the protocol.
    pub protocol_name: String,
    /// Its revision, registered before with [`Store::register_protocol`].
    pub protocol_revision: Sha256Digest,
    /// Digest of the model pack.
    pub pack_digest: Sha256Digest,
    /// How soon it is wanted.
    pub priority: Priority,
    /// Whether it is production's, or a candidate's beside it.
    pub lane: Lane,
    /// The instances that go into it.
    pub instances: BTreeSet<SopInstanceUid>,
    /// Why it has to wait for a person, if it has.
    pub hold: Option<ReasonCode>,
}

/// What came of settling a series.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settled {
    /// Jobs that are new.
    pub created: Vec<JobId>,
    /// Jobs that were there already.
    pub known: Vec<JobId>,
    /// Jobs whose place was taken.
    pub superseded: Vec<JobId>,
}

/// Why a series was not settled.
#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    /// Instances came, or somebody else settled it, since the candidate was read.
    #[error("series {series} changed while it was being settled")]
    Changed {
        /// The series.
        series: SeriesInstanceUid,
    },
    /// Instances came, or somebody else made the choice, since the study was looked at.
    #[error("study {study} changed while one of its series was being chosen")]
    StudyChanged {
        /// The study.
        study: StudyInstanceUid,
    },
    /// The database did not do it.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

impl Store {
    /// Keeps a protocol's wording, once.
    ///
    /// # Errors
    /// Where the database cannot do it.
    pub async fn register_protocol(
        &self,
        revision: &ProtocolRevision,
    ) -> Result<(), DatabaseError> {
        let mut transaction = self.begin().await?;
        let now = transaction.now();
        let added = transaction
            .execute(
                "insert into protocol_revision (protocol_revision_sha256, protocol_name, definition, first_seen_at) \
                 values ($1, $2, $3, $4) \
                 on conflict (protocol_revision_sha256) do nothing",
                values![&revision.sha256, &revision.protocol_name, &revision.definition, now],
            )
            .await?;
        if added == 1 {
            let detail = json!({
                "protocol": revision.protocol_name, "revision": revision.sha256.to_string(),
            });
            transaction.record(Event::new(EventKind::ProtocolRegistered).with(detail));
        }
        transaction.commit().await
    }

    /// Series with new instances that are quiet enough to be looked at, the longest waiting first.
    ///
    /// # Errors
    /// Where the database cannot answer.
    pub async fn series_to_settle(
        &self,
        policy: &SettlePolicy,
        limit: u32,
    ) -> Result<Vec<SettleCandidate>, DatabaseError> {
        let now = self.pool.now().await?;
        let rows = self
            .pool
            .rows(
                "select series.series_instance_uid, series.study_instance_uid, series.modality, series.revision, \
                        series.instance_count, series.first_received_at, series.last_received_at, \
                        series.settled_revision, header_fact.facts, \
                        (select min(instance_number) from instance \
                          where instance.series_instance_uid = series.series_instance_uid) as lowest, \
                        (select max(instance_number) from instance \
                          where instance.series_instance_uid = series.series_instance_uid) as highest, \
                        exists (select 1 from instance \
                                  join association on association.association_id = instance.association_id \
                                 where instance.series_instance_uid = series.series_instance_uid \
                                   and association.ended_at is null) as association_open \
                   from series \
                   left join header_fact on header_fact.series_instance_uid = series.series_instance_uid \
                  where series.revision > series.settled_revision \
                    and (series.last_received_at <= $1 \
                         or (series.last_received_at <= $2 \
                             and not exists (select 1 from instance \
                                   join association on association.association_id = instance.association_id \
                                  where instance.series_instance_uid = series.series_instance_uid \
                                    and association.ended_at is null))) \
                  order by series.last_received_at \
                  limit $3",
                values![now - policy.quiet, now - policy.quiet_after_release, limit],
            )
            .await?;
        rows.iter()
            .map(|row| {
                let lowest: Option<i64> = row.get("lowest")?;
                let highest: Option<i64> = row.get("highest")?;
                let facts: Option<serde_json::Value> = row.get("facts")?;
                Ok(SettleCandidate {
                    study_instance_uid: row.parse("study_instance_uid")?,
                    series_instance_uid: row.parse("series_instance_uid")?,
                    modality: row.get("modality")?,
                    revision: row.get::<i64>("revision")? as u64,
                    instance_count: row.get::<i64>("instance_count")? as u64,
                    instance_numbers: lowest.zip(highest),
                    first_received_at: row.get("first_received_at")?,
                    last_received_at: row.get("last_received_at")?,
                    association_open: row.get("association_open")?,
                    settled_before: row.get::<i64>("settled_revision")? > 0,
                    header_facts: facts.map(Phi::new),
                })
            })
            .collect()
    }

    /// Marks a series as complete and makes its jobs: evidence, decisions, jobs, outbox and ledger commit together.
    ///
    /// A job that is there already is left as it is. A new job takes the place of the other jobs of the same protocol
    /// and lane on the same series: those that have not ended stop, those that have (cancelled ones too, so that nobody runs
    /// them again) are marked, and what they have not delivered yet is not delivered any more.
    /// Settling with no jobs is how "nothing matched" is recorded, unless a choice among the series of the study is
    /// still to be made. `record` keeps what routing knew, where the series is a volume.
    ///
    /// # Errors
    /// [`SettleError::Changed`] where `candidate` is out of date: look at the series again.
    pub async fn settle_series(
        &self,
        candidate: &SettleCandidate,
        evidence: &serde_json::Value,
        decisions: &[Decision],
        jobs: &[NewJob],
        record: Option<&RoutingRecord>,
    ) -> Result<Settled, SettleError> {
        let (study, series) = (&candidate.study_instance_uid, &candidate.series_instance_uid);
        let mut transaction = self.begin().await?;
        settle(&mut transaction, candidate, evidence).await?;
        note_decisions(&mut transaction, series, candidate.revision, decisions).await?;
        if let Some(record) = record {
            keep(&mut transaction, study, series, candidate.revision, record).await?;
        }
        let mut settled = Settled::default();
        for job in jobs {
            if insert_job(&mut transaction, (study, series), job).await? {
                supersede_others(&mut transaction, candidate, job, &mut settled).await?;
                settled.created.push(job.job_id);
            } else {
                settled.known.push(job.job_id);
            }
        }
        if jobs.is_empty() && !record.is_some_and(|record| record.awaits_choice) {
            let reason_code = decisions
                .iter()
                .find(|decision| decision.protocol_name.is_none())
                .map_or(ReasonCode::NO_PROTOCOL, |decision| decision.reason_code.clone());
            let event = Event::new(EventKind::NothingMatched).because(reason_code);
            transaction.record(event.of_series(study, series));
        }
        transaction.commit().await?;
        Ok(settled)
    }
}

async fn settle(
    transaction: &mut Transaction,
    candidate: &SettleCandidate,
    evidence: &serde_json::Value,
) -> Result<(), SettleError> {
    let series = &candidate.series_instance_uid;
    let revision = candidate.revision;
    let now = transaction.now();
    let updated = transaction
        .execute(
            "update series set settled_revision = revision, settled_at = $1 \
              where series_instance_uid = $2 and revision = $3 and settled_revision < revision",
            values![now, series.as_str(), revision],
        )
        .await?;
    if updated != 1 {
        return Err(SettleError::Changed { series: series.clone() });
    }
    let rows = transaction
        .rows(
            "select sop_instance_uid, sha256 from instance where series_instance_uid = $1",
            values![series.as_str()],
        )
        .await?;
    let mut lines = Vec::with_capacity(rows.len());
    for row in &rows {
        let instance: String = row.get("sop_instance_uid")?;
        lines.push(format!("{instance} {}\n", row.get::<Sha256Digest>("sha256")?));
    }
    lines.sort_unstable();
    let instances_sha256 = Sha256Digest::of(lines.concat().as_bytes());
    transaction
        .execute(
            "insert into settlement (series_instance_uid, revision, instance_count, instances_sha256, evidence, \
             settled_at) values ($1, $2, $3, $4, $5, $6)",
            values![series.as_str(), revision, rows.len() as u64, instances_sha256, evidence.clone(), now],
        )
        .await?;
    let detail = json!({
        "revision": revision, "instances": rows.len(), "instances_sha256": instances_sha256.to_string(),
        "evidence": evidence,
    });
    let event = Event::new(EventKind::SeriesSettled).with(detail);
    transaction.record(event.of_series(&candidate.study_instance_uid, series));
    Ok(())
}

pub(super) async fn note_decisions(
    transaction: &mut Transaction,
    series: &SeriesInstanceUid,
    revision: u64,
    decisions: &[Decision],
) -> Result<(), DatabaseError> {
    let now = transaction.now();
    for decision in decisions {
        transaction
            .execute(
                "insert into decision (series_instance_uid, revision, protocol_name, outcome, reason_code, reason, \
                 decided_at) values ($1, $2, $3, $4, $5, $6, $7)",
                values![
                    series.as_str(),
                    revision,
                    decision.protocol_name.as_deref(),
                    decision.outcome.as_str(),
                    decision.reason_code.as_str(),
                    &decision.reason,
                    now,
                ],
            )
            .await?;
    }
    Ok(())
}

/// Inserts the job with its instances and, unless it is held, its outbox row. False where it was there already.
pub(super) async fn insert_job(
    transaction: &mut Transaction,
    (study, series): (&StudyInstanceUid, &SeriesInstanceUid),
    job: &NewJob,
) -> Result<bool, DatabaseError> {
    let now = transaction.now();
    let state = if job.hold.is_some() { JobState::Held } else { JobState::Queued };
    let inserted = transaction
        .execute(
            "insert into job (job_id, series_instance_uid, protocol_name, protocol_revision_sha256, pack_digest, \
             priority, lane, state, reason_code, next_attempt_at, created_at) \
             values ($1, $2, $3, $4, $5, $6, $10, $7, $8, $9, $9) \
             on conflict (job_id) do nothing",
            values![
                *job.job_id.as_uuid(),
                series.as_str(),
                &job.protocol_name,
                job.protocol_revision,
                job.pack_digest,
                i64::from(job.priority.rank()),
                state.as_str(),
                job.hold.as_ref().map(ReasonCode::as_str),
                now,
                job.lane.as_str(),
            ],
        )
        .await?;
    if inserted == 0 {
        return Ok(false);
    }
    let instances: Vec<&SopInstanceUid> = job.instances.iter().collect();
    for instances in instances.chunks(500) {
        let mut bound: Vec<Value> = Vec::with_capacity(2 * instances.len());
        for instance in instances {
            bound.extend(values![*job.job_id.as_uuid(), instance.as_str()]);
        }
        let statement = format!(
            "insert into job_instance (job_id, sop_instance_uid) values {}",
            places(0, instances.len(), 2)
        );
        transaction.execute(statement, bound).await?;
    }
    if job.hold.is_none() {
        enqueue(transaction, job.job_id, now).await?;
    }
    let mut event = Event::new(EventKind::JobCreated)
        .of_series(study, series)
        .of_job(job.job_id)
        .with(json!({
            "protocol": job.protocol_name, "protocol_revision": job.protocol_revision.to_string(),
            "pack": job.pack_digest.to_string(), "priority": job.priority.as_str(), "lane": job.lane.as_str(), "state": state.as_str(),
            "instances": job.instances.len(),
        }));
    event.reason_code.clone_from(&job.hold);
    transaction.record(event);
    Ok(true)
}

async fn supersede_others(
    transaction: &mut Transaction,
    candidate: &SettleCandidate,
    job: &NewJob,
    settled: &mut Settled,
) -> Result<(), DatabaseError> {
    let now = transaction.now();
    let rows = transaction
        .rows(
            "update job set state = 'superseded', superseded_by = $1, finished_at = coalesce(finished_at, $2), \
                    lease_owner = null, lease_expires_at = null \
              where series_instance_uid = $3 and protocol_name = $4 and lane = $5 and job_id <> $1 \
                and state <> 'superseded' \
             returning job_id",
            values![
                *job.job_id.as_uuid(),
                now,
                candidate.series_instance_uid.as_str(),
                &job.protocol_name,
                job.lane.as_str(),
            ],
        )
        .await?;
    for row in &rows {
        let old = JobId::from(row.get::<uuid::Uuid>("job_id")?);
        transaction
            .execute("delete from outbox where job_id = $1", values![*old.as_uuid()])
            .await?;
        cancel_deliveries(transaction, old).await?;
        let event = Event::new(EventKind::JobSuperseded)
            .because(ReasonCode::LATE_INSTANCES)
            .of_series(&candidate.study_instance_uid, &candidate.series_instance_uid)
            .of_job(old)
            .with(json!({ "superseded_by": job.job_id.to_string() }));
        transaction.record(event);
        settled.superseded.push(old);
    }
    Ok(())
}
