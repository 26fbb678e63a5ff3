//! Storage commitment: asking a destination for it, and reporting it to a sender that asked us.

use std::time::Duration;

use dicom_ul::pdu::RequestorRoles;

use super::association::{AssociateError, Association, Proposal};
use super::{Destination, ScuConfig};
use crate::dimse::{
    Attributes, COMMITMENT_SYNTAXES, CommandField, CommandSet, CommitmentReport, CommitmentRequest,
    DecodeCommitmentError, MAX_COMMITMENT_BYTES, STORAGE_COMMITMENT, Status,
};

/// Why storage commitment was not asked for, or not reported.
#[derive(Debug, thiserror::Error)]
pub enum CommitmentError {
    /// No association, or it broke.
    #[error("no association with the peer")]
    Associate(#[from] AssociateError),
    /// The peer does not take storage commitment.
    #[error("peer refuses the storage commitment SOP class")]
    Refused,
    /// The peer answered something other than success.
    #[error("peer answered status {0}")]
    Status(Status),
    /// The peer's report makes no sense.
    #[error("report of the peer")]
    Report(#[from] DecodeCommitmentError),
}

/// Asks `destination` to commit to instances (N-ACTION), and waits up to `wait` for a report over the same association.
///
/// Nothing comes back when there was none: the destination then reports over an association of its own.
///
/// # Errors
/// [`CommitmentError`] unless the destination took the request.
pub async fn request_commitment(
    destination: &Destination,
    request: &CommitmentRequest,
    config: &ScuConfig,
    wait: Duration,
) -> Result<Option<CommitmentReport>, CommitmentError> {
    let (mut association, context_id) = associate(destination, None, config).await?;
    let dataset = request.encode(association.transfer_syntax(context_id));
    association.send_message(context_id, &CommandSet::commitment_request(1), &dataset).await?;
    let mut is_taken = false;
    let mut report = None;
    while !is_taken || report.is_none() {
        let patience = if is_taken { wait } else { config.response_timeout };
        let message = match association.message(MAX_COMMITMENT_BYTES, patience).await {
            Ok(message) => message,
            // The request was taken, and the report comes another way.
            Err(AssociateError::TimedOut) if is_taken => break,
            Err(AssociateError::Aborted | AssociateError::ConnectionLost) if is_taken => {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        match message.command.field() {
            CommandField::N_ACTION_RSP => {
                let status = message.command.status().ok_or(AssociateError::Protocol)?;
                if status != Status::SUCCESS {
                    association.release().await;
                    return Err(CommitmentError::Status(status));
                }
                is_taken = true;
            }
            CommandField::N_EVENT_REPORT_RQ => {
                let syntax = association.transfer_syntax(message.context_id).parse();
                let syntax = syntax.map_err(|_| AssociateError::Protocol)?;
                let decoded = CommitmentReport::decode(&message.dataset, &syntax);
                let is_ours =
                    |report: &CommitmentReport| report.transaction_uid == request.transaction_uid;
                let status = match &decoded {
                    Ok(report) if is_ours(report) => Status::SUCCESS,
                    Ok(_) | Err(_) => Status::INVALID_ARGUMENT,
                };
                let response = message.command.response(status);
                association.send_message(message.context_id, &response, &[]).await?;
                report = Some(decoded?).filter(is_ours);
            }
            _ => return Err(AssociateError::Protocol.into()),
        }
    }
    association.release().await;
    Ok(report)
}

/// Reports to a sender that asked us for storage commitment (N-EVENT-REPORT), over an association of ours in which we
/// are the provider.
///
/// # Errors
/// [`CommitmentError`] unless the sender took the report.
pub async fn report_commitment(
    sender: &Destination,
    report: &CommitmentReport,
    config: &ScuConfig,
) -> Result<(), CommitmentError> {
    let provider = RequestorRoles { scu: false, scp: true };
    let (mut association, context_id) = associate(sender, Some(provider), config).await?;
    let dataset = report.encode(association.transfer_syntax(context_id));
    let command = CommandSet::commitment_report(1, report.event_type());
    association.send_message(context_id, &command, &dataset).await?;
    let message = association.message(MAX_COMMITMENT_BYTES, config.response_timeout).await?;
    let answered = message.command.number(Attributes::MESSAGE_ID_BEING_RESPONDED_TO);
    if message.command.field() != CommandField::N_EVENT_REPORT_RSP || answered != Some(1) {
        association.abort().await;
        return Err(AssociateError::Protocol.into());
    }
    association.release().await;
    match message.command.status() {
        Some(Status::SUCCESS) => Ok(()),
        Some(status) => Err(CommitmentError::Status(status)),
        None => Err(AssociateError::Protocol.into()),
    }
}

async fn associate(
    peer: &Destination,
    roles: Option<RequestorRoles>,
    config: &ScuConfig,
) -> Result<(Association, u8), CommitmentError> {
    let proposals = COMMITMENT_SYNTAXES.map(|syntax| Proposal {
        abstract_syntax: STORAGE_COMMITMENT.to_owned(),
        transfer_syntax: syntax.to_owned(),
    });
    let roles = roles.map(|roles| (STORAGE_COMMITMENT, roles));
    let association = Association::request_as(peer, &proposals, roles, config).await?;
    let accepted = (0..proposals.len()).find_map(|index| association.accepted_context(index));
    let Some(context_id) = accepted else {
        association.release().await;
        return Err(CommitmentError::Refused);
    };
    Ok((association, context_id))
}
