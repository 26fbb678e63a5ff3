//! From an association to durable instances.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::SocketAddr;

use async_trait::async_trait;
use dicom_io::dimse::{CommitmentReport, CommitmentRequest, Status, StoreStatus};
use dicom_io::scp::{
    AssociationInfo, AssociationOutcome, CommitmentAnswer, ContextRefusal, InstanceReceiver,
    InstanceSink, ReceivedInstance, RejectedAssociation, StoreRequest,
};
use dicom_io::tls::TlsRefusal;
use dicom_types::{AeTitle, SopInstanceUid};
use prosector_storage::{
    AssociationEnd, AssociationId, AssociationOutcome as RecordedOutcome, Event, EventKind,
    InstanceOutcome, Intake, NewAssociation, NewInstance, ReasonCode, Reported, Sha256Digest,
    Spool, SpoolKey, SpoolWriter, Store,
};
use serde_json::{Value as Json, json};
use tokio::sync::Mutex;
use uuid::Uuid;

use super::{commitment, facts};
use crate::deliver;

/// SOP classes named in one event about what was refused.
const REFUSED_CLASSES: usize = 128;
/// The spool keeps its reserve.
const DISK_RESERVE: ReasonCode = ReasonCode::new("disk_reserve");

/// Keeps what associations bring: bytes in the spool, rows in the store.
#[derive(Debug)]
pub(crate) struct Receiver {
    listener: String,
    store: Store,
    spool: Spool,
    intake: Intake,
    /// Senders that are called back with reports of storage commitment.
    called_back: BTreeSet<AeTitle>,
    /// Rows of the associations that are open.
    open: Mutex<HashMap<Uuid, AssociationId>>,
}

/// One instance on its way into the spool.
#[derive(Debug)]
pub(crate) struct Sink {
    writer: SpoolWriter,
    intake: Intake,
    association_id: Option<AssociationId>,
}

impl Receiver {
    pub(crate) fn new(
        listener: String,
        store: Store,
        spool: Spool,
        intake: Intake,
        called_back: BTreeSet<AeTitle>,
    ) -> Self {
        Self { listener, store, spool, intake, called_back, open: Mutex::default() }
    }

    fn new_association(
        &self,
        calling_ae_title: AeTitle,
        called_ae_title: AeTitle,
        peer: std::net::SocketAddr,
    ) -> NewAssociation {
        NewAssociation {
            listener: self.listener.clone(),
            calling_ae_title,
            called_ae_title,
            peer_address: peer.ip(),
        }
    }
}

impl Receiver {
    /// Why an instance is refused, as a code.
    fn refusal(&self, status: StoreStatus) -> ReasonCode {
        match status {
            StoreStatus::OutOfResources if self.is_full() => DISK_RESERVE,
            StoreStatus::OutOfResources => ReasonCode::new("out_of_resources"),
            StoreStatus::DatasetMismatch => ReasonCode::new("data_set_mismatch"),
            StoreStatus::CannotUnderstand => ReasonCode::new("data_set_unreadable"),
            StoreStatus::InvalidInstance => ReasonCode::new("invalid_instance_uid"),
            StoreStatus::SopClassNotSupported => ReasonCode::new("sop_class_not_supported"),
            StoreStatus::NotAuthorized => ReasonCode::new("not_authorized"),
            StoreStatus::Success | StoreStatus::ProcessingFailure => {
                ReasonCode::new("processing_failure")
            }
        }
    }

    /// Records `event`, the news of a `what`, or says in the log that it could not.
    async fn note(&self, event: Event, what: &'static str) {
        if let Err(error) = self.store.record(event).await {
            let error = format!("{:#}", anyhow::Error::new(error));
            tracing::error!(error, what, "not recorded in the ledger");
        }
    }

    /// Whether the spool keeps its reserve and takes nothing more.
    fn is_full(&self) -> bool {
        self.spool.space().is_ok_and(|space| !space.admits(0))
    }
}

#[async_trait]
impl InstanceReceiver for Receiver {
    type Sink = Sink;

    async fn association_accepted(&self, association: &AssociationInfo) {
        metrics::counter!("prosector_associations_total", "outcome" => "accepted").increment(1);
        let new = self.new_association(
            association.calling_ae_title.clone(),
            association.called_ae_title.clone(),
            association.peer,
        );
        match self.store.open_association(&new).await {
            Ok(id) => {
                self.open.lock().await.insert(association.id, id);
                for event in refused_contexts(association, id) {
                    self.note(event, "refused presentation contexts").await;
                }
            }
            // Its instances are refused one by one for as long as the store is away.
            Err(error) => tracing::error!(
                error = format!("{:#}", anyhow::Error::new(error)),
                "association not recorded"
            ),
        }
    }

    async fn connection_refused(&self, peer: SocketAddr, refusal: TlsRefusal) {
        let reason = refusal.as_str();
        metrics::counter!("prosector_connections_refused_total", "reason" => reason).increment(1);
        let event = Event::new(EventKind::ConnectionRefused)
            .because(code(reason, "tls_refused"))
            .with(json!({ "peer_address": peer.ip().to_string() }));
        self.note(event, "refused connection").await;
    }

    async fn association_rejected(&self, rejected: &RejectedAssociation) {
        metrics::counter!("prosector_associations_total", "outcome" => "rejected").increment(1);
        metrics::counter!("prosector_associations_rejected_total", "reason" => rejected.reason.as_str())
            .increment(1);
        tracing::warn!(
            peer.addr = %rejected.peer,
            peer.ae_title = rejected.calling_ae_title.as_ref().map(AeTitle::as_str),
            reason = rejected.reason.as_str(),
            "association rejected"
        );
        let reason = code(rejected.reason.as_str(), "association_rejected");
        let (Some(calling), Some(called)) = (&rejected.calling_ae_title, &rejected.called_ae_title)
        else {
            // A text that is no AE title is not repeated.
            let event = Event::new(EventKind::AssociationRejected).because(reason).with(json!({
                "calling_ae_title": rejected.calling_ae_title.as_ref().map(AeTitle::as_str),
                "called_ae_title": rejected.called_ae_title.as_ref().map(AeTitle::as_str),
                "peer_address": rejected.peer.ip().to_string(),
            }));
            return self.note(event, "rejected association").await;
        };
        let new = self.new_association(calling.clone(), called.clone(), rejected.peer);
        if let Err(error) = self.store.reject_association(&new, reason).await {
            tracing::error!(
                error = format!("{:#}", anyhow::Error::new(error)),
                "rejected association not recorded"
            );
        }
    }

    async fn begin(&self, request: &StoreRequest) -> Result<Sink, StoreStatus> {
        let created = self.spool.create().await;
        let writer = created.map_err(|error| refuse(&request.sop_instance_uid, error))?;
        let association_id = self.open.lock().await.get(&request.association.id).copied();
        Ok(Sink { writer, intake: self.intake.clone(), association_id })
    }

    async fn instance_refused(&self, request: &StoreRequest, status: StoreStatus) {
        metrics::counter!("prosector_instances_total", "outcome" => "refused").increment(1);
        metrics::counter!("prosector_instances_refused_total", "status" => status.to_string())
            .increment(1);
        tracing::warn!(
            sop_instance.uid = %request.sop_instance_uid,
            peer.ae_title = %request.association.calling_ae_title,
            %status,
            "instance refused"
        );
        let association_id = self.open.lock().await.get(&request.association.id).copied();
        let event = Event::new(EventKind::InstanceRefused)
            .because(self.refusal(status))
            .of_instance(&request.sop_instance_uid)
            .of_association(association_id)
            .with(json!({
                "calling_ae_title": request.association.calling_ae_title.as_str(),
                "status": status.to_string(),
            }));
        self.note(event, "refused instance").await;
    }

    async fn commitment_requested(
        &self,
        association: &AssociationInfo,
        request: CommitmentRequest,
    ) -> CommitmentAnswer {
        let is_called_back = self.called_back.contains(&association.calling_ae_title);
        let transaction_uid = request.transaction_uid.clone();
        match commitment::answer(&self.store, association, request, is_called_back).await {
            Ok(report) => {
                tracing::info!(
                    transaction.uid = %transaction_uid,
                    committed = report.committed.len(),
                    failed = report.failed.len(),
                    "storage commitment requested"
                );
                if is_called_back {
                    CommitmentAnswer::ReportLater
                } else {
                    CommitmentAnswer::ReportNow(report)
                }
            }
            Err(error) => {
                let error = format!("{:#}", anyhow::Error::new(error));
                tracing::error!(error, "storage commitment not answered");
                CommitmentAnswer::Refused(Status::PROCESSING_FAILURE)
            }
        }
    }

    async fn commitment_reported(&self, association: &AssociationInfo, report: &CommitmentReport) {
        let (title, transaction) = (&association.calling_ae_title, &report.transaction_uid);
        let recorded = self.store.commitment_reported(title, transaction, Reported::Taken);
        if let Err(error) = recorded.await {
            let error = format!("{:#}", anyhow::Error::new(error));
            tracing::error!(error, "report of storage commitment not recorded");
        }
    }

    async fn commitment_report(
        &self,
        _association: &AssociationInfo,
        report: CommitmentReport,
    ) -> Status {
        match deliver::take_report(&self.store, &report).await {
            Ok(()) => Status::SUCCESS,
            Err(error) => {
                tracing::error!(
                    error = format!("{error:#}"),
                    "report of storage commitment not recorded"
                );
                Status::PROCESSING_FAILURE
            }
        }
    }

    async fn association_ended(&self, association: &AssociationInfo, outcome: &AssociationOutcome) {
        tracing::info!(
            peer.ae_title = %association.calling_ae_title,
            peer.addr = %association.peer,
            outcome = outcome.end.as_str(),
            instances = outcome.stored,
            refused = outcome.refused,
            size_bytes = outcome.stored_bytes,
            duration_ms = outcome.duration.as_millis() as u64,
            "association ended"
        );
        let Some(id) = self.open.lock().await.remove(&association.id) else { return };
        if let Err(error) = self.store.close_association(id, &recorded_end(outcome)).await {
            tracing::error!(
                error = format!("{:#}", anyhow::Error::new(error)),
                "end of association not recorded"
            );
        }
    }
}

#[async_trait]
impl InstanceSink for Sink {
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.write(bytes).await.map_err(io::Error::other)
    }

    async fn finish(self, received: ReceivedInstance) -> StoreStatus {
        let header = &received.header;
        let sop_instance_uid = header.sop_instance_uid.clone();
        let sha256 = Sha256Digest::from(received.dataset_sha256);
        let instance = NewInstance {
            spool_key: SpoolKey::for_instance(
                &header.study_instance_uid,
                &header.series_instance_uid,
                &sop_instance_uid,
                &sha256,
            ),
            study_instance_uid: header.study_instance_uid.clone(),
            series_instance_uid: header.series_instance_uid.clone(),
            sop_instance_uid: sop_instance_uid.clone(),
            sop_class_uid: header.sop_class_uid.clone(),
            transfer_syntax_uid: header.transfer_syntax_uid.clone(),
            modality: header.modality.clone(),
            instance_number: facts::instance_number(header),
            sha256,
            size_bytes: received.dataset_bytes,
            association_id: self.association_id,
            identity: facts::identity(header),
            header_facts: Some(facts::header_facts(header)),
        };
        let file = match self.writer.finish().await {
            Ok(file) => file,
            Err(error) => return refuse(&sop_instance_uid, error),
        };
        match self.intake.commit(file, instance).await {
            Ok(outcome) => {
                note(&sop_instance_uid, &outcome);
                StoreStatus::Success
            }
            Err(error) => refuse(&sop_instance_uid, error),
        }
    }
}

/// An event for each reason for which an accepted association cannot carry what its peer proposed.
fn refused_contexts(association: &AssociationInfo, id: AssociationId) -> Vec<Event> {
    let reasons = [ContextRefusal::TransferSyntaxes, ContextRefusal::AbstractSyntax];
    let mut events = Vec::new();
    for reason in reasons {
        let refused = association.refused.iter().filter(|refused| refused.reason == reason);
        let sop_classes: Vec<Json> = refused
            .map(|refused| {
                let syntaxes = refused.transfer_syntax_uids.iter().map(ToString::to_string);
                json!({
                    "sop_class_uid": refused.sop_class_uid.as_str(),
                    "transfer_syntax_uids": syntaxes.collect::<Vec<_>>(),
                })
            })
            .take(REFUSED_CLASSES)
            .collect();
        if sop_classes.is_empty() {
            continue;
        }
        tracing::warn!(
            peer.ae_title = %association.calling_ae_title,
            reason = reason.as_str(),
            sop_classes = sop_classes.len(),
            "presentation contexts refused"
        );
        let event = Event::new(EventKind::ContextsRefused)
            .because(code(reason.as_str(), "contexts_refused"))
            .of_association(Some(id))
            .with(json!({
                "calling_ae_title": association.calling_ae_title.as_str(),
                "sop_classes": sop_classes,
            }));
        events.push(event);
    }
    events
}

/// The words of a reason as a code: one of a closed set.
fn code(words: &str, otherwise: &'static str) -> ReasonCode {
    let code = words.to_ascii_lowercase().replace([' ', '-'], "_");
    code.parse().unwrap_or(ReasonCode::new(otherwise))
}

/// PS3.4 B.2.3: whatever the trouble, the sender may try again later.
fn refuse(
    sop_instance_uid: &SopInstanceUid,
    error: impl std::error::Error + Send + Sync + 'static,
) -> StoreStatus {
    tracing::error!(
        sop_instance.uid = %sop_instance_uid,
        error = format!("{:#}", anyhow::Error::new(error)),
        "instance not stored"
    );
    StoreStatus::OutOfResources
}

fn note(sop_instance_uid: &SopInstanceUid, outcome: &InstanceOutcome) {
    let word = match outcome {
        InstanceOutcome::New => "new",
        InstanceOutcome::Duplicate { .. } => "duplicate",
        InstanceOutcome::Conflict { reason_code } => {
            tracing::warn!(
                sop_instance.uid = %sop_instance_uid,
                reason = %reason_code,
                "another instance has this UID; both are kept, the first one counts"
            );
            "conflict"
        }
        InstanceOutcome::OwnResult => "own_result",
    };
    metrics::counter!("prosector_instances_total", "outcome" => word).increment(1);
}

fn recorded_end(outcome: &AssociationOutcome) -> AssociationEnd {
    use dicom_io::scp::AssociationEnd as End;

    let (recorded, reason) = match outcome.end {
        End::Released => (RecordedOutcome::Released, None),
        End::ConnectionLost => (RecordedOutcome::Lost, Some("connection_lost")),
        End::AbortedByPeer => (RecordedOutcome::Aborted, Some("aborted_by_peer")),
        End::TimedOut => (RecordedOutcome::Aborted, Some("timed_out")),
        End::ProtocolError => (RecordedOutcome::Aborted, Some("protocol_error")),
        End::ShutDown => (RecordedOutcome::Aborted, Some("shut_down")),
    };
    AssociationEnd {
        outcome: recorded,
        reason_code: reason.map(ReasonCode::new),
        refused_count: outcome.refused,
    }
}
