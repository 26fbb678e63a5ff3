//! Model packs that the service has open: each is mapped once and stays.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use prosector_model::Pack;
use prosector_storage::Sha256Digest;

use crate::packs::{self, PackError};
use crate::protocol::Protocol;

/// Packs by name, opened at first use.
#[derive(Debug)]
pub(crate) struct OpenPacks {
    folder: PathBuf,
    open: Mutex<HashMap<String, Arc<Pack>>>,
}

impl OpenPacks {
    /// The packs of `folder`, and the built-in one.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, open: Mutex::default() }
    }

    /// Opens every pack that a job of `protocols` runs.
    ///
    /// # Errors
    /// The first one that cannot be used.
    pub(crate) fn open_all(&self, protocols: &[Protocol]) -> anyhow::Result<()> {
        for protocol in protocols {
            for name in protocol.packs() {
                self.get(name).with_context(|| format!("protocol {}", protocol.name))?;
            }
        }
        Ok(())
    }

    /// The pack called `name`.
    ///
    /// # Errors
    /// [`PackError`].
    pub(crate) fn get(&self, name: &str) -> Result<Arc<Pack>, PackError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pack) = open.get(name) {
            return Ok(Arc::clone(pack));
        }
        let pack = Arc::new(packs::open(&self.folder, name)?);
        open.insert(name.to_owned(), Arc::clone(&pack));
        Ok(pack)
    }
}

/// The digest of a pack as the store keeps it.
pub(crate) fn digest_of(pack: &Pack) -> Sha256Digest {
    Sha256Digest::from(*pack.digest().as_bytes())
}
