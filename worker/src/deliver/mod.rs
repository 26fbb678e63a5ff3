//! The deliverer: results out to their destinations.
//!
//! Every destination has a task of its own while something is due for it, so that a PACS that is down delays only
//! itself.

mod commitment;
mod proof;
mod retention;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use dicom_io::scu::{
    self, AssociateError, InstanceSource, ScuConfig, StoreDisposition, StoreResult,
};
use dicom_io::stow::{self, StowDestination, StowError, StowResult};
use prosector_storage::{
    AfterDeliveryFailure, DeliveryFailure, LeasedDelivery, LocalFiles, ReasonCode, Spool, Store,
};
use time::OffsetDateTime;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(crate) use commitment::take_report;
pub(crate) use retention::Retention;

use crate::backoff::Backoff;
use crate::config::{Destination, DestinationKind, DimseDestination, Leases};

/// How often the store is asked what is due.
const LOOK: Duration = Duration::from_millis(500);
/// Results sent over one association.
const BATCH: u32 = 16;
/// Wait before a destination that nobody knows is looked for again.
const UNKNOWN_DESTINATION_WAIT: Duration = Duration::from_mins(5);
const UNKNOWN_DESTINATION: ReasonCode = ReasonCode::new("unknown_destination");
const UNREACHABLE: ReasonCode = ReasonCode::new("destination_unreachable");
const NOT_TRUSTED: ReasonCode = ReasonCode::new("destination_tls_failed");
const UNAUTHORIZED: ReasonCode = ReasonCode::new("destination_unauthorized");
const TRY_AGAIN: ReasonCode = ReasonCode::new("destination_busy");
const REFUSED: ReasonCode = ReasonCode::new("destination_refused");
const FORM_REFUSED: ReasonCode = ReasonCode::new("form_refused");
const SPOOL: ReasonCode = ReasonCode::new("spool_unavailable");
const FOLDER: ReasonCode = ReasonCode::new("folder_not_written");

/// Sends results until it is told to stop.
#[derive(Debug)]
pub(crate) struct Deliverer {
    pub(crate) store: Store,
    pub(crate) spool: Spool,
    pub(crate) destinations: Arc<[Destination]>,
    /// Name under which leases are taken.
    pub(crate) name: String,
    /// How long deliveries stay in hand without a sign of life.
    pub(crate) leases: Leases,
}

/// How the sending of one result ended.
enum Sent {
    /// Stored, with the status that the destination answered.
    Stored(u16),
    /// Not stored, worth another try.
    TryAgain(ReasonCode, Option<u16>),
    /// Not stored, and not worth another try in this form.
    OtherForm(ReasonCode, Option<u16>),
    /// Not stored, and it never will be.
    Refused(ReasonCode, Option<u16>),
}

impl Deliverer {
    /// Delivers until `cancel`, then lets what is being sent come to its end.
    ///
    /// # Errors
    /// When a destination's task breaks off.
    pub(crate) async fn run(self, cancel: CancellationToken) -> Result<()> {
        let deliverer = Arc::new(self);
        let mut busy: HashSet<String> = HashSet::new();
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                () = cancel.cancelled() => break,
                Some(ended) = tasks.join_next() => {
                    let destination: String = ended.context("a delivery's task broke off")?;
                    busy.remove(&destination);
                    continue;
                }
                () = tokio::time::sleep(LOOK) => {}
            }
            let due = match deliverer.store.due_deliveries().await {
                Ok(due) => due,
                Err(error) => {
                    tracing::error!(
                        error = format!("{:#}", anyhow::Error::new(error)),
                        "cannot look for deliveries"
                    );
                    continue;
                }
            };
            for destination in due.into_iter().map(|due| due.destination) {
                if busy.insert(destination.clone()) {
                    let deliverer = Arc::clone(&deliverer);
                    let cancel = cancel.clone();
                    tasks.spawn(async move {
                        deliverer.deliver_to(&destination, &cancel).await;
                        destination
                    });
                }
            }
        }
        while let Some(ended) = tasks.join_next().await {
            ended.context("a delivery's task broke off")?;
        }
        Ok(())
    }

    /// Sends what is due for one destination, batch after batch.
    async fn deliver_to(&self, name: &str, cancel: &CancellationToken) {
        while !cancel.is_cancelled() {
            let lasting = self.leases.lasting;
            let leased = self.store.lease_deliveries(name, BATCH, &self.name, lasting).await;
            let batch = match leased {
                Ok(batch) if batch.is_empty() => return self.ask_about_sent(name).await,
                Ok(batch) => batch,
                Err(error) => {
                    tracing::error!(
                        error = format!("{:#}", anyhow::Error::new(error)),
                        destination = name,
                        "no delivery taken"
                    );
                    return;
                }
            };
            let destination = self.destinations.iter().find(|d| d.name == name);
            let outcomes = self.holding(&batch, self.send(destination, &batch)).await;
            let mut any_failed = false;
            for (lease, sent) in batch.iter().zip(outcomes) {
                any_failed |= !matches!(sent, Sent::Stored(_));
                self.record(lease, destination, sent).await;
            }
            if any_failed {
                return self.ask_about_sent(name).await;
            }
        }
    }

    /// Renews the leases on a batch while it is sent.
    async fn holding<T>(&self, batch: &[LeasedDelivery], sending: impl Future<Output = T>) -> T {
        tokio::pin!(sending);
        loop {
            tokio::select! {
                sent = &mut sending => return sent,
                () = self.renew(batch) => {}
            }
        }
    }

    /// Waits for the next heartbeat, then renews. Safe to drop.
    async fn renew(&self, batch: &[LeasedDelivery]) {
        tokio::time::sleep(self.leases.heartbeat()).await;
        for lease in batch {
            if let Err(error) = self.store.renew_delivery(lease, self.leases.lasting).await {
                let error = format!("{:#}", anyhow::Error::new(error));
                tracing::warn!(error, "lease not renewed");
            }
        }
    }

    async fn send(&self, destination: Option<&Destination>, batch: &[LeasedDelivery]) -> Vec<Sent> {
        match destination.map(|destination| &destination.kind) {
            None => batch.iter().map(|_| Sent::TryAgain(UNKNOWN_DESTINATION, None)).collect(),
            Some(DestinationKind::Folder(folder)) => self.write_to(folder, batch).await,
            Some(DestinationKind::Dimse(peer)) => self.send_to(peer, batch).await,
            Some(DestinationKind::Dicomweb(server)) => self.post_to(server, batch).await,
        }
    }

    /// Asks a destination to commit to what it was sent, or for that itself.
    async fn ask_about_sent(&self, name: &str) {
        let destination = self.destinations.iter().find(|d| d.name == name);
        let Some(destination) = destination else { return };
        let asked = match (&destination.kind, destination.proof) {
            (_, Some(proof)) => proof::seek(&self.store, &self.spool, destination, proof).await,
            (DestinationKind::Dimse(peer), None) => {
                commitment::request(&self.store, destination, peer).await
            }
            _ => return,
        };
        if let Err(error) = asked {
            tracing::error!(
                error = format!("{error:#}"),
                destination = name,
                "what a destination said of its results is not recorded"
            );
        }
    }

    async fn write_to(&self, folder: &Path, batch: &[LeasedDelivery]) -> Vec<Sent> {
        let mut outcomes = Vec::with_capacity(batch.len());
        for lease in batch {
            outcomes.push(match self.write_one(folder, lease).await {
                Ok(()) => Sent::Stored(0),
                Err(error) => {
                    tracing::warn!(
                        error = format!("{error:#}"),
                        "result not written to the folder"
                    );
                    Sent::TryAgain(FOLDER, None)
                }
            });
        }
        outcomes
    }

    /// Writes `FOLDER/<study>/<source series>/<SOP instance>.dcm`, whole or not at all.
    async fn write_one(&self, folder: &Path, lease: &LeasedDelivery) -> Result<()> {
        let bytes = self.spool.read(&lease.spool_key).await?;
        let folder = folder
            .join(lease.study_instance_uid.as_str())
            .join(lease.source_series_instance_uid.as_str());
        let name = format!("{}.dcm", lease.sop_instance_uid);
        tokio::task::spawn_blocking(move || -> Result<()> {
            std::fs::create_dir_all(&folder)?;
            let mut file = tempfile::NamedTempFile::new_in(&folder)?;
            std::io::Write::write_all(&mut file, &bytes)?;
            file.as_file().sync_all()?;
            file.persist(folder.join(name))?;
            Ok(())
        })
        .await?
    }

    /// The results of a batch as files; why there are none is said to every delivery of it.
    async fn fetch(&self, batch: &[LeasedDelivery]) -> Result<LocalFiles, Vec<Sent>> {
        let fetched =
            self.spool.fetch(batch.iter().map(|lease| lease.spool_key.clone()).collect()).await;
        fetched.map_err(|error| {
            tracing::warn!(
                error = format!("{:#}", anyhow::Error::new(error)),
                "results not read from the spool"
            );
            batch.iter().map(|_| Sent::TryAgain(SPOOL, None)).collect()
        })
    }

    async fn send_to(&self, destination: &DimseDestination, batch: &[LeasedDelivery]) -> Vec<Sent> {
        let files = match self.fetch(batch).await {
            Ok(files) => files,
            Err(sent) => return sent,
        };
        let instances: Vec<InstanceSource> =
            files.paths().iter().cloned().map(InstanceSource::from).collect();
        match scu::store(&peer(destination), &instances, &patience(destination)).await {
            Ok(outcomes) => outcomes.into_iter().map(|outcome| sent(&outcome.result)).collect(),
            Err(error) => {
                let is_tls = matches!(error, AssociateError::Tls(_));
                let reason = if is_tls { NOT_TRUSTED } else { UNREACHABLE };
                tracing::warn!(
                    error = format!("{:#}", anyhow::Error::new(error)),
                    peer.ae_title = %destination.ae_title,
                    "no association with the destination"
                );
                batch.iter().map(|_| Sent::TryAgain(reason.clone(), None)).collect()
            }
        }
    }

    async fn post_to(&self, server: &StowDestination, batch: &[LeasedDelivery]) -> Vec<Sent> {
        let files = match self.fetch(batch).await {
            Ok(files) => files,
            Err(sent) => return sent,
        };
        let instances: Vec<InstanceSource> =
            files.paths().iter().cloned().map(InstanceSource::from).collect();
        match stow::store(server, &instances).await {
            Ok(results) => results.iter().map(posted).collect(),
            Err(error) => {
                let is_tls = matches!(error, StowError::Tls(_));
                let reason = if is_tls { NOT_TRUSTED } else { UNREACHABLE };
                tracing::warn!(
                    error = format!("{:#}", anyhow::Error::new(error)),
                    server = %server.root,
                    "no connection to the destination"
                );
                batch.iter().map(|_| Sent::TryAgain(reason.clone(), None)).collect()
            }
        }
    }

    async fn record(&self, lease: &LeasedDelivery, destination: Option<&Destination>, sent: Sent) {
        let recorded = match sent {
            Sent::Stored(status) if destination.is_some_and(is_to_be_proven) => {
                tracing::info!(
                    job.id = %lease.job_id,
                    sop_instance.uid = %lease.sop_instance_uid,
                    destination = lease.destination,
                    attempt = lease.attempt,
                    "result sent, its proof awaited"
                );
                self.store.delivery_sent(lease, status).await.map(drop)
            }
            Sent::Stored(status) => {
                metrics::counter!("prosector_deliveries_total", "outcome" => "delivered")
                    .increment(1);
                tracing::info!(
                    job.id = %lease.job_id,
                    sop_instance.uid = %lease.sop_instance_uid,
                    form = %lease.form,
                    destination = lease.destination,
                    attempt = lease.attempt,
                    "result delivered"
                );
                self.store.delivery_succeeded(lease, status).await.map(drop)
            }
            Sent::TryAgain(reason_code, status) => {
                let then = next_try(lease, destination);
                self.record_failure(lease, DeliveryFailure { status, reason_code, then }).await
            }
            Sent::OtherForm(reason_code, status) => {
                let then = AfterDeliveryFailure::OtherForm;
                self.record_failure(lease, DeliveryFailure { status, reason_code, then }).await
            }
            Sent::Refused(reason_code, status) => {
                let then = AfterDeliveryFailure::GiveUp;
                self.record_failure(lease, DeliveryFailure { status, reason_code, then }).await
            }
        };
        if let Err(error) = recorded {
            // The lease lapses; a result that is sent twice is the same bytes under the same UID.
            tracing::error!(
                error = format!("{:#}", anyhow::Error::new(error)),
                "outcome of a delivery not recorded"
            );
        }
    }

    async fn record_failure(
        &self,
        lease: &LeasedDelivery,
        failure: DeliveryFailure,
    ) -> Result<(), prosector_storage::DeliveryError> {
        metrics::counter!("prosector_deliveries_total", "outcome" => "failed").increment(1);
        tracing::warn!(
            job.id = %lease.job_id,
            sop_instance.uid = %lease.sop_instance_uid,
            form = %lease.form,
            destination = lease.destination,
            attempt = lease.attempt,
            reason_code = %failure.reason_code,
            status = failure.status.map(|status| format!("{status:04X}H")),
            then = ?failure.then,
            "result not delivered"
        );
        self.store.delivery_failed(lease, &failure).await.map(drop)
    }
}

fn is_to_be_proven(destination: &Destination) -> bool {
    let commits = matches!(&destination.kind, DestinationKind::Dimse(peer) if peer.commitment);
    commits || destination.proof.is_some()
}

/// The peer that a destination is.
pub(crate) fn peer(destination: &DimseDestination) -> scu::Destination {
    scu::Destination {
        ae_title: destination.ae_title.clone(),
        address: destination.address.clone(),
        calling_ae_title: destination.calling_ae_title.clone(),
        tls: destination.tls.clone(),
    }
}

/// How long we wait for it.
pub(crate) fn patience(destination: &DimseDestination) -> ScuConfig {
    ScuConfig {
        connect_timeout: destination.connect_timeout,
        association_timeout: destination.negotiate_timeout,
        response_timeout: destination.response_timeout,
        compress: destination.compress,
        ..ScuConfig::default()
    }
}

fn sent(result: &StoreResult) -> Sent {
    let status = result.status().map(|status| status.0);
    match result.disposition() {
        StoreDisposition::Delivered => Sent::Stored(status.unwrap_or_default()),
        StoreDisposition::Retry => Sent::TryAgain(TRY_AGAIN, status),
        StoreDisposition::TryOtherForm => Sent::OtherForm(FORM_REFUSED, status),
        // A destination that takes the SOP class and then refuses the object may still take another form of it.
        StoreDisposition::GiveUp if status.is_some() => Sent::OtherForm(REFUSED, status),
        StoreDisposition::GiveUp => Sent::Refused(REFUSED, status),
    }
}

fn posted(result: &StowResult) -> Sent {
    match result {
        StowResult::Stored(status) => Sent::Stored(*status),
        StowResult::Busy(status) => Sent::TryAgain(TRY_AGAIN, Some(*status)),
        // A token may be renewed.
        StowResult::Unauthorized(status) => Sent::TryAgain(UNAUTHORIZED, Some(*status)),
        StowResult::SopClassRefused(status) => Sent::OtherForm(FORM_REFUSED, Some(*status)),
        // A server that refuses the object may still take another form of it.
        StowResult::Rejected(status, _) => Sent::OtherForm(REFUSED, Some(*status)),
        StowResult::Unanswered(_) => Sent::TryAgain(TRY_AGAIN, None),
        StowResult::Unreadable(_) => Sent::Refused(REFUSED, None),
    }
}

/// Another try after the destination's backoff, or none once it was tried for long enough. A destination that the
/// configuration does not know any more may come back with the next one.
fn next_try(lease: &LeasedDelivery, destination: Option<&Destination>) -> AfterDeliveryFailure {
    let Some(retry) = destination.map(|destination| destination.retry) else {
        return AfterDeliveryFailure::Retry { after: UNKNOWN_DESTINATION_WAIT };
    };
    let age = OffsetDateTime::now_utc() - lease.created_at;
    if age >= retry.give_up {
        return AfterDeliveryFailure::GiveUp;
    }
    let backoff = Backoff { first: retry.first, longest: retry.longest };
    let what = (lease.sop_instance_uid.as_str(), lease.destination.as_str());
    AfterDeliveryFailure::Retry { after: backoff.after(lease.attempt, what) }
}
