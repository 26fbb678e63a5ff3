//! What every request is held to before a handler sees it.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Redirect, Response};

use super::Access;
use super::users::Role;
use crate::api::{Refusal, is_for_programs};

/// Where nothing but our own style, script and pictures is loaded, and nobody frames us.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; \
     connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Who asks.
#[derive(Debug, Clone)]
pub(in crate::api) struct Caller {
    /// Name in the users file; none where nobody has to sign in.
    pub(in crate::api) name: Option<String>,
    pub(in crate::api) role: Role,
    /// What a form has to bring along; none for programs, whose token no browser sends by itself.
    pub(in crate::api) csrf: Option<String>,
}

impl Caller {
    /// How the ledger names what this caller does.
    pub(in crate::api) fn actor(&self) -> String {
        let process = crate::serve::actor("api");
        match &self.name {
            Some(name) => format!("{name} by {process}"),
            None => process,
        }
    }

    /// Checks that a form was made for this caller's session.
    ///
    /// # Errors
    /// [`Refusal::Forbidden`] where it was not.
    pub(in crate::api) fn check_form(&self, token: &str) -> Result<(), Refusal> {
        if self.csrf.as_deref() == Some(token) {
            return Ok(());
        }
        Err(Refusal::Forbidden("the form is not of this session: load the page again"))
    }
}

/// Lets requests of callers pass that have the role, and tells handlers who they are.
pub(in crate::api) async fn require(
    State((access, needed)): State<(Arc<Access>, Role)>,
    mut request: Request,
    next: Next,
) -> Response {
    let is_rest = is_for_programs(request.uri().path());
    match access.caller(request.headers(), request.method(), is_rest) {
        Some(caller) if caller.role.may(needed) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Some(_) => Refusal::Forbidden("your role does not allow this").into_response(),
        None if is_rest => Refusal::Unauthorized.into_response(),
        None if *request.method() == Method::GET => {
            let place = request.uri().path();
            Redirect::to(&format!("/sign-in?next={place}")).into_response()
        }
        None => Redirect::to("/sign-in").into_response(),
    }
}

/// Refuses what a browser sends for a page of another site, and requests under a name that is not ours.
pub(in crate::api) async fn check_origin(
    State(access): State<Arc<Access>>,
    request: Request,
    next: Next,
) -> Response {
    let headers = request.headers();
    if !access.is_own_host(headers) {
        return Refusal::Forbidden("this host name is not served here").into_response();
    }
    let is_safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if !is_safe && !access.is_own_origin(headers) {
        return Refusal::Forbidden("the request comes from another site's page").into_response();
    }
    next.run(request).await
}

/// Adds what keeps browsers from doing more with an answer than showing it.
pub(in crate::api) async fn headers(request: Request, next: Next) -> Response {
    let is_static = request.uri().path().starts_with("/static/");
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // With no-referrer browsers say Origin: null of our own forms too, which check_origin could not tell apart.
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let caching = if is_static { "no-cache" } else { "no-store" };
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static(caching));
    response
}

impl Access {
    /// Who asks: the owner of a token, or of a session. A session alone changes nothing through REST: its cookie comes
    /// with every request of the browser, and REST has no forms to protect it with.
    fn caller(&self, headers: &HeaderMap, method: &Method, is_rest: bool) -> Option<Caller> {
        let Some(users) = &self.users else {
            let csrf = Some(self.local_csrf.clone());
            return Some(Caller { name: None, role: Role::Admin, csrf });
        };
        if let Some(token) = bearer(headers) {
            let known = users.program(token)?;
            return Some(Caller { name: Some(known.name), role: known.role, csrf: None });
        }
        if is_rest && *method != Method::GET {
            return None;
        }
        let session = self.sessions.find(self.session_name(headers)?, Instant::now())?;
        Some(Caller {
            name: Some(session.person.name),
            role: session.person.role,
            csrf: Some(session.csrf),
        })
    }

    /// What the browser says its session is called.
    pub(super) fn session_name<'h>(&self, headers: &'h HeaderMap) -> Option<&'h str> {
        let cookies = headers.get_all(header::COOKIE).iter();
        let mut pairs =
            cookies.filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(';'));
        pairs.find_map(|pair| {
            let (name, value) = pair.trim().split_once('=')?;
            (name == self.cookie_name()).then_some(value)
        })
    }

    /// Where nobody signs in, a page of another site must not reach us under a name that it points at this machine.
    fn is_own_host(&self, headers: &HeaderMap) -> bool {
        if self.users.is_some() {
            return true;
        }
        let Some(host) = headers.get(header::HOST).and_then(|value| value.to_str().ok()) else {
            return true;
        };
        if self.public_origin.as_deref().is_some_and(|origin| host_of(origin) == host) {
            return true;
        }
        let name = host.rsplit_once(':').map_or(host, |(name, port)| {
            if port.bytes().all(|b| b.is_ascii_digit()) { name } else { host }
        });
        let name = name.trim_start_matches('[').trim_end_matches(']');
        name.eq_ignore_ascii_case("localhost")
            || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// Browsers say where a request comes from; programs say nothing.
    fn is_own_origin(&self, headers: &HeaderMap) -> bool {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        if text("sec-fetch-site").is_some_and(|site| !matches!(site, "same-origin" | "none")) {
            return false;
        }
        let Some(origin) = headers.get(header::ORIGIN) else { return true };
        let Ok(origin) = origin.to_str() else { return false };
        if let Some(public) = &self.public_origin
            && origin.eq_ignore_ascii_case(public)
        {
            return true;
        }
        text("host").is_some_and(|host| host_of(origin).eq_ignore_ascii_case(host))
    }
}

fn host_of(origin: &str) -> &str {
    origin.split_once("://").map_or("", |(_, host)| host)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}
