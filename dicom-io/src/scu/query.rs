//! Query and retrieve (PS3.4 annex C): what a PACS has, and asking it to send that to us.

use std::str::FromStr;
use std::time::Duration;

use dicom::core::value::PrimitiveValue;
use dicom::core::{DataElement, Tag, VR};
use dicom::dictionary_std::tags;
use dicom::object::InMemDicomObject;
use dicom_types::{AeTitle, SeriesInstanceUid, StudyInstanceUid, TransferSyntaxUid};

use super::association::{AssociateError, Association, Message, Proposal};
use super::{Destination, ScuConfig};
use crate::dimse::{
    Attributes, COMMITMENT_SYNTAXES as SYNTAXES, CommandField, CommandSet, Priority, Status,
    StatusCategory, encode_dataset,
};
use crate::header::{HeaderLimits, read_dataset};

/// Study Root Query/Retrieve Information Model - FIND.
const FIND: &str = "1.2.840.10008.5.1.4.1.2.2.1";
/// Study Root Query/Retrieve Information Model - MOVE.
const MOVE: &str = "1.2.840.10008.5.1.4.1.2.2.2";
/// Longest identifier that is taken from a peer.
const MAX_IDENTIFIER_BYTES: usize = 256 * 1024;
/// Most matches of a query: what has more is to be asked in parts.
const MAX_MATCHES: usize = 100_000;
const MESSAGE_ID: u16 = 1;
/// Bounds on an identifier that a peer sends.
const LIMITS: HeaderLimits = HeaderLimits {
    max_bytes: MAX_IDENTIFIER_BYTES as u64,
    max_kept_bytes: MAX_IDENTIFIER_BYTES,
    skip_element_bytes: None,
    max_elements: 1000,
    max_depth: 8,
};

/// Why a query or a retrieval failed. Peer text is not repeated.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// No association, or it broke.
    #[error("no association with the peer")]
    Associate(#[from] AssociateError),
    /// The peer does not offer the service.
    #[error("peer refuses the SOP class of {0}")]
    Refused(&'static str),
    /// The peer ended with something other than success.
    #[error("peer answered status {0}")]
    Status(Status),
    /// More matches than are taken.
    #[error("query has more than {MAX_MATCHES} matches")]
    TooMany,
}

/// A study as a peer describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundStudy {
    /// Study Instance UID.
    pub study_instance_uid: StudyInstanceUid,
    /// Study Date (0008,0020) and Study Time (0008,0030), as `YYYYMMDD` and `HHMMSS`, as far as they are known.
    pub date: String,
    /// Study Time (0008,0030).
    pub time: String,
}

/// A series as a peer describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundSeries {
    /// Series Instance UID.
    pub series_instance_uid: SeriesInstanceUid,
    /// Modality (0008,0060); empty where the peer does not say.
    pub modality: String,
    /// Number of Series Related Instances (0020,1209), where the peer says it.
    pub instances: Option<u64>,
}

/// How a retrieval ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// The final status.
    pub status: Status,
    /// Instances that the peer sent, warnings included.
    pub completed: u64,
    /// Instances that it could not send.
    pub failed: u64,
}

/// Studies of `first_day` (`YYYYMMDD`) or later that have images of `modality`.
///
/// # Errors
/// [`QueryError`].
pub async fn find_studies(
    peer: &Destination,
    first_day: &str,
    modality: &str,
    config: &ScuConfig,
) -> Result<Vec<FoundStudy>, QueryError> {
    let keys = [
        (tags::STUDY_DATE, VR::DA, format!("{first_day}-")),
        (tags::STUDY_TIME, VR::TM, String::new()),
        (tags::MODALITIES_IN_STUDY, VR::CS, modality.to_owned()),
        (tags::STUDY_INSTANCE_UID, VR::UI, String::new()),
    ];
    let found = find(peer, "STUDY", &keys, config).await?;
    let study = |dataset: &InMemDicomObject| {
        Some(FoundStudy {
            study_instance_uid: parsed(dataset, tags::STUDY_INSTANCE_UID)?,
            date: text(dataset, tags::STUDY_DATE),
            time: text(dataset, tags::STUDY_TIME),
        })
    };
    Ok(found.iter().filter_map(study).collect())
}

/// Series of a study.
///
/// # Errors
/// [`QueryError`].
pub async fn find_series(
    peer: &Destination,
    study: &StudyInstanceUid,
    config: &ScuConfig,
) -> Result<Vec<FoundSeries>, QueryError> {
    series(peer, study, "", config).await
}

/// Instances that the peer has of a series, by Number of Series Related Instances or else by counting them; nothing
/// where it does not know the series.
///
/// # Errors
/// [`QueryError`].
pub async fn count_instances(
    peer: &Destination,
    study: &StudyInstanceUid,
    series_uid: &SeriesInstanceUid,
    config: &ScuConfig,
) -> Result<Option<u64>, QueryError> {
    let found = series(peer, study, series_uid.as_str(), config).await?;
    let Some(found) = found.iter().find(|series| series.series_instance_uid == *series_uid) else {
        return Ok(None);
    };
    if found.instances.is_some() {
        return Ok(found.instances);
    }
    let keys = [
        (tags::SOP_INSTANCE_UID, VR::UI, String::new()),
        (tags::STUDY_INSTANCE_UID, VR::UI, study.to_string()),
        (tags::SERIES_INSTANCE_UID, VR::UI, series_uid.to_string()),
    ];
    Ok(Some(find(peer, "IMAGE", &keys, config).await?.len() as u64))
}

async fn series(
    peer: &Destination,
    study: &StudyInstanceUid,
    series_uid: &str,
    config: &ScuConfig,
) -> Result<Vec<FoundSeries>, QueryError> {
    let keys = [
        (tags::MODALITY, VR::CS, String::new()),
        (tags::STUDY_INSTANCE_UID, VR::UI, study.to_string()),
        (tags::SERIES_INSTANCE_UID, VR::UI, series_uid.to_owned()),
        (tags::NUMBER_OF_SERIES_RELATED_INSTANCES, VR::IS, String::new()),
    ];
    let found = find(peer, "SERIES", &keys, config).await?;
    let series = |dataset: &InMemDicomObject| {
        Some(FoundSeries {
            series_instance_uid: parsed(dataset, tags::SERIES_INSTANCE_UID)?,
            modality: text(dataset, tags::MODALITY),
            instances: parsed(dataset, tags::NUMBER_OF_SERIES_RELATED_INSTANCES),
        })
    };
    Ok(found.iter().filter_map(series).collect())
}

/// Asks the peer to send a series to `to` (C-MOVE), and waits until it says that it has; `patience` is the longest
/// silence meanwhile.
///
/// Dropped on the way, the connection is cut, which a peer takes as the wish to end.
///
/// # Errors
/// [`QueryError`] where it never came to an end; a retrieval that failed as a whole or in part is a [`Moved`].
pub async fn move_series(
    peer: &Destination,
    study: &StudyInstanceUid,
    series_uid: &SeriesInstanceUid,
    to: &AeTitle,
    config: &ScuConfig,
    patience: Duration,
) -> Result<Moved, QueryError> {
    let (mut association, context_id) = associate(peer, MOVE, "C-MOVE", config).await?;
    let keys = [
        (tags::STUDY_INSTANCE_UID, VR::UI, study.to_string()),
        (tags::SERIES_INSTANCE_UID, VR::UI, series_uid.to_string()),
    ];
    let mut command = request(CommandField::C_MOVE_RQ, MOVE, Priority::Low);
    command.put_text(Attributes::MOVE_DESTINATION, to.as_str());
    let dataset = identifier("SERIES", &keys, association.transfer_syntax(context_id));
    association.send_message(context_id, &command, &dataset).await?;
    let mut moved = Moved { status: Status::SUCCESS, completed: 0, failed: 0 };
    loop {
        let message = response(&mut association, CommandField::C_MOVE_RSP, patience).await?;
        let count = |element| message.command.number(element).map(u64::from);
        let completed = count(Attributes::NUMBER_OF_COMPLETED_SUBOPERATIONS);
        let warned = count(Attributes::NUMBER_OF_WARNING_SUBOPERATIONS).unwrap_or_default();
        moved.completed = completed.map_or(moved.completed, |completed| completed + warned);
        moved.failed = count(Attributes::NUMBER_OF_FAILED_SUBOPERATIONS).unwrap_or(moved.failed);
        moved.status = message.command.status().ok_or(AssociateError::Protocol)?;
        if moved.status.category() != StatusCategory::Pending {
            association.release().await;
            return Ok(moved);
        }
    }
}

pub(super) async fn find(
    peer: &Destination,
    level: &str,
    keys: &[(Tag, VR, String)],
    config: &ScuConfig,
) -> Result<Vec<InMemDicomObject>, QueryError> {
    let (mut association, context_id) = associate(peer, FIND, "C-FIND", config).await?;
    let dataset = identifier(level, keys, association.transfer_syntax(context_id));
    let command = request(CommandField::C_FIND_RQ, FIND, Priority::Low);
    association.send_message(context_id, &command, &dataset).await?;
    let syntax: TransferSyntaxUid = association
        .transfer_syntax(context_id)
        .parse()
        .map_err(|_| QueryError::Associate(AssociateError::Protocol))?;
    let mut found = Vec::new();
    loop {
        let patience = config.response_timeout;
        let message = response(&mut association, CommandField::C_FIND_RSP, patience).await?;
        let status = message.command.status().ok_or(AssociateError::Protocol)?;
        match status.category() {
            StatusCategory::Pending if found.len() >= MAX_MATCHES => {
                association.abort().await;
                return Err(QueryError::TooMany);
            }
            StatusCategory::Pending => {
                let read = read_dataset(&message.dataset, &syntax, LIMITS);
                found.push(read.map_err(|_| AssociateError::Protocol)?);
            }
            StatusCategory::Success => {
                association.release().await;
                return Ok(found);
            }
            _ => {
                association.release().await;
                return Err(QueryError::Status(status));
            }
        }
    }
}

async fn associate(
    peer: &Destination,
    sop_class_uid: &str,
    service: &'static str,
    config: &ScuConfig,
) -> Result<(Association, u8), QueryError> {
    let proposals = SYNTAXES.map(|syntax| Proposal {
        abstract_syntax: sop_class_uid.to_owned(),
        transfer_syntax: syntax.to_owned(),
    });
    let association = Association::request(peer, &proposals, config).await?;
    let accepted = (0..proposals.len()).find_map(|index| association.accepted_context(index));
    let Some(context_id) = accepted else {
        association.release().await;
        return Err(QueryError::Refused(service));
    };
    Ok((association, context_id))
}

/// The next response to our request; anything else breaks the protocol.
async fn response(
    association: &mut Association,
    field: CommandField,
    patience: Duration,
) -> Result<Message, AssociateError> {
    let message = association.message(MAX_IDENTIFIER_BYTES, patience).await?;
    if answers(&message.command, field) { Ok(message) } else { Err(AssociateError::Protocol) }
}

/// Whether a command answers our request.
pub(super) fn answers(command: &CommandSet, field: CommandField) -> bool {
    let answered = command.number(Attributes::MESSAGE_ID_BEING_RESPONDED_TO);
    command.field() == field && answered == Some(MESSAGE_ID)
}

pub(super) fn request(field: CommandField, sop_class_uid: &str, priority: Priority) -> CommandSet {
    let mut command = CommandSet::request(field, MESSAGE_ID, true);
    command.put_uid(Attributes::AFFECTED_SOP_CLASS_UID, sop_class_uid);
    command.put_priority(priority);
    command
}

pub(super) fn identifier(
    level: &str,
    keys: &[(Tag, VR, String)],
    transfer_syntax_uid: &str,
) -> Vec<u8> {
    let level = DataElement::new(tags::QUERY_RETRIEVE_LEVEL, VR::CS, PrimitiveValue::from(level));
    let keys = keys.iter().map(|(tag, vr, value)| {
        let value = if value.is_empty() { PrimitiveValue::Empty } else { value.as_str().into() };
        DataElement::new(*tag, *vr, value)
    });
    let dataset = InMemDicomObject::from_element_iter(std::iter::once(level).chain(keys));
    encode_dataset(&dataset, transfer_syntax_uid)
}

fn text(dataset: &InMemDicomObject, tag: Tag) -> String {
    let value = dataset.get(tag).and_then(|element| element.to_str().ok());
    value.map(|text| text.trim_matches([' ', '\0']).to_owned()).unwrap_or_default()
}

pub(super) fn parsed<T: FromStr>(dataset: &InMemDicomObject, tag: Tag) -> Option<T> {
    text(dataset, tag).parse().ok()
}
