//! Whether a PACS has what it was sent, and reading that back: C-FIND and C-GET of one instance (PS3.4 annex C).

use dicom::core::{Tag, VR};
use dicom::dictionary_std::tags;
use dicom::object::InMemDicomObject;
use dicom_types::{SeriesInstanceUid, SopClassUid, SopInstanceUid, StudyInstanceUid};
use dicom_ul::pdu::RequestorRoles;

use super::association::{AssociateError, Association, Proposal};
use super::query::{QueryError, answers, find, identifier, parsed, request};
use super::{Destination, ScuConfig};
use crate::dimse::{
    Attributes, COMMITMENT_SYNTAXES as SYNTAXES, CommandField, Priority, Status, StatusCategory,
};
use crate::read_back::ReadBack;

/// Study Root Query/Retrieve Information Model - GET.
const GET: &str = "1.2.840.10008.5.1.4.1.2.2.3";

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

/// Whether `peer` has an instance (C-FIND on the level of instances).
///
/// # Errors
/// [`QueryError`] where the peer did not say.
pub async fn has_instance(
    peer: &Destination,
    sent: &SentInstance,
    config: &ScuConfig,
) -> Result<bool, QueryError> {
    let found = find(peer, "IMAGE", &keys(sent), config).await?;
    let is_it = |match_: &InMemDicomObject| {
        parsed(match_, tags::SOP_INSTANCE_UID).as_ref() == Some(&sent.sop_instance_uid)
    };
    Ok(found.iter().any(is_it))
}

/// Reads an instance back (C-GET), of at most `max_bytes`; nothing where the peer does not have it.
///
/// # Errors
/// [`QueryError`] where the peer did not say.
pub async fn get_instance(
    peer: &Destination,
    sent: &SentInstance,
    max_bytes: usize,
    config: &ScuConfig,
) -> Result<Option<ReadBack>, QueryError> {
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
        return Err(QueryError::Refused("C-GET"));
    };
    let command = request(CommandField::C_GET_RQ, GET, Priority::Medium);
    let dataset = identifier("IMAGE", &keys(sent), association.transfer_syntax(context));
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
        let status = message.command.status();
        let status = status.filter(|_| answers(&message.command, CommandField::C_GET_RSP));
        let status = status.ok_or(AssociateError::Protocol)?;
        match status.category() {
            StatusCategory::Pending => {}
            StatusCategory::Success => break,
            // What came is here, whatever else did not come.
            _ if found.is_some() => break,
            _ => {
                association.release().await;
                return Err(QueryError::Status(status));
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

/// The unique keys down to the instance.
fn keys(sent: &SentInstance) -> [(Tag, VR, String); 3] {
    [
        (tags::SOP_INSTANCE_UID, VR::UI, sent.sop_instance_uid.to_string()),
        (tags::STUDY_INSTANCE_UID, VR::UI, sent.study_instance_uid.to_string()),
        (tags::SERIES_INSTANCE_UID, VR::UI, sent.series_instance_uid.to_string()),
    ]
}
