//! Protocols, and which of them would take a series that was received.

use askama::Template;
use axum::extract::{Extension, Query, State};
use axum::response::Response;
use serde::Deserialize;

use super::{Frame, render};
use crate::api::access::Caller;
use crate::api::{Facts, Refusal, rest};

#[derive(Template)]
#[template(path = "protocols.html")]
struct ProtocolsPage {
    frame: Frame,
    protocols: Vec<ProtocolRow>,
    series: String,
    verdicts: Vec<VerdictRow>,
    trouble: String,
}

struct ProtocolRow {
    name: String,
    takes: String,
    model: String,
    priority: &'static str,
    targets: String,
    destinations: String,
}

struct VerdictRow {
    protocol: String,
    outcome: &'static str,
    reason: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    series: String,
}

pub(super) async fn list(
    State(facts): State<Facts>,
    Extension(caller): Extension<Caller>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Refusal> {
    let protocols = facts
        .protocols
        .get()
        .iter()
        .map(|protocol| ProtocolRow {
            name: protocol.name.clone(),
            takes: protocol.condition.to_string(),
            model: protocol.model.clone(),
            priority: protocol.priority.as_str(),
            targets: protocol
                .targets
                .iter()
                .map(|target| target.prompt.as_str())
                .collect::<Vec<_>>()
                .join(", "),
            destinations: protocol.destinations.join(", "),
        })
        .collect();
    let series = wanted.series.trim().to_owned();
    let (verdicts, trouble) = if series.is_empty() {
        (Vec::new(), String::new())
    } else {
        match rest::verdicts(&facts, &series).await {
            Ok(verdicts) => (verdicts.into_iter().map(verdict_row).collect(), String::new()),
            Err(Refusal::Malformed(what) | Refusal::NotFound(what)) => {
                (Vec::new(), what.to_owned())
            }
            Err(Refusal::Unprocessable(why)) => (Vec::new(), why),
            Err(other) => return Err(other),
        }
    };
    render(&ProtocolsPage { frame: Frame::of(&caller), protocols, series, verdicts, trouble })
}

fn verdict_row((protocol, reason): rest::Verdict) -> VerdictRow {
    let outcome = if reason.is_none() { "matched" } else { "not_matched" };
    let reason = reason.unwrap_or_else(|| "every condition holds".to_owned());
    VerdictRow { protocol, outcome, reason }
}
