//! Why: everything that happened to what someone asks about, or why nothing did.

use std::collections::BTreeSet;

use dicom_types::{Phi, SeriesInstanceUid, SopInstanceUid, StudyInstanceUid};
use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::delivery::DeliveryState;
use crate::job::{DecisionOutcome, JobId, ResultForm};
use crate::provenance::{
    Event, EventKind, ReasonCode, RecordedEvent, event_columns, recorded_event,
};
use crate::store::sql::{Row, Value, places, values};
use crate::store::{DatabaseError, Store};

use super::jobs::JobSummary;
use super::studies::decision;
use super::{AuditFilter, Page, SeriesSummary};

/// Events shown of one study, and refusals shown where nothing is known.
const EVENTS: u32 = 5_000;
const REFUSALS: u32 = 20;

/// What the words of a question turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Recognised {
    /// A study.
    Study,
    /// A series.
    Series,
    /// A received instance.
    Instance,
    /// A result of ours, or its series.
    Result,
    /// A job.
    Job,
    /// An accession number.
    AccessionNumber,
    /// A patient id.
    PatientId,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct WhyEntry {
    /// When.
    pub at: OffsetDateTime,
    /// What.
    pub what: WhyWhat,
    /// Why, as a code.
    pub reason_code: Option<ReasonCode>,
    /// The series concerned.
    pub series_instance_uid: Option<SeriesInstanceUid>,
    /// The instance concerned.
    pub sop_instance_uid: Option<SopInstanceUid>,
    /// The job concerned.
    pub job_id: Option<JobId>,
    /// The destination concerned.
    pub destination: Option<String>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum WhyWhat {
    /// An entry of the ledger.
    Event {
        /// Its kind.
        kind: EventKind,
        /// Its place in the ledger.
        seq: u64,
        /// Its further facts.
        detail: serde_json::Value,
    },
    /// A decision of routing.
    Decision {
        /// The protocol considered; none for the series as a whole.
        protocol_name: Option<String>,
        /// What was decided.
        outcome: DecisionOutcome,
        /// Why, for a person.
        reason: String,
    },
    /// A copy of an instance that came again.
    Copy {
        /// `duplicate`, `conflict` or `own_result`.
        kind: String,
    },
}

/// A delivery that did not end well, or has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenDelivery {
    /// The job.
    pub job_id: JobId,
    /// The destination.
    pub destination: String,
    /// The form of the result.
    pub form: ResultForm,
    /// The form that took its place, where the destination does not take this one.
    pub replaced_by: Option<ResultForm>,
    /// Where it stands.
    pub state: DeliveryState,
    /// Why.
    pub reason_code: Option<ReasonCode>,
}

/// The story of one study.
#[derive(Debug, Clone, PartialEq)]
pub struct StudyStory {
    /// The study.
    pub study_instance_uid: StudyInstanceUid,
    /// What happened, in order.
    pub entries: Vec<WhyEntry>,
    /// How its series stand.
    pub series: Vec<SeriesSummary>,
    /// How its jobs stand, newest first.
    pub jobs: Vec<JobSummary>,
    /// Deliveries that are not done.
    pub open_deliveries: Vec<OpenDelivery>,
}

/// The answer to a question.
#[derive(Debug, Clone, PartialEq)]
pub struct Why {
    /// What the words are; empty where nothing is known of them.
    pub recognised: BTreeSet<Recognised>,
    /// The studies concerned.
    pub studies: Vec<StudyStory>,
    /// Where no study is known: refusals of the very instance that was asked for, or else the last connections,
    /// associations, presentation contexts and instances that were refused, newest first.
    pub recent_refusals: Vec<RecordedEvent>,
}

impl Store {
    /// Everything known about `words`: a UID of a study, series, instance or result, a job id, an accession number or
    /// a patient id. Asked by one of the latter two, the ledger records that identifiers were searched.
    ///
    /// # Errors
    /// Where the database cannot answer.
    pub async fn why(&self, words: &Phi<String>) -> Result<Why, DatabaseError> {
        let (recognised, studies) = self.recognise(words).await?;
        let by_identity = recognised
            .iter()
            .any(|kind| matches!(kind, Recognised::AccessionNumber | Recognised::PatientId));
        if by_identity {
            for study in &studies {
                let mut event = Event::new(EventKind::IdentifiersRead);
                event.study_instance_uid = Some(study.clone());
                self.record(event.with(json!({ "question": "why" }))).await?;
            }
        }
        let (mut recognised, mut recent_refusals) = (recognised, Vec::new());
        if studies.is_empty() {
            recent_refusals = self.refusals_of(words).await?;
            if recent_refusals.is_empty() {
                recent_refusals = self.recent_refusals().await?;
            } else {
                recognised.insert(Recognised::Instance);
            }
        }
        let mut stories = Vec::with_capacity(studies.len());
        for study in studies {
            stories.push(self.story(study).await?);
        }
        Ok(Why { recognised, studies: stories, recent_refusals })
    }

    async fn recognise(
        &self,
        words: &Phi<String>,
    ) -> Result<(BTreeSet<Recognised>, BTreeSet<StudyInstanceUid>), DatabaseError> {
        /// The study of what one column of a table names.
        macro_rules! study_by {
            ($kind:ident, $table:literal, $column:literal) => {
                (
                    Recognised::$kind,
                    concat!("select study_instance_uid from ", $table, " where ", $column, " = $1"),
                )
            };
            (first $kind:ident, $column:literal) => {
                (
                    Recognised::$kind,
                    concat!(
                        "select study_instance_uid from event where ",
                        $column,
                        " = $1 and study_instance_uid is not null limit 1"
                    ),
                )
            };
        }
        const LOOKUPS: &[(Recognised, &str)] = &[
            study_by!(Study, "study", "study_instance_uid"),
            study_by!(first Study, "study_instance_uid"),
            study_by!(Series, "series", "series_instance_uid"),
            study_by!(first Series, "series_instance_uid"),
            (
                Recognised::Instance,
                "select series.study_instance_uid from instance \
                   join series on series.series_instance_uid = instance.series_instance_uid \
                  where instance.sop_instance_uid = $1",
            ),
            study_by!(Instance, "instance_copy", "sop_instance_uid"),
            study_by!(first Instance, "sop_instance_uid"),
            (
                Recognised::Result,
                "select series.study_instance_uid from result \
                   join job on job.job_id = result.job_id \
                   join series on series.series_instance_uid = job.series_instance_uid \
                  where result.sop_instance_uid = $1 or result.series_instance_uid = $1",
            ),
            study_by!(AccessionNumber, "patient_identity", "accession_number"),
            study_by!(PatientId, "patient_identity", "patient_id"),
        ];
        let mut recognised = BTreeSet::new();
        let mut studies = BTreeSet::new();
        let text = words.expose().trim();
        if text.is_empty() || text.contains('\0') {
            return Ok((recognised, studies));
        }
        for (kind, statement) in LOOKUPS {
            // A UID cannot be told from an accession number by its looks: all places are searched.
            let rows = self.pool.rows(*statement, values![text]).await?;
            for row in &rows {
                recognised.insert(*kind);
                studies.insert(row.parse("study_instance_uid")?);
            }
        }
        if let Ok(id) = text.parse::<Uuid>() {
            let row = self
                .pool
                .row(
                    "select series.study_instance_uid from job \
                       join series on series.series_instance_uid = job.series_instance_uid \
                      where job.job_id = $1",
                    values![id],
                )
                .await?;
            if let Some(row) = row {
                recognised.insert(Recognised::Job);
                studies.insert(row.parse("study_instance_uid")?);
            }
        }
        Ok((recognised, studies))
    }

    async fn story(&self, study: StudyInstanceUid) -> Result<StudyStory, DatabaseError> {
        let mut entries = self.event_entries(&study).await?;
        entries.extend(self.decision_entries(&study).await?);
        entries.extend(self.duplicate_entries(&study).await?);
        entries.sort_by_key(|entry| {
            let seq = match &entry.what {
                WhyWhat::Event { seq, .. } => *seq,
                WhyWhat::Decision { .. } | WhyWhat::Copy { .. } => 0,
            };
            (entry.at, seq)
        });
        let of_study =
            AuditFilter { study_instance_uid: Some(study.clone()), ..AuditFilter::default() };
        let jobs = self.list_jobs(&of_study, &Page::first(1_000)).await?.rows;
        Ok(StudyStory {
            entries,
            series: self.series_of_study(&study).await?,
            jobs,
            open_deliveries: self.open_deliveries(&study).await?,
            study_instance_uid: study,
        })
    }

    /// Events about the study, and about the associations that brought it.
    async fn event_entries(
        &self,
        study: &StudyInstanceUid,
    ) -> Result<Vec<WhyEntry>, DatabaseError> {
        let rows = self
            .pool
            .rows(
                concat!(
                    "select ",
                    event_columns!(),
                    " from event where study_instance_uid = $1 order by seq limit $2"
                ),
                values![study.as_str(), EVENTS],
            )
            .await?;
        let mut events = rows.iter().map(recorded_event).collect::<Result<Vec<_>, _>>()?;
        let associations: BTreeSet<Uuid> = events
            .iter()
            .filter_map(|recorded| recorded.event.association_id)
            .map(Uuid::from)
            .collect();
        let associations: Vec<Value> =
            associations.into_iter().take(500).map(Value::from).collect();
        if !associations.is_empty() {
            let statement = format!(
                "select {} from event \
                  where study_instance_uid is null and kind in ('association_ended', 'contexts_refused') \
                    and association_id in {} \
                  order by seq",
                event_columns!(),
                places(0, 1, associations.len())
            );
            for row in &self.pool.rows(statement, associations).await? {
                events.push(recorded_event(row)?);
            }
        }
        let entry = |recorded: RecordedEvent| WhyEntry {
            at: recorded.recorded_at,
            what: WhyWhat::Event {
                kind: recorded.event.kind,
                seq: recorded.seq,
                detail: recorded.event.detail,
            },
            reason_code: recorded.event.reason_code,
            series_instance_uid: recorded.event.series_instance_uid,
            sop_instance_uid: recorded.event.sop_instance_uid,
            job_id: recorded.event.job_id,
            destination: recorded.event.destination,
        };
        Ok(events.into_iter().map(entry).collect())
    }

    async fn decision_entries(
        &self,
        study: &StudyInstanceUid,
    ) -> Result<Vec<WhyEntry>, DatabaseError> {
        let rows = self
            .pool
            .rows(
                "select decision.series_instance_uid, decision.protocol_name, decision.outcome, \
                        decision.reason_code, decision.reason, decision.decided_at \
                   from decision \
                   join series on series.series_instance_uid = decision.series_instance_uid \
                  where series.study_instance_uid = $1 \
                  order by decision.decision_id \
                  limit $2",
                values![study.as_str(), EVENTS],
            )
            .await?;
        rows.iter()
            .map(|row| {
                let decision = decision(row)?;
                Ok(WhyEntry {
                    at: decision.decided_at,
                    what: WhyWhat::Decision {
                        protocol_name: decision.protocol_name,
                        outcome: decision.outcome,
                        reason: decision.reason,
                    },
                    reason_code: Some(decision.reason_code),
                    series_instance_uid: row.parse_optional("series_instance_uid")?,
                    sop_instance_uid: None,
                    job_id: None,
                    destination: None,
                })
            })
            .collect()
    }

    /// Duplicates; conflicts and returned results are in the ledger one by one.
    async fn duplicate_entries(
        &self,
        study: &StudyInstanceUid,
    ) -> Result<Vec<WhyEntry>, DatabaseError> {
        let rows = self
            .pool
            .rows(
                "select instance_copy.series_instance_uid, instance_copy.sop_instance_uid, instance_copy.kind, \
                        instance_copy.reason_code, instance_copy.received_at \
                   from instance_copy \
                   join series on series.series_instance_uid = instance_copy.series_instance_uid \
                  where series.study_instance_uid = $1 and instance_copy.kind = 'duplicate' \
                  order by instance_copy.instance_copy_id \
                  limit $2",
                values![study.as_str(), EVENTS],
            )
            .await?;
        rows.iter().map(copy_entry).collect()
    }

    async fn open_deliveries(
        &self,
        study: &StudyInstanceUid,
    ) -> Result<Vec<OpenDelivery>, DatabaseError> {
        let rows = self
            .pool
            .rows(
                "select delivery.job_id, delivery.destination, result.form, other.form as replaced_by, \
                        delivery.state, delivery.reason_code \
                   from delivery \
                   join result on result.sop_instance_uid = delivery.sop_instance_uid \
                   left join result as other on other.sop_instance_uid = delivery.replaced_by \
                   join job on job.job_id = delivery.job_id \
                   join series on series.series_instance_uid = job.series_instance_uid \
                  where series.study_instance_uid = $1 and delivery.state <> 'delivered' \
                  order by delivery.created_at, delivery.delivery_id",
                values![study.as_str()],
            )
            .await?;
        rows.iter()
            .map(|row| {
                Ok(OpenDelivery {
                    job_id: row.get::<Uuid>("job_id")?.into(),
                    destination: row.get("destination")?,
                    form: row.parse("form")?,
                    replaced_by: row.parse_optional("replaced_by")?,
                    state: row.parse("state")?,
                    reason_code: row.parse_optional("reason_code")?,
                })
            })
            .collect()
    }

    /// Refusals of the one instance that the words name: it never came so far as to be of a study.
    async fn refusals_of(&self, words: &Phi<String>) -> Result<Vec<RecordedEvent>, DatabaseError> {
        let Ok(uid) = words.expose().trim().parse::<SopInstanceUid>() else {
            return Ok(Vec::new());
        };
        let rows = self
            .pool
            .rows(
                concat!(
                    "select ",
                    event_columns!(),
                    " from event where sop_instance_uid = $1 and kind = 'instance_refused' \
                      order by seq desc limit $2"
                ),
                values![uid.as_str(), REFUSALS],
            )
            .await?;
        rows.iter().map(recorded_event).collect()
    }

    async fn recent_refusals(&self) -> Result<Vec<RecordedEvent>, DatabaseError> {
        let rows = self
            .pool
            .rows(
                concat!(
                    "select ",
                    event_columns!(),
                    " from event \
                      where kind in ('association_rejected', 'connection_refused', 'contexts_refused', \
                                     'instance_refused') \
                      order by seq desc limit $1"
                ),
                values![REFUSALS],
            )
            .await?;
        rows.iter().map(recorded_event).collect()
    }
}

fn copy_entry(row: &Row) -> Result<WhyEntry, DatabaseError> {
    Ok(WhyEntry {
        at: row.get("received_at")?,
        what: WhyWhat::Copy { kind: row.get("kind")? },
        reason_code: row.parse_optional("reason_code")?,
        series_instance_uid: row.parse_optional("series_instance_uid")?,
        sop_instance_uid: row.parse_optional("sop_instance_uid")?,
        job_id: None,
        destination: None,
    })
}
