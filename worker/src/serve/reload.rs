//! Protocols read again while the service runs: on SIGHUP, and when their files change.
//!
//! A new list is in force all at once or not at all. What is wrong with it is logged and recorded, and the old list
//! serves on. Everything else in the site file takes effect at the next start.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};
use prosector_storage::{Event, EventKind, Sha256Digest, Store};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::{self, Config, Packs};
use crate::open_packs::OpenPacks;
use crate::protocol::{LiveProtocols, Protocol, rules_of};

/// How often files are looked at. A change is read once it has been the same for two looks.
const LOOK: Duration = Duration::from_secs(1);

/// Keeps the protocols in force up to date.
#[derive(Debug)]
pub(super) struct Reloader {
    pub(super) store: Store,
    pub(super) config: Arc<Config>,
    pub(super) packs: Arc<OpenPacks>,
    pub(super) protocols: LiveProtocols,
}

/// What tells one state of the files from another.
type Fingerprint = Vec<(PathBuf, u64, Option<SystemTime>)>;

impl Reloader {
    /// Reloads until `cancel`.
    ///
    /// # Errors
    /// When signals cannot be watched.
    pub(super) async fn run(self, cancel: CancellationToken) -> Result<()> {
        let mut hangup = signal(SignalKind::hangup()).context("watch for SIGHUP")?;
        let mut look = tokio::time::interval(LOOK);
        // Nothing counts as read yet: files may have changed while the service was being built.
        let mut read = Fingerprint::new();
        let mut changed = read.clone();
        loop {
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                _ = hangup.recv() => {
                    tracing::info!("SIGHUP: reading protocols again");
                    read = self.fingerprint();
                    self.reload_or_refuse().await;
                }
                _ = look.tick(), if self.config.routing.watch => {
                    let now = self.fingerprint();
                    if now != read && now == changed {
                        read.clone_from(&now);
                        self.reload_or_refuse().await;
                    }
                    changed = now;
                }
            }
        }
    }

    fn fingerprint(&self) -> Fingerprint {
        let mut files: Vec<PathBuf> = self.config.file.iter().cloned().collect();
        if let Some(folder) = &self.config.routing.folder {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            files.extend(entries.map(|entry| entry.path()));
        }
        files.sort();
        files.into_iter().map(|file| stamp(&file)).collect()
    }

    async fn reload_or_refuse(&self) {
        match self.reload().await {
            Ok(true) => {
                metrics::counter!("prosector_protocol_reloads_total", "outcome" => "loaded")
                    .increment(1);
            }
            Ok(false) => tracing::debug!("protocols read again, nothing in them changed"),
            Err(error) => {
                metrics::counter!("prosector_protocol_reloads_total", "outcome" => "refused")
                    .increment(1);
                tracing::error!(
                    error = format!("{error:#}"),
                    "protocols refused, the old ones stay in force"
                );
                let event = Event::new(EventKind::ProtocolsRefused).with(json!({
                    "in_force": revision_of(&self.protocols.get()).to_string(),
                }));
                if let Err(error) = self.store.record(event).await {
                    tracing::error!(
                        error = format!("{:#}", anyhow::Error::new(error)),
                        "refused protocols not recorded"
                    );
                }
            }
        }
    }

    /// Puts the protocols of the files in force; false where they are already.
    async fn reload(&self) -> Result<bool> {
        let file = self.config.file.clone();
        let reading = move || config::load(file.as_deref(), Packs::Needed);
        let loaded = tokio::task::spawn_blocking(reading).await.context("reading broke off")??;
        let protocols = loaded.config.protocols.clone();
        let revision = revision_of(&protocols);
        if revision == revision_of(&self.protocols.get()) {
            return Ok(false);
        }
        self.check_destinations(&protocols)?;
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        if !loaded.config.is_same_but_for_protocols(&self.config) {
            tracing::warn!("other sections changed, too: they take effect at the next start");
        }
        self.packs.open_all(&protocols)?;
        for protocol in &protocols {
            self.store.register_protocol(&protocol.revision()).await?;
        }
        self.store.set_protocol_rules(&rules_of(&protocols)).await?;
        let detail = json!({ "protocols": protocols.len(), "revision": revision.to_string() });
        self.store.record(Event::new(EventKind::ProtocolsLoaded).with(detail)).await?;
        tracing::info!(protocols = protocols.len(), revision = %revision, "protocols in force");
        self.protocols.replace(protocols);
        Ok(true)
    }

    /// Destinations are served by tasks that began with the service.
    fn check_destinations(&self, protocols: &[Protocol]) -> Result<()> {
        let served: HashSet<&str> =
            self.config.destinations.iter().map(|d| d.name.as_str()).collect();
        for protocol in protocols {
            for destination in &protocol.destinations {
                if !served.contains(destination.as_str()) {
                    bail!(
                        "protocol {}: destination {destination:?} is new; restart the service",
                        protocol.name
                    );
                }
            }
        }
        Ok(())
    }
}

/// What identifies a list of protocols.
fn revision_of(protocols: &[Protocol]) -> Sha256Digest {
    let revisions: Vec<String> =
        protocols.iter().map(|protocol| protocol.revision().sha256.to_string()).collect();
    Sha256Digest::of(revisions.join("\n").as_bytes())
}

fn stamp(file: &Path) -> (PathBuf, u64, Option<SystemTime>) {
    let metadata = std::fs::metadata(file).ok();
    let size = metadata.as_ref().map_or(0, std::fs::Metadata::len);
    (file.to_owned(), size, metadata.and_then(|metadata| metadata.modified().ok()))
}
