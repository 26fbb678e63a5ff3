//! The calling side: C-ECHO, C-STORE, C-FIND, C-GET, C-MOVE and storage commitment as service class user, and our
//! reports of storage commitment as its provider.

mod association;
mod commitment;
mod instance;
mod query;
mod retrieve;
mod store;
mod transcode;

use std::time::Duration;

use dicom_types::AeTitle;

use crate::compression::Compression;
use crate::dimse::{Attributes, CommandSet, Status};
use crate::tls::TlsConnector;
use association::{Association, Proposal};

pub use association::{AssociateError, Rejection};
pub use commitment::{CommitmentError, report_commitment, request_commitment};
pub use instance::{InstanceSource, UnreadableInstance};
pub use query::{
    FoundSeries, FoundStudy, Moved, QueryError, count_instances, find_series, find_studies,
    move_series,
};
pub use retrieve::{SentInstance, get_instance, has_instance};
pub use store::{StoreDisposition, StoreOutcome, StoreResult, store};
pub(crate) use transcode::explicit_to_implicit;

/// A peer that is sent to.
#[derive(Debug, Clone)]
pub struct Destination {
    /// Called AE title: theirs.
    pub ae_title: AeTitle,
    /// Host name or address, and port: `pacs.example.org:104`.
    pub address: String,
    /// Calling AE title: ours.
    pub calling_ae_title: AeTitle,
    /// What makes the connection encrypted; nothing for one in the clear.
    pub tls: Option<TlsConnector>,
}

/// Patience and sizes of a sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScuConfig {
    /// Resolving the name and connecting.
    pub connect_timeout: Duration,
    /// From the association request to its answer.
    pub association_timeout: Duration,
    /// Writing one PDU.
    pub write_timeout: Duration,
    /// From the end of a request to its response: the peer stores the instance in the meantime.
    pub response_timeout: Duration,
    /// Longest P-DATA PDU that is sent, in bytes, even to peers that take longer ones.
    pub max_sent_pdu_bytes: u32,
    /// Transfer syntaxes that objects of ours are offered in before the one that they have.
    pub compress: [Option<Compression>; 2],
}

impl Default for ScuConfig {
    /// 10 s, 30 s, 30 s, 2 min, 256 KiB.
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            association_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            response_timeout: Duration::from_mins(2),
            max_sent_pdu_bytes: 256 * 1024,
            compress: [None; 2],
        }
    }
}

/// Why a peer could not be reached or did not answer an echo.
#[derive(Debug, thiserror::Error)]
pub enum EchoError {
    /// No association.
    #[error("no association with the peer")]
    Associate(#[source] AssociateError),
    /// The peer does not take C-ECHO.
    #[error("peer refuses the verification SOP class")]
    Refused,
    /// The peer answered something other than success.
    #[error("peer answered status {0}")]
    Status(Status),
}

/// Asks a peer whether it is there (C-ECHO).
///
/// # Errors
/// [`EchoError`] unless the peer answered success.
pub async fn echo(destination: &Destination, config: &ScuConfig) -> Result<(), EchoError> {
    let verification = Proposal {
        abstract_syntax: "1.2.840.10008.1.1".into(),
        transfer_syntax: "1.2.840.10008.1.2".into(),
    };
    let mut association = Association::request(destination, &[verification], config)
        .await
        .map_err(EchoError::Associate)?;
    let Some(context_id) = association.accepted_context(0) else {
        association.release().await;
        return Err(EchoError::Refused);
    };
    let command = CommandSet::echo_request(1);
    association.send_command(context_id, &command).await.map_err(EchoError::Associate)?;
    let response = association.response(1).await.map_err(EchoError::Associate)?;
    association.release().await;
    match response.number(Attributes::STATUS).map(Status) {
        Some(Status::SUCCESS) => Ok(()),
        Some(status) => Err(EchoError::Status(status)),
        None => Err(EchoError::Associate(AssociateError::Protocol)),
    }
}
