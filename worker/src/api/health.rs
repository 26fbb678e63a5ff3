//! Whether the service lives and can work, and gauges of what is waiting.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::Facts;

/// The process answers.
pub(super) async fn live() -> &'static str {
    "live\n"
}

/// The parts that the service needs answer; each that does not is named.
pub(super) async fn ready(State(facts): State<Facts>) -> Response {
    let store =
        facts.store.ping().await.err().map(|error| format!("{:#}", anyhow::Error::new(error)));
    let queue =
        facts.queue.ping().await.err().map(|error| format!("{:#}", anyhow::Error::new(error)));
    let spool = match facts.spool.space() {
        Ok(space) if space.admits(0) => None,
        Ok(space) => Some(format!(
            "{} bytes free, {} are reserved: new instances are refused",
            space.free_bytes, space.reserve_bytes
        )),
        Err(error) => Some(format!("{:#}", anyhow::Error::new(error))),
    };
    let is_ready = store.is_none() && spool.is_none();
    let word = |trouble: Option<String>| trouble.unwrap_or_else(|| "ok".to_owned());
    // Without its broker the service goes on from the store, later than it could.
    let body = json!({ "ready": is_ready, "store": word(store), "queue": word(queue), "spool": word(spool) });
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(body)).into_response()
}

/// Sets the gauges that are read from the store when somebody asks.
pub(super) async fn measure(facts: &Facts) {
    if let Ok(space) = facts.spool.space() {
        metrics::gauge!("prosector_spool_free_bytes").set(space.free_bytes as f64);
    }
    match facts.store.counts().await {
        Ok(counts) => {
            metrics::gauge!("prosector_store_up").set(1.0);
            metrics::gauge!("prosector_outbox_jobs").set(counts.outbox as f64);
            metrics::gauge!("prosector_unsettled_series").set(counts.unsettled_series as f64);
            metrics::gauge!("prosector_open_associations").set(counts.open_associations as f64);
            // What is not counted any more is zero now.
            for &state in prosector_storage::JobState::ALL {
                for &priority in prosector_storage::Priority::ALL {
                    let found =
                        counts.jobs.iter().find(|j| j.state == state && j.priority == priority);
                    if state.is_terminal() && found.is_none() {
                        continue;
                    }
                    let labels = [("state", state.as_str()), ("priority", priority.as_str())];
                    let count = found.map_or(0, |job| job.count);
                    let age = found.map_or(0.0, |job| job.oldest_age.as_secs_f64());
                    metrics::gauge!("prosector_jobs", &labels).set(count as f64);
                    metrics::gauge!("prosector_jobs_oldest_age_seconds", &labels).set(age);
                }
            }
            for delivery in counts.deliveries {
                let labels = [
                    ("destination", delivery.destination),
                    ("state", delivery.state.as_str().to_owned()),
                ];
                metrics::gauge!("prosector_deliveries", &labels).set(delivery.count as f64);
            }
        }
        Err(_) => metrics::gauge!("prosector_store_up").set(0.0),
    }
}
