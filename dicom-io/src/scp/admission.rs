//! From a connection to an association that is accepted, or not.

use std::net::SocketAddr;
use std::sync::Arc;

use dicom_types::AeTitle;
use dicom_ul::pdu::AbortRQServiceProviderReason;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout};
use tracing::Instrument;
use uuid::Uuid;

use super::association::{CLOSE_PATIENCE, Session, abort_reason};
use super::listener::{Shared, WaitingConnection};
use super::negotiate::{Negotiated, negotiate, rejection};
use super::policy::RejectReason;
use super::receiver::{AssociationInfo, AssociationOutcome, InstanceReceiver, RejectedAssociation};
use crate::tls::{TlsAcceptor, TlsPeer, TlsRefusal};
use crate::upper_layer::{AssociationRequest, Link, PduKind, WireError, parse_request};

/// Receive buffer of an association: two of the longest PDUs that most peers send.
const RECEIVE_BUFFER_BYTES: usize = 256 * 1024;

/// Serves one connection that begins with a TLS handshake; returns when it is over.
pub(super) async fn serve_encrypted<S, R>(
    stream: S,
    acceptor: TlsAcceptor,
    peer: SocketAddr,
    shared: Arc<Shared<R>>,
    waiting: WaitingConnection<R>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    R: InstanceReceiver,
{
    let handshake = timeout(shared.config.timeouts.request, acceptor.accept(stream));
    let accepted = tokio::select! {
        biased;
        () = shared.drain.cancelled() => return,
        () = waiting.evicted.cancelled() => {
            tracing::warn!(peer.addr = %peer, "connection closed in favour of newer ones");
            return;
        }
        accepted = handshake => accepted.unwrap_or(Err(TlsRefusal::TimedOut)),
    };
    match accepted {
        Ok((stream, tls)) => serve_connection(stream, peer, Some(tls), shared, waiting).await,
        // Load balancers and port checks connect and leave.
        Err(TlsRefusal::ConnectionLost) => {
            tracing::debug!(peer.addr = %peer, "connection without TLS handshake");
        }
        Err(refusal) => {
            tracing::warn!(peer.addr = %peer, reason = refusal.as_str(), "TLS handshake failed");
            shared.receiver.connection_refused(peer, refusal).await;
        }
    }
}

/// Serves one connection; returns when it is over.
pub(super) async fn serve_connection<S, R>(
    stream: S,
    peer: SocketAddr,
    tls: Option<TlsPeer>,
    shared: Arc<Shared<R>>,
    waiting: WaitingConnection<R>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    R: InstanceReceiver,
{
    let started = Instant::now();
    let mut link = Link::new(stream, shared.stop.clone());
    let admission = async {
        let request = read_request(&mut link, &shared, started, peer).await?;
        let admitted = match negotiate(&shared.config, &request, peer, tls.as_ref()) {
            Ok(_) if shared.is_draining() => Err(RejectReason::ShuttingDown),
            Ok(negotiated) => shared.take_slot(peer.ip()).map(|slot| (negotiated, slot)),
            Err(reason) => Err(reason),
        };
        match admitted {
            Ok(admitted) => Some(admitted),
            Err(reason) => {
                reject(&mut link, &shared, &request, peer, reason).await;
                None
            }
        }
    };
    let admitted = tokio::select! {
        biased;
        () = waiting.evicted.cancelled() => {
            tracing::warn!(peer.addr = %peer, "connection closed in favour of newer ones");
            return;
        }
        admitted = admission => admitted,
    };
    let Some((negotiated, slot)) = admitted else { return };
    drop(waiting);
    let write_patience = shared.config.timeouts.write;
    if link.send(&negotiated.answer, write_patience).await.is_err() {
        tracing::info!(peer.addr = %peer, "peer left before its association was accepted");
        return;
    }

    link.reserve(RECEIVE_BUFFER_BYTES);
    let Negotiated {
        calling_ae_title, called_ae_title, contexts, refused, peer_max_pdu_bytes, ..
    } = negotiated;
    let info = Arc::new(AssociationInfo {
        id: Uuid::new_v4(),
        calling_ae_title,
        called_ae_title,
        peer,
        tls,
        refused,
    });
    let span = tracing::info_span!(
        "association",
        association.id = %info.id,
        peer.ae_title = %info.calling_ae_title,
        peer.addr = %info.peer,
    );
    async {
        if let Some(tls) = &info.tls {
            let certificate = tls.fingerprint();
            tracing::info!(tls.version, tls.certificate_sha256 = certificate, "encrypted");
        }
        shared.receiver.association_accepted(&info).await;
        let session = Session::new(
            link,
            Arc::clone(&shared),
            Arc::clone(&info),
            contexts,
            peer_max_pdu_bytes,
        );
        let (end, counts) = session.run().await;
        let outcome = AssociationOutcome {
            end,
            stored: counts.stored,
            refused: counts.refused,
            stored_bytes: counts.stored_bytes,
            duration: started.elapsed(),
        };
        tracing::info!(
            end = end.as_str(),
            stored = outcome.stored,
            refused = outcome.refused,
            size_bytes = outcome.stored_bytes,
            duration_ms = outcome.duration.as_millis() as u64,
            "association ended"
        );
        shared.receiver.association_ended(&info, &outcome).await;
    }
    .instrument(span)
    .await;
    drop(slot);
}

async fn read_request<S, R>(
    link: &mut Link<S>,
    shared: &Shared<R>,
    started: Instant,
    peer: SocketAddr,
) -> Option<AssociationRequest>
where
    S: AsyncRead + AsyncWrite + Unpin,
    R: InstanceReceiver,
{
    let patience = shared.config.timeouts.request;
    let limit = shared.config.limits.max_request_bytes;
    let deadline = started + patience;
    // A connection that has not asked for anything yet ends as soon as the listener is to stop.
    let pdu = tokio::select! {
        biased;
        () = shared.drain.cancelled() => return None,
        pdu = link.next_pdu(limit, patience, deadline) => pdu,
    };
    match pdu {
        Ok((PduKind::AssociateRequest, range)) => {
            if let Ok(request) = parse_request(link.body(range)) {
                return Some(request);
            }
            tracing::warn!(peer.addr = %peer, "malformed association request");
            link.abort(AbortRQServiceProviderReason::InvalidPduParameter).await;
        }
        Ok((kind, _)) => {
            tracing::warn!(peer.addr = %peer, pdu = ?kind, "no association was requested");
            link.abort(AbortRQServiceProviderReason::UnexpectedPdu).await;
        }
        // Load balancers and port checks connect and leave.
        Err(WireError::Closed | WireError::Io(_) | WireError::ShutDown) => {
            tracing::debug!(peer.addr = %peer, "connection without association request");
        }
        Err(error) => {
            tracing::warn!(peer.addr = %peer, error = %error, "no association request");
            link.abort(abort_reason(&error)).await;
        }
    }
    None
}

async fn reject<S, R>(
    link: &mut Link<S>,
    shared: &Shared<R>,
    request: &AssociationRequest,
    peer: SocketAddr,
    reason: RejectReason,
) where
    S: AsyncRead + AsyncWrite + Unpin,
    R: InstanceReceiver,
{
    let title = |text: &str| text.parse::<AeTitle>().ok();
    let rejected = RejectedAssociation {
        calling_ae_title: title(&request.calling_ae_title),
        called_ae_title: title(&request.called_ae_title),
        peer,
        reason,
    };
    tracing::warn!(
        peer.addr = %peer,
        peer.ae_title = rejected.calling_ae_title.as_ref().map(tracing::field::display),
        called.ae_title = rejected.called_ae_title.as_ref().map(tracing::field::display),
        reason = reason.as_str(),
        "association rejected"
    );
    shared.receiver.association_rejected(&rejected).await;
    if link.send(&rejection(reason), shared.config.timeouts.write).await.is_ok() {
        link.close(CLOSE_PATIENCE).await;
    }
}
