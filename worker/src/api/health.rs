//! Whether the service lives and can work, and gauges of what is waiting.

use std::future::Future;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use prosector_storage::{Counts, DatabaseError, EventKind, RecordedEvent};
use serde_json::json;
use time::{Duration, OffsetDateTime};
use tokio::time::timeout;

use super::Facts;

/// A self-test that is older says nothing any more.
const SELF_TEST_AGE: Duration = Duration::days(2);

/// How long a part may take to answer: Prometheus gives up after ten seconds, and then knows nothing at all.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(3);

/// The process answers.
pub(super) async fn live() -> &'static str {
    "live\n"
}

/// The parts that the service needs answer; each that does not is named.
pub(super) async fn ready(State(facts): State<Facts>) -> Response {
    let (store, queue, spool) = tokio::join!(
        trouble(facts.store.ping()),
        trouble(facts.queue.ping()),
        trouble(facts.spool.ping()),
    );
    let spool = spool.or_else(|| match facts.spool.space() {
        Ok(space) if space.admits(0) => None,
        Ok(space) => Some(format!(
            "{} bytes free, {} are reserved: new instances are refused",
            space.free_bytes, space.reserve_bytes
        )),
        Err(error) => Some(format!("{:#}", anyhow::Error::new(error))),
    });
    let is_ready = store.is_none() && spool.is_none();
    let word = |trouble: Option<String>| trouble.unwrap_or_else(|| "ok".to_owned());
    // Without its broker the service goes on from the store, later than it could.
    let body = json!({ "ready": is_ready, "store": word(store), "queue": word(queue), "spool": word(spool) });
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(body)).into_response()
}

/// Why a part does not answer; nothing where it does.
async fn trouble<T, E: std::error::Error + Send + Sync + 'static>(
    asking: impl Future<Output = Result<T, E>>,
) -> Option<String> {
    match timeout(PATIENCE, asking).await {
        Ok(answer) => answer.err().map(|error| format!("{:#}", anyhow::Error::new(error))),
        Err(_) => Some("no answer in time".to_owned()),
    }
}

/// Sets the gauges that are read from the store when somebody asks.
pub(super) async fn measure(facts: &Facts) {
    if let Ok(space) = facts.spool.space() {
        metrics::gauge!("prosector_spool_free_bytes").set(space.free_bytes as f64);
        metrics::gauge!("prosector_spool_reserve_bytes").set(space.reserve_bytes as f64);
    }
    let (queue_trouble, counts) =
        tokio::join!(trouble(facts.queue.ping()), timeout(PATIENCE, facts.store.counts()));
    metrics::gauge!("prosector_queue_up").set(f64::from(u8::from(queue_trouble.is_none())));
    let Ok(Ok(counts)) = counts else {
        metrics::gauge!("prosector_store_up").set(0.0);
        return;
    };
    metrics::gauge!("prosector_store_up").set(1.0);
    measure_counts(facts, &counts);
    if let Ok(Ok(Some(event))) = timeout(PATIENCE, last_self_test(facts)).await {
        let has_passed = event.event.kind == EventKind::SelfTestPassed;
        metrics::gauge!("prosector_self_test_passed").set(f64::from(u8::from(has_passed)));
        metrics::gauge!("prosector_self_test_timestamp_seconds")
            .set(event.recorded_at.unix_timestamp() as f64);
    }
}

fn measure_counts(facts: &Facts, counts: &Counts) {
    metrics::gauge!("prosector_outbox_jobs").set(counts.outbox as f64);
    metrics::gauge!("prosector_unsettled_series").set(counts.unsettled_series as f64);
    metrics::gauge!("prosector_open_associations").set(counts.open_associations as f64);
    // What is not counted any more is zero now.
    for &state in prosector_storage::JobState::ALL {
        for &priority in prosector_storage::Priority::ALL {
            let found = counts.jobs.iter().find(|j| j.state == state && j.priority == priority);
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
    for destination in &facts.config.destinations {
        for &state in prosector_storage::DeliveryState::ALL {
            let mut of_kind = counts.deliveries.iter();
            let found = of_kind.find(|d| d.state == state && d.destination == destination.name);
            let labels =
                [("destination", destination.name.clone()), ("state", state.as_str().to_owned())];
            let count = found.map_or(0, |delivery| delivery.count);
            let age = found.map_or(0.0, |delivery| delivery.oldest_age.as_secs_f64());
            metrics::gauge!("prosector_deliveries", &labels).set(count as f64);
            metrics::gauge!("prosector_deliveries_oldest_age_seconds", &labels).set(age);
        }
    }
}

/// The last self-test, unless it is too old to say anything.
pub(super) async fn last_self_test(facts: &Facts) -> Result<Option<RecordedEvent>, DatabaseError> {
    let kinds = [EventKind::SelfTestPassed, EventKind::SelfTestFailed];
    let since = OffsetDateTime::now_utc() - SELF_TEST_AGE;
    Ok(facts.store.last_events(&kinds, since, 1).await?.into_iter().next())
}
