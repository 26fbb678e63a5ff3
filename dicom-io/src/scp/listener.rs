//! Accepting connections, counting associations, and stopping in order.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admission::{serve_connection, serve_encrypted};
use super::policy::{RejectReason, ScpConfig};
use super::receiver::InstanceReceiver;
use crate::tls::TlsAcceptor;

/// How long to wait after the system had no file descriptor or memory for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long aborted associations get to end on top of a storage operation that is under way.
const ABORT_GRACE: Duration = Duration::from_secs(3);

/// What all associations of a listener share.
#[derive(Debug)]
pub(super) struct Shared<R> {
    pub(super) config: ScpConfig,
    pub(super) receiver: Arc<R>,
    /// No new associations.
    pub(super) drain: CancellationToken,
    /// Abort the associations that still run.
    pub(super) stop: CancellationToken,
    associations: Mutex<Associations>,
    waiting: Mutex<Waiting>,
}

/// Connections that have not become associations, the oldest first.
#[derive(Debug, Default)]
struct Waiting {
    next_id: u64,
    connections: VecDeque<(u64, CancellationToken)>,
}

#[derive(Debug, Default)]
struct Associations {
    total: usize,
    per_peer: HashMap<IpAddr, usize>,
}

impl<R> Shared<R> {
    /// No association so far; `drain` ends the time in which new ones are taken.
    pub(super) fn new(config: ScpConfig, receiver: Arc<R>, drain: CancellationToken) -> Self {
        let stop = CancellationToken::new();
        Self {
            config,
            receiver,
            drain,
            stop,
            associations: Mutex::default(),
            waiting: Mutex::default(),
        }
    }

    pub(super) fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }

    /// Takes a connection in, at the cost of the oldest one that still waits where there are too many.
    ///
    /// Whoever opens connections and says nothing loses them to those who come later, and keeps nobody out.
    pub(super) fn wait(self: &Arc<Self>) -> WaitingConnection<R> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        while waiting.connections.len() >= self.config.limits.max_connections.max(1) {
            let Some((_, evicted)) = waiting.connections.pop_front() else { break };
            evicted.cancel();
        }
        let id = waiting.next_id;
        let evicted = CancellationToken::new();
        waiting.next_id += 1;
        waiting.connections.push_back((id, evicted.clone()));
        WaitingConnection { shared: Arc::clone(self), id, evicted }
    }

    /// Counts one association more, unless that would be too many.
    pub(super) fn take_slot(self: &Arc<Self>, peer: IpAddr) -> Result<Slot<R>, RejectReason> {
        let peer = peer.to_canonical();
        let mut associations = self.associations.lock().unwrap_or_else(PoisonError::into_inner);
        if associations.total >= self.config.limits.max_associations {
            return Err(RejectReason::TooManyAssociations);
        }
        let of_peer = associations.per_peer.entry(peer).or_default();
        if *of_peer >= self.config.limits.max_associations_per_peer {
            return Err(RejectReason::TooManyAssociationsOfPeer);
        }
        *of_peer += 1;
        associations.total += 1;
        Ok(Slot { shared: Arc::clone(self), peer })
    }
}

/// A connection that has not become an association; dropping it makes room for another.
#[derive(Debug)]
pub(super) struct WaitingConnection<R> {
    shared: Arc<Shared<R>>,
    id: u64,
    /// Somebody else needs the room.
    pub(super) evicted: CancellationToken,
}

impl<R> Drop for WaitingConnection<R> {
    fn drop(&mut self) {
        let mut waiting = self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.connections.retain(|(id, _)| *id != self.id);
    }
}

/// One counted association; dropping it makes room for another.
#[derive(Debug)]
pub(super) struct Slot<R> {
    shared: Arc<Shared<R>>,
    peer: IpAddr,
}

impl<R> Drop for Slot<R> {
    fn drop(&mut self) {
        let mut associations =
            self.shared.associations.lock().unwrap_or_else(PoisonError::into_inner);
        associations.total -= 1;
        if let Some(of_peer) = associations.per_peer.get_mut(&self.peer) {
            *of_peer -= 1;
            if *of_peer == 0 {
                associations.per_peer.remove(&self.peer);
            }
        }
    }
}

/// A socket that associations come in on.
#[derive(Debug)]
pub struct Endpoint {
    /// The bound socket.
    pub socket: TcpListener,
    /// What makes its connections encrypted; nothing for a clear port.
    pub tls: Option<TlsAcceptor>,
}

impl From<TcpListener> for Endpoint {
    fn from(socket: TcpListener) -> Self {
        Self { socket, tls: None }
    }
}

/// Serves C-ECHO and C-STORE on `endpoints`, which share all limits, until `cancel`, then drains.
///
/// Draining stops accepting, lets associations go on for the grace period, aborts the rest, and returns when the last
/// has told its receiver that it ended. An instance that is being made durable is finished either way.
///
/// # Errors
/// None at present: what goes wrong on one connection ends that connection. The type leaves room for a listener that
/// can no longer accept at all.
pub async fn serve<R: InstanceReceiver>(
    endpoints: Vec<Endpoint>,
    config: ScpConfig,
    receiver: Arc<R>,
    cancel: CancellationToken,
) -> io::Result<()> {
    let shared = Arc::new(Shared::new(config, receiver, cancel.clone()));
    let tasks = TaskTracker::new();
    let mut accepting = JoinSet::new();
    for endpoint in endpoints {
        accepting.spawn(accept(endpoint, Arc::clone(&shared), tasks.clone()));
    }
    while let Some(ended) = accepting.join_next().await {
        ended.map_err(io::Error::other)?;
    }
    tasks.close();
    if timeout(shared.config.timeouts.grace, tasks.wait()).await.is_err() {
        tracing::warn!(associations = tasks.len(), "grace period is over, aborting associations");
        shared.stop.cancel();
        let patience = shared.config.timeouts.storage + ABORT_GRACE;
        if timeout(patience, tasks.wait()).await.is_err() {
            tracing::error!(
                associations = tasks.len(),
                "associations that do not end are left behind"
            );
        }
    }
    Ok(())
}

/// Accepts connections on one socket until the listener is to stop.
async fn accept<R: InstanceReceiver>(
    endpoint: Endpoint,
    shared: Arc<Shared<R>>,
    tasks: TaskTracker,
) {
    let Endpoint { socket, tls } = endpoint;
    let cancel = shared.drain.clone();
    loop {
        let accepted = tokio::select! {
            biased;
            () = cancel.cancelled() => return,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                // Without it, Nagle and delayed acknowledgements cost some 45 ms per instance.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(peer.addr = %peer, error = %error, "peer left at once");
                    continue;
                }
                let waiting = shared.wait();
                let shared = Arc::clone(&shared);
                match tls.clone() {
                    None => tasks.spawn(serve_connection(stream, peer, None, shared, waiting)),
                    Some(tls) => tasks.spawn(serve_encrypted(stream, tls, peer, shared, waiting)),
                };
            }
            Err(error) => {
                tracing::warn!(error = %error, "cannot accept a connection");
                tokio::select! {
                    () = cancel.cancelled() => return,
                    () = sleep(ACCEPT_PAUSE) => {}
                }
            }
        }
    }
}
