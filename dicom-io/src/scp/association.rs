//! One association, from its acceptance to its end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dicom_types::TransferSyntaxUid;
use dicom_ul::pdu::{AbortRQServiceProviderReason, Pdu};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::listener::Shared;
use super::negotiate::AcceptedContext;
use super::receiver::{AssociationEnd, AssociationInfo, CommitmentAnswer, InstanceReceiver};
use super::store::StoreOperation;
use crate::dimse::{
    Attributes, CommandField, CommandSet, CommitmentReport, CommitmentRequest,
    DecodeCommitmentError, MAX_COMMAND_BYTES, MAX_COMMITMENT_BYTES, STORAGE_COMMITMENT, Status,
    StoreStatus,
};
use crate::upper_layer::{
    COMMAND, LAST, Link, PDU_HEADER_BYTES, PDV_HEADER_BYTES, PduKind, WireError, data_header,
    data_values, max_fragment_bytes, message,
};

/// How long a peer may take to close after we said the last word (the ARTIM timer of PS3.8 9.1.5).
pub(super) const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// Message id of our reports of storage commitment: one is under way at a time.
const REPORT_MESSAGE_ID: u16 = 1;

pub(super) fn abort_reason(error: &WireError) -> AbortRQServiceProviderReason {
    match error {
        WireError::TooLong { .. } => AbortRQServiceProviderReason::InvalidPduParameter,
        WireError::UnknownPdu => AbortRQServiceProviderReason::UnrecognizedPdu,
        _ => AbortRQServiceProviderReason::ReasonNotSpecified,
    }
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) stored: u64,
    pub(super) refused: u64,
    pub(super) stored_bytes: u64,
}

/// An accepted association.
pub(super) struct Session<S, R: InstanceReceiver> {
    link: Link<S>,
    shared: Arc<Shared<R>>,
    info: Arc<AssociationInfo>,
    contexts: BTreeMap<u8, AcceptedContext>,
    peer_max_pdu_bytes: u32,
    /// A report of storage commitment that the peer has not answered yet.
    open_report: Option<CommitmentReport>,
    counts: Counts,
}

/// Where in a message the association is.
enum Phase<R: InstanceReceiver> {
    BetweenMessages,
    Command { context_id: u8, bytes: Vec<u8> },
    Dataset { context_id: u8, command: CommandSet, operation: Operation<R> },
}

/// What a data set is for.
enum Operation<R: InstanceReceiver> {
    Store(Box<StoreOperation<R>>),
    /// A request for storage commitment, or a report of it.
    Commitment {
        transfer_syntax_uid: TransferSyntaxUid,
        dataset: Vec<u8>,
        is_too_long: bool,
    },
    /// An operation that is not offered: the data set is read past, then the status is answered.
    Unsupported,
}

/// Why an association ends, and the abort that tells the peer, if it is told.
struct Ending {
    end: AssociationEnd,
    abort: Option<AbortRQServiceProviderReason>,
}

impl Ending {
    fn protocol_error(reason: AbortRQServiceProviderReason) -> Self {
        Self { end: AssociationEnd::ProtocolError, abort: Some(reason) }
    }
}

impl From<WireError> for Ending {
    fn from(error: WireError) -> Self {
        let end = match error {
            WireError::Io(_) | WireError::Closed => AssociationEnd::ConnectionLost,
            WireError::TimedOut => AssociationEnd::TimedOut,
            WireError::ShutDown => AssociationEnd::ShutDown,
            WireError::TooLong { .. } | WireError::UnknownPdu => AssociationEnd::ProtocolError,
        };
        let abort = (end != AssociationEnd::ConnectionLost).then(|| abort_reason(&error));
        if end != AssociationEnd::ShutDown {
            tracing::warn!(error = %error, "association fails");
        }
        Self { end, abort }
    }
}

impl<S, R> Session<S, R>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    R: InstanceReceiver,
{
    pub(super) fn new(
        link: Link<S>,
        shared: Arc<Shared<R>>,
        info: Arc<AssociationInfo>,
        contexts: BTreeMap<u8, AcceptedContext>,
        peer_max_pdu_bytes: u32,
    ) -> Self {
        let counts = Counts::default();
        Self { link, shared, info, contexts, peer_max_pdu_bytes, open_report: None, counts }
    }

    pub(super) async fn run(mut self) -> (AssociationEnd, Counts) {
        let Ending { end, abort } = self.serve_messages().await;
        match abort {
            Some(reason) => self.link.abort(reason).await,
            None if end == AssociationEnd::Released => self.link.close(CLOSE_PATIENCE).await,
            None => {}
        }
        (end, self.counts)
    }

    async fn serve_messages(&mut self) -> Ending {
        let shared = Arc::clone(&self.shared);
        let timeouts = shared.config.timeouts;
        // Some peers count the headers of PDU and data value on top of the length that was agreed.
        let headers = (PDU_HEADER_BYTES + PDV_HEADER_BYTES) as u32;
        let max_pdu_bytes = shared.config.limits.max_pdu_bytes.saturating_add(headers);
        let mut phase = Phase::BetweenMessages;
        let mut deadline = Instant::now() + timeouts.idle;
        loop {
            let is_between_messages = matches!(phase, Phase::BetweenMessages);
            let silence = if is_between_messages { timeouts.idle } else { timeouts.stall };
            let pdu = self.link.next_pdu(max_pdu_bytes, silence, deadline).await;
            let (kind, range) = match pdu {
                Ok(pdu) => pdu,
                Err(error) => return error.into(),
            };
            match kind {
                PduKind::Data => {}
                PduKind::ReleaseRequest if is_between_messages => {
                    return match self.link.send(&Pdu::ReleaseRP, timeouts.write).await {
                        Ok(()) => Ending { end: AssociationEnd::Released, abort: None },
                        Err(error) => error.into(),
                    };
                }
                PduKind::Abort => {
                    return Ending { end: AssociationEnd::AbortedByPeer, abort: None };
                }
                _ => {
                    tracing::warn!(pdu = ?kind, "unexpected PDU");
                    return Ending::protocol_error(AbortRQServiceProviderReason::UnexpectedPdu);
                }
            }
            if is_between_messages {
                deadline = Instant::now() + timeouts.message;
            }
            phase = match self.take_data(range, phase).await {
                Ok(phase) => phase,
                Err(ending) => return ending,
            };
            if matches!(phase, Phase::BetweenMessages) {
                deadline = Instant::now() + timeouts.idle;
            }
        }
    }

    /// Takes the data values of one P-DATA-TF PDU.
    async fn take_data(
        &mut self,
        range: std::ops::Range<usize>,
        mut phase: Phase<R>,
    ) -> Result<Phase<R>, Ending> {
        let invalid = || {
            tracing::warn!("malformed or misplaced data value");
            Ending::protocol_error(AbortRQServiceProviderReason::InvalidPduParameter)
        };
        let mut position = 0;
        loop {
            // The values are walked by offset, since answering one needs the link that holds the others.
            let body = &self.link.body(range.clone())[position..];
            let Some(value) = data_values(body).next() else { return Ok(phase) };
            let value = value.map_err(|_| invalid())?;
            position += PDV_HEADER_BYTES + value.fragment.len();
            match &mut phase {
                Phase::BetweenMessages | Phase::Command { .. } if !value.is_command => {
                    return Err(invalid());
                }
                Phase::BetweenMessages => {
                    if !self.contexts.contains_key(&value.context_id)
                        || value.fragment.len() > MAX_COMMAND_BYTES
                    {
                        return Err(invalid());
                    }
                    let (context_id, is_last) = (value.context_id, value.is_last);
                    phase = Phase::Command { context_id, bytes: value.fragment.to_vec() };
                    if is_last {
                        phase = self.end_command(phase).await?;
                    }
                }
                Phase::Command { context_id, bytes } => {
                    let is_too_long = bytes.len() + value.fragment.len() > MAX_COMMAND_BYTES;
                    if *context_id != value.context_id || is_too_long {
                        return Err(invalid());
                    }
                    bytes.extend_from_slice(value.fragment);
                    if value.is_last {
                        phase = self.end_command(phase).await?;
                    }
                }
                Phase::Dataset { context_id, operation, .. } => {
                    if *context_id != value.context_id || value.is_command {
                        return Err(invalid());
                    }
                    let is_last = value.is_last;
                    match operation {
                        Operation::Store(operation) => operation.push(value.fragment).await,
                        Operation::Commitment { dataset, is_too_long, .. } => {
                            *is_too_long |=
                                dataset.len() + value.fragment.len() > MAX_COMMITMENT_BYTES;
                            if !*is_too_long {
                                dataset.extend_from_slice(value.fragment);
                            }
                        }
                        Operation::Unsupported => {}
                    }
                    if is_last {
                        phase = self.end_dataset(phase).await?;
                    }
                }
            }
        }
    }

    async fn end_command(&mut self, phase: Phase<R>) -> Result<Phase<R>, Ending> {
        let Phase::Command { context_id, bytes } = phase else { return Ok(phase) };
        let command = CommandSet::decode(&bytes).map_err(|error| {
            tracing::warn!(error = %error, "command set cannot be read");
            Ending::protocol_error(AbortRQServiceProviderReason::InvalidPduParameter)
        })?;
        let field = command.field();
        let context = self.contexts.get(&context_id);
        let operation = match (field, context) {
            (CommandField::C_STORE_RQ, Some(AcceptedContext::Storage { .. }))
                if !command.has_dataset() =>
            {
                return Err(Ending::protocol_error(
                    AbortRQServiceProviderReason::InvalidPduParameter,
                ));
            }
            (
                CommandField::C_STORE_RQ,
                Some(AcceptedContext::Storage { sop_class_uid, transfer_syntax_uid }),
            ) => {
                let operation = StoreOperation::begin(
                    Arc::clone(&self.shared.receiver),
                    &self.shared.config,
                    Arc::clone(&self.info),
                    &command,
                    (sop_class_uid, transfer_syntax_uid),
                )
                .await;
                Operation::Store(Box::new(operation))
            }
            (
                CommandField::N_ACTION_RQ | CommandField::N_EVENT_REPORT_RQ,
                Some(AcceptedContext::Commitment { transfer_syntax_uid }),
            ) => Operation::Commitment {
                transfer_syntax_uid: transfer_syntax_uid.clone(),
                dataset: Vec::new(),
                is_too_long: false,
            },
            _ => Operation::Unsupported,
        };
        if field == CommandField::N_EVENT_REPORT_RSP {
            self.end_report(&command).await;
        }
        if command.has_dataset() {
            return Ok(Phase::Dataset { context_id, command, operation });
        }
        let response = match field {
            CommandField::C_ECHO_RQ => Some(command.response(Status::SUCCESS)),
            // Nothing runs that could be cancelled, and a response to nothing is nobody's business.
            CommandField::C_CANCEL_RQ => None,
            field if field.is_response() => None,
            _ => Some(command.response(Status::UNRECOGNIZED_OPERATION)),
        };
        if let Some(response) = response {
            self.respond(context_id, &response).await?;
        }
        Ok(Phase::BetweenMessages)
    }

    async fn end_dataset(&mut self, phase: Phase<R>) -> Result<Phase<R>, Ending> {
        let Phase::Dataset { context_id, command, operation } = phase else { return Ok(phase) };
        let response = match operation {
            Operation::Store(operation) => {
                let sop_instance_uid = operation.sop_instance_uid().to_owned();
                let result = operation.finish(&self.shared.config).await;
                if result.status == StoreStatus::Success {
                    self.counts.stored += 1;
                    self.counts.stored_bytes += result.dataset_bytes;
                    command.response(Status::SUCCESS)
                } else {
                    self.counts.refused += 1;
                    tracing::warn!(
                        instance.uid = sop_instance_uid,
                        status = %result.status,
                        reason = result.comment,
                        "instance refused"
                    );
                    command.response(result.status.status()).with_error_comment(&result.comment)
                }
            }
            Operation::Commitment { is_too_long: true, .. } => {
                command.response(Status::RESOURCE_LIMITATION)
            }
            Operation::Commitment { transfer_syntax_uid, dataset, .. } => {
                self.end_commitment(context_id, &command, &transfer_syntax_uid, &dataset).await?;
                return Ok(Phase::BetweenMessages);
            }
            Operation::Unsupported if command.field().is_response() => {
                return Ok(Phase::BetweenMessages);
            }
            Operation::Unsupported => command.response(Status::UNRECOGNIZED_OPERATION),
        };
        self.respond(context_id, &response).await?;
        Ok(Phase::BetweenMessages)
    }

    /// Answers a request for storage commitment, or takes a report of it.
    async fn end_commitment(
        &mut self,
        context_id: u8,
        command: &CommandSet,
        transfer_syntax_uid: &TransferSyntaxUid,
        dataset: &[u8],
    ) -> Result<(), Ending> {
        let receiver = Arc::clone(&self.shared.receiver);
        let unreadable = |error: DecodeCommitmentError| {
            tracing::warn!(error = %error, "storage commitment cannot be read");
            Status::INVALID_ARGUMENT
        };
        if command.field() == CommandField::N_EVENT_REPORT_RQ {
            let event = command.number(Attributes::EVENT_TYPE_ID);
            let status = match CommitmentReport::decode(dataset, transfer_syntax_uid) {
                _ if !matches!(event, Some(1 | 2)) => Status::NO_SUCH_EVENT,
                Ok(report) => receiver.commitment_report(&self.info, report).await,
                Err(error) => unreadable(error),
            };
            return self.respond(context_id, &command.response(status)).await;
        }
        let class = command.text(Attributes::REQUESTED_SOP_CLASS_UID);
        let action = command.number(Attributes::ACTION_TYPE_ID);
        let answer = match CommitmentRequest::decode(dataset, transfer_syntax_uid) {
            _ if class != Some(STORAGE_COMMITMENT) => {
                CommitmentAnswer::Refused(Status::NO_SUCH_SOP_CLASS)
            }
            _ if action != Some(1) => CommitmentAnswer::Refused(Status::NO_SUCH_ACTION),
            Ok(request) => receiver.commitment_requested(&self.info, request).await,
            Err(error) => CommitmentAnswer::Refused(unreadable(error)),
        };
        let (status, report) = match answer {
            CommitmentAnswer::Refused(status) => (status, None),
            CommitmentAnswer::ReportLater => (Status::SUCCESS, None),
            CommitmentAnswer::ReportNow(report) => (Status::SUCCESS, Some(report)),
        };
        self.respond(context_id, &command.response(status)).await?;
        let Some(report) = report else { return Ok(()) };
        let request = CommandSet::commitment_report(REPORT_MESSAGE_ID, report.event_type());
        let dataset = report.encode(transfer_syntax_uid.as_str());
        let max_fragment =
            max_fragment_bytes(self.peer_max_pdu_bytes, self.shared.config.limits.max_pdu_bytes);
        let bytes = message(context_id, &request.encode(), &dataset, max_fragment);
        self.link.send_bytes(&bytes, self.shared.config.timeouts.write).await?;
        self.open_report = Some(report);
        Ok(())
    }

    /// The peer's answer to our report.
    async fn end_report(&mut self, response: &CommandSet) {
        let answered = response.number(Attributes::MESSAGE_ID_BEING_RESPONDED_TO);
        if answered != Some(REPORT_MESSAGE_ID) || response.status() != Some(Status::SUCCESS) {
            return;
        }
        if let Some(report) = self.open_report.take() {
            self.shared.receiver.commitment_reported(&self.info, &report).await;
        }
    }

    async fn respond(&mut self, context_id: u8, response: &CommandSet) -> Result<(), Ending> {
        let command = response.encode();
        let mut bytes = data_header(context_id, COMMAND | LAST, command.len()).to_vec();
        bytes.extend_from_slice(&command);
        self.link.send_bytes(&bytes, self.shared.config.timeouts.write).await?;
        Ok(())
    }
}
