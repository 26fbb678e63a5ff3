//! The API port: the page, the same as REST, health and metrics.
//!
//! Nothing here shows who a patient is: studies, series and jobs go by their UIDs. An auditor may ask by a patient's
//! id or accession number, which the ledger records.

mod access;
mod audit;
mod health;
mod ordered;
mod page;
mod picture;
mod refusal;
mod rest;
mod stow;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use dicom_types::StudyInstanceUid;
use metrics_exporter_prometheus::PrometheusHandle;
use prosector_storage::{AuditFilter, JobDetail, JobId, Page, SeriesSummary, Spool, Store};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::{self, Config};
use crate::open_packs::OpenPacks;
use crate::protocol::LiveProtocols;
use crate::queue::Queue;

pub(crate) use access::{Access, Role, hash_password, new_token, token_digest};
pub(crate) use picture::Pictures;
use refusal::Refusal;
pub(crate) use stow::Door;

/// Whether a path is asked for by programs, who are answered as such and show tokens.
fn is_for_programs(path: &str) -> bool {
    ["/api/", "/dicom-web/"].iter().any(|root| path.starts_with(root)) || path == "/metrics"
}

/// What handlers look into.
#[derive(Clone)]
pub(crate) struct Facts {
    pub(crate) store: Store,
    pub(crate) spool: Spool,
    pub(crate) queue: Queue,
    pub(crate) packs: Arc<OpenPacks>,
    pub(crate) config: Arc<Config>,
    /// What is in force; the configuration has what the service began with.
    pub(crate) protocols: LiveProtocols,
    pub(crate) access: Arc<Access>,
    pub(crate) pictures: Arc<Pictures>,
    /// The way in for instances over HTTP.
    pub(crate) door: Arc<Door>,
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
                return Err(Refusal::NotFound("there is no such study"));
            }
        }
        Ok(series)
    }

    async fn job(&self, id: JobId) -> Result<JobDetail, Refusal> {
        self.store.show_job(id).await?.ok_or(Refusal::NotFound("there is no such job"))
    }
}

/// A bound API port that has not answered anything yet.
#[derive(Debug)]
pub(crate) struct Api {
    socket: TcpListener,
    access: Arc<Access>,
}

impl Api {
    /// Reads the users and binds the socket that `section` names.
    ///
    /// # Errors
    /// When the users cannot be read, or the address is taken or not ours.
    pub(crate) async fn bind(section: &config::Api) -> Result<Self> {
        let access = Access::new(section)?;
        let socket = TcpListener::bind(section.bind)
            .await
            .with_context(|| format!("api.bind: cannot listen on {}", section.bind))?;
        Ok(Self { socket, access })
    }

    /// Who may use the port.
    pub(crate) fn access(&self) -> Arc<Access> {
        Arc::clone(&self.access)
    }

    /// Where the socket is bound.
    ///
    /// # Errors
    /// When the system cannot tell.
    pub(crate) fn address(&self) -> Result<SocketAddr> {
        Ok(self.socket.local_addr()?)
    }

    /// Answers until `cancel`.
    ///
    /// # Errors
    /// When the socket breaks.
    pub(crate) async fn run(self, facts: Facts, cancel: CancellationToken) -> Result<()> {
        let service = router(facts).into_make_service_with_connect_info::<SocketAddr>();
        axum::serve(self.socket, service)
            .with_graceful_shutdown(cancel.cancelled_owned())
            .await
            .context("API port")
    }
}

fn router(facts: Facts) -> Router {
    let access = Arc::clone(&facts.access);
    let need = |role: Role| from_fn_with_state((Arc::clone(&access), role), access::require);
    let mut router = Router::new()
        .merge(page::viewer().route_layer(need(Role::Viewer)))
        .merge(page::operator().route_layer(need(Role::Operator)))
        .merge(page::auditor().route_layer(need(Role::Auditor)))
        .merge(page::files())
        .route("/sign-in", get(access::sign_in_form).post(access::sign_in))
        .route("/metrics", get(metrics).route_layer(need(Role::Viewer)))
        .route("/health", get(health::ready))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready));
    for rest::Operation { path, needed, handler, .. } in rest::operations() {
        let handler = match needed {
            Some(role) => handler.route_layer(need(role)),
            None => handler,
        };
        router = router.route(path, handler);
    }
    router
        .fallback(|| async { Refusal::NotFound("there is nothing here") })
        .layer(from_fn_with_state(access, access::check_origin))
        .layer(from_fn(refusal::dress))
        .layer(from_fn(access::headers))
        .with_state(facts)
}

async fn metrics(State(facts): State<Facts>) -> Response {
    health::measure(&facts).await;
    let content_type = (header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8");
    ([content_type], facts.metrics.render()).into_response()
}

#[cfg(test)]
mod tests;
