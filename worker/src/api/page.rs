//! The page: what arrived, what was done with it, and why.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Html;
use dicom_types::StudyInstanceUid;
use prosector_storage::{
    AuditFilter, DeliverySummary, JobId, JobState, JobSummary, Page, RecordedEvent, SeriesSummary,
    StudySummary, TargetMeasurement,
};

use super::{Facts, Refusal};
use crate::views::time_text;

const ROWS: u32 = 200;

#[derive(Template)]
#[template(path = "studies.html")]
struct StudiesPage {
    cards: Vec<Card>,
    studies: Vec<StudyRow>,
}

struct Card {
    count: u64,
    what: &'static str,
}

struct StudyRow {
    uid: String,
    received: String,
    series: u64,
    instances: u64,
    jobs: u64,
    state: &'static str,
    class: &'static str,
}

#[derive(Template)]
#[template(path = "study.html")]
struct StudyPage {
    uid: String,
    decisions: Vec<DecisionRow>,
    jobs: Vec<JobRow>,
}

struct DecisionRow {
    series: String,
    modality: String,
    instances: u64,
    protocol: String,
    outcome: &'static str,
    class: &'static str,
    reason: String,
}

#[derive(Template)]
#[template(path = "jobs.html")]
struct JobsPage {
    jobs: Vec<JobRow>,
}

struct JobRow {
    id: String,
    created: String,
    protocol: String,
    priority: &'static str,
    state: &'static str,
    reason: String,
    deliveries: u64,
    delivered: u64,
}

#[derive(Template)]
#[template(path = "job.html")]
struct JobPage {
    job: JobRow,
    series: String,
    study: String,
    pack: String,
    revision: String,
    targets: Vec<TargetRow>,
    deliveries: Vec<DeliveryRow>,
    timeline: Vec<EventRow>,
}

struct TargetRow {
    prompt: String,
    segment: String,
    voxels: u64,
    volume: String,
}

struct DeliveryRow {
    destination: String,
    object: String,
    state: &'static str,
    attempt: u32,
    status: String,
    reason: String,
}

struct EventRow {
    at: String,
    what: String,
    actor: String,
    reason: String,
}

pub(super) async fn studies(State(facts): State<Facts>) -> Result<Html<String>, Refusal> {
    let listing = facts.store.list_studies(&AuditFilter::default(), &Page::first(ROWS)).await?;
    let counts = facts.store.counts().await?;
    let jobs = |state: JobState| {
        counts.jobs.iter().filter(|job| job.state == state).map(|job| job.count).sum()
    };
    let cards = vec![
        Card { count: counts.open_associations, what: "open associations" },
        Card { count: counts.unsettled_series, what: "series arriving" },
        Card { count: jobs(JobState::Queued), what: "jobs queued" },
        Card { count: jobs(JobState::Running), what: "jobs running" },
        Card { count: jobs(JobState::Quarantined), what: "jobs in quarantine" },
        Card {
            count: counts.deliveries.iter().map(|delivery| delivery.count).sum(),
            what: "deliveries open",
        },
    ];
    render(&StudiesPage { cards, studies: listing.rows.iter().map(study_row).collect() })
}

pub(super) async fn study(
    State(facts): State<Facts>,
    Path(uid): Path<String>,
) -> Result<Html<String>, Refusal> {
    let uid: StudyInstanceUid = uid.parse().map_err(|_| Refusal::Malformed("not a UID"))?;
    let series = facts.series_of(&uid).await?;
    let filter = AuditFilter { study_instance_uid: Some(uid.clone()), ..AuditFilter::default() };
    let jobs = facts.store.list_jobs(&filter, &Page::first(ROWS)).await?;
    render(&StudyPage {
        uid: uid.to_string(),
        decisions: series.iter().flat_map(decision_rows).collect(),
        jobs: jobs.rows.iter().map(job_row).collect(),
    })
}

pub(super) async fn jobs(State(facts): State<Facts>) -> Result<Html<String>, Refusal> {
    let listing = facts.store.list_jobs(&AuditFilter::default(), &Page::first(ROWS)).await?;
    render(&JobsPage { jobs: listing.rows.iter().map(job_row).collect() })
}

pub(super) async fn job(
    State(facts): State<Facts>,
    Path(id): Path<String>,
) -> Result<Html<String>, Refusal> {
    let id: JobId = id.parse().map_err(|_| Refusal::Malformed("not a job id"))?;
    let detail = facts.store.show_job(id).await?.ok_or(Refusal::NotFound)?;
    render(&JobPage {
        job: job_row(&detail.summary),
        series: detail.summary.series_instance_uid.to_string(),
        study: detail.summary.study_instance_uid.to_string(),
        pack: detail.summary.pack_digest.to_string(),
        revision: detail.summary.protocol_revision.to_string(),
        targets: detail.targets.iter().map(target_row).collect(),
        deliveries: detail.deliveries.iter().map(delivery_row).collect(),
        timeline: detail.timeline.iter().map(event_row).collect(),
    })
}

fn render(page: &impl Template) -> Result<Html<String>, Refusal> {
    page.render().map(Html).map_err(|_| Refusal::Malformed("the page cannot be written"))
}

fn study_row(study: &StudySummary) -> StudyRow {
    let (state, class) = if study.bad_jobs > 0 {
        ("needs attention", "failed")
    } else if study.unsettled_series > 0 {
        ("arriving", "queued")
    } else if study.open_jobs > 0 {
        ("in work", "running")
    } else if study.jobs == 0 {
        ("no job", "")
    } else {
        ("done", "done")
    };
    StudyRow {
        uid: study.study_instance_uid.to_string(),
        received: time_text(study.first_received_at),
        series: study.series,
        instances: study.instances,
        jobs: study.jobs,
        state,
        class,
    }
}

fn decision_rows(series: &SeriesSummary) -> Vec<DecisionRow> {
    let row = |protocol: String, outcome: &'static str, reason: String| DecisionRow {
        series: series.series_instance_uid.to_string(),
        modality: series.modality.clone().unwrap_or_default(),
        instances: series.instances,
        protocol,
        outcome,
        class: outcome,
        reason,
    };
    if series.decisions.is_empty() {
        return vec![row(String::new(), "arriving", "not complete yet".to_owned())];
    }
    series
        .decisions
        .iter()
        .map(|decision| {
            row(
                decision.protocol_name.clone().unwrap_or_default(),
                decision.outcome.as_str(),
                decision.reason.clone(),
            )
        })
        .collect()
}

fn job_row(job: &JobSummary) -> JobRow {
    JobRow {
        id: job.job_id.to_string(),
        created: time_text(job.created_at),
        protocol: job.protocol_name.clone(),
        priority: job.priority.as_str(),
        state: job.state.as_str(),
        reason: job
            .reason
            .clone()
            .or(job.reason_code.as_ref().map(ToString::to_string))
            .unwrap_or_default(),
        deliveries: job.deliveries,
        delivered: job.delivered,
    }
}

fn target_row(target: &TargetMeasurement) -> TargetRow {
    TargetRow {
        prompt: target.prompt.clone(),
        segment: target.segment_number.map_or_else(|| "not found".to_owned(), |n| n.to_string()),
        voxels: target.voxel_count,
        volume: format!("{:.1}", target.volume_ml),
    }
}

fn delivery_row(delivery: &DeliverySummary) -> DeliveryRow {
    DeliveryRow {
        destination: delivery.destination.clone(),
        object: delivery.sop_instance_uid.to_string(),
        state: delivery.state.as_str(),
        attempt: delivery.attempt,
        status: delivery.last_status.map(|status| format!("{status:04X}H")).unwrap_or_default(),
        reason: delivery.reason_code.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}

fn event_row(event: &RecordedEvent) -> EventRow {
    EventRow {
        at: time_text(event.recorded_at),
        what: event.event.kind.as_str().replace('_', " "),
        actor: event.actor.clone(),
        reason: event.event.reason_code.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}
