//! Entries of the ledger, filtered and page by page.

use dicom_types::{SeriesInstanceUid, StudyInstanceUid};
use time::OffsetDateTime;

use crate::job::JobId;
use crate::provenance::{Event, EventKind, RecordedEvent, event_columns, recorded_event};
use crate::store::sql::values;
use crate::store::{DatabaseError, Store};

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
        let mut statement = format!("select {} from event where seq > $1", event_columns!());
        let mut bound = values![filter.after_seq];
        let conditions = [
            ("recorded_at >=", filter.since.map(|time| values![time])),
            ("recorded_at <", filter.until.map(|time| values![time])),
            ("kind =", filter.kind.map(|kind| values![kind.as_str()])),
            (
                "study_instance_uid =",
                filter.study_instance_uid.as_ref().map(|uid| values![uid.as_str()]),
            ),
            (
                "series_instance_uid =",
                filter.series_instance_uid.as_ref().map(|uid| values![uid.as_str()]),
            ),
            ("job_id =", filter.job_id.map(|id| values![*id.as_uuid()])),
        ];
        for (comparison, value) in conditions {
            if let Some(value) = value {
                bound.extend(value);
                statement.push_str(&format!(" and {comparison} ${}", bound.len()));
            }
        }
        bound.extend(values![limit]);
        statement.push_str(&format!(" order by seq limit ${}", bound.len()));
        self.pool.rows(statement, bound).await?.iter().map(recorded_event).collect()
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
}
