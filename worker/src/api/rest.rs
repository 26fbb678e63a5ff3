//! Studies and jobs as JSON.

use axum::Json;
use axum::extract::{Path, Query, State};
use dicom_types::StudyInstanceUid;
use prosector_storage::{AuditFilter, Cursor, JobId, JobState, Listing, Page};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Facts, Refusal};
use crate::views::{self, View};

const DEFAULT_LIMIT: u32 = 100;
const LARGEST_LIMIT: u32 = 1000;

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
        let limit = self.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, LARGEST_LIMIT);
        Ok(Page { limit, after })
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

fn parse<T: std::str::FromStr>(
    text: Option<&str>,
    what: &'static str,
) -> Result<Option<T>, Refusal> {
    text.map(str::parse).transpose().map_err(|_| Refusal::Malformed(what))
}

pub(super) async fn studies(
    State(facts): State<Facts>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Value>, Refusal> {
    let listing = facts.store.list_studies(&wanted.filter()?, &wanted.page()?).await?;
    Ok(listing_json(&listing))
}

pub(super) async fn jobs(
    State(facts): State<Facts>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Value>, Refusal> {
    let listing = facts.store.list_jobs(&wanted.filter()?, &wanted.page()?).await?;
    Ok(listing_json(&listing))
}

pub(super) async fn study(
    State(facts): State<Facts>,
    Path(uid): Path<String>,
) -> Result<Json<Value>, Refusal> {
    let uid: StudyInstanceUid = uid.parse().map_err(|_| Refusal::Malformed("not a UID"))?;
    let series = facts.series_of(&uid).await?;
    let series: Vec<Value> = series.iter().map(View::object).collect();
    Ok(Json(json!({ "study_instance_uid": uid.as_str(), "series": series })))
}

pub(super) async fn job(
    State(facts): State<Facts>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Refusal> {
    let id: JobId = id.parse().map_err(|_| Refusal::Malformed("not a job id"))?;
    let detail = facts.store.show_job(id).await?.ok_or(Refusal::NotFound)?;
    Ok(Json(views::job_detail(&detail)))
}

fn listing_json<T: View>(listing: &Listing<T>) -> Json<Value> {
    let rows: Vec<Value> = listing.rows.iter().map(View::object).collect();
    let next = listing.next.as_ref().map(ToString::to_string);
    Json(json!({ "rows": rows, "next": next }))
}
