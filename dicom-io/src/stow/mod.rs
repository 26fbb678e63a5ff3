//! STOW-RS (PS3.18 10.5): as a user agent, instances to a DICOMweb server over HTTP/1.1, encrypted or not; as an origin
//! server, the instances of a request that somebody else's HTTP server has taken.

mod client;
mod multipart;
mod receive;
mod response;
mod retrieve;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::compression::Compression;
use crate::dimse::FailureReason;
use crate::scu::{InstanceSource, UnreadableInstance};
use crate::tls::{TlsConnector, TlsRefusal};
use client::Client;
use dicom_types::SopInstanceUid;

pub use retrieve::{get_instance, has_instance};

pub use receive::{StowRequestError, StowedInstance, receive, response};

/// A DICOMweb server that is sent to.
#[derive(Debug, Clone)]
pub struct StowDestination {
    /// Root of its services, without a slash at the end: `https://pacs.example.org/dicom-web`.
    pub root: StowRoot,
    /// What makes the connection encrypted; needed for `https`.
    pub tls: Option<TlsConnector>,
    /// What it knows us by.
    pub token: Option<BearerToken>,
    /// Resolving the name, connecting and the TLS handshake.
    pub connect_timeout: Duration,
    /// From the request to the end of its answer: the server stores the instance in the meantime.
    pub response_timeout: Duration,
    /// Transfer syntaxes that objects of ours are offered in before the one that they have.
    pub compress: [Option<Compression>; 2],
}

/// The root of a server's DICOMweb services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StowRoot {
    uri: hyper::Uri,
}

/// A text that is no root of DICOMweb services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not http://HOST[:PORT]/PATH or https://HOST[:PORT]/PATH, without user, query or fragment")]
pub struct ParseStowRootError;

impl std::str::FromStr for StowRoot {
    type Err = ParseStowRootError;

    fn from_str(text: &str) -> Result<Self, ParseStowRootError> {
        let uri: hyper::Uri = text.trim_end_matches('/').parse().map_err(|_| ParseStowRootError)?;
        let is_plain = uri.query().is_none() && !text.contains(['@', '#']);
        let is_web = matches!(uri.scheme_str(), Some("http" | "https"));
        if !is_web || !is_plain || uri.host().is_none_or(str::is_empty) {
            return Err(ParseStowRootError);
        }
        Ok(Self { uri })
    }
}

impl fmt::Display for StowRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.uri.to_string().trim_end_matches('/'))
    }
}

impl StowRoot {
    /// Whether the connection must be encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }

    fn host(&self) -> &str {
        self.uri.host().unwrap_or_default()
    }

    fn address(&self) -> String {
        let default = if self.is_encrypted() { 443 } else { 80 };
        format!("{}:{}", self.host(), self.uri.port_u16().unwrap_or(default))
    }

    fn authority(&self) -> &str {
        self.uri.authority().map_or("", |authority| authority.as_str())
    }

    fn path(&self, below: &str) -> String {
        format!("{}{below}", self.uri.path().trim_end_matches('/'))
    }
}

/// A bearer token (RFC 6750); never shown.
#[derive(Clone)]
pub enum BearerToken {
    /// The token itself.
    Text(Arc<str>),
    /// A file that holds it, read for each connection, so that it may be renewed.
    File(PathBuf),
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("BearerToken"),
            Self::File(file) => f.debug_tuple("BearerToken").field(file).finish(),
        }
    }
}

/// Why a server could not be asked at all. What it wrote is not repeated.
#[derive(Debug, thiserror::Error)]
pub enum StowError {
    /// The name cannot be resolved, or nobody listens there.
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    /// One side does not trust the other.
    #[error("no encrypted connection: {0}")]
    Tls(TlsRefusal),
    /// The token's file cannot be read, or holds no token.
    #[error("token cannot be read from {}", .0.display())]
    Token(PathBuf),
    /// The server did not answer in time.
    #[error("server did not answer in time")]
    TimedOut,
    /// The connection ended, or the answer is not HTTP.
    #[error("connection lost, or no HTTP answer")]
    Broken,
    /// The server refuses us, or does not have the service.
    #[error("server answered HTTP status {0}")]
    Status(u16),
}

/// How storing one instance went.
#[derive(Debug)]
pub enum StowResult {
    /// The server has it; the HTTP status.
    Stored(u16),
    /// An HTTP status or a failure reason that may pass.
    Busy(u16),
    /// We are not let in: HTTP status 401 or 403.
    Unauthorized(u16),
    /// The server does not take instances of this SOP class.
    SopClassRefused(u16),
    /// An HTTP status and a failure reason that will not pass.
    Rejected(u16, Option<FailureReason>),
    /// The connection broke before the answer.
    Unanswered(StowError),
    /// The instance cannot be read here.
    Unreadable(UnreadableInstance),
}

/// Stores instances one after the other over one connection; one outcome for each, in their order.
///
/// Each is a request of its own, whose file is in memory as long as it is sent, so that every instance has an answer of
/// its own.
///
/// # Errors
/// [`StowError`] when there was no connection, so that nothing was sent.
pub async fn store(
    destination: &StowDestination,
    instances: &[InstanceSource],
) -> Result<Vec<StowResult>, StowError> {
    let mut client = Client::connect(destination).await?;
    let mut results = Vec::with_capacity(instances.len());
    for source in instances {
        results.push(match source.read().await {
            Err(error) => StowResult::Unreadable(error),
            Ok((class, instance, bytes)) => {
                let wanted = destination.compress.into_iter().flatten();
                let wanted: Vec<_> = wanted.filter(|wanted| wanted.is_for(&class)).collect();
                offer(&mut client, &instance, bytes, &wanted).await
            }
        });
        let is_broken = matches!(results.last(), Some(StowResult::Unanswered(_)));
        if is_broken || client.is_closed() {
            client = match Client::connect(destination).await {
                Ok(client) => client,
                Err(_) if !results.is_empty() => break,
                Err(error) => return Err(error),
            };
        }
    }
    results.resize_with(instances.len(), || StowResult::Unanswered(StowError::Broken));
    Ok(results)
}

/// Stores one instance, first in the transfer syntaxes of `wanted`: what the server does not take in one, it is sent in
/// the next, and in its own in the end.
async fn offer(
    client: &mut Client,
    sop_instance_uid: &SopInstanceUid,
    file: Vec<u8>,
    wanted: &[Compression],
) -> StowResult {
    for compression in wanted {
        let Ok(compressed) = compression.file(&file) else { continue };
        match client.store(compressed).await {
            Ok(answer) => match response::read(&answer, sop_instance_uid) {
                StowResult::SopClassRefused(_) | StowResult::Rejected(..) => {}
                result => return result,
            },
            Err(error) => return StowResult::Unanswered(error),
        }
    }
    match client.store(file).await {
        Ok(answer) => response::read(&answer, sop_instance_uid),
        Err(error) => StowResult::Unanswered(error),
    }
}

/// Asks a server whether it is there, by a search for one study (QIDO-RS).
///
/// # Errors
/// [`StowError`] unless it answers success.
pub async fn echo(destination: &StowDestination) -> Result<(), StowError> {
    let mut client = Client::connect(destination).await?;
    let answer = client.search().await?;
    if (200..300).contains(&answer.status) { Ok(()) } else { Err(StowError::Status(answer.status)) }
}
