//! Whether a PACS has what it was sent, and reading that back: C-FIND and C-GET of one instance (PS3.4 annex C).

use dicom::core::value::PrimitiveValue;
use dicom::core::{DataElement, Tag, VR};
use dicom::dictionary_std::tags;
use dicom::object::InMemDicomObject;
use dicom::transfer_syntax::entries::{EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN};
use dicom_types::{SeriesInstanceUid, SopClassUid, SopInstanceUid, StudyInstanceUid};
use dicom_ul::pdu::RequestorRoles;

use super::association::{AssociateError, Association, Proposal};
use super::{Destination, ScuConfig};
use crate::dimse::{
    Attributes, COMMITMENT_SYNTAXES as SYNTAXES, CommandField, CommandSet, Priority, Status,
    StatusCategory,
};
use crate::read_back::ReadBack;

/// Study Root Query/Retrieve Information Model - FIND.
const FIND: &str = "1.2.840.10008.5.1.4.1.2.2.1";
/// Study Root Query/Retrieve Information Model - GET.
const GET: &str = "1.2.840.10008.5.1.4.1.2.2.3";
/// Longest identifier that a peer may send.
const MAX_IDENTIFIER_BYTES: usize = 64 * 1024;
const MESSAGE_ID: u16 = 1;

/// An instance that a peer was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentInstance {
    /// Its study.
    pub study_instance_uid: StudyInstanceUid,
    /// Its series.
    pub series_instance_uid: SeriesInstanceUid,
    /// Its SOP class.
    pub sop_class_uid: SopClassUid,
    /// Its identity.
    pub sop_instance_uid: SopInstanceUid,
}

/// Why a peer could not be asked for an instance. Peer text is not repeated.
#[derive(Debug, thiserror::Error)]
pub enum RetrieveError {
    /// No association, or it broke.
    #[error("no association with the peer")]
    Associate(#[from] AssociateError),
    /// The peer does not offer the service.
    #[error("peer refuses the SOP class of {0}")]
    Refused(&'static str),
    /// The peer answered something other than success.
    #[error("peer answered status {0}")]
    Status(Status),
}

/// Whether `peer` has an instance (C-FIND on the level of instances).
///
/// # Errors
/// [`RetrieveError`] where the peer did not say.
pub async fn has_instance(
    peer: &Destination,
    sent: &SentInstance,
    config: &ScuConfig,
) -> Result<bool, RetrieveError> {
    let proposals = SYNTAXES.map(|syntax| proposal(FIND, syntax));
    let mut association = Association::request(peer, &proposals, config).await?;
    let context = (0..SYNTAXES.len()).find_map(|place| association.accepted_context(place));
    let Some(context) = context else {
        association.release().await;
        return Err(RetrieveError::Refused("C-FIND"));
    };
    let command = request(CommandField::C_FIND_RQ, FIND);
    let dataset = identifier(sent, association.transfer_syntax(context));
    association.send_message(context, &command, &dataset).await?;
    let mut is_there = false;
    loop {
        let message = association.message(MAX_IDENTIFIER_BYTES, config.response_timeout).await?;
        let status = answer(&message.command, CommandField::C_FIND_RSP)?;
        match status.category() {
            StatusCategory::Pending => {
                // UIDs are bytes that stand in an identifier as they are, whatever its syntax.
                let uid = sent.sop_instance_uid.as_str().as_bytes();
                is_there |= message.dataset.windows(uid.len()).any(|bytes| bytes == uid);
            }
            StatusCategory::Success => break,
            _ => {
                association.release().await;
                return Err(RetrieveError::Status(status));
            }
        }
    }
    association.release().await;
    Ok(is_there)
}

/// Reads an instance back (C-GET), of at most `max_bytes`; nothing where the peer does not have it.
///
/// # Errors
/// [`RetrieveError`] where the peer did not say.
pub async fn get_instance(
    peer: &Destination,
    sent: &SentInstance,
    max_bytes: usize,
    config: &ScuConfig,
) -> Result<Option<ReadBack>, RetrieveError> {
    let class = sent.sop_class_uid.as_str();
    let proposals: Vec<Proposal> = SYNTAXES
        .map(|syntax| proposal(GET, syntax))
        .into_iter()
        .chain(SYNTAXES.map(|syntax| proposal(class, syntax)))
        .chain(config.compress.into_iter().flatten().map(|wanted| proposal(class, wanted.uid())))
        .collect();
    // The peer sends by C-STORE within our association: for that, we are the provider (PS3.7 D.3.3.4).
    let roles = Some((class, RequestorRoles { scu: false, scp: true }));
    let mut association = Association::request_as(peer, &proposals, roles, config).await?;
    let accepted = |places: std::ops::Range<usize>| {
        places.into_iter().find_map(|place| association.accepted_context(place))
    };
    let (asking, storing) =
        (accepted(0..SYNTAXES.len()), accepted(SYNTAXES.len()..proposals.len()));
    let (Some(context), Some(_)) = (asking, storing) else {
        association.release().await;
        return Err(RetrieveError::Refused("C-GET"));
    };
    let command = request(CommandField::C_GET_RQ, GET);
    let dataset = identifier(sent, association.transfer_syntax(context));
    association.send_message(context, &command, &dataset).await?;
    let mut found = None;
    loop {
        let message = association.message(max_bytes, config.response_timeout).await?;
        if message.command.field() == CommandField::C_STORE_RQ {
            let uid = message.command.text(Attributes::AFFECTED_SOP_INSTANCE_UID);
            let is_ours = uid == Some(sent.sop_instance_uid.as_str());
            let transfer_syntax = association.transfer_syntax(message.context_id).to_owned();
            let response = message.command.response(Status::SUCCESS);
            association.send_message(message.context_id, &response, &[]).await?;
            if is_ours {
                found = Some(ReadBack { transfer_syntax, dataset: message.dataset });
            }
            continue;
        }
        let status = answer(&message.command, CommandField::C_GET_RSP)?;
        match status.category() {
            StatusCategory::Pending => {}
            StatusCategory::Success => break,
            // What came is here, whatever else did not come.
            _ if found.is_some() => break,
            _ => {
                association.release().await;
                return Err(RetrieveError::Status(status));
            }
        }
    }
    association.release().await;
    Ok(found)
}

fn proposal(abstract_syntax: &str, transfer_syntax: &str) -> Proposal {
    Proposal {
        abstract_syntax: abstract_syntax.to_owned(),
        transfer_syntax: transfer_syntax.to_owned(),
    }
}

fn request(field: CommandField, sop_class_uid: &str) -> CommandSet {
    let mut command = CommandSet::request(field, MESSAGE_ID, true);
    command.put_uid(Attributes::AFFECTED_SOP_CLASS_UID, sop_class_uid);
    command.put_priority(Priority::Medium);
    command
}

fn answer(command: &CommandSet, field: CommandField) -> Result<Status, AssociateError> {
    let answered = command.number(Attributes::MESSAGE_ID_BEING_RESPONDED_TO);
    let status = command.status().filter(|_| command.field() == field);
    status.filter(|_| answered == Some(MESSAGE_ID)).ok_or(AssociateError::Protocol)
}

/// The unique keys down to the instance.
fn identifier(sent: &SentInstance, transfer_syntax: &str) -> Vec<u8> {
    let text = |tag: Tag, vr, value: &str| DataElement::new(tag, vr, PrimitiveValue::from(value));
    let dataset = InMemDicomObject::from_element_iter([
        text(tags::QUERY_RETRIEVE_LEVEL, VR::CS, "IMAGE"),
        text(tags::SOP_INSTANCE_UID, VR::UI, sent.sop_instance_uid.as_str()),
        text(tags::STUDY_INSTANCE_UID, VR::UI, sent.study_instance_uid.as_str()),
        text(tags::SERIES_INSTANCE_UID, VR::UI, sent.series_instance_uid.as_str()),
    ]);
    let mut bytes = Vec::new();
    let written = if transfer_syntax == EXPLICIT_VR_LITTLE_ENDIAN.uid() {
        dataset.write_dataset_with_ts(&mut bytes, &EXPLICIT_VR_LITTLE_ENDIAN.erased())
    } else {
        dataset.write_dataset_with_ts(&mut bytes, &IMPLICIT_VR_LITTLE_ENDIAN.erased())
    };
    written.expect("texts are written to memory");
    bytes
}
