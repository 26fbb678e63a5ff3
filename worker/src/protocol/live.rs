//! The protocols in force, which may change while the service runs.

use std::sync::{Arc, PoisonError, RwLock};

use super::Protocol;

/// The protocols in force. A reader keeps the list that it got: one decision is never made by two lists.
#[derive(Debug, Clone)]
pub(crate) struct LiveProtocols(Arc<RwLock<Arc<[Protocol]>>>);

impl LiveProtocols {
    /// The protocols to begin with.
    pub(crate) fn new(protocols: Vec<Protocol>) -> Self {
        Self(Arc::new(RwLock::new(protocols.into())))
    }

    /// The protocols in force now.
    pub(crate) fn get(&self) -> Arc<[Protocol]> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts other protocols in force, all at once.
    pub(crate) fn replace(&self, protocols: Vec<Protocol>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = protocols.into();
    }
}
