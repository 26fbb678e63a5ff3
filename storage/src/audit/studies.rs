//! Studies, series and instances: lists.

use std::collections::BTreeMap;

use dicom_types::{
    AeTitle, SeriesInstanceUid, SopClassUid, SopInstanceUid, StudyInstanceUid, TransferSyntaxUid,
};
use serde_json::json;
use time::OffsetDateTime;

use crate::digest::Sha256Digest;
use crate::intake::PatientIdentity;
use crate::job::{DecisionOutcome, JobId, JobState, ProtocolRevision};
use crate::provenance::ReasonCode;
use crate::spool::SpoolKey;
use crate::store::sql::{Row, Value, places, values};
use crate::store::{DatabaseError, Store};

use super::filter::{AuditFilter, Conditions, Cursor, Listing, Page};

/// A study as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StudySummary {
    /// The study.
    pub study_instance_uid: StudyInstanceUid,
    /// When its first instance came.
    pub first_received_at: OffsetDateTime,
    /// When its last instance came.
    pub last_received_at: OffsetDateTime,
    /// Its series.
    pub series: u64,
    /// Series that are not settled yet.
    pub unsettled_series: u64,
    /// Its instances.
    pub instances: u64,
    /// Its jobs, superseded ones left out.
    pub jobs: u64,
    /// Those that have not ended.
    pub open_jobs: u64,
    /// Those that failed, were rejected or are in quarantine.
    pub bad_jobs: u64,
}

/// A series as a list shows it, with the last decisions about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesSummary {
    /// Its study.
    pub study_instance_uid: StudyInstanceUid,
    /// The series.
    pub series_instance_uid: SeriesInstanceUid,
    /// Modality, as received.
    pub modality: Option<String>,
    /// When its first instance came.
    pub first_received_at: OffsetDateTime,
    /// When its last instance came.
    pub last_received_at: OffsetDateTime,
    /// Its instances.
    pub instances: u64,
    /// When it was last found complete.
    pub settled_at: Option<OffsetDateTime>,
    /// Whether instances came since.
    pub is_settled: bool,
    /// Decisions of the last settlement, in their order.
    pub decisions: Vec<DecisionSummary>,
}

/// A decision as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecisionSummary {
    /// The protocol considered; none for the series as a whole.
    pub protocol_name: Option<String>,
    /// What was decided.
    pub outcome: DecisionOutcome,
    /// Why, as a code.
    pub reason_code: ReasonCode,
    /// Why, for a person.
    pub reason: String,
    /// When.
    pub decided_at: OffsetDateTime,
}

/// An instance as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredInstance {
    /// Its series.
    pub series_instance_uid: SeriesInstanceUid,
    /// Itself.
    pub sop_instance_uid: SopInstanceUid,
    /// Its SOP Class.
    pub sop_class_uid: SopClassUid,
    /// Its syntax.
    pub transfer_syntax_uid: TransferSyntaxUid,
    /// Instance Number (0020,0013).
    pub instance_number: Option<i64>,
    /// Digest of its data set.
    pub sha256: Sha256Digest,
    /// Bytes of its data set.
    pub size_bytes: u64,
    /// Where its bytes are.
    pub spool_key: SpoolKey,
    /// When it became durable.
    pub received_at: OffsetDateTime,
    /// When retention removed its bytes.
    pub purged_at: Option<OffsetDateTime>,
}

/// The two ends of the association that brought a series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender {
    /// Who called.
    pub calling_ae_title: AeTitle,
    /// Whom they called.
    pub called_ae_title: AeTitle,
}

/// Studies whose identities are looked up at a time.
const IDENTITIES: usize = 1000;
const INSTANCE_COLUMNS: &str = "\
    instance.series_instance_uid, instance.sop_instance_uid, instance.sop_class_uid, instance.transfer_syntax_uid, \
    instance.instance_number, instance.sha256, instance.size_bytes, instance.spool_key, instance.received_at, \
    instance.purged_at";

impl Store {
    /// Studies, newest first.
    ///
    /// # Errors
    /// Where the database cannot answer.
    pub async fn list_studies(
        &self,
        filter: &AuditFilter,
        page: &Page,
    ) -> Result<Listing<StudySummary>, DatabaseError> {
        let mut conditions = Conditions::new();
        conditions.add("study.first_received_at >=", filter.since, "");
        conditions.add("study.first_received_at <", filter.until, "");
        let uid = filter.study_instance_uid.as_ref().map(StudyInstanceUid::as_str);
        conditions.add("study.study_instance_uid =", uid, "");
        let uid = filter.series_instance_uid.as_ref().map(SeriesInstanceUid::as_str);
        let of_series = "study.study_instance_uid = (select study_instance_uid from series where series_instance_uid =";
        conditions.add(of_series, uid, ")");
        conditions.add(
            "exists (select 1 from job join series on series.series_instance_uid = job.series_instance_uid \
              where series.study_instance_uid = study.study_instance_uid and job.state =",
            filter.state.map(JobState::as_str),
            ")",
        );
        conditions.add(
            "exists (select 1 from series \
               join instance on instance.series_instance_uid = series.series_instance_uid \
               join association on association.association_id = instance.association_id \
              where series.study_instance_uid = study.study_instance_uid and association.calling_ae_title =",
            filter.calling_ae_title.as_ref().map(dicom_types::AeTitle::as_str),
            ")",
        );
        conditions.add_identity(filter, "study.study_instance_uid");
        let last = page.after.as_ref().map(|cursor| Value::from(cursor.key.as_str()));
        conditions.add_page(page, "study.first_received_at", "study.study_instance_uid", last);
        let limit = conditions.bind(u64::from(page.limit) + 1);
        let jobs = |states: &str| {
            format!(
                "(select count(*) from job join series on series.series_instance_uid = job.series_instance_uid \
                   where series.study_instance_uid = study.study_instance_uid and job.state {states})"
            )
        };
        let statement = format!(
            "select study.study_instance_uid, study.first_received_at, study.last_received_at, \
                    (select count(*) from series where series.study_instance_uid = study.study_instance_uid) \
                        as series_count, \
                    (select count(*) from series where series.study_instance_uid = study.study_instance_uid \
                        and series.revision > series.settled_revision) as unsettled, \
                    (select cast(coalesce(sum(instance_count), 0) as bigint) from series \
                        where series.study_instance_uid = study.study_instance_uid) as instance_count, \
                    {} as jobs, {} as open_jobs, {} as bad_jobs \
               from study \
              where {} \
              order by study.first_received_at desc, study.study_instance_uid desc \
              limit ${limit}",
            jobs("<> 'superseded'"),
            jobs("in ('held', 'queued', 'running')"),
            jobs("in ('failed', 'rejected', 'quarantined')"),
            conditions.text
        );
        let rows = self.pool.rows(statement, conditions.bound).await?;
        let rows = rows.iter().map(study).collect::<Result<_, _>>()?;
        Ok(Listing::cut(rows, page.limit, |study: &StudySummary| Cursor {
            at: study.first_received_at,
            key: study.study_instance_uid.to_string(),
        }))
    }

    /// Series of a study in the order of their arrival, each with the decisions of its last settlement.
    ///
    /// # Errors
    /// Where the database cannot answer.
    pub async fn series_of_study(
        &self,
        study: &StudyInstanceUid,
    ) -> Result<Vec<SeriesSummary>, DatabaseError> {
        let rows = self
            .pool
            .rows(
                "select series_instance_uid, study_instance_uid, modality, first_received_at, last_received_at, \
                        instance_count, settled_at, revision, settled_revision \
                   from series where study_instance_uid = $1 \
                  order by first_received_at, series_instance_uid",
                values![study.as_str()],
            )
            .await?;
        let mut series = Vec::with_capacity(rows.len());
        for row in &rows {
            let series_instance_uid: SeriesInstanceUid = row.parse("series_instance_uid")?;
            let settled_revision: i64 = row.get("settled_revision")?;
            let decisions = self.decisions(&series_instance_uid, settled_revision).await?;
            series.push(SeriesSummary {
                study_instance_uid: row.parse("study_instance_uid")?,
                series_instance_uid,
                modality: row.get("modality")?,
                first_received_at: row.get("first_received_at")?,
                last_received_at: row.get("last_received_at")?,
                instances: row.get::<i64>("instance_count")? as u64,
                settled_at: row.get("settled_at")?,
                is_settled: row.get::<i64>("revision")? == settled_revision,
                decisions,
            });
        }
        Ok(series)
    }

    async fn decisions(
        &self,
        series: &SeriesInstanceUid,
        revision: i64,
    ) -> Result<Vec<DecisionSummary>, DatabaseError> {
        let rows = self
            .pool
            .rows(
                "select protocol_name, outcome, reason_code, reason, decided_at from decision \
                  where series_instance_uid = $1 and revision = $2 \
                  order by decision_id",
                values![series.as_str(), revision],
            )
            .await?;
        rows.iter().map(decision).collect()
    }

    /// Instances, newest first. A state in the filter is that of a job that has the instance.
    ///
    /// # Errors
    /// Where the database cannot answer.
    pub async fn list_instances(
        &self,
        filter: &AuditFilter,
        page: &Page,
    ) -> Result<Listing<StoredInstance>, DatabaseError> {
        let mut conditions = Conditions::new();
        conditions.add("instance.received_at >=", filter.since, "");
        conditions.add("instance.received_at <", filter.until, "");
        let uid = filter.study_instance_uid.as_ref().map(StudyInstanceUid::as_str);
        conditions.add("series.study_instance_uid =", uid, "");
        let uid = filter.series_instance_uid.as_ref().map(SeriesInstanceUid::as_str);
        conditions.add("instance.series_instance_uid =", uid, "");
        conditions.add(
            "exists (select 1 from association \
              where association.association_id = instance.association_id and association.calling_ae_title =",
            filter.calling_ae_title.as_ref().map(dicom_types::AeTitle::as_str),
            ")",
        );
        conditions.add(
            "exists (select 1 from job_instance join job on job.job_id = job_instance.job_id \
              where job_instance.sop_instance_uid = instance.sop_instance_uid and job.state =",
            filter.state.map(JobState::as_str),
            ")",
        );
        conditions.add_identity(filter, "series.study_instance_uid");
        let last = page.after.as_ref().map(|cursor| Value::from(cursor.key.as_str()));
        conditions.add_page(page, "instance.received_at", "instance.sop_instance_uid", last);
        let limit = conditions.bind(u64::from(page.limit) + 1);
        let statement = format!(
            "select {INSTANCE_COLUMNS} from instance \
               join series on series.series_instance_uid = instance.series_instance_uid \
              where {} \
              order by instance.received_at desc, instance.sop_instance_uid desc \
              limit ${limit}",
            conditions.text
        );
        let rows = self.pool.rows(statement, conditions.bound).await?;
        let rows = rows.iter().map(instance).collect::<Result<_, _>>()?;
        Ok(Listing::cut(rows, page.limit, |instance: &StoredInstance| Cursor {
            at: instance.received_at,
            key: instance.sop_instance_uid.to_string(),
        }))
    }

    /// The instances of a series that take part in jobs, by UID.
    ///
    /// # Errors
    /// Where the database cannot answer.
    pub async fn series_instances(
        &self,
        series: &SeriesInstanceUid,
    ) -> Result<Vec<StoredInstance>, DatabaseError> {
        let statement = format!(
            "select {INSTANCE_COLUMNS} from instance \
              where instance.series_instance_uid = $1 \
              order by instance.sop_instance_uid"
        );
        let rows = self.pool.rows(statement, values![series.as_str()]).await?;
        rows.iter().map(instance).collect()
    }

    /// Who sent the first instance of a series that came over an association.
    ///
    /// # Errors
    /// Where the database cannot answer.
    pub async fn series_sender(
        &self,
        series: &SeriesInstanceUid,
    ) -> Result<Option<Sender>, DatabaseError> {
        let row = self
            .pool
            .row(
                "select association.calling_ae_title, association.called_ae_title from instance \
                   join association on association.association_id = instance.association_id \
                  where instance.series_instance_uid = $1 \
                  order by instance.received_at, instance.sop_instance_uid \
                  limit 1",
                values![series.as_str()],
            )
            .await?;
        row.map(|row| {
            Ok(Sender {
                calling_ae_title: row.parse("calling_ae_title")?,
                called_ae_title: row.parse("called_ae_title")?,
            })
        })
        .transpose()
    }

    /// The instances that go into a job, by UID.
    ///
    /// # Errors
    /// Where the database cannot answer.
    pub async fn job_instances(&self, job_id: JobId) -> Result<Vec<StoredInstance>, DatabaseError> {
        let statement = format!(
            "select {INSTANCE_COLUMNS} from job_instance \
               join instance on instance.sop_instance_uid = job_instance.sop_instance_uid \
              where job_instance.job_id = $1 \
              order by instance.sop_instance_uid"
        );
        let rows = self.pool.rows(statement, values![*job_id.as_uuid()]).await?;
        rows.iter().map(instance).collect()
    }

    /// A protocol in the wording that has this digest.
    ///
    /// # Errors
    /// Where the database cannot answer.
    pub async fn protocol_revision(
        &self,
        sha256: &Sha256Digest,
    ) -> Result<Option<ProtocolRevision>, DatabaseError> {
        let row = self
            .pool
            .row(
                "select protocol_name, definition from protocol_revision where protocol_revision_sha256 = $1",
                values![sha256],
            )
            .await?;
        row.map(|row| {
            Ok(ProtocolRevision {
                protocol_name: row.get("protocol_name")?,
                sha256: *sha256,
                definition: row.get("definition")?,
            })
        })
        .transpose()
    }

    /// Patient ids and accession numbers of `studies`, and an entry of the ledger that says that they were shown: to
    /// answer what `question`, through which `channel`.
    ///
    /// # Errors
    /// Where the database cannot answer, or cannot record: then nothing is shown.
    pub async fn show_identities(
        &self,
        studies: &[StudyInstanceUid],
        question: &str,
        channel: &str,
    ) -> Result<BTreeMap<StudyInstanceUid, Vec<PatientIdentity>>, DatabaseError> {
        let detail = json!({ "question": question, "channel": channel, "shown": studies.len() });
        self.record(crate::Event::new(crate::EventKind::IdentifiersRead).with(detail)).await?;
        let mut found: BTreeMap<StudyInstanceUid, Vec<PatientIdentity>> = BTreeMap::new();
        for studies in studies.chunks(IDENTITIES) {
            let bound: Vec<Value> = studies.iter().map(|uid| Value::from(uid.as_str())).collect();
            let statement = format!(
                "select study_instance_uid, patient_id, accession_number from patient_identity \
                  where study_instance_uid in {} \
                  order by study_instance_uid, recorded_at, patient_id, accession_number",
                places(0, 1, bound.len())
            );
            for row in &self.pool.rows(statement, bound).await? {
                let identity = identity(row)?;
                found.entry(row.parse("study_instance_uid")?).or_default().push(identity);
            }
        }
        Ok(found)
    }

    /// Whose a study is, as received: one entry unless the sender changed its mind. Reads the restricted table and
    /// records in the ledger that it did.
    ///
    /// # Errors
    /// Where the database cannot answer.
    pub async fn patient_identities(
        &self,
        study: &StudyInstanceUid,
    ) -> Result<Vec<PatientIdentity>, DatabaseError> {
        let rows = self
            .pool
            .rows(
                "select patient_id, accession_number from patient_identity where study_instance_uid = $1 \
                  order by recorded_at, patient_id, accession_number",
                values![study.as_str()],
            )
            .await?;
        let mut event = crate::Event::new(crate::EventKind::IdentifiersRead);
        event.study_instance_uid = Some(study.clone());
        self.record(event).await?;
        rows.iter().map(identity).collect()
    }
}

fn identity(row: &Row) -> Result<PatientIdentity, DatabaseError> {
    Ok(PatientIdentity {
        patient_id: row.get::<String>("patient_id")?.into(),
        accession_number: row.get::<String>("accession_number")?.into(),
    })
}

fn study(row: &Row) -> Result<StudySummary, DatabaseError> {
    let count = |column| Ok::<u64, DatabaseError>(row.get::<i64>(column)? as u64);
    Ok(StudySummary {
        study_instance_uid: row.parse("study_instance_uid")?,
        first_received_at: row.get("first_received_at")?,
        last_received_at: row.get("last_received_at")?,
        series: count("series_count")?,
        unsettled_series: count("unsettled")?,
        instances: count("instance_count")?,
        jobs: count("jobs")?,
        open_jobs: count("open_jobs")?,
        bad_jobs: count("bad_jobs")?,
    })
}

fn instance(row: &Row) -> Result<StoredInstance, DatabaseError> {
    Ok(StoredInstance {
        series_instance_uid: row.parse("series_instance_uid")?,
        sop_instance_uid: row.parse("sop_instance_uid")?,
        sop_class_uid: row.parse("sop_class_uid")?,
        transfer_syntax_uid: row.parse("transfer_syntax_uid")?,
        instance_number: row.get("instance_number")?,
        sha256: row.get("sha256")?,
        size_bytes: row.get::<i64>("size_bytes")? as u64,
        spool_key: row.parse("spool_key")?,
        received_at: row.get("received_at")?,
        purged_at: row.get("purged_at")?,
    })
}

pub(super) fn decision(row: &Row) -> Result<DecisionSummary, DatabaseError> {
    Ok(DecisionSummary {
        protocol_name: row.get("protocol_name")?,
        outcome: row.parse("outcome")?,
        reason_code: row.parse("reason_code")?,
        reason: row.get("reason")?,
        decided_at: row.get("decided_at")?,
    })
}
