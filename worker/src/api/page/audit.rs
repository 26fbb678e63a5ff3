//! What happened, asked by any number that a person has at hand.

use std::fmt::Write as _;

use askama::Template;
use axum::Form;
use axum::extract::{Extension, State};
use axum::response::Response;
use dicom_types::Phi;
use prosector_storage::{EventKind, StudyStory};
use serde::Deserialize;
use time::{Duration, OffsetDateTime};

use super::{Frame, JobRow, render};
use crate::api::access::Caller;
use crate::api::{Facts, Refusal};
use crate::views::{sentence, time_text};

/// Entries of the ledger that are shown where nothing is asked.
const LATEST: u32 = 30;

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditPage {
    frame: Frame,
    is_answer: bool,
    studies: Vec<StoryRow>,
    latest: Vec<LatestRow>,
}

struct StoryRow {
    uid: String,
    lines: Vec<StoryLine>,
    jobs: Vec<JobRow>,
}

struct StoryLine {
    at: String,
    what: String,
}

struct LatestRow {
    at: String,
    what: String,
    actor: String,
    reason: String,
    study: String,
}

/// A question. It may be a patient's id, and so it comes in a body and is never shown again.
#[derive(Debug, Deserialize)]
pub(super) struct Question {
    csrf: String,
    words: String,
}

pub(super) async fn form(
    State(facts): State<Facts>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, Refusal> {
    page(&facts, &caller, false, Vec::new()).await
}

pub(super) async fn search(
    State(facts): State<Facts>,
    Extension(caller): Extension<Caller>,
    Form(question): Form<Question>,
) -> Result<Response, Refusal> {
    caller.check_form(&question.csrf)?;
    let store = facts.store.acting_as(&caller.actor());
    let why = store.why(&Phi::new(question.words)).await?;
    page(&facts, &caller, true, why.studies.iter().map(story_row).collect()).await
}

async fn page(
    facts: &Facts,
    caller: &Caller,
    is_answer: bool,
    studies: Vec<StoryRow>,
) -> Result<Response, Refusal> {
    let since = OffsetDateTime::now_utc() - Duration::days(7);
    let latest = facts.store.last_events(EventKind::ALL, since, LATEST).await?;
    facts.store.acting_as(&caller.actor()).note_ledger_reading("latest", "page").await?;
    let latest = latest
        .iter()
        .map(|event| LatestRow {
            at: time_text(event.recorded_at),
            what: event.event.kind.as_str().replace('_', " "),
            actor: event.actor.clone(),
            reason: event.event.reason_code.as_ref().map(ToString::to_string).unwrap_or_default(),
            study: event
                .event
                .study_instance_uid
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
        })
        .collect();
    render(&AuditPage { frame: Frame::of(caller), is_answer, studies, latest })
}

/// Instances come by the hundred: lines that say the same are told once, with their number.
fn story_row(story: &StudyStory) -> StoryRow {
    let mut lines = Vec::new();
    for same in story.entries.chunk_by(|a, b| sentence(a) == sentence(b)) {
        let Some(first) = same.first() else { continue };
        let mut what = sentence(first);
        if same.len() > 1 {
            let _ = write!(what, ", {} times", same.len());
        }
        lines.push(StoryLine { at: time_text(first.at), what });
    }
    StoryRow {
        uid: story.study_instance_uid.to_string(),
        lines,
        jobs: story.jobs.iter().map(JobRow::of).collect(),
    }
}
