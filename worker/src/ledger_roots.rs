//! Signed roots of the ledger on their way out of the database: into a file, and into the log.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use prosector_storage::{RootKey, RootKeyError, RootPublicKey, SignedRoot, Store};
use tokio_util::sync::CancellationToken;

use crate::config;

/// Longest wait between two looks whether a root is due.
const LOOK: Duration = Duration::from_mins(1);

/// Signs a root every so often.
#[derive(Debug)]
pub(crate) struct RootKeeper {
    store: Store,
    audit: config::Audit,
    key: RootKey,
}

impl RootKeeper {
    /// A keeper with the key of the configuration. With the embedded store, a key that is missing is made; with a
    /// server's, which many processes share, it is a person's to make, and nothing is signed until then.
    ///
    /// # Errors
    /// When the key's file cannot be used.
    pub(crate) fn new(store: Store, config: &config::Config) -> Result<Option<Self>> {
        let audit = config.audit.clone();
        let is_embedded = config.store.url.scheme() == "sqlite";
        let key = match open_key(&audit.root_key)? {
            Some(key) => key,
            None if is_embedded => create_key(&audit.root_key)?,
            None => {
                tracing::warn!(
                    "no key at audit.root_key: the ledger's roots are not signed; `prosector audit key` makes one"
                );
                return Ok(None);
            }
        };
        Ok(Some(Self { store, audit, key }))
    }

    /// Signs roots until `cancel`.
    ///
    /// # Errors
    /// Never: a store that is away is waited for.
    pub(crate) async fn run(self, cancel: CancellationToken) -> Result<()> {
        if let Err(error) = self.look_back().await {
            tracing::error!(
                error = format!("{error:#}"),
                "signed roots not compared with the ledger"
            );
        }
        loop {
            if let Err(error) = self.sign_if_due().await {
                tracing::error!(error = format!("{error:#}"), "no root of the ledger signed");
            }
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                () = tokio::time::sleep(self.audit.root_every.min(LOOK)) => {}
            }
        }
    }

    /// Compares the ledger with the last root that left it: one that was cut, or restored from an old dump, does not
    /// have it.
    async fn look_back(&self) -> Result<()> {
        let Some(last) = read_roots(&self.audit.roots)?.pop() else { return Ok(()) };
        let root = last.verify(&[self.key.public_key()])?;
        if !self.store.holds_root(root).await? {
            tracing::error!(
                ledger.seq = root.seq,
                "the ledger does not have the last signed root: it was cut or restored from an old dump; \
                 see `prosector audit verify`"
            );
        }
        Ok(())
    }

    async fn sign_if_due(&self) -> Result<()> {
        let signed = self.store.sign_root(&self.key, self.audit.root_every).await?;
        if let Some(signed) = &signed {
            say(signed);
        }
        take_out(&self.store, &self.audit.roots).await
    }
}

/// Signs a root now, whatever the age of the last one.
///
/// # Errors
/// When there is no key, or when the store does not answer.
pub(crate) async fn sign_now(store: &Store, audit: &config::Audit) -> Result<Option<SignedRoot>> {
    let key = open_key(&audit.root_key)?.with_context(|| {
        format!("no key at audit.root_key {}: run `prosector audit key`", audit.root_key.display())
    })?;
    let signed = store.sign_root(&key, Duration::ZERO).await?;
    if let Some(signed) = &signed {
        say(signed);
    }
    take_out(store, &audit.roots).await?;
    Ok(signed)
}

/// The key of the configuration, made where it is missing.
///
/// # Errors
/// When its file cannot be used.
pub(crate) fn open_or_create_key(audit: &config::Audit) -> Result<RootKey> {
    open_key(&audit.root_key)?.map_or_else(|| create_key(&audit.root_key), Ok)
}

/// The public key of the configuration, where there is one.
///
/// # Errors
/// When its file cannot be used.
pub(crate) fn public_key(audit: &config::Audit) -> Result<Option<RootPublicKey>> {
    Ok(open_key(&audit.root_key)?.map(|key| key.public_key()))
}

fn open_key(path: &Path) -> Result<Option<RootKey>> {
    match RootKey::open(path) {
        Ok(key) => Ok(Some(key)),
        Err(RootKeyError::File { source }) if source.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("audit.root_key: {}", path.display())),
    }
}

fn create_key(path: &Path) -> Result<RootKey> {
    let key =
        RootKey::create(path).with_context(|| format!("audit.root_key: {}", path.display()))?;
    tracing::info!(ledger.public_key = %key.public_key(), "key made that signs roots of the ledger");
    Ok(key)
}

/// Roots of a file, as it stands; none where there is no file.
///
/// # Errors
/// When the file cannot be read, or holds something else.
pub(crate) fn read_roots(path: &Path) -> Result<Vec<SignedRoot>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("roots: {}", path.display())),
    };
    let mut roots = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if !line.trim().is_empty() {
            let root = SignedRoot::from_json(line);
            roots.push(root.with_context(|| format!("{}: line {}", path.display(), index + 1))?);
        }
    }
    Ok(roots)
}

/// Adds to the file what the ledger has signed since its last line.
async fn take_out(store: &Store, path: &Path) -> Result<()> {
    let last = read_roots(path)?.last().map_or(0, |root| root.root.seq);
    let mut lines = String::new();
    for root in store.signed_roots(last).await? {
        lines.push_str(&root.to_json());
        lines.push('\n');
    }
    if lines.is_empty() {
        return Ok(());
    }
    let write = || {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        file.write_all(lines.as_bytes())?;
        file.sync_all()
    };
    write().with_context(|| format!("audit.roots: {}", path.display()))
}

fn say(signed: &SignedRoot) {
    tracing::info!(
        ledger.seq = signed.root.seq,
        ledger.hash = %signed.root.hash,
        ledger.root = signed.to_json(),
        "root of the ledger signed"
    );
}
