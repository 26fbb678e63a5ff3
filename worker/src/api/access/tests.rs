//! A test for each rule of signing in, sessions, roles, tokens and forms.

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use axum::response::Response;
use prosector_storage::{EventFilter, EventKind};

use super::password::{hash_password, new_token, token_digest};
use super::session::Sessions;
use super::users::{Known, Role, Users};
use crate::api::tests::{Site, form, text};

const PASSWORD: &str = "correct horse battery";
const JOB: &str = "00000000-0000-0000-0000-000000000000";

fn users() -> String {
    let hash = hash_password(PASSWORD).unwrap();
    ["viewer", "operator", "auditor", "admin"]
        .map(|role| {
            format!(
                "[[user]]\nname = \"{role}\"\nrole = \"{role}\"\npassword_hash = \"{hash}\"\n\
                 [[token]]\nname = \"{role}-program\"\nrole = \"{role}\"\nsha256 = \"{}\"\n",
                token_digest(&format!("token of {role}"))
            )
        })
        .concat()
}

async fn sign_in(site: &Site, name: &str, password: &str, cookie: &str) -> Response {
    let body = format!("name={name}&password={}&next=%2Fjobs", password.replace(' ', "+"));
    site.send(form("/sign-in").header(header::COOKIE, cookie).body(Body::from(body)).unwrap()).await
}

/// The cookie that a browser would send back.
fn cookie(response: &Response) -> String {
    let set = response.headers()[header::SET_COOKIE].to_str().unwrap();
    set.split(';').next().unwrap().to_owned()
}

async fn page(site: &Site, path: &str, cookie: &str) -> Response {
    site.send(Request::get(path).header(header::COOKIE, cookie).body(Body::empty()).unwrap()).await
}

/// The proof of its session that a page carries.
async fn csrf(site: &Site, cookie: &str) -> String {
    let page = text(page(site, "/jobs", cookie).await).await;
    let rest = page.split("name=\"csrf\" value=\"").nth(1).unwrap();
    rest.split('"').next().unwrap().to_owned()
}

#[tokio::test]
async fn nobody_gets_in_without_signing_in() {
    let site = Site::new(Some(&users())).await;

    for path in ["/", "/jobs", "/deliveries", "/protocols", "/audit"] {
        let response = site.get(path).await;
        assert_eq!(response.status(), StatusCode::SEE_OTHER, "{path}");
        assert_eq!(response.headers()[header::LOCATION], format!("/sign-in?next={path}"));
    }
    for path in ["/api/v1/jobs", "/api/v1/events", "/metrics"] {
        let response = site.get(path).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(response.headers()[header::WWW_AUTHENTICATE], "Bearer", "{path}");
    }
    for path in ["/health/live", "/health/ready", "/static/page.css", "/api/v1/openapi.json"] {
        assert_eq!(site.get(path).await.status(), StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn a_password_opens_a_session_and_the_ledger_knows() {
    let site = Site::new(Some(&users())).await;

    let response = sign_in(&site, "viewer", PASSWORD, "").await;

    assert_eq!(response.status(), StatusCode::SEE_OTHER);
    assert_eq!(response.headers()[header::LOCATION], "/jobs");
    let cookie = cookie(&response);
    assert_eq!(page(&site, "/jobs", &cookie).await.status(), StatusCode::OK);
    let filter = EventFilter { kind: Some(EventKind::SignedIn), ..EventFilter::default() };
    let events = site.store.events(&filter, 10).await.unwrap();
    assert_eq!(events[0].event.detail["user"], "viewer");
}

#[tokio::test]
async fn a_wrong_password_and_a_wrong_name_get_the_same_answer_and_no_cookie() {
    let site = Site::new(Some(&users())).await;

    let wrong_password = sign_in(&site, "viewer", "incorrect horse battery", "").await;
    let wrong_name = sign_in(&site, "nobody", PASSWORD, "").await;

    assert_eq!(wrong_password.status(), StatusCode::UNAUTHORIZED);
    assert!(!wrong_password.headers().contains_key(header::SET_COOKIE));
    assert_eq!(wrong_name.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(text(wrong_password).await, text(wrong_name).await);
    let filter = EventFilter { kind: Some(EventKind::SignInRefused), ..EventFilter::default() };
    let events = site.store.events(&filter, 10).await.unwrap();
    assert_eq!(events[0].event.detail["user"], "viewer");
    assert!(events[1].event.detail["user"].is_null(), "a mistyped name may be a password");
}

#[tokio::test]
async fn the_sixth_wrong_password_in_a_row_makes_the_right_one_wait() {
    let site = Site::new(Some(&users())).await;
    for _ in 0..5 {
        sign_in(&site, "admin", "incorrect horse battery", "").await;
    }

    let right = sign_in(&site, "admin", PASSWORD, "").await;
    let other = sign_in(&site, "viewer", PASSWORD, "").await;

    assert_eq!(right.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(other.status(), StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn the_cookie_is_out_of_reach_of_scripts_and_of_other_sites() {
    let plain = Site::new(Some(&users())).await;
    let over_tls = Site::with(Some(&users()), Some("https://prosector.example")).await;

    let response = sign_in(&plain, "viewer", PASSWORD, "").await;
    let plain = response.headers()[header::SET_COOKIE].to_str().unwrap().to_owned();
    let response = sign_in(&over_tls, "viewer", PASSWORD, "").await;
    let secure = response.headers()[header::SET_COOKIE].to_str().unwrap().to_owned();

    for cookie in [&plain, &secure] {
        assert!(cookie.contains("; HttpOnly") && cookie.contains("; SameSite=Lax"), "{cookie}");
        assert!(cookie.contains("; Path=/") && !cookie.contains("Domain"), "{cookie}");
    }
    assert!(secure.starts_with("__Host-") && secure.contains("; Secure"), "{secure}");
}

#[tokio::test]
async fn signing_in_again_gives_a_new_session_and_ends_the_old_one() {
    let site = Site::new(Some(&users())).await;
    let first = cookie(&sign_in(&site, "viewer", PASSWORD, "").await);

    let second = cookie(&sign_in(&site, "viewer", PASSWORD, &first).await);

    assert_ne!(first, second);
    assert_eq!(page(&site, "/", &first).await.status(), StatusCode::SEE_OTHER);
    assert_eq!(page(&site, "/", &second).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_session_that_nobody_began_is_none() {
    let site = Site::new(Some(&users())).await;

    let response = page(&site, "/", &format!("prosector={}", new_token().unwrap())).await;

    assert_eq!(response.status(), StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn signing_out_ends_the_session_for_who_brings_its_proof() {
    let site = Site::new(Some(&users())).await;
    let cookie = cookie(&sign_in(&site, "viewer", PASSWORD, "").await);
    let proof = csrf(&site, &cookie).await;
    let sign_out = |proof: &str| {
        let request = form("/sign-out").header(header::COOKIE, &cookie);
        site.send(request.body(Body::from(format!("csrf={proof}"))).unwrap())
    };

    assert_eq!(sign_out("guessed").await.status(), StatusCode::FORBIDDEN);
    assert_eq!(page(&site, "/", &cookie).await.status(), StatusCode::OK);
    assert_eq!(sign_out(&proof).await.status(), StatusCode::SEE_OTHER);
    assert_eq!(page(&site, "/", &cookie).await.status(), StatusCode::SEE_OTHER);
}

#[test]
fn a_session_ends_after_silence_and_after_half_a_day() {
    let minute = Duration::from_mins(1);
    let sessions = Sessions::new(30 * minute);
    let person = || Known { name: "ada".to_owned(), role: Role::Viewer };
    let start = Instant::now();
    let silent = sessions.begin(person(), None, start).unwrap();
    let busy = sessions.begin(person(), None, start).unwrap();

    assert!(sessions.find(&silent, start + 29 * minute).is_some());
    assert!(sessions.find(&silent, start + 59 * minute).is_none());
    for count in 1..36 {
        assert!(sessions.find(&busy, start + count * 20 * minute).is_some(), "{count}");
    }
    assert!(sessions.find(&busy, start + 36 * 20 * minute).is_none());
}

#[tokio::test]
async fn roles_open_what_they_are_for() {
    let site = Site::new(Some(&users())).await;
    let ask = async |role: &str, method: &str, path: &str| {
        let request = Request::builder().method(method).uri(path);
        let request = request.header(header::AUTHORIZATION, format!("Bearer token of {role}"));
        let request = request.header(header::CONTENT_TYPE, "application/json");
        site.send(request.body(Body::from("{\"words\":\"1.2\"}")).unwrap()).await.status()
    };
    let retry = format!("/api/v1/jobs/{JOB}/retry");

    for (role, may_operate, may_audit) in [
        ("viewer", false, false),
        ("operator", true, false),
        ("auditor", false, true),
        ("admin", true, true),
    ] {
        assert_eq!(ask(role, "GET", "/api/v1/jobs").await, StatusCode::OK, "{role}");
        assert_eq!(ask(role, "GET", "/metrics").await, StatusCode::OK, "{role}");
        let expected = if may_operate { StatusCode::NOT_FOUND } else { StatusCode::FORBIDDEN };
        assert_eq!(ask(role, "POST", &retry).await, expected, "{role}");
        let expected = if may_audit { StatusCode::OK } else { StatusCode::FORBIDDEN };
        assert_eq!(ask(role, "GET", "/api/v1/events").await, expected, "{role}");
        assert_eq!(ask(role, "POST", "/api/v1/why").await, expected, "{role}");
        assert_eq!(ask(role, "GET", "/audit").await, expected, "{role}");
    }
    assert_eq!(ask("nobody", "GET", "/api/v1/jobs").await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_session_changes_nothing_through_rest() {
    let site = Site::new(Some(&users())).await;
    let cookie = cookie(&sign_in(&site, "admin", PASSWORD, "").await);
    let request = Request::post(format!("/api/v1/jobs/{JOB}/retry"));

    let response =
        site.send(request.header(header::COOKIE, &cookie).body(Body::empty()).unwrap()).await;

    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(page(&site, "/api/v1/jobs", &cookie).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_form_counts_with_the_proof_of_its_own_session_alone() {
    let site = Site::new(Some(&users())).await;
    let own = cookie(&sign_in(&site, "operator", PASSWORD, "").await);
    let other = cookie(&sign_in(&site, "admin", PASSWORD, "").await);
    let retry = |proof: String| {
        let request = form(&format!("/jobs/{JOB}/retry")).header(header::COOKIE, &own);
        site.send(request.body(Body::from(format!("csrf={proof}"))).unwrap())
    };

    assert_eq!(retry(String::new()).await.status(), StatusCode::FORBIDDEN);
    assert_eq!(retry(csrf(&site, &other).await).await.status(), StatusCode::FORBIDDEN);
    // The proof holds; the job is what is not there.
    assert_eq!(retry(csrf(&site, &own).await).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_another_site_sends_is_refused() {
    let site = Site::new(None).await;
    let path = format!("/api/v1/jobs/{JOB}/retry");
    let send = |name: &'static str, value: &'static str| {
        let request =
            Request::post(&path).header(header::HOST, "127.0.0.1:8080").header(name, value);
        site.send(request.body(Body::empty()).unwrap())
    };

    for (name, value) in [
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("origin", "http://127.0.0.1:9999"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        assert_eq!(send(name, value).await.status(), StatusCode::FORBIDDEN, "{name}: {value}");
    }
    for (name, value) in [("origin", "http://127.0.0.1:8080"), ("sec-fetch-site", "same-origin")] {
        assert_eq!(send(name, value).await.status(), StatusCode::NOT_FOUND, "{name}: {value}");
    }
}

#[tokio::test]
async fn where_nobody_signs_in_no_foreign_name_is_served() {
    let site = Site::new(None).await;
    let ask = async |host: &str| {
        site.send(Request::get("/").header(header::HOST, host).body(Body::empty()).unwrap())
            .await
            .status()
    };

    for host in ["localhost:8080", "127.0.0.1:8080", "127.0.0.1", "[::1]:8080"] {
        assert_eq!(ask(host).await, StatusCode::OK, "{host}");
    }
    for host in ["rebound.example:8080", "192.0.2.1:8080", "localhost.evil.example"] {
        assert_eq!(ask(host).await, StatusCode::FORBIDDEN, "{host}");
    }
}

#[tokio::test]
async fn after_signing_in_nobody_is_sent_to_another_site() {
    let site = Site::new(Some(&users())).await;

    for next in ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:1"] {
        let body = format!("name=viewer&password={}&next={next}", PASSWORD.replace(' ', "+"));
        let response = site.send(form("/sign-in").body(Body::from(body)).unwrap()).await;
        assert_eq!(response.headers()[header::LOCATION], "/", "{next}");
    }
}

#[test]
fn a_users_file_says_what_is_wrong_and_shows_no_hash() {
    let hash = hash_password(PASSWORD).unwrap();
    let person = |name: &str| {
        format!("[[user]]\nname = \"{name}\"\nrole = \"viewer\"\npassword_hash = \"{hash}\"\n")
    };

    for (text, words) in [
        (String::new(), "neither [[user]] nor [[token]]"),
        (person("a b"), "is no name"),
        (person("ada") + &person("ada"), "twice"),
        (person("ada").replace("viewer", "king"), "unknown variant"),
        (person("ada").replace("argon2id", "bcrypt"), "no Argon2id hash"),
        ("[[token]]\nname = \"t\"\nrole = \"viewer\"\nsha256 = \"x\"\n".to_owned(), "no digest"),
        (person("ada") + "pasword = 1\n", "unknown field"),
    ] {
        let message = Users::parse(&text).unwrap_err();
        assert!(message.contains(words), "{message}");
        assert!(!message.contains("$argon2"), "{message}");
    }
}

#[test]
fn a_short_password_is_not_hashed() {
    assert!(hash_password("eleven char").is_err());
    assert!(hash_password(&"x".repeat(2000)).is_err());
    assert!(hash_password(PASSWORD).unwrap().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
}
