//! Audit messages of DICOM PS3.15 A.5 (IHE ATNA), from the ledger to the hospital's audit repository.
//!
//! The ledger is the outbox: [`Forwarder`] follows it, renders what it finds and sends it over syslog with TLS. Patient
//! identifiers are read when a message is rendered, where the configuration allows it, and kept nowhere. What happens to
//! the forwarder itself is logged and counted, and never becomes an entry: a repository that is away must not make more
//! to tell it.

mod codes;
mod message;
mod render;
mod syslog;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use prosector_storage::{AuditBatch, Store};
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::config::{AuditSyslog, Config, Destination};
use message::Author;
use syslog::Repository;

/// How often the ledger is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Entries of the ledger taken at a time.
const BATCH: u32 = 1000;
/// How long a batch stays with the process that took it. One that takes longer is sent by another process, too, under the
/// same numbers.
const CLAIM: Duration = Duration::from_secs(15);
/// How long the last messages of a process that ends may take.
const FAREWELL: Duration = Duration::from_secs(5);
/// Waits for a repository that is away.
const BACKOFF: Backoff =
    Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(30) };

/// Tells the audit repository what the ledger tells.
#[derive(Debug, Clone)]
pub(crate) struct Forwarder {
    store: Store,
    repository: Arc<Repository>,
    author: Arc<Author>,
    patient_identifiers: bool,
}

impl Forwarder {
    /// A forwarder to the repository of the configuration, where there is one; its messages begin with the next entry of
    /// the ledger, or where the last process left off.
    ///
    /// # Errors
    /// When the store does not answer.
    pub(crate) async fn new(store: Store, config: &Config) -> Result<Option<Self>> {
        let Some(syslog) = &config.audit.syslog else { return Ok(None) };
        store.begin_forwarding().await.context("begin to forward the ledger")?;
        Ok(Some(Self::to(store, syslog, config.listener.ae_title.as_str(), &config.destinations)))
    }

    fn to(store: Store, syslog: &AuditSyslog, ae_title: &str, known: &[Destination]) -> Self {
        let author = Author {
            ae_title: ae_title.to_owned(),
            source_id: syslog.source_id.clone(),
            enterprise_site_id: syslog.enterprise_site_id.clone(),
            identifies_patients: syslog.patient_identifiers,
            destinations: known.iter().map(message::receiver).collect(),
        };
        let repository = Repository {
            address: syslog.address.clone(),
            tls: syslog.tls.clone(),
            timeout: syslog.timeout,
        };
        Self {
            store,
            repository: Arc::new(repository),
            author: Arc::new(author),
            patient_identifiers: syslog.patient_identifiers,
        }
    }

    /// Forwards until `cancel`.
    ///
    /// # Errors
    /// Never: a store or repository that is away is waited for.
    pub(crate) async fn run(self, cancel: CancellationToken) -> Result<()> {
        let mut failures = 0;
        loop {
            // Whatever was sent and not confirmed is sent again, under the same numbers.
            let forwarded = tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                forwarded = self.forward() => forwarded,
            };
            let pause = match forwarded {
                Ok(behind) => {
                    if failures > 0 {
                        tracing::info!("the audit repository takes messages again");
                    }
                    failures = 0;
                    if behind > 0 { Duration::ZERO } else { LOOK }
                }
                Err(error) => {
                    metrics::counter!("prosector_audit_failures_total").increment(1);
                    if failures == 0 {
                        tracing::warn!(
                            error = format!("{error:#}"),
                            "audit messages wait in the ledger"
                        );
                    }
                    failures += 1;
                    BACKOFF.after(failures, "audit repository")
                }
            };
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Sends what is left, for as long as a process that ends can wait; the rest is for the next one.
    pub(crate) async fn finish(&self) {
        let rest = async {
            while self.forward().await? > 0 {}
            anyhow::Ok(())
        };
        match tokio::time::timeout(FAREWELL, rest).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(
                error = format!("{error:#}"),
                "the last audit messages wait in the ledger"
            ),
            Err(_) => tracing::warn!("the last audit messages wait in the ledger"),
        }
    }

    /// Forwards one batch, and says how many entries are behind it.
    async fn forward(&self) -> Result<u64> {
        let kinds = message::KINDS;
        let batch = self.store.take_audit_batch(kinds, BATCH, CLAIM, self.patient_identifiers);
        let Some(batch) = batch.await.context("take a batch of the ledger")? else {
            metrics::gauge!("prosector_audit_waiting_entries").set(0.0);
            return Ok(0);
        };
        metrics::gauge!("prosector_audit_waiting_entries")
            .set((batch.behind + batch.entries.len() as u64) as f64);
        let sent = self.send(&batch).await?;
        self.store.confirm_audit_batch(&batch, sent).await.context("confirm a batch")?;
        metrics::gauge!("prosector_audit_waiting_entries").set(batch.behind as f64);
        Ok(batch.behind)
    }

    async fn send(&self, batch: &AuditBatch) -> Result<u64> {
        let messages = message::messages(&batch.entries, &self.author);
        if messages.is_empty() {
            return Ok(0);
        }
        let mut frames = Vec::new();
        for (message, number) in messages.iter().zip(batch.messages_before + 1..) {
            let xml = render::xml(message, &self.author).context("render an audit message")?;
            syslog::frame(message, number, &xml, &mut frames);
        }
        self.repository.send(&frames).await.context("audit.syslog.address")?;
        let sent = messages.len() as u64;
        metrics::counter!("prosector_audit_messages_total").increment(sent);
        Ok(sent)
    }
}
