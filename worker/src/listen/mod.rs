//! The listener: associations in, durable instances and complete series out.
//!
//! [`Receiver`] stands between the DICOM side, which reads associations, and the storage side, which keeps instances.
//! [`Settler`] watches for series that are complete and turns them into jobs.

mod choose;
mod commitment;
mod completeness;
mod facts;
mod receiver;
mod settle;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use dicom_io::scp::{self, AllowList, Endpoint, ScpConfig};
use dicom_types::AeTitle;
use prosector_storage::{Intake, IntakeLimits, Spool, Store};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config;

use commitment::Reporter;
pub(crate) use completeness::PacsQuery;
pub(crate) use receiver::Receiver;
pub(crate) use settle::Settler;

/// Storage SOP classes that come with images and are never segmented: senders of whole studies would report them as
/// failures, and results of ours come back as such.
const BESIDE_IMAGES: [&str; 9] = [
    "1.2.840.10008.5.1.4.1.1.7",     // Secondary Capture
    "1.2.840.10008.5.1.4.1.1.7.1",   // Multi-frame Single Bit Secondary Capture
    "1.2.840.10008.5.1.4.1.1.7.2",   // Multi-frame Grayscale Byte Secondary Capture
    "1.2.840.10008.5.1.4.1.1.7.3",   // Multi-frame Grayscale Word Secondary Capture
    "1.2.840.10008.5.1.4.1.1.7.4",   // Multi-frame True Color Secondary Capture
    "1.2.840.10008.5.1.4.1.1.66.4",  // Segmentation
    "1.2.840.10008.5.1.4.1.1.66.7",  // Label Map Segmentation
    "1.2.840.10008.5.1.4.1.1.88.34", // Comprehensive 3D SR
    "1.2.840.10008.5.1.4.1.1.481.3", // RT Structure Set
];

/// A bound listener that has not accepted anything yet.
#[derive(Debug)]
pub(crate) struct Listener {
    endpoints: Vec<Endpoint>,
    address: SocketAddr,
    scp: ScpConfig,
    name: String,
    /// Where senders take reports of storage commitment.
    called_back: BTreeMap<AeTitle, config::CommitmentAddress>,
}

impl Listener {
    /// Binds the socket that `section` names.
    ///
    /// # Errors
    /// When the address is taken or not ours.
    pub(crate) async fn bind(section: &config::Listener) -> Result<Self> {
        let socket = bind("listener.bind", section.bind).await?;
        let address = socket.local_addr()?;
        let mut first = Endpoint::from(socket);
        let mut endpoints = Vec::new();
        if let Some(tls) = &section.tls {
            match tls.bind {
                None => first.tls = Some(tls.acceptor.clone()),
                Some(address) => {
                    let socket = bind("listener.tls.bind", address).await?;
                    endpoints.push(Endpoint { socket, tls: Some(tls.acceptor.clone()) });
                }
            }
        }
        endpoints.insert(0, first);
        let name = format!("listen@{address}");
        let called_back = section.commitment.clone();
        Ok(Self { endpoints, address, scp: scp_config(section), name, called_back })
    }

    /// Where the first socket is bound.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts associations until `cancel`, then lets those that run come to their end.
    ///
    /// # Errors
    /// When the spool cannot be brought in line with the store, or the socket breaks.
    pub(crate) async fn run(
        self,
        store: Store,
        spool: Spool,
        cancel: CancellationToken,
    ) -> Result<()> {
        let lost = store.close_lost_associations(&self.name).await?;
        if lost > 0 {
            tracing::warn!(
                associations = lost,
                "associations were open when the listener last stopped"
            );
        }
        let (intake, committer) =
            Intake::new(store.clone(), spool.clone(), IntakeLimits::default());
        let called_back = self.called_back.keys().cloned().collect();
        let receiver = Receiver::new(self.name, store.clone(), spool, intake, called_back);
        let reporter = Reporter { store, addresses: self.called_back };
        let reporting = reporter.run(cancel.clone());
        let committing = committer.run();
        let serving = scp::serve(self.endpoints, self.scp, Arc::new(receiver), cancel);
        // The committer ends when the last association has dropped its intake.
        let ((), served, ()) = tokio::join!(committing, serving, reporting);
        served.context("listener")
    }
}

async fn bind(key: &str, address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("{key}: cannot listen on {address}"))
}

/// What is taken, from associations and over HTTP alike.
pub(crate) fn scp_config(section: &config::Listener) -> ScpConfig {
    let mut scp = ScpConfig::for_images(section.ae_title.clone());
    scp.storage_sop_classes.extend(
        BESIDE_IMAGES
            .iter()
            .map(|uid| uid.parse().expect("constants of the standard are well-formed")),
    );
    scp.storage_commitment = true;
    scp.admission.called_ae_titles = match &section.called {
        config::Called::Any => AllowList::Any,
        config::Called::These(titles) => AllowList::Only(titles.clone()),
    };
    if !section.calling_ae_titles.is_empty() {
        scp.admission.calling_ae_titles = AllowList::Only(section.calling_ae_titles.clone());
    }
    scp.admission.certificate_names_caller =
        section.tls.as_ref().is_some_and(|tls| tls.match_ae_title);
    scp.limits.max_associations = section.max_associations as usize;
    scp.limits.max_associations_per_peer = section.max_associations_per_peer as usize;
    if !section.peers.is_empty() {
        scp.admission.peers = AllowList::Only(section.peers.clone());
    }
    scp.limits.max_pdu_bytes = section.max_pdu_bytes;
    scp.limits.max_dataset_bytes = section.max_instance_bytes;
    scp.timeouts.request = section.negotiation_timeout;
    scp.timeouts.idle = section.idle_timeout;
    scp
}
