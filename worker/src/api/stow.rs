//! STOW-RS: instances over HTTP, on the way that those of associations take.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::body::Body;
use axum::extract::{ConnectInfo, Extension, Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use dicom_io::dimse::FailureReason;
use dicom_io::scp::{
    AssociationEnd, AssociationInfo, AssociationOutcome, InstanceReceiver as _, ScpConfig,
};
use dicom_io::stow::{self, StowRequestError, StowedInstance};
use dicom_types::{AeTitle, StudyInstanceUid};
use prosector_storage::{Intake, IntakeCommitter, IntakeLimits, Spool, Store};
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::access::Caller;
use super::{Facts, Refusal};
use crate::config;
use crate::listen::{Receiver, scp_config};

/// Calling AE title of requests whose sender's name is no AE title.
const ANONYMOUS: &str = "STOW-RS";
/// Seconds after which a sender that found us busy may try again.
const RETRY_AFTER: &str = "10";

/// The way in for instances over HTTP.
#[derive(Debug)]
pub(crate) struct Door {
    receiver: Arc<Receiver>,
    scp: Arc<ScpConfig>,
    called_ae_title: AeTitle,
    /// Requests at a time.
    places: Semaphore,
    /// What the rows of its requests are of.
    name: String,
}

impl Door {
    /// A way in and its committer, which someone has to run.
    pub(crate) fn new(
        listener: &config::Listener,
        api: &config::Api,
        store: &Store,
        spool: &Spool,
    ) -> (Self, IntakeCommitter) {
        let name = format!("stow@{}", api.bind);
        let (intake, committer) =
            Intake::new(store.clone(), spool.clone(), IntakeLimits::default());
        // Nobody asks for storage commitment over HTTP.
        let called_back = BTreeSet::new();
        let receiver =
            Receiver::new(name.clone(), store.clone(), spool.clone(), intake, called_back);
        let door = Self {
            receiver: Arc::new(receiver),
            scp: Arc::new(scp_config(listener)),
            called_ae_title: listener.ae_title.clone(),
            places: Semaphore::new(listener.max_associations as usize),
            name,
        };
        (door, committer)
    }

    /// What the rows of its requests are of.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

pub(super) async fn store(
    State(facts): State<Facts>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Refusal> {
    take(&facts, &caller, None, request).await
}

pub(super) async fn store_study(
    State(facts): State<Facts>,
    Extension(caller): Extension<Caller>,
    Path(uid): Path<String>,
    request: Request,
) -> Result<Response, Refusal> {
    let uid: StudyInstanceUid = uid.parse().map_err(|_| Refusal::Malformed("not a UID"))?;
    take(&facts, &caller, Some(uid), request).await
}

async fn take(
    facts: &Facts,
    caller: &Caller,
    study: Option<StudyInstanceUid>,
    request: Request,
) -> Result<Response, Refusal> {
    let door = &facts.door;
    let headers = request.headers();
    if !accepts_json(headers) {
        return Err(Refusal::NotAcceptable("the answer is application/dicom+json"));
    }
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or_default().to_owned();
    let Ok(_place) = door.places.try_acquire() else {
        return Err(Refusal::Unavailable("too many requests store instances at this moment"));
    };
    let started = Instant::now();
    let association = Arc::new(association(door, caller, &request));
    door.receiver.association_accepted(&association).await;
    let body: Body = request.into_body();
    let taken =
        stow::receive(&door.receiver, &door.scp, &association, study.as_ref(), &content_type, body)
            .await;
    let instances = taken.as_deref().unwrap_or_default();
    let (stored, refused): (Vec<_>, Vec<_>) =
        instances.iter().partition(|instance| instance.outcome.is_ok());
    let outcome = AssociationOutcome {
        end: match &taken {
            Ok(_) => AssociationEnd::Released,
            Err(StowRequestError::TimedOut) => AssociationEnd::TimedOut,
            Err(StowRequestError::ConnectionLost) => AssociationEnd::ConnectionLost,
            Err(StowRequestError::MediaType | StowRequestError::Malformed) => {
                AssociationEnd::ProtocolError
            }
        },
        stored: stored.len() as u64,
        refused: refused.len() as u64,
        stored_bytes: stored.iter().map(|instance| instance.dataset_bytes).sum(),
        duration: started.elapsed(),
    };
    door.receiver.association_ended(&association, &outcome).await;
    match taken {
        Ok(instances) => Ok(answer(&instances)),
        Err(StowRequestError::MediaType) => {
            Err(Refusal::MediaType("multipart/related with parts of application/dicom is taken"))
        }
        Err(StowRequestError::Malformed) => {
            Err(Refusal::Malformed("no multipart body with instances in it"))
        }
        Err(StowRequestError::TimedOut | StowRequestError::ConnectionLost) => {
            Err(Refusal::TimedOut("the request broke off; what was stored was not answered"))
        }
    }
}

/// The request as an association: who sends, to whom, from where.
fn association(door: &Door, caller: &Caller, request: &Request) -> AssociationInfo {
    let named = caller.name.as_deref().and_then(|name| name.parse().ok());
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0);
    AssociationInfo {
        id: Uuid::new_v4(),
        calling_ae_title: named
            .unwrap_or_else(|| ANONYMOUS.parse().expect("a constant is well-formed")),
        called_ae_title: door.called_ae_title.clone(),
        peer: peer.unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0)),
        tls: None,
        refused: Vec::new(),
    }
}

/// PS3.18 table 10.5.3-1; 503 where nothing was stored for want of room or store, so that the sender tries again.
fn answer(instances: &[StowedInstance]) -> Response {
    let is_busy = |reason: &FailureReason| matches!(reason.0, 0xA700..=0xA7FF | 0x0110 | 0x0213);
    let reasons: Vec<FailureReason> =
        instances.iter().filter_map(|instance| instance.outcome.err()).collect();
    let status = if reasons.is_empty() {
        StatusCode::OK
    } else if reasons.len() < instances.len() {
        StatusCode::ACCEPTED
    } else if reasons.iter().all(is_busy) {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::CONFLICT
    };
    let body = Json(stow::response(instances));
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, STORED);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, header::HeaderValue::from_static(RETRY_AFTER));
    }
    response
}

const STORED: header::HeaderValue = header::HeaderValue::from_static("application/dicom+json");

/// Whether the client takes the one form of answer there is; senders that name XML first take JSON as a rule.
fn accepts_json(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::ACCEPT).iter().peekable();
    if values.peek().is_none() {
        return true;
    }
    values.filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(',')).any(|range| {
        let range = range.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        matches!(
            range.as_str(),
            "*/*" | "application/*" | "application/json" | "application/dicom+json"
        )
    })
}
