//! Entries of the ledger, filtered and page by page.

use dicom_types::{Phi, SeriesInstanceUid, StudyInstanceUid};
use serde_json::json;
use time::OffsetDateTime;

use crate::job::JobId;
use crate::provenance::{Event, EventKind, RecordedEvent, event_columns, recorded_event};
use crate::store::sql::values;
use crate::store::{DatabaseError, Store};

use super::filter::{AuditFilter, Conditions};

/// Which entries are wanted; what is absent does not restrict.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Recorded at this time or later.
    pub since: Option<OffsetDateTime>,
    /// Recorded before this time.
    pub until: Option<OffsetDateTime>,
    /// Of this kind.
    pub kind: Option<EventKind>,
    /// About this study.
    pub study_instance_uid: Option<StudyInstanceUid>,
    /// About this series.
    pub series_instance_uid: Option<SeriesInstanceUid>,
    /// About this job.
    pub job_id: Option<JobId>,
    /// About a study of this patient. Needs the right to read `patient_identity`; see
    /// [`Store::note_identity_question`].
    pub patient_id: Option<Phi<String>>,
    /// About a study with this accession number. Needs the same right.
    pub accession_number: Option<Phi<String>>,
    /// Behind this entry: the last one of the page before.
    pub after_seq: u64,
}

impl Store {
    /// Up to `limit` entries of the ledger in their order.
    ///
    /// # Errors
    /// Where the database cannot answer.
    pub async fn events(
        &self,
        filter: &EventFilter,
        limit: u32,
    ) -> Result<Vec<RecordedEvent>, DatabaseError> {
        let mut conditions = Conditions::new();
        conditions.add("seq >", Some(filter.after_seq), "");
        // Times only grow along the ledger: as places in it they bound the walk along its key.
        conditions.add(
            "seq >= coalesce((select seq from event where recorded_at >=",
            filter.since,
            " order by recorded_at, seq limit 1), 9223372036854775807)",
        );
        conditions.add(
            "seq < coalesce((select seq from event where recorded_at >=",
            filter.until,
            " order by recorded_at, seq limit 1), 9223372036854775807)",
        );
        conditions.add("kind =", filter.kind.map(EventKind::as_str), "");
        let uid = filter.study_instance_uid.as_ref().map(StudyInstanceUid::as_str);
        conditions.add("study_instance_uid =", uid, "");
        let uid = filter.series_instance_uid.as_ref().map(SeriesInstanceUid::as_str);
        conditions.add("series_instance_uid =", uid, "");
        conditions.add("job_id =", filter.job_id.map(uuid::Uuid::from), "");
        let identity = AuditFilter {
            patient_id: filter.patient_id.clone(),
            accession_number: filter.accession_number.clone(),
            ..AuditFilter::default()
        };
        conditions.add_identity(&identity, "study_instance_uid");
        let last = conditions.bind(limit);
        let statement = format!(
            "select {} from event where {} order by seq limit ${last}",
            event_columns!(),
            conditions.text
        );
        self.pool.rows(statement, conditions.bound).await?.iter().map(recorded_event).collect()
    }

    /// Records that somebody asks by a patient's identifiers: by which of them, for what, through which `channel`
    /// (`cli`, `api`). The identifiers themselves are not recorded.
    ///
    /// # Errors
    /// Where the database cannot do it: then the question is better not answered.
    pub async fn note_identity_question(
        &self,
        question: &str,
        channel: &str,
        filter: &AuditFilter,
    ) -> Result<(), DatabaseError> {
        let mut by = Vec::new();
        if filter.patient_id.is_some() {
            by.push("patient_id");
        }
        if filter.accession_number.is_some() {
            by.push("accession_number");
        }
        let detail = json!({ "question": question, "by": by, "channel": channel });
        self.record(Event::new(EventKind::IdentifiersRead).with(detail)).await
    }

    /// Records that somebody reads entries of the ledger: to answer what, through which `channel`.
    ///
    /// # Errors
    /// Where the database cannot do it.
    pub async fn note_ledger_reading(
        &self,
        question: &str,
        channel: &str,
    ) -> Result<(), DatabaseError> {
        let detail = json!({ "question": question, "channel": channel });
        self.record(Event::new(EventKind::LedgerRead).with(detail)).await
    }

    /// Records something that changes no other state: a start, a stop, a refused instance, an access to identifiers.
    ///
    /// # Errors
    /// Where the database cannot do it.
    pub async fn record(&self, event: Event) -> Result<(), DatabaseError> {
        let mut transaction = self.begin().await?;
        transaction.record(event);
        transaction.commit().await
    }

    /// The last entries of one of `kinds` since a time, newest first.
    ///
    /// # Errors
    /// Where the database cannot answer.
    pub async fn last_events(
        &self,
        kinds: &[EventKind],
        since: OffsetDateTime,
        limit: u32,
    ) -> Result<Vec<RecordedEvent>, DatabaseError> {
        let mut bound = values![since, limit];
        let mut places = Vec::with_capacity(kinds.len());
        for kind in kinds {
            bound.extend(values![kind.as_str()]);
            places.push(format!("${}", bound.len()));
        }
        let statement = format!(
            "select {} from event where recorded_at >= $1 and kind in ({}) \
              order by recorded_at desc, seq desc limit $2",
            event_columns!(),
            places.join(", ")
        );
        self.pool.rows(statement, bound).await?.iter().map(recorded_event).collect()
    }
}
