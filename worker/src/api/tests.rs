//! Requests to the router, without a socket.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, StatusCode, header};
use axum::response::Response;
use metrics_exporter_prometheus::PrometheusBuilder;
use prosector_storage::{Spool, SpoolOptions, Store};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use super::access::Access;
use super::{Door, Facts, Pictures, rest, router};
use crate::config::{self, Packs};
use crate::open_packs::OpenPacks;
use crate::protocol::LiveProtocols;
use crate::queue::Queue;

/// A service behind no socket, and the folder with its data.
pub(super) struct Site {
    _folder: TempDir,
    _committing: JoinSet<()>,
    router: Router,
    pub(super) store: Store,
}

impl Site {
    /// A service whose users file has this text; none: nobody signs in.
    pub(super) async fn new(users: Option<&str>) -> Self {
        Self::with(users, None).await
    }

    pub(super) async fn with(users: Option<&str>, public_origin: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config::load(None, Packs::NotNeeded).unwrap().config;
        config.api.public_origin = public_origin.map(str::to_owned);
        if let Some(users) = users {
            let path = folder.path().join("users.toml");
            std::fs::write(&path, users).unwrap();
            config.api.users_file = Some(path);
        }
        let url = format!("sqlite://{}/store.db", folder.path().display());
        let store = Store::connect(&url, "test").await.unwrap();
        store.migrate().await.unwrap();
        let url = format!("file://{}/spool", folder.path().display());
        let spool = Spool::open(&url, SpoolOptions { reserve_bytes: 0 }).await.unwrap();
        let (door, committer) = Door::new(&config.listener, &config.api, &store, &spool);
        let mut committing = JoinSet::new();
        committing.spawn(committer.run());
        let facts = Facts {
            door: Arc::new(door),
            store: store.clone(),
            spool,
            queue: Queue::at("embedded:").unwrap(),
            packs: Arc::new(OpenPacks::new(config.model.packs.clone())),
            access: Access::new(&config.api).unwrap(),
            protocols: LiveProtocols::new(config.protocols.clone()),
            config: Arc::new(config),
            pictures: Arc::new(Pictures::default()),
            metrics: Arc::new(PrometheusBuilder::new().build_recorder().handle()),
        };
        Self { _folder: folder, _committing: committing, router: router(facts), store }
    }

    pub(super) async fn send(&self, request: Request<Body>) -> Response {
        self.router.clone().oneshot(request).await.unwrap()
    }

    pub(super) async fn get(&self, path: &str) -> Response {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }
}

/// A request with a form, as a browser sends it.
pub(super) fn form(path: &str) -> axum::http::request::Builder {
    Request::post(path).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
}

pub(super) async fn text(response: Response) -> String {
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    String::from_utf8_lossy(&body).into_owned()
}

async fn problem(response: Response) -> Value {
    let kind = response.headers()[header::CONTENT_TYPE].clone();
    assert_eq!(kind, "application/problem+json");
    serde_json::from_str(&text(response).await).unwrap()
}

#[test]
fn the_description_has_every_operation_and_no_other() {
    let described: Value = serde_json::from_str(include_str!("openapi.json")).unwrap();
    let mut in_description = BTreeSet::new();
    for (path, item) in described["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            in_description.insert((path.clone(), method.to_ascii_uppercase()));
        }
    }

    let in_router: BTreeSet<_> = rest::operations()
        .into_iter()
        .map(|operation| (operation.path.to_owned(), operation.method.to_string()))
        .collect();

    assert_eq!(in_description, in_router);
}

#[tokio::test]
async fn every_operation_answers_at_its_place() {
    let site = Site::new(None).await;

    for operation in rest::operations() {
        let path = operation
            .path
            .replace("{id}", "00000000-0000-0000-0000-000000000000")
            .replace("{uid}", "1.2.3")
            .replace("{what}", "studies");
        let request = Request::builder().method(operation.method.clone()).uri(&path);
        let response = site.send(request.body(Body::empty()).unwrap()).await;

        let status = response.status();
        let said = text(response).await;
        assert_ne!(status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
        assert!(!status.is_server_error(), "{path}: {status} {said}");
        assert!(!said.contains("there is nothing here"), "{path}: {said}");
    }
}

#[tokio::test]
async fn programs_get_problems_and_people_get_pages() {
    let site = Site::new(None).await;

    for (path, status) in [
        ("/api/v1/nothing", 404),
        ("/api/v1/studies/1.2.3", 404),
        ("/api/v1/studies/x", 400),
        ("/api/v1/studies?limit=many", 400),
        ("/api/v1/studies?colour=red", 400),
        ("/api/v1/jobs/00000000-0000-0000-0000-000000000000/preview", 404),
    ] {
        let response = site.get(path).await;
        assert_eq!(response.status(), status, "{path}");
        let found = problem(response).await;
        assert_eq!(found["status"], status, "{path}");
        assert_eq!(found["type"], "about:blank");
        assert!(!found["detail"].as_str().unwrap().is_empty(), "{path}: {found}");
    }
    let response = site.get("/studies/1.2.3").await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    assert!(text(response).await.contains("there is no such study"));
}

#[tokio::test]
async fn an_order_says_what_is_wrong_with_it() {
    let site = Site::new(None).await;
    let order = |order: Value| {
        let request =
            Request::post("/api/v1/jobs").header(header::CONTENT_TYPE, "application/json");
        site.send(request.body(Body::from(order.to_string())).unwrap())
    };

    for (wanted, status, words) in [
        (
            json!({ "series_instance_uid": "1.2.3", "targets": ["liver"] }),
            404,
            "nothing was received",
        ),
        (json!({ "series_instance_uid": "x", "targets": ["liver"] }), 400, "not a UID"),
        (json!({ "series_instance_uid": "1.2.3", "targets": [] }), 422, "name 1 to"),
        (json!({ "series_instance_uid": "1.2.3", "targets": ["@nothing"] }), 422, "no set"),
        (json!({ "series_instance_uid": "1.2.3", "targets": ["a\nb"] }), 422, "control character"),
        (
            json!({ "series_instance_uid": "1.2.3", "targets": ["liver"], "model": "../../etc" }),
            422,
            "no model pack",
        ),
        (
            json!({ "series_instance_uid": "1.2.3", "targets": ["liver"], "destinations": ["moon"] }),
            422,
            "no destination",
        ),
        (
            json!({ "series_instance_uid": "1.2.3", "targets": ["liver"], "priority": "now" }),
            422,
            "stat, urgent",
        ),
    ] {
        let response = order(wanted.clone()).await;
        assert_eq!(response.status(), status, "{wanted}");
        let found = problem(response).await;
        assert!(found["detail"].as_str().unwrap().contains(words), "{wanted}: {found}");
    }
}

#[tokio::test]
async fn every_answer_keeps_browsers_on_a_short_lead() {
    let site = Site::new(None).await;

    for path in ["/", "/static/page.css", "/api/v1/jobs", "/nothing", "/health/live"] {
        let response = site.get(path).await;
        let headers = response.headers();
        let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
        assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff", "{path}");
        assert_eq!(headers[header::REFERRER_POLICY], "same-origin", "{path}");
        assert!(headers.contains_key(header::CACHE_CONTROL), "{path}");
    }
    assert_eq!(site.get("/").await.headers()[header::CACHE_CONTROL], "no-store");
}

#[tokio::test]
async fn pages_hold_no_script_or_style_of_their_own() {
    let site = Site::new(None).await;

    for path in ["/", "/jobs", "/deliveries", "/protocols", "/audit", "/sign-in"] {
        let response = site.get(path).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        let page = text(response).await;
        assert!(!page.contains("style=") && !page.contains("<style"), "{path}");
        assert!(!page.contains("<script>") && !page.contains(" onclick"), "{path}");
    }
}

#[test]
fn methods_that_change_something_are_for_operators_and_auditors() {
    use super::Role;

    for operation in rest::operations() {
        let is_post = operation.method == Method::POST;
        let is_viewers = matches!(operation.needed, None | Some(Role::Viewer));
        assert!(!(is_post && is_viewers), "{}", operation.path);
    }
}
