//! Signing in and out.

use std::sync::LazyLock;
use std::time::Instant;

use askama::Template;
use axum::Form;
use axum::extract::{Extension, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use dicom_types::Phi;
use prosector_storage::{Event, EventKind};
use serde::Deserialize;
use serde_json::json;

use super::password::{hash_password, is_password};
use super::users::{Known, Role};
use super::{Access, Caller};
use crate::api::{Facts, Refusal};

/// A hash that no password fits, so that a name that nobody has takes as long as a wrong password.
static NOBODY: LazyLock<String> =
    LazyLock::new(|| hash_password("nobody has this name").unwrap_or_default());

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignInPage<'a> {
    next: &'a str,
    trouble: &'a str,
}

#[derive(Debug, Deserialize)]
pub(in crate::api) struct Place {
    #[serde(default)]
    next: String,
}

/// What the form brings. The password is typed like an attribute of a patient, so that no log call can print it.
#[derive(Debug, Deserialize)]
pub(in crate::api) struct Credentials {
    name: String,
    password: Secret,
    #[serde(default)]
    next: String,
}

#[derive(Debug)]
struct Secret(Phi<String>);

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Phi::new(text)))
    }
}

#[derive(Debug, Deserialize)]
pub(in crate::api) struct SignOut {
    csrf: String,
}

pub(in crate::api) async fn form(Query(place): Query<Place>) -> Result<Html<String>, Refusal> {
    page(&place.next, "")
}

pub(in crate::api) async fn sign_in(
    State(facts): State<Facts>,
    headers: HeaderMap,
    Form(credentials): Form<Credentials>,
) -> Result<Response, Refusal> {
    let access = &facts.access;
    let Credentials { name, password, next } = credentials;
    let Some(person) = access.person(&name, password.0).await? else {
        // A name that was mistyped may be a password: the ledger gets names of people alone.
        let known = access.users.as_ref().is_some_and(|users| users.person(&name).is_some());
        let detail = json!({ "user": known.then_some(name.as_str()) });
        facts.store.record(Event::new(EventKind::SignInRefused).with(detail)).await?;
        metrics::counter!("prosector_sign_ins_total", "outcome" => "refused").increment(1);
        let page =
            page(&next, "Name and password do not fit, or were wrong too often within a minute.")?;
        return Ok((StatusCode::UNAUTHORIZED, page).into_response());
    };
    let detail = json!({ "user": person.name, "role": person.role.as_str() });
    facts.store.record(Event::new(EventKind::SignedIn).with(detail)).await?;
    metrics::counter!("prosector_sign_ins_total", "outcome" => "accepted").increment(1);
    let old = access.session_name(&headers);
    let session =
        access.sessions.begin(person, old, Instant::now()).map_err(|_| Refusal::Internal)?;
    let mut response = Redirect::to(own_place(&next)).into_response();
    response.headers_mut().insert(header::SET_COOKIE, access.cookie(&session, "")?);
    Ok(response)
}

pub(in crate::api) async fn sign_out(
    State(facts): State<Facts>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Form(form): Form<SignOut>,
) -> Result<Response, Refusal> {
    caller.check_form(&form.csrf)?;
    if let Some(name) = facts.access.session_name(&headers) {
        facts.access.sessions.end(name);
    }
    let mut response = Redirect::to("/sign-in").into_response();
    response.headers_mut().insert(header::SET_COOKIE, facts.access.cookie("", "; Max-Age=0")?);
    Ok(response)
}

impl Access {
    /// The person with this name and password.
    async fn person(&self, name: &str, password: Phi<String>) -> Result<Option<Known>, Refusal> {
        let Some(users) = &self.users else { return Ok(None) };
        let now = Instant::now();
        if !self.sessions.may_try(name, now) {
            return Ok(None);
        }
        let found = users.person(name);
        let (role, hash) = found.clone().unwrap_or_else(|| (Role::Viewer, NOBODY.clone()));
        let _turn = self.checks.acquire().await.map_err(|_| Refusal::Internal)?;
        let is_right = tokio::task::spawn_blocking(move || is_password(password.expose(), &hash))
            .await
            .map_err(|_| Refusal::Internal)?
            && found.is_some();
        self.sessions.note(name, is_right, now);
        Ok(is_right.then(|| Known { name: name.to_owned(), role }))
    }

    fn cookie(&self, value: &str, more: &str) -> Result<HeaderValue, Refusal> {
        let secure = if self.is_public_over_tls() { "; Secure" } else { "" };
        let text =
            format!("{}={value}; Path=/; HttpOnly; SameSite=Lax{secure}{more}", self.cookie_name());
        text.parse().map_err(|_| Refusal::Internal)
    }
}

fn page(next: &str, trouble: &str) -> Result<Html<String>, Refusal> {
    let page = SignInPage { next: own_place(next), trouble };
    page.render().map(Html).map_err(|_| Refusal::Internal)
}

/// A place of ours, never another site.
fn own_place(next: &str) -> &str {
    let is_own = next.starts_with('/')
        && !next.starts_with("//")
        && next.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'\\' | b'?' | b'#'));
    if is_own { next } else { "/" }
}
