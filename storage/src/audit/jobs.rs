//! Jobs: lists, and one with all that belongs to it.

use dicom_types::{SeriesInstanceUid, SopClassUid, SopInstanceUid, StudyInstanceUid};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::delivery::{DeliveryId, DeliveryState};
use crate::digest::Sha256Digest;
use crate::job::{
    Closed, Finding, JobId, JobState, Lane, Priority, ResultForm, TargetMeasurement, read_finding,
};
use crate::provenance::{ReasonCode, RecordedEvent};
use crate::spool::SpoolKey;
use crate::store::sql::{Row, Value, shape, values};
use crate::store::{DatabaseError, Store};

use super::EventFilter;
use super::filter::{AuditFilter, Conditions, Cursor, Listing, Page};

/// A job as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSummary {
    /// The job.
    pub job_id: JobId,
    /// Study of its series.
    pub study_instance_uid: StudyInstanceUid,
    /// Its series.
    pub series_instance_uid: SeriesInstanceUid,
    /// Modality of the series, as received.
    pub modality: Option<String>,
    /// Name of the protocol.
    pub protocol_name: String,
    /// Its revision.
    pub protocol_revision: Sha256Digest,
    /// Digest of the model pack.
    pub pack_digest: Sha256Digest,
    /// How soon it is wanted.
    pub priority: Priority,
    /// Whether its results leave the house.
    pub lane: Lane,
    /// Where it stands.
    pub state: JobState,
    /// Why, as a code.
    pub reason_code: Option<ReasonCode>,
    /// Why, for a person.
    pub reason: Option<String>,
    /// Attempts so far.
    pub attempt: u32,
    /// The worker that has it.
    pub worker: Option<String>,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it was first begun.
    pub started_at: Option<OffsetDateTime>,
    /// When it ended.
    pub finished_at: Option<OffsetDateTime>,
    /// Not to be begun before.
    pub next_attempt_at: OffsetDateTime,
    /// The job that took its place.
    pub superseded_by: Option<JobId>,
    /// Its deliveries in all.
    pub deliveries: u64,
    /// Those that the destination accepted.
    pub delivered: u64,
    /// Those that were given up.
    pub deliveries_failed: u64,
}

/// A delivery as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliverySummary {
    /// The delivery.
    pub delivery_id: DeliveryId,
    /// The result.
    pub sop_instance_uid: SopInstanceUid,
    /// Its form.
    pub form: ResultForm,
    /// The form that took its place, where the destination does not take this one.
    pub replaced_by: Option<ResultForm>,
    /// Name of the destination.
    pub destination: String,
    /// Where it stands.
    pub state: DeliveryState,
    /// Attempts so far.
    pub attempt: u32,
    /// Last DIMSE or HTTP status.
    pub last_status: Option<u16>,
    /// Why it is not delivered.
    pub reason_code: Option<ReasonCode>,
    /// Not to be tried before.
    pub next_attempt_at: OffsetDateTime,
    /// When the destination accepted it.
    pub delivered_at: Option<OffsetDateTime>,
}

/// A result as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultSummary {
    /// Its SOP Instance UID.
    pub sop_instance_uid: SopInstanceUid,
    /// Its Series Instance UID.
    pub series_instance_uid: SeriesInstanceUid,
    /// Its SOP Class.
    pub sop_class_uid: SopClassUid,
    /// Its form.
    pub form: ResultForm,
    /// Digest of its bytes.
    pub sha256: Sha256Digest,
    /// Their number.
    pub size_bytes: u64,
    /// Where they are.
    pub spool_key: SpoolKey,
    /// When retention removed them.
    pub purged_at: Option<OffsetDateTime>,
}

/// A job with all that belongs to it.
#[derive(Debug, Clone, PartialEq)]
pub struct JobDetail {
    /// What a list shows.
    pub summary: JobSummary,
    /// Measurements, in the order of the protocol's targets.
    pub targets: Vec<TargetMeasurement>,
    /// What is odd about them.
    pub findings: Vec<Finding>,
    /// Results.
    pub results: Vec<ResultSummary>,
    /// Deliveries of all results.
    pub deliveries: Vec<DeliverySummary>,
    /// What happened, in order.
    pub timeline: Vec<RecordedEvent>,
}

/// Columns of a [`JobSummary`], from `job` and `series`.
const COLUMNS: &str = "\
    job.job_id, series.study_instance_uid, job.series_instance_uid, series.modality, job.protocol_name, \
    job.protocol_revision_sha256, job.pack_digest, job.priority, job.lane, job.state, job.reason_code, job.reason, job.attempt, \
    job.lease_owner, job.created_at, job.started_at, job.finished_at, job.next_attempt_at, job.superseded_by, \
    (select count(*) from delivery \
      where delivery.job_id = job.job_id and delivery.replaced_by is null) as deliveries, \
    (select count(*) from delivery where delivery.job_id = job.job_id and delivery.state = 'delivered') as delivered, \
    (select count(*) from delivery where delivery.job_id = job.job_id and delivery.state = 'failed') as not_delivered";

impl Store {
    /// Jobs, newest first.
    ///
    /// # Errors
    /// Where the database cannot answer.
    pub async fn list_jobs(
        &self,
        filter: &AuditFilter,
        page: &Page,
    ) -> Result<Listing<JobSummary>, DatabaseError> {
        let mut conditions = Conditions::new();
        conditions.add_filter(
            filter,
            "series.study_instance_uid",
            "job.series_instance_uid",
            "job.created_at",
        );
        conditions.add("job.state =", filter.state.map(JobState::as_str), "");
        let last = page.after.as_ref().and_then(|cursor| cursor.key.parse::<Uuid>().ok());
        conditions.add_page(page, "job.created_at", "job.job_id", last.map(Value::from));
        let limit = conditions.bind(u64::from(page.limit) + 1);
        let statement = format!(
            "select {COLUMNS} from job \
               join series on series.series_instance_uid = job.series_instance_uid \
              where {} \
              order by job.created_at desc, job.job_id desc \
              limit ${limit}",
            conditions.text
        );
        let rows = self.pool.rows(statement, conditions.bound).await?;
        let mut rows = rows.iter().map(summary).collect::<Result<Vec<_>, _>>()?;
        self.say_what_they_wait_for(&mut rows).await?;
        Ok(Listing::cut(rows, page.limit, |job: &JobSummary| Cursor {
            at: job.created_at,
            key: job.job_id.to_string(),
        }))
    }

    /// A job with its measurements, results, deliveries and timeline.
    ///
    /// # Errors
    /// Where the database cannot answer.
    pub async fn show_job(&self, job_id: JobId) -> Result<Option<JobDetail>, DatabaseError> {
        let id = *job_id.as_uuid();
        let statement = format!(
            "select {COLUMNS} from job \
               join series on series.series_instance_uid = job.series_instance_uid \
              where job.job_id = $1"
        );
        let Some(row) = self.pool.row(statement, values![id]).await? else { return Ok(None) };
        let findings = self
            .pool
            .rows(
                "select prompt, kind, detail from job_finding where job_id = $1 order by finding_number",
                values![id],
            )
            .await?;
        let results = self
            .pool
            .rows(
                "select sop_instance_uid, series_instance_uid, sop_class_uid, form, sha256, size_bytes, spool_key, \
                        purged_at \
                   from result where job_id = $1 \
                  order by created_at, sop_instance_uid",
                values![id],
            )
            .await?;
        let deliveries = self
            .pool
            .rows(
                "select delivery.delivery_id, delivery.sop_instance_uid, result.form, other.form as replaced_by, \
                        delivery.destination, delivery.state, delivery.attempt, delivery.last_status, \
                        delivery.reason_code, delivery.next_attempt_at, delivery.delivered_at \
                   from delivery \
                   join result on result.sop_instance_uid = delivery.sop_instance_uid \
                   left join result as other on other.sop_instance_uid = delivery.replaced_by \
                  where delivery.job_id = $1 \
                  order by delivery.destination, result.form, delivery.sop_instance_uid",
                values![id],
            )
            .await?;
        let of_job = EventFilter { job_id: Some(job_id), ..EventFilter::default() };
        let mut found = [summary(&row)?];
        self.say_what_they_wait_for(&mut found).await?;
        let [summary] = found;
        Ok(Some(JobDetail {
            summary,
            targets: self.job_targets(job_id).await?,
            findings: findings.iter().map(read_finding).collect::<Result<_, _>>()?,
            results: results.iter().map(result).collect::<Result<_, _>>()?,
            deliveries: deliveries.iter().map(delivery).collect::<Result<_, _>>()?,
            timeline: self.events(&of_job, 10_000).await?,
        }))
    }

    /// Measurements of a job, in the order of the protocol's targets.
    pub(crate) async fn job_targets(
        &self,
        job_id: JobId,
    ) -> Result<Vec<TargetMeasurement>, DatabaseError> {
        let rows = self
            .pool
            .rows(
                "select prompt, segment_number, voxel_count, volume_ml from job_target where job_id = $1 \
                  order by target_number",
                values![*job_id.as_uuid()],
            )
            .await?;
        rows.iter().map(target).collect()
    }

    /// Notes why queued jobs are not begun, where hours, a limit or their lane is the reason.
    async fn say_what_they_wait_for(&self, jobs: &mut [JobSummary]) -> Result<(), DatabaseError> {
        let waits = |job: &JobSummary| job.state == JobState::Queued && job.reason_code.is_none();
        if !jobs.iter().any(waits) {
            return Ok(());
        }
        let closed = self.closed_protocols().await?;
        for job in jobs.iter_mut().filter(|job| waits(job)) {
            let of_job = |closed: &&Closed| closed.protocol_name == job.protocol_name;
            let (code, reason) = match (closed.iter().find(of_job), job.lane) {
                (Some(closed), _) => (closed.reason_code.clone(), closed.reason.clone()),
                (None, Lane::Shadow) => {
                    let reason = "jobs of the shadow lane begin when nothing else waits";
                    (ReasonCode::IDLE_LANE, reason.to_owned())
                }
                (None, Lane::Production) => continue,
            };
            job.reason_code = Some(code);
            job.reason = Some(reason);
        }
        Ok(())
    }
}

fn summary(row: &Row) -> Result<JobSummary, DatabaseError> {
    let count = |column| Ok::<u64, DatabaseError>(row.get::<i64>(column)? as u64);
    Ok(JobSummary {
        job_id: row.get::<Uuid>("job_id")?.into(),
        study_instance_uid: row.parse("study_instance_uid")?,
        series_instance_uid: row.parse("series_instance_uid")?,
        modality: row.get("modality")?,
        protocol_name: row.get("protocol_name")?,
        protocol_revision: row.get("protocol_revision_sha256")?,
        pack_digest: row.get("pack_digest")?,
        priority: Priority::from_rank(row.get("priority")?).ok_or_else(|| shape("priority"))?,
        lane: row.parse("lane")?,
        state: row.parse("state")?,
        reason_code: row.parse_optional("reason_code")?,
        reason: row.get("reason")?,
        attempt: count("attempt")? as u32,
        worker: row.get("lease_owner")?,
        created_at: row.get("created_at")?,
        started_at: row.get("started_at")?,
        finished_at: row.get("finished_at")?,
        next_attempt_at: row.get("next_attempt_at")?,
        superseded_by: row.get::<Option<Uuid>>("superseded_by")?.map(JobId::from),
        deliveries: count("deliveries")?,
        delivered: count("delivered")?,
        deliveries_failed: count("not_delivered")?,
    })
}

fn target(row: &Row) -> Result<TargetMeasurement, DatabaseError> {
    Ok(TargetMeasurement {
        prompt: row.get("prompt")?,
        segment_number: row.get::<Option<i64>>("segment_number")?.map(|number| number as u32),
        voxel_count: row.get::<i64>("voxel_count")? as u64,
        volume_ml: row.get("volume_ml")?,
    })
}

fn result(row: &Row) -> Result<ResultSummary, DatabaseError> {
    Ok(ResultSummary {
        sop_instance_uid: row.parse("sop_instance_uid")?,
        series_instance_uid: row.parse("series_instance_uid")?,
        sop_class_uid: row.parse("sop_class_uid")?,
        form: row.parse("form")?,
        sha256: row.get("sha256")?,
        size_bytes: row.get::<i64>("size_bytes")? as u64,
        spool_key: row.parse("spool_key")?,
        purged_at: row.get("purged_at")?,
    })
}

fn delivery(row: &Row) -> Result<DeliverySummary, DatabaseError> {
    Ok(DeliverySummary {
        delivery_id: row.get::<Uuid>("delivery_id")?.into(),
        sop_instance_uid: row.parse("sop_instance_uid")?,
        form: row.parse("form")?,
        replaced_by: row.parse_optional("replaced_by")?,
        destination: row.get("destination")?,
        state: row.parse("state")?,
        attempt: row.get::<i64>("attempt")? as u32,
        last_status: row.get::<Option<i64>>("last_status")?.map(|status| status as u16),
        reason_code: row.parse_optional("reason_code")?,
        next_attempt_at: row.get("next_attempt_at")?,
        delivered_at: row.get("delivered_at")?,
    })
}
