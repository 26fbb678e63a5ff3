//! The REST interface, as `openapi.json` describes it.

use axum::Json;
use axum::extract::{Extension, Path, Query, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use dicom_io::secondary_capture::Plane;
use dicom_types::{Phi, SeriesInstanceUid, SopInstanceUid, StudyInstanceUid};
use prosector_storage::{
    AuditFilter, Cursor, DeliveryState, EventFilter, JobDetail, JobId, JobState, Listing, Ordered,
    Page, Retried,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::access::{Caller, Role};
use super::{Facts, Refusal, audit, health, ordered, picture, stow};
use crate::routing::{self, decide};
use crate::views::{self, View, why_object};

const DESCRIPTION: &str = include_str!("openapi.json");
const DEFAULT_LIMIT: u32 = 100;
const LARGEST_LIMIT: u32 = 1000;

/// One operation: where it is, who may use it, and what does it.
pub(super) struct Operation {
    pub(super) path: &'static str,
    #[cfg_attr(not(test), expect(dead_code, reason = "the handler knows it; a test compares it"))]
    pub(super) method: Method,
    /// The role that it takes; none: anybody.
    pub(super) needed: Option<Role>,
    pub(super) handler: MethodRouter<Facts>,
}

/// Every operation. A test compares them with the description.
pub(super) fn operations() -> Vec<Operation> {
    let read = |path, handler| Operation {
        path,
        method: Method::GET,
        needed: Some(Role::Viewer),
        handler,
    };
    let act = |path, handler| Operation {
        path,
        method: Method::POST,
        needed: Some(Role::Operator),
        handler,
    };
    let audit = |method, handler| Operation {
        path: "/api/v1/audit/{what}",
        method,
        needed: Some(Role::Auditor),
        handler,
    };
    vec![
        Operation {
            path: "/api/v1/openapi.json",
            method: Method::GET,
            needed: None,
            handler: get(description),
        },
        audit(Method::GET, get(audit::ask_in_address)),
        audit(Method::POST, post(audit::ask_in_body)),
        read("/api/v1/overview", get(overview)),
        read("/api/v1/studies", get(studies)),
        read("/api/v1/studies/{uid}", get(study)),
        read("/api/v1/jobs", get(jobs)),
        act("/api/v1/jobs", post(order)),
        read("/api/v1/jobs/{id}", get(job)),
        read("/api/v1/jobs/{id}/preview", get(preview)),
        read("/api/v1/jobs/{id}/slice", get(slice)),
        read("/api/v1/jobs/{id}/results/{uid}", get(result)),
        act("/api/v1/jobs/{id}/retry", post(retry)),
        act("/api/v1/jobs/{id}/cancel", post(cancel)),
        act("/api/v1/jobs/{id}/release", post(release)),
        read("/api/v1/deliveries", get(deliveries)),
        read("/api/v1/protocols", get(protocols)),
        read("/api/v1/protocols/match", get(match_series)),
        act("/dicom-web/studies", post(stow::store)),
        act("/dicom-web/studies/{uid}", post(stow::store_study)),
        Operation {
            path: "/api/v1/events",
            method: Method::GET,
            needed: Some(Role::Auditor),
            handler: get(events),
        },
        Operation {
            path: "/api/v1/why",
            method: Method::POST,
            needed: Some(Role::Auditor),
            handler: post(why),
        },
    ]
}

type Answer = Result<Json<Value>, Refusal>;

async fn description() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DESCRIPTION).into_response()
}

/// Which rows are wanted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    limit: Option<u32>,
    after: Option<String>,
    state: Option<String>,
    study: Option<String>,
    series: Option<String>,
}

impl Wanted {
    fn page(&self) -> Result<Page, Refusal> {
        let after: Option<Cursor> = parse(self.after.as_deref(), "after is no cursor")?;
        Ok(Page { limit: rows(self.limit)?, after })
    }

    fn filter(&self) -> Result<AuditFilter, Refusal> {
        let state: Option<JobState> = parse(self.state.as_deref(), "state is none of a job")?;
        Ok(AuditFilter {
            state,
            study_instance_uid: parse(self.study.as_deref(), "study is no UID")?,
            series_instance_uid: parse(self.series.as_deref(), "series is no UID")?,
            ..AuditFilter::default()
        })
    }
}

/// How many rows are wanted.
fn rows(limit: Option<u32>) -> Result<u32, Refusal> {
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=LARGEST_LIMIT).contains(&limit) {
        return Err(Refusal::Malformed("limit is none of 1 to 1000"));
    }
    Ok(limit)
}

/// Parses a part of a request, where it is there.
pub(super) fn parse<T: std::str::FromStr>(
    text: Option<&str>,
    what: &'static str,
) -> Result<Option<T>, Refusal> {
    text.map(str::parse).transpose().map_err(|_| Refusal::Malformed(what))
}

async fn overview(State(facts): State<Facts>) -> Answer {
    let counts = facts.store.counts().await?;
    let jobs: Vec<Value> = counts
        .jobs
        .iter()
        .map(|jobs| {
            json!({
                "state": jobs.state.as_str(), "priority": jobs.priority.as_str(), "count": jobs.count,
                "oldest_age_s": jobs.oldest_age.as_secs(),
            })
        })
        .collect();
    let deliveries: Vec<Value> = counts
        .deliveries
        .iter()
        .map(|waiting| {
            json!({
                "destination": waiting.destination, "state": waiting.state.as_str(), "count": waiting.count,
                "oldest_age_s": waiting.oldest_age.as_secs(),
            })
        })
        .collect();
    let self_test = health::last_self_test(&facts).await?;
    Ok(Json(json!({
        "open_associations": counts.open_associations,
        "unsettled_series": counts.unsettled_series,
        "outbox": counts.outbox,
        "jobs": jobs,
        "deliveries": deliveries,
        "self_test": self_test.map(|event| event.object()),
    })))
}

async fn studies(State(facts): State<Facts>, Query(wanted): Query<Wanted>) -> Answer {
    let listing = facts.store.list_studies(&wanted.filter()?, &wanted.page()?).await?;
    Ok(listing_json(&listing))
}

async fn jobs(State(facts): State<Facts>, Query(wanted): Query<Wanted>) -> Answer {
    let listing = facts.store.list_jobs(&wanted.filter()?, &wanted.page()?).await?;
    Ok(listing_json(&listing))
}

async fn study(State(facts): State<Facts>, Path(uid): Path<String>) -> Answer {
    let uid: StudyInstanceUid = uid.parse().map_err(|_| Refusal::Malformed("not a UID"))?;
    let series = facts.series_of(&uid).await?;
    let series: Vec<Value> = series.iter().map(View::object).collect();
    Ok(Json(json!({ "study_instance_uid": uid.as_str(), "series": series })))
}

async fn order(
    State(facts): State<Facts>,
    Extension(caller): Extension<Caller>,
    Json(wanted): Json<ordered::Wanted>,
) -> Result<Response, Refusal> {
    let store = facts.store.acting_as(&caller.actor());
    let (id, ordered) = ordered::order(&facts, &store, &wanted).await?;
    let status = if ordered == Ordered::Created { StatusCode::ACCEPTED } else { StatusCode::OK };
    let place = format!("/api/v1/jobs/{id}");
    Ok((status, [(header::LOCATION, place)], job_json(&facts.job(id).await?)).into_response())
}

async fn job(State(facts): State<Facts>, Path(id): Path<String>) -> Answer {
    Ok(job_json(&facts.job(job_id(&id)?).await?))
}

fn job_json(detail: &JobDetail) -> Json<Value> {
    let mut object = views::job_detail(detail);
    let place = format!("/api/v1/jobs/{}", detail.summary.job_id);
    let results: Vec<String> = detail
        .results
        .iter()
        .map(|result| format!("{place}/results/{}", result.sop_instance_uid))
        .collect();
    let has_picture = !results.is_empty();
    object["links"] = json!({
        "self": place,
        "results": results,
        "preview": has_picture.then(|| format!("{place}/preview")),
        "slice": has_picture.then(|| format!("{place}/slice")),
    });
    Json(object)
}

pub(super) fn job_id(text: &str) -> Result<JobId, Refusal> {
    text.parse().map_err(|_| Refusal::Malformed("not a job id"))
}

pub(super) async fn preview(
    State(facts): State<Facts>,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    let job = facts.job(job_id(&id)?).await?;
    let scene = facts.pictures.scene(&facts, &job).await?;
    Ok(png(picture::preview(scene).await?))
}

/// Which slice is wanted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SliceWanted {
    #[serde(default = "axial")]
    pub(super) plane: String,
    pub(super) slice: Option<u32>,
    /// Segment numbers with commas between them.
    #[serde(default)]
    pub(super) hide: String,
}

fn axial() -> String {
    "axial".to_owned()
}

impl SliceWanted {
    pub(super) fn plane(&self) -> Result<Plane, Refusal> {
        match self.plane.as_str() {
            "axial" => Ok(Plane::Axial),
            "coronal" => Ok(Plane::Coronal),
            "sagittal" => Ok(Plane::Sagittal),
            _ => Err(Refusal::Malformed("plane is none of axial, coronal, sagittal")),
        }
    }

    pub(super) fn hidden(&self) -> Result<Vec<u16>, Refusal> {
        let numbers = self.hide.split(',').map(str::trim).filter(|text| !text.is_empty());
        let parsed: Result<_, _> = numbers.map(str::parse).collect();
        parsed.map_err(|_| Refusal::Malformed("hide is no list of segment numbers"))
    }
}

pub(super) async fn slice(
    State(facts): State<Facts>,
    Path(id): Path<String>,
    Query(wanted): Query<SliceWanted>,
) -> Result<Response, Refusal> {
    let (plane, hidden) = (wanted.plane()?, wanted.hidden()?);
    let job = facts.job(job_id(&id)?).await?;
    let scene = facts.pictures.scene(&facts, &job).await?;
    let number = wanted.slice.map_or(scene.slices(plane) / 2, |slice| slice as usize);
    Ok(png(picture::slice(scene, plane, number, hidden).await?))
}

fn png(bytes: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, "image/png")], bytes).into_response()
}

pub(super) async fn result(
    State(facts): State<Facts>,
    Path((id, uid)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let uid: SopInstanceUid = uid.parse().map_err(|_| Refusal::Malformed("not a UID"))?;
    let job = facts.job(job_id(&id)?).await?;
    let result = job.results.iter().find(|result| result.sop_instance_uid == uid);
    let result = result.ok_or(Refusal::NotFound("the job has no such result"))?;
    if result.purged_at.is_some() {
        return Err(Refusal::NotFound("the result is no longer kept"));
    }
    let bytes = facts.spool.read(&result.spool_key).await?;
    let name = format!("attachment; filename=\"{uid}.dcm\"");
    let headers = [
        (header::CONTENT_TYPE, "application/dicom".to_owned()),
        (header::CONTENT_DISPOSITION, name),
    ];
    Ok((headers, bytes).into_response())
}

async fn retry(
    State(facts): State<Facts>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer {
    let retried = facts.store.acting_as(&caller.actor()).retry_job(job_id(&id)?).await?;
    Ok(Json(match retried {
        Retried::Job => json!({ "retried": "job" }),
        Retried::Deliveries { count } => json!({ "retried": "deliveries", "count": count }),
    }))
}

async fn cancel(
    State(facts): State<Facts>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer {
    facts.store.acting_as(&caller.actor()).cancel_job(job_id(&id)?).await?;
    Ok(Json(json!({ "state": JobState::Cancelled.as_str() })))
}

async fn release(
    State(facts): State<Facts>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer {
    facts.store.acting_as(&caller.actor()).release_job(job_id(&id)?).await?;
    Ok(Json(json!({ "state": JobState::Queued.as_str() })))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeliveriesWanted {
    state: Option<String>,
    limit: Option<u32>,
}

async fn deliveries(State(facts): State<Facts>, Query(wanted): Query<DeliveriesWanted>) -> Answer {
    let state: Option<DeliveryState> =
        parse(wanted.state.as_deref(), "state is none of a delivery")?;
    let limit = rows(wanted.limit)?;
    let states = state.map_or(DeliveryState::ALL.to_vec(), |state| vec![state]);
    let mut rows = Vec::new();
    for state in states {
        let found = facts.store.list_deliveries(state, limit).await?;
        rows.extend(found.iter().map(View::object));
    }
    rows.truncate(limit as usize);
    Ok(Json(json!({ "rows": rows })))
}

async fn protocols(State(facts): State<Facts>) -> Json<Value> {
    let rows: Vec<Value> = facts
        .protocols
        .get()
        .iter()
        .map(|protocol| {
            let targets: Vec<&str> =
                protocol.targets.iter().map(|target| target.prompt.as_str()).collect();
            json!({
                "protocol": protocol.name,
                "takes": protocol.condition.to_string(),
                "model": protocol.model,
                "orientation": protocol.orientation.as_str(),
                "mode": protocol.mode.as_str(),
                "priority": protocol.priority.as_str(),
                "targets": targets,
                "destinations": protocol.destinations,
                "revision": protocol.revision().sha256.to_string(),
            })
        })
        .collect();
    Json(json!({ "rows": rows }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SeriesWanted {
    series: String,
}

/// What a protocol makes of a series: its name, and why it does not take it, if it does not.
pub(super) type Verdict = (String, Option<String>);

/// What each protocol makes of a series that was received, by the protocols in force. One that takes one series of a study
/// counts as taking each that it could choose.
pub(super) async fn verdicts(facts: &Facts, series: &str) -> Result<Vec<Verdict>, Refusal> {
    let uid: SeriesInstanceUid =
        series.trim().parse().map_err(|_| Refusal::Malformed("series is no UID"))?;
    let source = ordered::read_series(facts, &uid).await?;
    if source.volume().is_none() {
        let reasons = source.reasons().join("; ");
        return Err(Refusal::Unprocessable(format!("the series is no volume: {reasons}")));
    }
    let protocols = facts.protocols.get();
    let mut known = source.facts(&protocols);
    if let Some(sender) = facts.store.series_sender(&uid).await? {
        known.calling_ae_title = Some(sender.calling_ae_title);
        known.called_ae_title = Some(sender.called_ae_title);
    }
    let decisions = decide(&protocols, &known);
    Ok(decisions
        .into_iter()
        .map(|decision| match decision.outcome {
            routing::Outcome::Matched
            | routing::Outcome::Candidate(_)
            | routing::Outcome::Chosen(_) => (decision.protocol, None),
            routing::Outcome::NotMatched(reason) => (decision.protocol, Some(reason)),
        })
        .collect())
}

async fn match_series(State(facts): State<Facts>, Query(wanted): Query<SeriesWanted>) -> Answer {
    let rows: Vec<Value> = verdicts(&facts, &wanted.series)
        .await?
        .into_iter()
        .map(|(protocol, reason)| {
            json!({ "protocol": protocol, "takes": reason.is_none(), "reason": reason })
        })
        .collect();
    Ok(Json(json!({ "rows": rows })))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EventsWanted {
    after_seq: Option<u32>,
    limit: Option<u32>,
    kind: Option<String>,
    study: Option<String>,
    series: Option<String>,
    job: Option<String>,
}

async fn events(
    State(facts): State<Facts>,
    Extension(caller): Extension<Caller>,
    Query(wanted): Query<EventsWanted>,
) -> Answer {
    let filter = EventFilter {
        kind: parse(wanted.kind.as_deref(), "kind is none of an event")?,
        study_instance_uid: parse(wanted.study.as_deref(), "study is no UID")?,
        series_instance_uid: parse(wanted.series.as_deref(), "series is no UID")?,
        job_id: parse(wanted.job.as_deref(), "job is no job id")?,
        after_seq: wanted.after_seq.unwrap_or(0).into(),
        ..EventFilter::default()
    };
    let store = facts.store.acting_as(&caller.actor());
    let events = store.events(&filter, rows(wanted.limit)?).await?;
    store.note_ledger_reading("events", "api").await?;
    let rows: Vec<Value> = events.iter().map(View::object).collect();
    Ok(Json(json!({ "rows": rows })))
}

/// A question. It may be a patient's id, and so it stands in a body, never in an address.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    words: String,
}

async fn why(
    State(facts): State<Facts>,
    Extension(caller): Extension<Caller>,
    Json(question): Json<Question>,
) -> Answer {
    let store = facts.store.acting_as(&caller.actor());
    Ok(Json(why_object(&store.why(&Phi::new(question.words)).await?)))
}

fn listing_json<T: View>(listing: &Listing<T>) -> Json<Value> {
    let rows: Vec<Value> = listing.rows.iter().map(View::object).collect();
    let next = listing.next.as_ref().map(ToString::to_string);
    Json(json!({ "rows": rows, "next": next }))
}
