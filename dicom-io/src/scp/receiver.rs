//! What a listener needs from whoever keeps the instances.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dicom_types::{AeTitle, SopClassUid, SopInstanceUid, TransferSyntaxUid};
use uuid::Uuid;

use super::policy::RejectReason;
use crate::dimse::{CommitmentReport, CommitmentRequest, Status, StoreStatus};
use crate::header::InstanceHeader;
use crate::tls::{TlsPeer, TlsRefusal};

/// Keeps instances that come in over associations.
///
/// One receiver serves all associations at once. Every call is awaited in the association's own task, so a slow
/// receiver slows its sender down and nobody else.
#[async_trait]
pub trait InstanceReceiver: Send + Sync + 'static {
    /// Where one instance goes.
    type Sink: InstanceSink;

    /// Is told of an accepted association, before its first message.
    async fn association_accepted(&self, _association: &AssociationInfo) {}

    /// Is told of a connection that ended before an association could be asked for, as TLS did not come about.
    async fn connection_refused(&self, _peer: SocketAddr, _refusal: TlsRefusal) {}

    /// Is told of a refused association.
    async fn association_rejected(&self, _rejected: &RejectedAssociation) {}

    /// Opens a sink for the instance that `request` announces, or refuses it.
    ///
    /// After an error the data set is read and thrown away, the status is answered, and the association goes on.
    async fn begin(&self, request: &StoreRequest) -> Result<Self::Sink, StoreStatus>;

    /// Is told of a C-STORE request that was answered with anything but success, for whatever reason.
    async fn instance_refused(&self, _request: &StoreRequest, _status: StoreStatus) {}

    /// Answers a sender that wants to be sure of what it sent. Only called where storage commitment is offered.
    async fn commitment_requested(
        &self,
        _association: &AssociationInfo,
        _request: CommitmentRequest,
    ) -> CommitmentAnswer {
        CommitmentAnswer::Refused(Status::PROCESSING_FAILURE)
    }

    /// Is told that the sender took a report over the association that it had asked on.
    async fn commitment_reported(
        &self,
        _association: &AssociationInfo,
        _report: &CommitmentReport,
    ) {
    }

    /// Takes the report of a peer that was asked for storage commitment, and says what it is answered.
    async fn commitment_report(
        &self,
        _association: &AssociationInfo,
        _report: CommitmentReport,
    ) -> Status {
        Status::PROCESSING_FAILURE
    }

    /// Is told of the end of an association that was accepted: evidence that its sender has sent all it meant to,
    /// where `outcome` says that it was released.
    async fn association_ended(
        &self,
        _association: &AssociationInfo,
        _outcome: &AssociationOutcome,
    ) {
    }
}

/// What a request for storage commitment is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitmentAnswer {
    /// Not taken.
    Refused(Status),
    /// Taken, and the report goes over the same association.
    ReportNow(CommitmentReport),
    /// Taken, and the report goes another way.
    ReportLater,
}

/// Takes one instance as a Part 10 file: our File Meta Information, then the data set as it was sent.
///
/// A sink that is dropped without [`InstanceSink::finish`] leaves nothing behind: the peer went away, or the data set
/// was no good.
#[async_trait]
pub trait InstanceSink: Send {
    /// Takes the next bytes of the file, up to 256 KiB at a time.
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes the instance durable and says what the sender is answered. Success must mean that no crash loses it.
    async fn finish(self, received: ReceivedInstance) -> StoreStatus;
}

/// Who is at the other end of an association.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssociationInfo {
    /// Ours, random.
    pub id: Uuid,
    /// Calling AE title: who they say they are.
    pub calling_ae_title: AeTitle,
    /// Called AE title: whom they asked for.
    pub called_ae_title: AeTitle,
    /// Where they connected from.
    pub peer: SocketAddr,
    /// What TLS says of them; nothing on a clear port.
    pub tls: Option<TlsPeer>,
    /// What they proposed to send and cannot: a SOP class that we take, in no transfer syntax that we take; and where
    /// nothing at all was accepted, SOP classes that we do not take.
    pub refused: Vec<RefusedSopClass>,
}

/// A SOP class that a peer proposed, for which no presentation context was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedSopClass {
    /// The SOP class.
    pub sop_class_uid: SopClassUid,
    /// The transfer syntaxes that were proposed for it, well-formed ones alone.
    pub transfer_syntax_uids: Vec<TransferSyntaxUid>,
    /// Why.
    pub reason: ContextRefusal,
}

/// Why presentation contexts of a SOP class were refused (PS3.8 9.3.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ContextRefusal {
    /// Abstract syntax not supported.
    AbstractSyntax,
    /// Transfer syntaxes not supported.
    TransferSyntaxes,
}

impl ContextRefusal {
    /// A short word for logs and the audit trail.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AbstractSyntax => "abstract syntax not supported",
            Self::TransferSyntaxes => "transfer syntaxes not supported",
        }
    }
}

/// An association that was refused, for logs, counters and the audit trail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedAssociation {
    /// Calling AE title where it is one.
    pub calling_ae_title: Option<AeTitle>,
    /// Called AE title where it is one.
    pub called_ae_title: Option<AeTitle>,
    /// Where they connected from.
    pub peer: SocketAddr,
    /// Why.
    pub reason: RejectReason,
}

/// A C-STORE request, before its data set.
#[derive(Debug, Clone)]
pub struct StoreRequest {
    /// The association that it came over.
    pub association: Arc<AssociationInfo>,
    /// Affected SOP Class UID (0000,0002), the one negotiated.
    pub sop_class_uid: SopClassUid,
    /// Affected SOP Instance UID (0000,1000).
    pub sop_instance_uid: SopInstanceUid,
    /// Transfer syntax negotiated for the presentation context.
    pub transfer_syntax_uid: TransferSyntaxUid,
    /// Move Originator AE Title (0000,1030), when this answers a C-MOVE.
    pub move_originator_ae_title: Option<AeTitle>,
}

/// What is known of an instance once its data set has arrived.
#[derive(Debug, Clone)]
pub struct ReceivedInstance {
    /// Attributes in front of Pixel Data, large elements left out
    /// ([`HeaderLimits::for_receiving`](crate::header::HeaderLimits::for_receiving)).
    pub header: InstanceHeader,
    /// SHA-256 over the bytes of the data set as sent, without our File Meta Information.
    pub dataset_sha256: [u8; 32],
    /// Bytes of the data set as sent.
    pub dataset_bytes: u64,
    /// Bytes of the whole file that the sink was given.
    pub file_bytes: u64,
}

/// How an association ended and what it brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssociationOutcome {
    /// What ended it.
    pub end: AssociationEnd,
    /// Instances answered with success.
    pub stored: u64,
    /// Instances answered with anything else.
    pub refused: u64,
    /// Bytes of the data sets that were answered with success.
    pub stored_bytes: u64,
    /// From the association request to the end.
    pub duration: Duration,
}

/// What ended an association.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AssociationEnd {
    /// The peer released it: it has sent what it meant to.
    Released,
    /// The peer aborted it.
    AbortedByPeer,
    /// The connection ended without release or abort.
    ConnectionLost,
    /// The peer was silent for longer than allowed.
    TimedOut,
    /// The peer broke the protocol, and we aborted.
    ProtocolError,
    /// The listener is stopping, and its grace period is over.
    ShutDown,
}

impl AssociationEnd {
    /// A short word for metrics and logs: one of a closed set.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::AbortedByPeer => "aborted by peer",
            Self::ConnectionLost => "connection lost",
            Self::TimedOut => "timed out",
            Self::ProtocolError => "protocol error",
            Self::ShutDown => "shut down",
        }
    }
}
