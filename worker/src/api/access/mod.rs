//! Who may do what: users, roles, sessions, tokens, and the rules that requests are held to.
//!
//! Where no users are configured the port is bound to loopback, and whoever reaches it may do everything; requests that
//! a browser sends for another site's page are refused all the same.

mod gate;
mod password;
mod session;
mod sign_in;
mod users;

use std::sync::Arc;

use anyhow::Result;

use crate::config;

pub(super) use gate::{Caller, check_origin, headers, require};
pub(crate) use password::{hash_password, new_token, token_digest};
pub(super) use sign_in::{form as sign_in_form, sign_in, sign_out};
pub(crate) use users::Role;

use session::Sessions;
use users::Users;

/// Everything that decides who may do what.
#[derive(Debug)]
pub(crate) struct Access {
    /// Who there is; none where nobody has to sign in.
    users: Option<Users>,
    sessions: Sessions,
    /// Scheme and host that browsers see, where a proxy stands in front.
    public_origin: Option<String>,
    /// Proof that a form is ours, where there are no sessions.
    local_csrf: String,
    /// Passwords that are checked at a time: each takes time and memory on purpose.
    checks: tokio::sync::Semaphore,
}

impl Access {
    /// Reads the users that `section` names.
    ///
    /// # Errors
    /// When the file cannot be read or used.
    pub(crate) fn new(section: &config::Api) -> Result<Arc<Self>> {
        let users = section.users_file.as_deref().map(Users::read).transpose()?;
        if users.is_none() {
            tracing::info!("no users are configured: whoever is on this machine may use the page");
        }
        Ok(Arc::new(Self {
            users,
            sessions: Sessions::new(section.session_idle),
            public_origin: section.public_origin.clone(),
            local_csrf: new_token()?,
            checks: tokio::sync::Semaphore::new(2),
        }))
    }

    /// Whether the browser is to send the session's cookie over TLS alone.
    fn is_public_over_tls(&self) -> bool {
        self.public_origin.as_ref().is_some_and(|origin| origin.starts_with("https://"))
    }

    fn cookie_name(&self) -> &'static str {
        // A name that begins with __Host- makes the browser insist on Secure and on this host alone.
        if self.is_public_over_tls() { "__Host-prosector" } else { "prosector" }
    }
}

#[cfg(test)]
mod tests;
