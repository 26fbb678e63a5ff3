//! PDUs from and to a byte stream.

use std::io;
use std::ops::Range;
use std::time::Duration;

use dicom_ul::pdu::{AbortRQServiceProviderReason, AbortRQSource, Pdu, write_pdu};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::PDU_HEADER_BYTES;

/// Room for a buffer before anything is known of the peer.
const SMALL_BUFFER_BYTES: usize = 4 * 1024;

/// PDU types (PS3.8 9.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PduKind {
    AssociateRequest,
    AssociateAccept,
    AssociateReject,
    Data,
    ReleaseRequest,
    ReleaseResponse,
    Abort,
}

impl PduKind {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::AssociateRequest,
            2 => Self::AssociateAccept,
            3 => Self::AssociateReject,
            4 => Self::Data,
            5 => Self::ReleaseRequest,
            6 => Self::ReleaseResponse,
            7 => Self::Abort,
            _ => return None,
        })
    }
}

/// Why no PDU came or went.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("connection broke")]
    Io(#[source] io::Error),
    #[error("peer closed the connection")]
    Closed,
    #[error("peer was silent for too long")]
    TimedOut,
    #[error("peer announced a PDU of {length} bytes, at most {limit} are taken")]
    TooLong { length: u32, limit: u32 },
    #[error("peer sent a PDU of unknown type")]
    UnknownPdu,
    #[error("we are shutting down")]
    ShutDown,
}

/// One end of an association: a stream, its receive buffer and the wish to stop.
pub(crate) struct Link<S> {
    stream: S,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that were received and not yet handed out.
    filled: Range<usize>,
    stop: CancellationToken,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Link<S> {
    pub(crate) fn new(stream: S, stop: CancellationToken) -> Self {
        Self { stream, buffer: Vec::new(), filled: 0..0, stop }
    }

    /// Makes room for reading `bytes` at a time.
    pub(crate) fn reserve(&mut self, bytes: usize) {
        if self.buffer.len() < bytes {
            self.buffer.resize(bytes, 0);
        }
    }

    /// The next PDU: its type and where its variable field lies, see [`Link::body`].
    ///
    /// `limit` bounds the variable field, `silence` every wait for bytes, `deadline` all of it. Safe to drop: bytes
    /// received so far stay in the buffer.
    pub(crate) async fn next_pdu(
        &mut self,
        limit: u32,
        silence: Duration,
        deadline: Instant,
    ) -> Result<(PduKind, Range<usize>), WireError> {
        self.fill(PDU_HEADER_BYTES, silence, deadline).await?;
        let start = self.filled.start;
        let [kind, _, l0, l1, l2, l3] = self.buffer[start..start + PDU_HEADER_BYTES] else {
            return Err(WireError::Closed);
        };
        let kind = PduKind::from_byte(kind).ok_or(WireError::UnknownPdu)?;
        let length = u32::from_be_bytes([l0, l1, l2, l3]);
        if length > limit {
            return Err(WireError::TooLong { length, limit });
        }
        let total = PDU_HEADER_BYTES + length as usize;
        self.fill(total, silence, deadline).await?;
        let start = self.filled.start;
        self.filled.start += total;
        Ok((kind, start + PDU_HEADER_BYTES..start + total))
    }

    /// The variable field of the PDU that [`Link::next_pdu`] returned last.
    pub(crate) fn body(&self, range: Range<usize>) -> &[u8] {
        &self.buffer[range]
    }

    /// Reads until `wanted` bytes are there. The buffer grows with what arrives, not with what is announced.
    async fn fill(
        &mut self,
        wanted: usize,
        silence: Duration,
        deadline: Instant,
    ) -> Result<(), WireError> {
        while self.filled.len() < wanted {
            self.make_room(wanted);
            let patience = deadline.min(Instant::now() + silence);
            let read = self.stream.read(&mut self.buffer[self.filled.end..]);
            let read = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(WireError::ShutDown),
                read = timeout_at(patience, read) => read,
            };
            let read = read.map_err(|_| WireError::TimedOut)?.map_err(WireError::Io)?;
            if read == 0 {
                return Err(WireError::Closed);
            }
            self.filled.end += read;
        }
        Ok(())
    }

    fn make_room(&mut self, wanted: usize) {
        if self.filled.is_empty() {
            self.filled = 0..0;
        }
        let is_short_of_room = self.buffer.len() - self.filled.start < wanted;
        if self.filled.end == self.buffer.len() || is_short_of_room {
            self.buffer.copy_within(self.filled.clone(), 0);
            self.filled = 0..self.filled.len();
        }
        if self.filled.end == self.buffer.len() {
            let length = (2 * self.buffer.len()).max(SMALL_BUFFER_BYTES);
            self.buffer.resize(length, 0);
        }
    }

    /// Writes a PDU made of dicom-ul's types.
    pub(crate) async fn send(&mut self, pdu: &Pdu, patience: Duration) -> Result<(), WireError> {
        let mut bytes = Vec::with_capacity(256);
        write_pdu(&mut bytes, pdu)
            .map_err(|_| WireError::Io(io::Error::other("PDU cannot be encoded")))?;
        self.send_bytes(&bytes, patience).await
    }

    /// Writes bytes that are whole PDUs.
    pub(crate) async fn send_bytes(
        &mut self,
        bytes: &[u8],
        patience: Duration,
    ) -> Result<(), WireError> {
        let write = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        timeout(patience, write).await.map_err(|_| WireError::TimedOut)?.map_err(WireError::Io)
    }

    /// Sends an A-ABORT, as far as the peer still listens, and closes.
    pub(crate) async fn abort(&mut self, reason: AbortRQServiceProviderReason) {
        let pdu = Pdu::AbortRQ { source: AbortRQSource::ServiceProvider(reason) };
        if self.send(&pdu, Duration::from_secs(1)).await.is_ok() {
            self.close(Duration::from_secs(1)).await;
        }
    }

    /// Ends our side of the stream and waits for the peer to end its own, so that what was written last is not lost
    /// to a reset.
    pub(crate) async fn close(&mut self, patience: Duration) {
        let closing = async {
            self.stream.shutdown().await?;
            let mut rest = [0; 1024];
            while self.stream.read(&mut rest).await? > 0 {}
            io::Result::Ok(())
        };
        // Whatever goes wrong here, the association is over.
        let _ = timeout(patience, closing).await;
    }
}
