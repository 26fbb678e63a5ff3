//! `/api/v1/audit/…`: the audit commands over HTTP, as JSON or CSV.
//!
//! A question by patient id or accession number is posted, so that the identifier stands in no address and therefore in
//! no proxy's log; the ledger records it. No answer holds one.

use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use dicom_types::Phi;
use prosector_storage::{AuditFilter, Cursor, EventFilter, JobState, Listing, Page};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::access::Caller;
use super::{Facts, Refusal};
use crate::cli::{Format, Table, parse_time};
use crate::views::View;

const DEFAULT_LIMIT: u32 = 100;
const LARGEST_LIMIT: u32 = 10_000;

/// What is asked for; what is absent does not restrict.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Question {
    since: Option<String>,
    until: Option<String>,
    study: Option<String>,
    series: Option<String>,
    ae: Option<String>,
    state: Option<String>,
    #[serde(deserialize_with = "protected")]
    patient_id: Option<Phi<String>>,
    #[serde(deserialize_with = "protected")]
    accession: Option<Phi<String>>,
    /// Of events alone: their kind and their job.
    kind: Option<String>,
    job: Option<String>,
    limit: Option<u32>,
    /// Where the page before ended: a cursor, or the `seq` of an event.
    after: Option<String>,
    /// `json` or `csv`.
    format: Option<String>,
}

/// `GET /api/v1/audit/{what}`.
pub(super) async fn ask_in_address(
    facts: State<Facts>,
    caller: Extension<Caller>,
    what: Path<String>,
    Query(question): Query<Question>,
) -> Result<Response, Refusal> {
    if question.names_a_patient() {
        return Err(Refusal::Malformed(
            "an identifier does not belong into an address: POST it as JSON",
        ));
    }
    answer(facts, caller, what, question).await
}

/// `POST /api/v1/audit/{what}`.
pub(super) async fn ask_in_body(
    facts: State<Facts>,
    caller: Extension<Caller>,
    what: Path<String>,
    Json(question): Json<Question>,
) -> Result<Response, Refusal> {
    answer(facts, caller, what, question).await
}

async fn answer(
    State(facts): State<Facts>,
    Extension(caller): Extension<Caller>,
    Path(what): Path<String>,
    question: Question,
) -> Result<Response, Refusal> {
    let store = facts.store.acting_as(&caller.actor());
    let filter = question.filter()?;
    let format = question.format()?;
    if !matches!(what.as_str(), "studies" | "instances" | "jobs" | "events") {
        return Err(Refusal::Malformed("ask for studies, instances, jobs or events"));
    }
    if question.names_a_patient() {
        store.note_identity_question(&what, "api", &filter).await?;
    }
    match what.as_str() {
        "studies" => listing(&store.list_studies(&filter, &question.page()?).await?, format),
        "instances" => listing(&store.list_instances(&filter, &question.page()?).await?, format),
        "jobs" => listing(&store.list_jobs(&filter, &question.page()?).await?, format),
        _ => {
            let limit = question.limit();
            let events = store.events(&question.events(filter)?, limit).await?;
            store.note_ledger_reading("events", "api").await?;
            let is_full = events.len() == limit as usize;
            let next = events.last().filter(|_| is_full).map(|event| event.seq.to_string());
            rows(&events, next, format)
        }
    }
}

fn listing<T: View>(listing: &Listing<T>, format: Format) -> Result<Response, Refusal> {
    rows(&listing.rows, listing.next.as_ref().map(ToString::to_string), format)
}

fn rows<T: View>(rows: &[T], next: Option<String>, format: Format) -> Result<Response, Refusal> {
    if format == Format::Json {
        let rows: Vec<Value> = rows.iter().map(View::object).collect();
        return Ok(Json(json!({ "rows": rows, "next": next })).into_response());
    }
    let mut table = Table::new(T::COLUMNS);
    for row in rows {
        table.push(row.values());
    }
    let text = table.render(format).map_err(|_| Refusal::Malformed("the answer is no CSV"))?;
    let mut response =
        ([(header::CONTENT_TYPE, "text/csv; charset=utf-8; header=present")], text).into_response();
    if let Some(next) = next.and_then(|next| next.parse().ok()) {
        response.headers_mut().insert("next-page", next);
    }
    Ok(response)
}

impl Question {
    fn names_a_patient(&self) -> bool {
        self.patient_id.is_some() || self.accession.is_some()
    }

    fn limit(&self) -> u32 {
        self.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, LARGEST_LIMIT)
    }

    fn page(&self) -> Result<Page, Refusal> {
        let after: Option<Cursor> = parse(self.after.as_deref(), "after is no cursor")?;
        Ok(Page { limit: self.limit(), after })
    }

    fn format(&self) -> Result<Format, Refusal> {
        match self.format.as_deref() {
            None | Some("json") => Ok(Format::Json),
            Some("csv") => Ok(Format::Csv),
            Some(_) => Err(Refusal::Malformed("format is neither json nor csv")),
        }
    }

    fn filter(&self) -> Result<AuditFilter, Refusal> {
        let time = |text: Option<&str>, what| {
            text.map(parse_time).transpose().map_err(|_| Refusal::Malformed(what))
        };
        let state: Option<JobState> = parse(self.state.as_deref(), "state is none of a job")?;
        Ok(AuditFilter {
            since: time(self.since.as_deref(), "since is no time")?,
            until: time(self.until.as_deref(), "until is no time")?,
            state,
            study_instance_uid: parse(self.study.as_deref(), "study is no UID")?,
            series_instance_uid: parse(self.series.as_deref(), "series is no UID")?,
            calling_ae_title: parse(self.ae.as_deref(), "ae is no AE title")?,
            patient_id: self.patient_id.clone(),
            accession_number: self.accession.clone(),
        })
    }

    fn events(&self, filter: AuditFilter) -> Result<EventFilter, Refusal> {
        let after: Option<u64> = parse(self.after.as_deref(), "after is no number of an entry")?;
        Ok(EventFilter {
            since: filter.since,
            until: filter.until,
            kind: parse(self.kind.as_deref(), "kind is none of an event")?,
            study_instance_uid: filter.study_instance_uid,
            series_instance_uid: filter.series_instance_uid,
            job_id: parse(self.job.as_deref(), "job is no job id")?,
            patient_id: filter.patient_id,
            accession_number: filter.accession_number,
            after_seq: after.unwrap_or(0),
        })
    }
}

fn protected<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Phi<String>>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(Phi::new))
}

fn parse<T: std::str::FromStr>(
    text: Option<&str>,
    what: &'static str,
) -> Result<Option<T>, Refusal> {
    text.map(str::parse).transpose().map_err(|_| Refusal::Malformed(what))
}
