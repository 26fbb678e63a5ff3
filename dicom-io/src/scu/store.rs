//! C-STORE to a destination, and what became of each instance.

use std::io;

use dicom_types::{SopClassUid, SopInstanceUid};

use super::association::{AssociateError, Association, MAX_PROPOSALS, Proposal, encode_command};
use super::instance::{DatasetBytes, InstanceFacts, InstanceSource, UnreadableInstance};
use super::{Destination, ScuConfig};
use crate::compression::Compression;
use crate::dimse::{CommandSet, Priority, Status, StatusCategory};
use crate::upper_layer::{LAST, data_header};

const EXPLICIT_VR_LITTLE_ENDIAN: &str = "1.2.840.10008.1.2.1";
const IMPLICIT_VR_LITTLE_ENDIAN: &str = "1.2.840.10008.1.2";

/// What became of one instance.
#[derive(Debug)]
pub struct StoreOutcome {
    /// Its SOP class, where it could be read.
    pub sop_class_uid: Option<SopClassUid>,
    /// Its UID, where it could be read.
    pub sop_instance_uid: Option<SopInstanceUid>,
    /// How it went.
    pub result: StoreResult,
}

/// How sending one instance went.
#[derive(Debug)]
pub enum StoreResult {
    /// Status 0000H.
    Stored,
    /// Stored with a remark: a status of class Bxxx, or 0111H for an instance that the peer has already.
    StoredWithWarning(Status),
    /// A status that may pass: A7xx, 0110H, 0213H, FE00.
    Busy(Status),
    /// A status that will not pass: A9xx, Cxxx, 0122H and all others.
    Rejected(Status),
    /// The peer takes no instances of this SOP class at all: another form of the result may be welcome.
    SopClassRefused,
    /// The peer takes the SOP class, and not in a transfer syntax that we can offer.
    TransferSyntaxRefused,
    /// The association broke before the response; whether the instance was stored is unknown.
    Unanswered(AssociateError),
    /// The association broke before the instance had its turn.
    NotSent,
    /// The instance cannot be read here.
    Unreadable(UnreadableInstance),
}

/// What to do next about an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StoreDisposition {
    /// Nothing: the peer has it.
    Delivered,
    /// Send the same again later.
    Retry,
    /// Sending the same again is of no use; another SOP class or transfer syntax may be.
    TryOtherForm,
    /// Sending it again is of no use.
    GiveUp,
}

impl StoreResult {
    /// What to do next.
    pub fn disposition(&self) -> StoreDisposition {
        match self {
            Self::Stored | Self::StoredWithWarning(_) => StoreDisposition::Delivered,
            Self::Busy(_) | Self::Unanswered(_) | Self::NotSent => StoreDisposition::Retry,
            Self::SopClassRefused | Self::TransferSyntaxRefused => StoreDisposition::TryOtherForm,
            Self::Rejected(_) | Self::Unreadable(_) => StoreDisposition::GiveUp,
        }
    }

    /// The status that the peer answered, if it did.
    pub fn status(&self) -> Option<Status> {
        match self {
            Self::Stored => Some(Status::SUCCESS),
            Self::StoredWithWarning(status) | Self::Busy(status) | Self::Rejected(status) => {
                Some(*status)
            }
            _ => None,
        }
    }

    fn from_status(status: Status) -> Self {
        match (status.category(), status.0) {
            (StatusCategory::Success, _) => Self::Stored,
            (StatusCategory::Warning, _) | (_, 0x0111) => Self::StoredWithWarning(status),
            (_, 0xA700..=0xA7FF | 0x0110 | 0x0213 | 0xFE00) => Self::Busy(status),
            _ => Self::Rejected(status),
        }
    }
}

/// Sends instances over one association (more only beyond 128 presentation contexts), in order.
///
/// Every SOP class is proposed in the transfer syntaxes that its instances have; explicit little endian also as
/// implicit and in those of [`ScuConfig::compress`], to which it is then rewritten. The outcomes are in the order of `instances`, one for each. An association
/// that breaks on the way is an outcome of the instances that it concerns.
///
/// Not safe to drop in the middle: the connection is cut, and the last instance may have been stored.
///
/// # Errors
/// [`AssociateError`] when no association came about, so that nothing was sent.
pub async fn store(
    destination: &Destination,
    instances: &[InstanceSource],
    config: &ScuConfig,
) -> Result<Vec<StoreOutcome>, AssociateError> {
    let mut outcomes = Vec::with_capacity(instances.len());
    let mut readable = Vec::new();
    for (index, source) in instances.iter().enumerate() {
        match source.facts().await {
            Ok(facts) => {
                outcomes.push(StoreOutcome {
                    sop_class_uid: Some(facts.sop_class_uid.clone()),
                    sop_instance_uid: Some(facts.sop_instance_uid.clone()),
                    result: StoreResult::NotSent,
                });
                readable.push(Item { index, source, facts });
            }
            Err(error) => outcomes.push(StoreOutcome {
                sop_class_uid: None,
                sop_instance_uid: None,
                result: StoreResult::Unreadable(error),
            }),
        }
    }
    let mut is_first = true;
    for batch in batches(readable, config) {
        match Association::request(destination, &batch.proposals, config).await {
            Ok(association) => send_batch(association, &batch, config, &mut outcomes).await,
            Err(error) if is_first => return Err(error),
            // The outcomes of this batch say already that nothing of it was sent.
            Err(_) => {}
        }
        is_first = false;
    }
    Ok(outcomes)
}

struct Item<'a> {
    index: usize,
    source: &'a InstanceSource,
    facts: InstanceFacts,
}

/// Instances that share an association.
#[derive(Default)]
struct Batch<'a> {
    proposals: Vec<Proposal>,
    items: Vec<Item<'a>>,
}

fn batches<'a>(items: Vec<Item<'a>>, config: &ScuConfig) -> Vec<Batch<'a>> {
    let mut batches: Vec<Batch<'a>> = Vec::new();
    for item in items {
        let wanted = proposals_for(&item.facts, config);
        let missing = |batch: &Batch<'_>| {
            let is_missing = |proposal: &&Proposal| !batch.proposals.contains(proposal);
            wanted.iter().filter(is_missing).cloned().collect::<Vec<_>>()
        };
        let has_room =
            |batch: &&mut Batch<'_>| batch.proposals.len() + missing(batch).len() <= MAX_PROPOSALS;
        if !batches.last_mut().as_ref().is_some_and(has_room) {
            batches.push(Batch::default());
        }
        if let Some(batch) = batches.last_mut() {
            let missing = missing(batch);
            batch.proposals.extend(missing);
            batch.items.push(item);
        }
    }
    batches
}

/// The transfer syntaxes that an instance may go in, the preferred one first.
fn proposals_for(facts: &InstanceFacts, config: &ScuConfig) -> Vec<Proposal> {
    let proposal = |transfer_syntax: &str| Proposal {
        abstract_syntax: facts.sop_class_uid.as_str().to_owned(),
        transfer_syntax: transfer_syntax.to_owned(),
    };
    let own = facts.transfer_syntax_uid.as_str();
    let mut proposals = Vec::new();
    if own == EXPLICIT_VR_LITTLE_ENDIAN {
        let wanted = compressions(facts, config);
        proposals.extend(wanted.map(|compression| proposal(compression.uid())));
    }
    proposals.push(proposal(own));
    if own == EXPLICIT_VR_LITTLE_ENDIAN {
        proposals.push(proposal(IMPLICIT_VR_LITTLE_ENDIAN));
    }
    proposals
}

fn compressions(facts: &InstanceFacts, config: &ScuConfig) -> impl Iterator<Item = Compression> {
    let wanted = config.compress.into_iter().flatten();
    wanted.filter(|compression| compression.is_for(&facts.sop_class_uid))
}

async fn send_batch(
    mut association: Association,
    batch: &Batch<'_>,
    config: &ScuConfig,
    outcomes: &mut [StoreOutcome],
) {
    let mut message_id = 0_u16;
    for item in &batch.items {
        message_id = message_id.wrapping_add(1).max(1);
        let result = send_instance(&mut association, batch, item, config, message_id).await;
        let Some(outcome) = outcomes.get_mut(item.index) else { continue };
        match result {
            Ok(result) => outcome.result = result,
            Err(Broken::Association(error)) => {
                outcome.result = StoreResult::Unanswered(error);
                association.abort().await;
                return;
            }
            Err(Broken::Source(error)) => {
                outcome.result = StoreResult::Unreadable(error.into());
                association.abort().await;
                return;
            }
        }
    }
    association.release().await;
}

/// Why an association cannot go on.
enum Broken {
    Association(AssociateError),
    /// The file ended or failed in the middle of its data set.
    Source(io::Error),
}

impl From<AssociateError> for Broken {
    fn from(error: AssociateError) -> Self {
        Self::Association(error)
    }
}

async fn send_instance(
    association: &mut Association,
    batch: &Batch<'_>,
    item: &Item<'_>,
    config: &ScuConfig,
    message_id: u16,
) -> Result<StoreResult, Broken> {
    let candidates: Vec<(usize, Proposal)> = proposals_for(&item.facts, config)
        .into_iter()
        .filter_map(|proposal| {
            let position = batch.proposals.iter().position(|known| *known == proposal)?;
            Some((position, proposal))
        })
        .collect();
    let accepted = candidates.iter().find_map(|(position, proposal)| {
        association.accepted_context(*position).map(|context_id| (context_id, proposal))
    });
    let Some((context_id, proposal)) = accepted else {
        let is_class_refused =
            candidates.iter().all(|(position, _)| association.refuses_abstract_syntax(*position));
        return Ok(if is_class_refused {
            StoreResult::SopClassRefused
        } else {
            StoreResult::TransferSyntaxRefused
        });
    };
    let is_as_it_is = proposal.transfer_syntax == item.facts.transfer_syntax_uid.as_str();
    let compression = compressions(&item.facts, config)
        .find(|compression| compression.uid() == proposal.transfer_syntax);
    let opened = if is_as_it_is {
        item.source.open(&item.facts).await
    } else if let Some(compression) = compression {
        item.source.open_compressed(compression).await
    } else {
        item.source.open_as_implicit(&item.facts).await
    };
    let dataset = match opened {
        Ok(dataset) => dataset,
        // Nothing of this instance was sent, so the association goes on.
        Err(error) => return Ok(StoreResult::Unreadable(error.into())),
    };
    let command = CommandSet::store_request(
        message_id,
        item.facts.sop_class_uid.as_str(),
        item.facts.sop_instance_uid.as_str(),
        Priority::Medium,
    );
    send_dataset(association, context_id, &command, dataset).await?;
    let response = association.response(message_id).await?;
    let status = response.status().ok_or(AssociateError::Protocol)?;
    Ok(StoreResult::from_status(status))
}

/// Sends a command and its data set; the command travels with the first fragment.
async fn send_dataset(
    association: &mut Association,
    context_id: u8,
    command: &CommandSet,
    mut dataset: DatasetBytes,
) -> Result<(), Broken> {
    let max_fragment = association.max_fragment_bytes();
    let mut buffer = encode_command(context_id, command);
    loop {
        let remaining = dataset.remaining();
        let length = remaining.min(max_fragment as u64) as usize;
        let is_last = length as u64 == remaining;
        let control = if is_last { LAST } else { 0 };
        buffer.extend_from_slice(&data_header(context_id, control, length));
        let start = buffer.len();
        buffer.resize(start + length, 0);
        dataset.read_exact(&mut buffer[start..]).await.map_err(Broken::Source)?;
        association.send_bytes(&buffer).await?;
        if is_last {
            return Ok(());
        }
        buffer.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_leads_to_what_a_sender_should_do_next() {
        use StoreDisposition::{Delivered, GiveUp, Retry};
        for (status, disposition) in [
            (0x0000, Delivered),
            (0xB000, Delivered),
            (0xB006, Delivered),
            (0xB007, Delivered),
            (0x0111, Delivered),
            (0xA700, Retry),
            (0xA7FF, Retry),
            (0x0110, Retry),
            (0x0213, Retry),
            (0xFE00, Retry),
            (0xA900, GiveUp),
            (0xC000, GiveUp),
            (0xC123, GiveUp),
            (0x0122, GiveUp),
            (0x0124, GiveUp),
            (0x1234, GiveUp),
        ] {
            let result = StoreResult::from_status(Status(status));
            assert_eq!(result.disposition(), disposition, "{status:04X}");
            assert_eq!(result.status(), Some(Status(status)));
        }
    }
}
