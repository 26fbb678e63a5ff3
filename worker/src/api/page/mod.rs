//! The page: what is arriving, what is done with it and why, and what a person may do about it.

mod audit;
mod jobs;
mod protocols;
mod studies;

use askama::Template;
use axum::Router;
use axum::http::header;
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::{get, post};
use prosector_storage::{JobState, JobSummary};
use serde::Deserialize;

use super::access::{Caller, Role};
use super::{Facts, Refusal};
use crate::views::time_text;

/// Rows of a list.
const ROWS: u32 = 50;

/// Pages that a viewer may see.
pub(super) fn viewer() -> Router<Facts> {
    Router::new()
        .route("/", get(studies::overview))
        .route("/studies/{uid}", get(studies::study))
        .route("/jobs", get(jobs::list))
        .route("/jobs/{id}", get(jobs::job))
        .route("/jobs/{id}/preview.png", get(super::rest::preview))
        .route("/jobs/{id}/slice.png", get(super::rest::slice))
        .route("/jobs/{id}/results/{uid}", get(super::rest::result))
        .route("/deliveries", get(jobs::deliveries))
        .route("/protocols", get(protocols::list))
        .route("/sign-out", post(super::access::sign_out))
}

/// What an operator may do.
pub(super) fn operator() -> Router<Facts> {
    Router::new()
        .route("/jobs/order", post(jobs::order))
        .route("/jobs/{id}/{action}", post(jobs::act))
}

/// Pages for an auditor.
pub(super) fn auditor() -> Router<Facts> {
    Router::new().route("/audit", get(audit::form).post(audit::search))
}

/// Style, script and icon, built in as they are.
pub(super) fn files() -> Router<Facts> {
    let file = |kind: &'static str, text: &'static str| {
        get(move || async move { ([(header::CONTENT_TYPE, kind)], text).into_response() })
    };
    Router::new()
        .route(
            "/static/page.css",
            file("text/css; charset=utf-8", include_str!("../../../static/page.css")),
        )
        .route(
            "/static/page.js",
            file("text/javascript; charset=utf-8", include_str!("../../../static/page.js")),
        )
        .route("/static/icon.svg", file("image/svg+xml", include_str!("../../../static/icon.svg")))
}

/// What surrounds every page.
struct Frame {
    /// Who looks; empty where nobody signs in.
    name: String,
    role: &'static str,
    csrf: String,
    may_operate: bool,
    may_audit: bool,
}

impl Frame {
    fn of(caller: &Caller) -> Self {
        Self {
            name: caller.name.clone().unwrap_or_default(),
            role: caller.role.as_str(),
            csrf: caller.csrf.clone().unwrap_or_default(),
            may_operate: caller.role.may(Role::Operator) && caller.csrf.is_some(),
            may_audit: caller.role.may(Role::Auditor),
        }
    }
}

/// A form that changes something, and the proof that it is of the caller's session.
#[derive(Debug, Deserialize)]
struct Signed {
    csrf: String,
}

struct JobRow {
    id: String,
    created: String,
    protocol: String,
    priority: &'static str,
    state: &'static str,
    reason: String,
    worker: String,
    deliveries: u64,
    delivered: u64,
    may_retry: bool,
    may_cancel: bool,
    may_release: bool,
}

impl JobRow {
    fn of(job: &JobSummary) -> Self {
        let has_failed_delivery = job.state == JobState::Done && job.deliveries_failed > 0;
        let has_failed = matches!(
            job.state,
            JobState::Failed | JobState::Rejected | JobState::Quarantined | JobState::Cancelled
        );
        Self {
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
            worker: job.worker.clone().unwrap_or_default(),
            deliveries: job.deliveries,
            delivered: job.delivered,
            may_retry: has_failed || has_failed_delivery,
            may_cancel: !job.state.is_terminal(),
            may_release: matches!(job.state, JobState::Held | JobState::Quarantined),
        }
    }
}

fn render(page: &impl Template) -> Result<Response, Refusal> {
    page.render().map(|text| Html(text).into_response()).map_err(|_| Refusal::Internal)
}
