//! Syslog over TLS: RFC 5424 headers in the octet-counted frames of RFC 5425.

use std::fmt::Write as _;
use std::io::{self, ErrorKind};
use std::time::Duration;

use dicom_io::tls::{TlsConnector, TlsRefusal};
use time::format_description::well_known::Rfc3339;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::message::AuditMessage;

/// Facility 10 (security), severity 5 (notice): IHE ITI TF-2 3.20.4.1.
const PRIORITY: u8 = 10 * 8 + 5;
/// IHE ITI TF-2 3.20.4.1.
const MESSAGE_ID: &str = "IHE+RFC-3881";
/// RFC 5424 6.4: a message in UTF-8 says so.
const BYTE_ORDER_MARK: &str = "\u{feff}";
/// RFC 5424 7.3.1: behind it, numbers begin again with 1.
const LARGEST_NUMBER: u64 = 2_147_483_647;

/// Where messages go.
#[derive(Debug)]
pub(super) struct Repository {
    pub(super) address: String,
    pub(super) tls: TlsConnector,
    pub(super) timeout: Duration,
}

/// Why messages did not arrive, or may not have.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    #[error("cannot connect to {address}")]
    Connect { address: String, source: io::Error },
    #[error("no TLS with {address}: {refusal}")]
    Tls { address: String, refusal: TlsRefusal },
    #[error("connection to {address} broke")]
    Broken { address: String, source: io::Error },
    #[error("{address} did not answer within {seconds} s")]
    Silent { address: String, seconds: u64 },
}

/// Appends the frame of message number `number` to `frames`.
pub(super) fn frame(message: &AuditMessage, number: u64, xml: &str, frames: &mut Vec<u8>) {
    let at = message.at.format(&Rfc3339).unwrap_or_else(|_| "-".to_owned());
    let mut text = format!("<{PRIORITY}>1 {at} ");
    let number = (number - 1) % LARGEST_NUMBER + 1;
    let _ = write!(
        text,
        "{} prosector {} {MESSAGE_ID} [meta sequenceId=\"{number}\"] {BYTE_ORDER_MARK}{xml}",
        word(&message.host, 255),
        word(&message.process, 128)
    );
    frames.extend_from_slice(format!("{} ", text.len()).as_bytes());
    frames.extend_from_slice(text.as_bytes());
}

/// A field of a header: printable ASCII without blanks, or a minus sign for nothing (RFC 5424 6).
fn word(text: &str, longest: usize) -> String {
    let printable = text.chars().filter(char::is_ascii_graphic).take(longest);
    let word: String = printable.collect();
    if word.is_empty() { "-".to_owned() } else { word }
}

impl Repository {
    /// Sends `frames` over a connection of their own.
    ///
    /// Syslog knows no acknowledgement. That the other side closes the connection in answer to our closing it (it must,
    /// RFC 5425 4.4) is the evidence that it has read all that came before.
    ///
    /// # Errors
    /// [`SendError`]: what was sent may have arrived or not.
    pub(super) async fn send(&self, frames: &[u8]) -> Result<(), SendError> {
        let address = || self.address.clone();
        let silent =
            |_| SendError::Silent { address: address(), seconds: self.timeout.as_secs().max(1) };
        let connecting = timeout(self.timeout, TcpStream::connect(&self.address));
        let stream = connecting
            .await
            .map_err(silent)?
            .map_err(|source| SendError::Connect { address: address(), source })?;
        let host = self.address.rsplit_once(':').map_or(self.address.as_str(), |(host, _)| host);
        let mut stream = timeout(self.timeout, self.tls.encrypt(stream, host))
            .await
            .map_err(silent)?
            .map_err(|refusal| SendError::Tls { address: address(), refusal })?;
        let broken = |source| SendError::Broken { address: address(), source };
        for piece in frames.chunks(64 * 1024) {
            timeout(self.timeout, stream.write_all(piece))
                .await
                .map_err(silent)?
                .map_err(broken)?;
        }
        let close = async {
            stream.shutdown().await?;
            let mut said = [0; 256];
            // Nothing is said to us; but an answer of TLS itself may come before the end.
            while stream.read(&mut said).await? > 0 {}
            Ok::<(), io::Error>(())
        };
        match timeout(self.timeout, close).await.map_err(silent)? {
            // Some servers close without a word: all the same, they have read to the end.
            Err(source) if source.kind() != ErrorKind::UnexpectedEof => Err(broken(source)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_header_hold_neither_blanks_nor_other_scripts() {
        assert_eq!(word("pacs 1\n", 255), "pacs1");
        assert_eq!(word("üß", 255), "-");
        assert_eq!(word("abcdef", 3), "abc");
    }
}
