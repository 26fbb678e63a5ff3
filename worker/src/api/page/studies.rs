//! What is arriving and what became of it, study by study.

use askama::Template;
use axum::extract::{Extension, Path, Query, State};
use axum::response::Response;
use dicom_types::StudyInstanceUid;
use prosector_storage::{
    AuditFilter, Cursor, EventKind, JobState, Page, SeriesSummary, StudySummary,
};
use serde::Deserialize;

use super::{Frame, JobRow, ROWS, render};
use crate::api::access::Caller;
use crate::api::{Facts, Refusal, health, rest};
use crate::telemetry;
use crate::views::time_text;

#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewPage {
    frame: Frame,
    cards: Vec<Card>,
    running: Vec<JobRow>,
    device: String,
    space: String,
    self_test: SelfTestRow,
    studies: Vec<StudyRow>,
    older: String,
}

struct Card {
    count: u64,
    what: &'static str,
    link: &'static str,
    class: &'static str,
}

struct SelfTestRow {
    text: String,
    class: &'static str,
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
    frame: Frame,
    uid: String,
    decisions: Vec<DecisionRow>,
    series: Vec<String>,
    jobs: Vec<JobRow>,
}

struct DecisionRow {
    series: String,
    modality: String,
    instances: u64,
    protocol: String,
    outcome: &'static str,
    reason: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    after: Option<String>,
}

pub(super) async fn overview(
    State(facts): State<Facts>,
    Extension(caller): Extension<Caller>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Refusal> {
    let after: Option<Cursor> = rest::parse(wanted.after.as_deref(), "after is no cursor")?;
    let page = Page { limit: ROWS, after };
    let listing = facts.store.list_studies(&AuditFilter::default(), &page).await?;
    let in_work = AuditFilter { state: Some(JobState::Running), ..AuditFilter::default() };
    let running = facts.store.list_jobs(&in_work, &Page::first(ROWS)).await?;
    render(&OverviewPage {
        frame: Frame::of(&caller),
        cards: cards(&facts).await?,
        running: running.rows.iter().map(JobRow::of).collect(),
        device: telemetry::device_text(),
        space: space(&facts),
        self_test: self_test(&facts).await?,
        studies: listing.rows.iter().map(study_row).collect(),
        older: listing.next.map(|next| next.to_string()).unwrap_or_default(),
    })
}

async fn cards(facts: &Facts) -> Result<Vec<Card>, Refusal> {
    let counts = facts.store.counts().await?;
    let jobs = |state: JobState| {
        counts.jobs.iter().filter(|job| job.state == state).map(|job| job.count).sum::<u64>()
    };
    let deliveries = |is_bad: bool| {
        let of_kind = counts
            .deliveries
            .iter()
            .filter(|d| (d.state == prosector_storage::DeliveryState::Failed) == is_bad);
        of_kind.map(|delivery| delivery.count).sum::<u64>()
    };
    let bad = |count: u64| if count > 0 { "failed" } else { "" };
    let [quarantined, undelivered] = [jobs(JobState::Quarantined), deliveries(true)];
    Ok(vec![
        Card { count: counts.open_associations, what: "open associations", link: "", class: "" },
        Card { count: counts.unsettled_series, what: "series arriving", link: "", class: "" },
        Card {
            count: jobs(JobState::Queued),
            what: "jobs queued",
            link: "/jobs?state=queued",
            class: "",
        },
        Card {
            count: jobs(JobState::Running),
            what: "jobs running",
            link: "/jobs?state=running",
            class: "",
        },
        Card {
            count: jobs(JobState::Held),
            what: "jobs held",
            link: "/jobs?state=held",
            class: "",
        },
        Card {
            count: quarantined,
            what: "in quarantine",
            link: "/jobs?state=quarantined",
            class: bad(quarantined),
        },
        Card { count: deliveries(false), what: "deliveries open", link: "/deliveries", class: "" },
        Card {
            count: undelivered,
            what: "deliveries failed",
            link: "/deliveries?state=failed",
            class: bad(undelivered),
        },
    ])
}

fn space(facts: &Facts) -> String {
    facts.spool.space().map_or_else(
        |_| "the spool does not answer".to_owned(),
        |space| {
            format!("{:.1} GiB free in the spool", space.free_bytes as f64 / f64::from(1 << 30))
        },
    )
}

async fn self_test(facts: &Facts) -> Result<SelfTestRow, Refusal> {
    let planned = facts.config.self_test.is_some();
    Ok(match health::last_self_test(facts).await? {
        Some(event) => {
            let is_good = event.event.kind == EventKind::SelfTestPassed;
            let reason = event.event.reason_code.as_ref().map(|code| format!(": {code}"));
            let word = if is_good { "passed" } else { "failed" };
            SelfTestRow {
                text: format!(
                    "Self-test {word} at {}{}",
                    time_text(event.recorded_at),
                    reason.unwrap_or_default()
                ),
                class: if is_good { "done" } else { "failed" },
            }
        }
        None if planned => {
            SelfTestRow { text: "No self-test within two days".to_owned(), class: "held" }
        }
        None => SelfTestRow { text: "The nightly self-test is off".to_owned(), class: "" },
    })
}

pub(super) async fn study(
    State(facts): State<Facts>,
    Extension(caller): Extension<Caller>,
    Path(uid): Path<String>,
) -> Result<Response, Refusal> {
    let uid: StudyInstanceUid = uid.parse().map_err(|_| Refusal::Malformed("not a UID"))?;
    let series = facts.series_of(&uid).await?;
    let filter = AuditFilter { study_instance_uid: Some(uid.clone()), ..AuditFilter::default() };
    let jobs = facts.store.list_jobs(&filter, &Page::first(4 * ROWS)).await?;
    render(&StudyPage {
        frame: Frame::of(&caller),
        uid: uid.to_string(),
        decisions: series.iter().flat_map(decision_rows).collect(),
        series: series.iter().map(|series| series.series_instance_uid.to_string()).collect(),
        jobs: jobs.rows.iter().map(JobRow::of).collect(),
    })
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
        reason,
    };
    if series.decisions.is_empty() {
        return vec![row(String::new(), "arriving", "not complete yet".to_owned())];
    }
    let decisions = series.decisions.iter();
    decisions
        .map(|decision| {
            row(
                decision.protocol_name.clone().unwrap_or_default(),
                decision.outcome.as_str(),
                decision.reason.clone(),
            )
        })
        .collect()
}
