//! The API port: a read-only page, the same facts as JSON, health and metrics.
//!
//! Nothing here names a patient: studies, series and jobs go by their UIDs.

mod health;
mod page;
mod rest;

use std::sync::Arc;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use dicom_types::StudyInstanceUid;
use metrics_exporter_prometheus::PrometheusHandle;
use prosector_storage::{AuditFilter, DatabaseError, Page, SeriesSummary, Spool, Store};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config;
use crate::queue::Queue;

/// What handlers look into.
#[derive(Clone)]
pub(crate) struct Facts {
    pub(crate) store: Store,
    pub(crate) spool: Spool,
    pub(crate) queue: Queue,
    pub(crate) metrics: Arc<PrometheusHandle>,
}

impl Facts {
    /// Series of a study. There may be none: an instance that names another study than the rest of its series is kept
    /// beside them.
    async fn series_of(&self, uid: &StudyInstanceUid) -> Result<Vec<SeriesSummary>, Refusal> {
        let series = self.store.series_of_study(uid).await?;
        if series.is_empty() {
            let filter =
                AuditFilter { study_instance_uid: Some(uid.clone()), ..AuditFilter::default() };
            let known = self.store.list_studies(&filter, &Page::first(1)).await?;
            if known.rows.is_empty() {
                return Err(Refusal::NotFound);
            }
        }
        Ok(series)
    }
}

/// A bound API port that has not answered anything yet.
#[derive(Debug)]
pub(crate) struct Api {
    socket: TcpListener,
}

impl Api {
    /// Binds the socket that `section` names.
    ///
    /// # Errors
    /// When the address is taken or not ours.
    pub(crate) async fn bind(section: &config::Api) -> Result<Self> {
        let socket = TcpListener::bind(section.bind)
            .await
            .with_context(|| format!("api.bind: cannot listen on {}", section.bind))?;
        Ok(Self { socket })
    }

    /// Where the socket is bound.
    ///
    /// # Errors
    /// When the system cannot tell.
    pub(crate) fn address(&self) -> Result<std::net::SocketAddr> {
        Ok(self.socket.local_addr()?)
    }

    /// Answers until `cancel`.
    ///
    /// # Errors
    /// When the socket breaks.
    pub(crate) async fn run(self, facts: Facts, cancel: CancellationToken) -> Result<()> {
        axum::serve(self.socket, router(facts))
            .with_graceful_shutdown(cancel.cancelled_owned())
            .await
            .context("API port")
    }
}

fn router(facts: Facts) -> Router {
    Router::new()
        .route("/", get(page::studies))
        .route("/studies/{uid}", get(page::study))
        .route("/jobs", get(page::jobs))
        .route("/jobs/{id}", get(page::job))
        .route("/api/v1/studies", get(rest::studies))
        .route("/api/v1/studies/{uid}", get(rest::study))
        .route("/api/v1/jobs", get(rest::jobs))
        .route("/api/v1/jobs/{id}", get(rest::job))
        .route("/health", get(health::ready))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/metrics", get(metrics))
        .with_state(facts)
}

async fn metrics(State(facts): State<Facts>) -> Response {
    health::measure(&facts).await;
    let content_type = (header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8");
    ([content_type], facts.metrics.render()).into_response()
}

/// Why a question is not answered.
enum Refusal {
    /// There is no such thing.
    NotFound,
    /// The words of the question are off.
    Malformed(&'static str),
    /// The store is away.
    Database(DatabaseError),
}

impl From<DatabaseError> for Refusal {
    fn from(error: DatabaseError) -> Self {
        Self::Database(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::NotFound => (StatusCode::NOT_FOUND, "not found\n").into_response(),
            Self::Malformed(what) => (StatusCode::BAD_REQUEST, format!("{what}\n")).into_response(),
            Self::Database(error) => {
                tracing::error!(
                    error = format!("{:#}", anyhow::Error::new(error)),
                    "question not answered"
                );
                (StatusCode::SERVICE_UNAVAILABLE, "the store does not answer\n").into_response()
            }
        }
    }
}
