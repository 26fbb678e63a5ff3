//! Why a request is not followed: as RFC 9457 says for programs, as a page for people.

use askama::Template;
use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};
use prosector_storage::{DatabaseError, OperatorError, SpoolError};
use serde::Serialize;

use super::is_for_programs;

/// Bytes of an answer of the framework that are taken over as the detail of a problem.
const LONGEST_DETAIL: usize = 4096;
const PROBLEM: &str = "application/problem+json";

/// Why a request is not followed.
#[derive(Debug)]
pub(super) enum Refusal {
    /// There is no such thing.
    NotFound(&'static str),
    /// The words of the request are off.
    Malformed(&'static str),
    /// The request is well-formed and cannot be followed all the same.
    Unprocessable(String),
    /// The thing is in a state in which this makes no sense.
    Conflict(String),
    /// Nobody known asks.
    Unauthorized,
    /// Somebody asks who may not.
    Forbidden(&'static str),
    /// The answer would be of a kind that the request does not take.
    NotAcceptable(&'static str),
    /// What the request brings is of a kind that is not taken.
    MediaType(&'static str),
    /// The request broke off.
    TimedOut(&'static str),
    /// A part of the service is away.
    Unavailable(&'static str),
    /// A fault of ours.
    Internal,
}

/// RFC 9457, 3.1.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Problem {
    /// `about:blank`: the status says it all, and `detail` the rest.
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
}

impl Problem {
    fn new(status: StatusCode, detail: String) -> Self {
        let title = status.canonical_reason().unwrap_or("Error");
        Self { kind: "about:blank", title, status: status.as_u16(), detail }
    }
}

impl From<DatabaseError> for Refusal {
    fn from(error: DatabaseError) -> Self {
        tracing::error!(
            error = format!("{:#}", anyhow::Error::new(error)),
            "question not answered"
        );
        Self::Unavailable("the store does not answer")
    }
}

impl From<SpoolError> for Refusal {
    fn from(error: SpoolError) -> Self {
        tracing::error!(error = format!("{:#}", anyhow::Error::new(error)), "spool not read");
        Self::Unavailable("the spool cannot be read")
    }
}

impl From<OperatorError> for Refusal {
    fn from(error: OperatorError) -> Self {
        match error {
            OperatorError::Unknown { .. } => Self::NotFound("there is no such job"),
            OperatorError::State { .. } | OperatorError::Recalled { .. } => {
                Self::Conflict(error.to_string())
            }
            OperatorError::Database(error) => error.into(),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, detail) = match self {
            Self::NotFound(what) => (StatusCode::NOT_FOUND, what.to_owned()),
            Self::Malformed(what) => (StatusCode::BAD_REQUEST, what.to_owned()),
            Self::Unprocessable(why) => (StatusCode::UNPROCESSABLE_ENTITY, why),
            Self::Conflict(why) => (StatusCode::CONFLICT, why),
            Self::Unauthorized => {
                (StatusCode::UNAUTHORIZED, "a bearer token of api.users_file is needed".to_owned())
            }
            Self::Forbidden(why) => (StatusCode::FORBIDDEN, why.to_owned()),
            Self::NotAcceptable(what) => (StatusCode::NOT_ACCEPTABLE, what.to_owned()),
            Self::MediaType(what) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, what.to_owned()),
            Self::TimedOut(what) => (StatusCode::REQUEST_TIMEOUT, what.to_owned()),
            Self::Unavailable(what) => (StatusCode::SERVICE_UNAVAILABLE, what.to_owned()),
            Self::Internal => {
                (StatusCode::INTERNAL_SERVER_ERROR, "a fault of the service".to_owned())
            }
        };
        problem(Problem::new(status, detail))
    }
}

fn problem(problem: Problem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = serde_json::to_string(&problem).unwrap_or_default();
    let mut response = (status, [(header::CONTENT_TYPE, PROBLEM)], body).into_response();
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response.extensions_mut().insert(problem);
    response
}

#[derive(Template)]
#[template(path = "refusal.html")]
struct RefusalPage<'a> {
    title: &'a str,
    detail: &'a str,
}

/// Turns every refusal, the framework's own ones too, into a problem for programs or into a page for people.
pub(super) async fn dress(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let is_health = path.starts_with("/health");
    let is_page = !is_for_programs(path);
    let response = next.run(request).await;
    let is_whole = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| {
        kind.as_bytes().starts_with(b"text/html") || kind == "application/dicom+json"
    });
    let is_refusal = response.status().is_client_error() || response.status().is_server_error();
    if !is_refusal || is_health || is_whole {
        return response;
    }
    let status = response.status();
    let allow = response.headers().get(header::ALLOW).cloned();
    let known = response.extensions().get::<Problem>().cloned();
    let found = if let Some(known) = known {
        known
    } else {
        let body = to_bytes(response.into_body(), LONGEST_DETAIL).await.unwrap_or_default();
        Problem::new(status, String::from_utf8_lossy(&body).into_owned())
    };
    let mut dressed = if is_page {
        let page = RefusalPage { title: found.title, detail: &found.detail };
        (status, Html(page.render().unwrap_or_default())).into_response()
    } else {
        problem(found)
    };
    if let Some(allow) = allow {
        dressed.headers_mut().insert(header::ALLOW, allow);
    }
    dressed
}
