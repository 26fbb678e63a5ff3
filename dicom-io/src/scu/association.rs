//! One association that we request.

use std::io;
use std::time::Duration;

use dicom_ul::pdu::{
    AbortRQServiceProviderReason, AssociationRQ, Pdu, PresentationContextProposed, RequestorRoles,
    UserVariableItem,
};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::{Destination, ScuConfig};
use crate::dimse::{Attributes, CommandSet, MAX_COMMAND_BYTES};
use crate::part10::{IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME};
use crate::tls::{TlsRefusal, Transport};
use crate::upper_layer::{
    APPLICATION_CONTEXT, Acceptance, COMMAND, LAST, Link, PduKind, WireError, data_header,
    data_values, max_fragment_bytes, message, parse_acceptance,
};

/// Longest PDU that a peer may answer with; responses have a few hundred bytes.
const MAX_RECEIVED_PDU_BYTES: u32 = 64 * 1024;

/// How long the end of an association may take.
const RELEASE_PATIENCE: Duration = Duration::from_secs(5);

/// Most presentation contexts of an association: the odd numbers from 1 to 255.
pub(super) const MAX_PROPOSALS: usize = 128;

/// Why an association with a peer did not come about, or broke. Peer text is not repeated.
#[derive(Debug, thiserror::Error)]
pub enum AssociateError {
    /// The name cannot be resolved, or nobody listens there.
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    /// The peer does not speak TLS as it must, or one side does not trust the other.
    #[error("no encrypted connection: {0}")]
    Tls(TlsRefusal),
    /// The peer refused the association.
    #[error("association rejected: {0}")]
    Rejected(Rejection),
    /// The peer did not answer in time.
    #[error("peer did not answer in time")]
    TimedOut,
    /// The peer aborted the association.
    #[error("peer aborted the association")]
    Aborted,
    /// The connection ended.
    #[error("connection lost")]
    ConnectionLost,
    /// The peer sent something that does not belong there.
    #[error("peer broke the protocol")]
    Protocol,
}

impl AssociateError {
    /// Whether the same request may succeed later without anybody changing a configuration.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Rejected(rejection) => rejection.is_transient,
            _ => true,
        }
    }
}

impl From<WireError> for AssociateError {
    fn from(error: WireError) -> Self {
        match error {
            // A peer of TLS 1.3 looks at our certificate after it has let us begin.
            WireError::Io(error) => TlsRefusal::of(&error).map_or(Self::ConnectionLost, Self::Tls),
            WireError::Closed | WireError::ShutDown => Self::ConnectionLost,
            WireError::TimedOut => Self::TimedOut,
            WireError::TooLong { .. } | WireError::UnknownPdu => Self::Protocol,
        }
    }
}

/// The content of an A-ASSOCIATE-RJ (PS3.8 table 9-21).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rejection {
    /// Whether the peer asks to try again later.
    pub is_transient: bool,
    /// Source: 1 service user, 2 and 3 service provider.
    pub source: u8,
    /// Reason/Diag.
    pub reason: u8,
}

impl std::fmt::Display for Rejection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let reason = match (self.source, self.reason) {
            (1, 2) => "application context name not supported",
            (1, 3) => "calling AE title not recognized",
            (1, 7) => "called AE title not recognized",
            (2, 2) => "protocol version not supported",
            (3, 1) => "temporary congestion",
            (3, 2) => "local limit exceeded",
            _ => "no reason given",
        };
        let permanence = if self.is_transient { "transient" } else { "permanent" };
        write!(f, "{reason} ({permanence})")
    }
}

/// A presentation context to propose: one abstract syntax in one transfer syntax.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Proposal {
    pub(super) abstract_syntax: String,
    pub(super) transfer_syntax: String,
}

/// An established association.
pub(super) struct Association {
    link: Link<Transport>,
    config: ScuConfig,
    acceptance: Acceptance,
    proposals: usize,
}

impl Association {
    /// Connects and associates; the context of proposal `i` gets the id `2 i + 1`.
    pub(super) async fn request(
        destination: &Destination,
        proposals: &[Proposal],
        config: &ScuConfig,
    ) -> Result<Self, AssociateError> {
        Self::request_as(destination, proposals, None, config).await
    }

    /// The same, with roles other than that of the user for one SOP class (PS3.7 D.3.3.4).
    pub(super) async fn request_as(
        destination: &Destination,
        proposals: &[Proposal],
        roles: Option<(&str, RequestorRoles)>,
        config: &ScuConfig,
    ) -> Result<Self, AssociateError> {
        debug_assert!(proposals.len() <= MAX_PROPOSALS);
        let connecting = timeout(config.connect_timeout, TcpStream::connect(&destination.address));
        let stream = connecting
            .await
            .map_err(|_| AssociateError::Connect(io::ErrorKind::TimedOut.into()))?
            .map_err(AssociateError::Connect)?;
        stream.set_nodelay(true).map_err(AssociateError::Connect)?;
        let transport = match &destination.tls {
            None => Transport::Clear(stream),
            Some(tls) => {
                let host = destination.address.rsplit_once(':').map_or("", |(host, _)| host);
                timeout(config.association_timeout, tls.connect(stream, host))
                    .await
                    .map_err(|_| AssociateError::Tls(TlsRefusal::TimedOut))?
                    .map_err(AssociateError::Tls)?
            }
        };
        let mut link = Link::new(transport, CancellationToken::new());
        link.send(&request_pdu(destination, proposals, roles), config.write_timeout).await?;

        let patience = config.association_timeout;
        let deadline = Instant::now() + patience;
        let (kind, range) = link.next_pdu(MAX_RECEIVED_PDU_BYTES, patience, deadline).await?;
        let body = link.body(range);
        match kind {
            PduKind::AssociateAccept => {
                let acceptance = parse_acceptance(body).map_err(|_| AssociateError::Protocol)?;
                Ok(Self { link, config: *config, acceptance, proposals: proposals.len() })
            }
            PduKind::AssociateReject => {
                let &[_, result, source, reason] =
                    body.first_chunk().ok_or(AssociateError::Protocol)?;
                let rejection = Rejection { is_transient: result == 2, source, reason };
                Err(AssociateError::Rejected(rejection))
            }
            PduKind::Abort => Err(AssociateError::Aborted),
            _ => {
                link.abort(AbortRQServiceProviderReason::UnexpectedPdu).await;
                Err(AssociateError::Protocol)
            }
        }
    }

    /// The context id of a proposal, if it was accepted.
    pub(super) fn accepted_context(&self, proposal: usize) -> Option<u8> {
        debug_assert!(proposal < self.proposals);
        let id = context_id(proposal);
        let is_accepted =
            self.acceptance.contexts.iter().any(|context| context.id == id && context.result == 0);
        is_accepted.then_some(id)
    }

    /// Whether the abstract syntax of a proposal was refused, rather than its transfer syntax.
    pub(super) fn refuses_abstract_syntax(&self, proposal: usize) -> bool {
        let id = context_id(proposal);
        // A context without answer and a refusal without reason say no more than that.
        !self.acceptance.contexts.iter().any(|context| context.id == id && context.result == 4)
    }

    /// Longest fragment of a data set that fits the PDUs of the peer; even, as data sets are.
    pub(super) fn max_fragment_bytes(&self) -> usize {
        max_fragment_bytes(self.acceptance.max_pdu_bytes, self.config.max_sent_pdu_bytes)
    }

    pub(super) async fn send_command(
        &mut self,
        context_id: u8,
        command: &CommandSet,
    ) -> Result<(), AssociateError> {
        let bytes = encode_command(context_id, command);
        self.send_bytes(&bytes).await
    }

    /// Sends bytes that are whole PDUs.
    pub(super) async fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), AssociateError> {
        Ok(self.link.send_bytes(bytes, self.config.write_timeout).await?)
    }

    /// The response to the request with `message_id`.
    pub(super) async fn response(&mut self, message_id: u16) -> Result<CommandSet, AssociateError> {
        let Message { command: response, .. } =
            self.message(0, self.config.response_timeout).await?;
        let answered = response.number(Attributes::MESSAGE_ID_BEING_RESPONDED_TO);
        let is_ours = response.field().is_response() && answered == Some(message_id);
        if is_ours { Ok(response) } else { Err(AssociateError::Protocol) }
    }

    /// The next message, whatever it is, with its data set of at most `max_dataset` bytes.
    pub(super) async fn message(
        &mut self,
        max_dataset: usize,
        patience: Duration,
    ) -> Result<Message, AssociateError> {
        let deadline = Instant::now() + patience;
        let (mut command, mut dataset) = (Vec::new(), Vec::new());
        let mut decoded: Option<CommandSet> = None;
        loop {
            let pdu = self.link.next_pdu(MAX_RECEIVED_PDU_BYTES, patience, deadline).await;
            let (kind, range) = pdu?;
            match kind {
                PduKind::Data => {}
                PduKind::Abort => return Err(AssociateError::Aborted),
                _ => return Err(AssociateError::Protocol),
            }
            for value in data_values(self.link.body(range)) {
                let value = value.map_err(|_| AssociateError::Protocol)?;
                let (part, limit) = if value.is_command {
                    (&mut command, MAX_COMMAND_BYTES)
                } else {
                    (&mut dataset, max_dataset)
                };
                if value.is_command == decoded.is_some()
                    || part.len() + value.fragment.len() > limit
                {
                    return Err(AssociateError::Protocol);
                }
                part.extend_from_slice(value.fragment);
                if !value.is_last {
                    continue;
                }
                let command = match decoded.take() {
                    Some(command) => command,
                    None => CommandSet::decode(&command).map_err(|_| AssociateError::Protocol)?,
                };
                if !value.is_command || !command.has_dataset() {
                    return Ok(Message { context_id: value.context_id, command, dataset });
                }
                decoded = Some(command);
            }
        }
    }

    /// The transfer syntax of an accepted context.
    pub(super) fn transfer_syntax(&self, context_id: u8) -> &str {
        let context = self.acceptance.contexts.iter().find(|context| context.id == context_id);
        context.map_or("", |context| context.transfer_syntax.as_str())
    }

    /// Sends a whole message.
    pub(super) async fn send_message(
        &mut self,
        context_id: u8,
        command: &CommandSet,
        dataset: &[u8],
    ) -> Result<(), AssociateError> {
        let max_fragment = self.max_fragment_bytes();
        let bytes = message(context_id, &command.encode(), dataset, max_fragment);
        self.send_bytes(&bytes).await
    }

    /// Releases the association; that it ends is all that matters by now.
    pub(super) async fn release(mut self) {
        if self.link.send(&Pdu::ReleaseRQ, RELEASE_PATIENCE).await.is_err() {
            return;
        }
        let deadline = Instant::now() + RELEASE_PATIENCE;
        let answer = self.link.next_pdu(MAX_RECEIVED_PDU_BYTES, RELEASE_PATIENCE, deadline).await;
        match answer {
            Ok((PduKind::ReleaseResponse | PduKind::Abort, _)) | Err(_) => {}
            Ok(_) => self.link.abort(AbortRQServiceProviderReason::UnexpectedPdu).await,
        }
    }

    /// Aborts the association: a data set that was begun cannot be ended in any other way.
    pub(super) async fn abort(mut self) {
        self.link.abort(AbortRQServiceProviderReason::ReasonNotSpecified).await;
    }
}

/// A message of the peer.
pub(super) struct Message {
    pub(super) context_id: u8,
    pub(super) command: CommandSet,
    pub(super) dataset: Vec<u8>,
}

/// A command as one whole PDU.
pub(super) fn encode_command(context_id: u8, command: &CommandSet) -> Vec<u8> {
    let command = command.encode();
    let mut bytes = data_header(context_id, COMMAND | LAST, command.len()).to_vec();
    bytes.extend_from_slice(&command);
    bytes
}

fn context_id(proposal: usize) -> u8 {
    (2 * proposal + 1) as u8
}

fn request_pdu(
    destination: &Destination,
    proposals: &[Proposal],
    roles: Option<(&str, RequestorRoles)>,
) -> Pdu {
    let presentation_contexts = proposals
        .iter()
        .enumerate()
        .map(|(index, proposal)| PresentationContextProposed {
            id: context_id(index),
            abstract_syntax: proposal.abstract_syntax.clone(),
            transfer_syntaxes: vec![proposal.transfer_syntax.clone()],
        })
        .collect();
    let mut user_variables = vec![
        UserVariableItem::MaxLength(MAX_RECEIVED_PDU_BYTES),
        UserVariableItem::ImplementationClassUID(IMPLEMENTATION_CLASS_UID.to_owned()),
        UserVariableItem::ImplementationVersionName(IMPLEMENTATION_VERSION_NAME.to_owned()),
    ];
    user_variables.extend(roles.map(|(sop_class_uid, roles)| {
        UserVariableItem::ScuScpRoleSelectionSubItem(sop_class_uid.to_owned(), roles)
    }));
    Pdu::AssociationRQ(AssociationRQ {
        protocol_version: 1,
        calling_ae_title: destination.calling_ae_title.as_str().to_owned(),
        called_ae_title: destination.ae_title.as_str().to_owned(),
        application_context_name: APPLICATION_CONTEXT.to_owned(),
        presentation_contexts,
        user_variables,
    })
}
