//! Sessions: kept in memory, named by digests, ended by silence, by age and by signing out.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use prosector_storage::Sha256Digest;

use super::password::{new_token, token_digest};
use super::users::Known;

/// Longest life of a session, however busy.
const LONGEST: Duration = Duration::from_hours(12);
/// Wrong passwords in a row that a name may have before it waits.
const FREE_FAILURES: u32 = 5;
/// How long it waits then.
const WAIT: Duration = Duration::from_mins(1);
/// Names that are kept under watch; beyond it the oldest are dropped.
const WATCHED: usize = 10_000;

/// A person who has signed in.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) person: Known,
    /// Proof that a form was made for this session.
    pub(super) csrf: String,
    began: Instant,
    used: Instant,
}

/// Everybody who has signed in, and names whose password was wrong of late.
#[derive(Debug)]
pub(super) struct Sessions {
    idle: Duration,
    open: Mutex<HashMap<Sha256Digest, Session>>,
    failures: Mutex<HashMap<String, (u32, Instant)>>,
}

impl Sessions {
    pub(super) fn new(idle: Duration) -> Self {
        Self { idle, open: Mutex::default(), failures: Mutex::default() }
    }

    /// Begins a session under a name that nobody knew before, and ends the one that the browser had.
    pub(super) fn begin(&self, person: Known, old: Option<&str>, now: Instant) -> Result<String> {
        let name = new_token()?;
        let session = Session { person, csrf: new_token()?, began: now, used: now };
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, session| self.is_alive(session, now));
        if let Some(old) = old {
            open.remove(&token_digest(old));
        }
        open.insert(token_digest(&name), session);
        Ok(name)
    }

    /// The session of this name, which lives on by being used.
    pub(super) fn find(&self, name: &str, now: Instant) -> Option<Session> {
        let digest = token_digest(name);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let session = open.get_mut(&digest)?;
        if !self.is_alive(session, now) {
            open.remove(&digest);
            return None;
        }
        session.used = now;
        Some(session.clone())
    }

    pub(super) fn end(&self, name: &str) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&token_digest(name));
    }

    fn is_alive(&self, session: &Session, now: Instant) -> bool {
        now.duration_since(session.used) < self.idle && now.duration_since(session.began) < LONGEST
    }

    /// Whether a password for this name is looked at now.
    pub(super) fn may_try(&self, name: &str, now: Instant) -> bool {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures
            .get(name)
            .is_none_or(|(count, last)| *count < FREE_FAILURES || now.duration_since(*last) >= WAIT)
    }

    /// Notes how it went.
    pub(super) fn note(&self, name: &str, was_right: bool, now: Instant) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if was_right {
            failures.remove(name);
            return;
        }
        if failures.len() >= WATCHED {
            failures.retain(|_, (_, last)| now.duration_since(*last) < WAIT);
        }
        let (count, last) = failures.entry(name.to_owned()).or_insert((0, now));
        *count += 1;
        *last = now;
    }
}
