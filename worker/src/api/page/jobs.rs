//! Jobs, what a person may do with them, and where their results went.

use askama::Template;
use axum::Form;
use axum::extract::{Extension, Path, Query, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use dicom_io::secondary_capture::Plane;
use prosector_storage::{
    AuditFilter, Cursor, DeliveryState, DeliverySummary, JobDetail, JobState, Page, RecordedEvent,
    TargetMeasurement,
};
use serde::Deserialize;

use super::{Frame, JobRow, ROWS, Signed, render};
use crate::api::access::Caller;
use crate::api::picture::shown;
use crate::api::rest::{SliceWanted, job_id, parse};
use crate::api::{Facts, Refusal, ordered};
use crate::views::time_text;

#[derive(Template)]
#[template(path = "jobs.html")]
struct JobsPage {
    frame: Frame,
    jobs: Vec<JobRow>,
    states: &'static [JobState],
    state: &'static str,
    older: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct JobsWanted {
    #[serde(default)]
    state: String,
    after: Option<String>,
}

#[derive(Template)]
#[template(path = "job.html")]
struct JobPage {
    frame: Frame,
    job: JobRow,
    series: String,
    study: String,
    pack: String,
    revision: String,
    picture: Option<Picture>,
    targets: Vec<TargetRow>,
    findings: Vec<String>,
    results: Vec<ResultRow>,
    deliveries: Vec<DeliveryLine>,
    timeline: Vec<EventRow>,
}

/// Slices with their overlay.
struct Picture {
    plane: &'static str,
    slice: usize,
    last: usize,
    hide: String,
    layers: Vec<LayerRow>,
}

struct LayerRow {
    number: u16,
    label: String,
    colour: String,
    is_shown: bool,
    /// What to hide once this one is switched.
    switched: String,
}

struct TargetRow {
    prompt: String,
    segment: String,
    voxels: u64,
    volume: String,
}

struct ResultRow {
    uid: String,
    form: &'static str,
    size: String,
    is_kept: bool,
}

struct DeliveryLine {
    destination: String,
    job: String,
    object: String,
    state: &'static str,
    attempt: u32,
    status: String,
    reason: String,
    next: String,
}

struct EventRow {
    at: String,
    what: String,
    actor: String,
    reason: String,
}

pub(super) async fn list(
    State(facts): State<Facts>,
    Extension(caller): Extension<Caller>,
    Query(wanted): Query<JobsWanted>,
) -> Result<Response, Refusal> {
    let word = Some(wanted.state.as_str()).filter(|word| !word.is_empty());
    let state: Option<JobState> = parse(word, "state is none of a job")?;
    let after: Option<Cursor> = parse(wanted.after.as_deref(), "after is no cursor")?;
    let filter = AuditFilter { state, ..AuditFilter::default() };
    let listing = facts.store.list_jobs(&filter, &Page { limit: ROWS, after }).await?;
    render(&JobsPage {
        frame: Frame::of(&caller),
        jobs: listing.rows.iter().map(JobRow::of).collect(),
        states: JobState::ALL,
        state: state.map_or("", JobState::as_str),
        older: listing.next.map(|next| next.to_string()).unwrap_or_default(),
    })
}

pub(super) async fn job(
    State(facts): State<Facts>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Query(wanted): Query<SliceWanted>,
) -> Result<Response, Refusal> {
    let detail = facts.job(job_id(&id)?).await?;
    let picture = picture(&facts, &detail, &wanted).await?;
    render(&JobPage {
        frame: Frame::of(&caller),
        job: JobRow::of(&detail.summary),
        series: detail.summary.series_instance_uid.to_string(),
        study: detail.summary.study_instance_uid.to_string(),
        pack: detail.summary.pack_digest.to_string(),
        revision: detail.summary.protocol_revision.to_string(),
        picture,
        targets: detail.targets.iter().map(target_row).collect(),
        findings: detail.findings.iter().map(ToString::to_string).collect(),
        results: detail
            .results
            .iter()
            .map(|result| ResultRow {
                uid: result.sop_instance_uid.to_string(),
                form: result.form.as_str(),
                size: format!("{:.0} KiB", result.size_bytes as f64 / 1024.0),
                is_kept: result.purged_at.is_none(),
            })
            .collect(),
        deliveries: detail
            .deliveries
            .iter()
            .map(|delivery| delivery_line(delivery, &detail.summary.job_id.to_string()))
            .collect(),
        timeline: detail.timeline.iter().map(event_row).collect(),
    })
}

/// Nothing where there is no segmentation to show: the rest of the page stands all the same.
async fn picture(
    facts: &Facts,
    job: &JobDetail,
    wanted: &SliceWanted,
) -> Result<Option<Picture>, Refusal> {
    let (plane, hidden) = (wanted.plane()?, wanted.hidden()?);
    if shown(job).is_none() {
        return Ok(None);
    }
    let scene = match facts.pictures.scene(facts, job).await {
        Ok(scene) => scene,
        Err(Refusal::NotFound(_) | Refusal::Unavailable(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    let last = scene.slices(plane) - 1;
    let list =
        |numbers: &[u16]| numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let layers = scene
        .layers
        .iter()
        .map(|layer| {
            let is_shown = !hidden.contains(&layer.number);
            let mut switched: Vec<u16> = hidden.clone();
            if is_shown {
                switched.push(layer.number);
            } else {
                switched.retain(|number| *number != layer.number);
            }
            let [r, g, b] = layer.rgb;
            LayerRow {
                number: layer.number,
                label: layer.label.clone(),
                colour: format!("#{r:02x}{g:02x}{b:02x}"),
                is_shown,
                switched: list(&switched),
            }
        })
        .collect();
    Ok(Some(Picture {
        plane: match plane {
            Plane::Axial => "axial",
            Plane::Coronal => "coronal",
            Plane::Sagittal => "sagittal",
        },
        slice: wanted.slice.map_or(last / 2, |slice| (slice as usize).min(last)),
        last,
        hide: list(&hidden),
        layers,
    }))
}

/// What an operator may do with a job.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Action {
    Retry,
    Cancel,
    Release,
}

pub(super) async fn act(
    State(facts): State<Facts>,
    Extension(caller): Extension<Caller>,
    Path((id, action)): Path<(String, Action)>,
    Form(form): Form<Signed>,
) -> Result<Response, Refusal> {
    caller.check_form(&form.csrf)?;
    let store = facts.store.acting_as(&caller.actor());
    let job = job_id(&id)?;
    match action {
        Action::Retry => {
            store.retry_job(job).await?;
        }
        Action::Cancel => store.cancel_job(job).await?,
        Action::Release => store.release_job(job).await?,
    }
    Ok(Redirect::to(&format!("/jobs/{id}")).into_response())
}

/// The form of a study's page: prompts, one a line or with commas between them.
#[derive(Debug, Deserialize)]
pub(super) struct OrderForm {
    csrf: String,
    series: String,
    targets: String,
}

pub(super) async fn order(
    State(facts): State<Facts>,
    Extension(caller): Extension<Caller>,
    Form(form): Form<OrderForm>,
) -> Result<Response, Refusal> {
    caller.check_form(&form.csrf)?;
    let targets = form.targets.split([',', '\n']).map(str::trim).filter(|text| !text.is_empty());
    let wanted = ordered::Wanted {
        series_instance_uid: form.series,
        targets: targets.map(str::to_owned).collect(),
        model: None,
        orientation: None,
        priority: None,
        destinations: Vec::new(),
    };
    let store = facts.store.acting_as(&caller.actor());
    let (id, _) = ordered::order(&facts, &store, &wanted).await?;
    Ok(Redirect::to(&format!("/jobs/{id}")).into_response())
}

#[derive(Template)]
#[template(path = "deliveries.html")]
struct DeliveriesPage {
    frame: Frame,
    deliveries: Vec<DeliveryLine>,
    states: &'static [DeliveryState],
    state: &'static str,
}

#[derive(Debug, Deserialize)]
pub(super) struct DeliveriesWanted {
    #[serde(default)]
    state: String,
}

/// Deliveries in a state; those that need something where no state is asked for.
pub(super) async fn deliveries(
    State(facts): State<Facts>,
    Extension(caller): Extension<Caller>,
    Query(wanted): Query<DeliveriesWanted>,
) -> Result<Response, Refusal> {
    let word = Some(wanted.state.as_str()).filter(|word| !word.is_empty());
    let state: Option<DeliveryState> = parse(word, "state is none of a delivery")?;
    let open = [DeliveryState::Failed, DeliveryState::Sending, DeliveryState::Pending];
    let mut rows = Vec::new();
    for state in state.map_or(open.to_vec(), |state| vec![state]) {
        rows.extend(facts.store.list_deliveries(state, ROWS).await?);
    }
    let deliveries = rows
        .iter()
        .map(|row| DeliveryLine {
            destination: row.destination.clone(),
            job: row.job_id.to_string(),
            object: String::new(),
            state: row.state.as_str(),
            attempt: row.attempt,
            status: status_text(row.last_status),
            reason: row.reason_code.as_ref().map(ToString::to_string).unwrap_or_default(),
            next: time_text(row.delivered_at.unwrap_or(row.next_attempt_at)),
        })
        .collect();
    render(&DeliveriesPage {
        frame: Frame::of(&caller),
        deliveries,
        states: DeliveryState::ALL,
        state: state.map_or("", DeliveryState::as_str),
    })
}

fn target_row(target: &TargetMeasurement) -> TargetRow {
    TargetRow {
        prompt: target.prompt.clone(),
        segment: target.segment_number.map_or_else(|| "not found".to_owned(), |n| n.to_string()),
        voxels: target.voxel_count,
        volume: format!("{:.1}", target.volume_ml),
    }
}

fn delivery_line(delivery: &DeliverySummary, job: &str) -> DeliveryLine {
    DeliveryLine {
        destination: delivery.destination.clone(),
        job: job.to_owned(),
        object: format!("{} {}", delivery.form, delivery.sop_instance_uid),
        state: delivery.state.as_str(),
        attempt: delivery.attempt,
        status: status_text(delivery.last_status),
        reason: delivery.reason_code.as_ref().map(ToString::to_string).unwrap_or_default(),
        next: time_text(delivery.delivered_at.unwrap_or(delivery.next_attempt_at)),
    }
}

fn status_text(status: Option<u16>) -> String {
    status.map(|status| format!("{status:04X}H")).unwrap_or_default()
}

fn event_row(event: &RecordedEvent) -> EventRow {
    EventRow {
        at: time_text(event.recorded_at),
        what: event.event.kind.as_str().replace('_', " "),
        actor: event.actor.clone(),
        reason: event.event.reason_code.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}
