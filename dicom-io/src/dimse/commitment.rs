//! Storage Commitment Push Model (PS3.4 annex J): what is asked for and what is reported, as data sets.

use dicom::core::value::{DataSetSequence, PrimitiveValue, Value};
use dicom::core::{DataElement, Length, VR};
use dicom::dictionary_std::tags;
use dicom::object::InMemDicomObject;
use dicom::transfer_syntax::entries::{EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN};
use dicom_types::{SopClassUid, SopInstanceUid, TransactionUid, TransferSyntaxUid};

use crate::header::{HeaderLimits, ReadHeaderError, read_dataset};

/// Storage Commitment Push Model SOP Class.
pub const STORAGE_COMMITMENT: &str = "1.2.840.10008.1.20.1";

/// Its well-known SOP instance.
pub const STORAGE_COMMITMENT_INSTANCE: &str = "1.2.840.10008.1.20.1.1";

/// Longest data set of a request or report: some ten thousand references.
pub(crate) const MAX_COMMITMENT_BYTES: usize = 4 << 20;

const LIMITS: HeaderLimits = HeaderLimits {
    max_bytes: MAX_COMMITMENT_BYTES as u64,
    max_kept_bytes: MAX_COMMITMENT_BYTES,
    skip_element_bytes: None,
    max_elements: 256 << 10,
    max_depth: 4,
};

/// An instance that somebody wants to be sure of.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReferencedInstance {
    /// Referenced SOP Class UID (0008,1150).
    pub sop_class_uid: SopClassUid,
    /// Referenced SOP Instance UID (0008,1155).
    pub sop_instance_uid: SopInstanceUid,
}

/// Why an instance is not committed: Failure Reason (0008,1197), PS3.4 table J.3-1.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FailureReason(pub u16);

impl FailureReason {
    /// A general failure.
    pub const PROCESSING_FAILURE: Self = Self(0x0110);
    /// The instance is not there.
    pub const NO_SUCH_OBJECT: Self = Self(0x0112);
    /// The instance is of another SOP class.
    pub const CLASS_INSTANCE_CONFLICT: Self = Self(0x0119);
    /// The SOP class is not stored.
    pub const CLASS_NOT_SUPPORTED: Self = Self(0x0122);
    /// The transaction UID was used before.
    pub const DUPLICATE_TRANSACTION: Self = Self(0x0131);
    /// There is no room.
    pub const RESOURCE_LIMITATION: Self = Self(0x0213);

    /// A short word for logs and reason codes: one of a closed set.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PROCESSING_FAILURE => "processing failure",
            Self::NO_SUCH_OBJECT => "no such object",
            Self::CLASS_INSTANCE_CONFLICT => "class instance conflict",
            Self::CLASS_NOT_SUPPORTED => "class not supported",
            Self::DUPLICATE_TRANSACTION => "duplicate transaction",
            Self::RESOURCE_LIMITATION => "resource limitation",
            _ => "other reason",
        }
    }
}

impl std::fmt::Debug for FailureReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04X}H", self.0)
    }
}

/// The data set of an N-ACTION request (PS3.4 table J.3-1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitmentRequest {
    /// Transaction UID (0008,1195), which the report repeats.
    pub transaction_uid: TransactionUid,
    /// What is to be committed.
    pub instances: Vec<ReferencedInstance>,
}

/// The data set of an N-EVENT-REPORT (PS3.4 table J.3-2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitmentReport {
    /// Transaction UID (0008,1195) of the request.
    pub transaction_uid: TransactionUid,
    /// What is safe.
    pub committed: Vec<ReferencedInstance>,
    /// What is not, and why.
    pub failed: Vec<(ReferencedInstance, FailureReason)>,
}

/// Why a data set is no request or report. Peer text is not repeated.
#[derive(Debug, thiserror::Error)]
pub enum DecodeCommitmentError {
    /// The data set cannot be read.
    #[error("data set cannot be read")]
    Dataset(#[from] ReadHeaderError),
    /// An attribute is absent or no good.
    #[error("{0} is absent or malformed")]
    Attribute(&'static str),
}

impl CommitmentRequest {
    pub(crate) fn decode(
        bytes: &[u8],
        transfer_syntax_uid: &TransferSyntaxUid,
    ) -> Result<Self, DecodeCommitmentError> {
        let dataset = read_dataset(bytes, transfer_syntax_uid, LIMITS)?;
        let instances = items(&dataset, tags::REFERENCED_SOP_SEQUENCE);
        let instances: Vec<_> = instances.map(reference).collect::<Result<_, _>>()?;
        if instances.is_empty() {
            return Err(DecodeCommitmentError::Attribute("Referenced SOP Sequence"));
        }
        Ok(Self { transaction_uid: transaction_uid(&dataset)?, instances })
    }

    pub(crate) fn encode(&self, transfer_syntax_uid: &str) -> Vec<u8> {
        let references = self.instances.iter().map(|instance| item(instance, None)).collect();
        encode(
            &self.transaction_uid,
            [(tags::REFERENCED_SOP_SEQUENCE, references)],
            transfer_syntax_uid,
        )
    }
}

impl CommitmentReport {
    /// Event Type ID (0000,1002): 1 where everything is safe, 2 where something is not.
    pub fn event_type(&self) -> u16 {
        if self.failed.is_empty() { 1 } else { 2 }
    }

    pub(crate) fn decode(
        bytes: &[u8],
        transfer_syntax_uid: &TransferSyntaxUid,
    ) -> Result<Self, DecodeCommitmentError> {
        let dataset = read_dataset(bytes, transfer_syntax_uid, LIMITS)?;
        let committed = items(&dataset, tags::REFERENCED_SOP_SEQUENCE).map(reference);
        let failed = items(&dataset, tags::FAILED_SOP_SEQUENCE).map(|item| {
            let reason = item.get(tags::FAILURE_REASON).and_then(|e| e.to_int::<u16>().ok());
            let reason = reason.map_or(FailureReason::PROCESSING_FAILURE, FailureReason);
            reference(item).map(|instance| (instance, reason))
        });
        Ok(Self {
            transaction_uid: transaction_uid(&dataset)?,
            committed: committed.collect::<Result<_, _>>()?,
            failed: failed.collect::<Result<_, _>>()?,
        })
    }

    pub(crate) fn encode(&self, transfer_syntax_uid: &str) -> Vec<u8> {
        let committed = self.committed.iter().map(|instance| item(instance, None)).collect();
        let failed = self.failed.iter();
        let failed = failed.map(|(instance, reason)| item(instance, Some(*reason))).collect();
        encode(
            &self.transaction_uid,
            [(tags::FAILED_SOP_SEQUENCE, failed), (tags::REFERENCED_SOP_SEQUENCE, committed)],
            transfer_syntax_uid,
        )
    }
}

fn transaction_uid(dataset: &InMemDicomObject) -> Result<TransactionUid, DecodeCommitmentError> {
    parsed(dataset, tags::TRANSACTION_UID)
        .ok_or(DecodeCommitmentError::Attribute("Transaction UID"))
}

fn items(
    dataset: &InMemDicomObject,
    tag: dicom::core::Tag,
) -> impl Iterator<Item = &InMemDicomObject> {
    dataset.get(tag).and_then(|element| element.items()).into_iter().flatten()
}

fn reference(item: &InMemDicomObject) -> Result<ReferencedInstance, DecodeCommitmentError> {
    let malformed = DecodeCommitmentError::Attribute;
    Ok(ReferencedInstance {
        sop_class_uid: parsed(item, tags::REFERENCED_SOP_CLASS_UID)
            .ok_or(malformed("Referenced SOP Class UID"))?,
        sop_instance_uid: parsed(item, tags::REFERENCED_SOP_INSTANCE_UID)
            .ok_or(malformed("Referenced SOP Instance UID"))?,
    })
}

fn parsed<T: std::str::FromStr>(dataset: &InMemDicomObject, tag: dicom::core::Tag) -> Option<T> {
    dataset.get(tag)?.to_str().ok()?.trim_matches([' ', '\0']).parse().ok()
}

fn item(instance: &ReferencedInstance, reason: Option<FailureReason>) -> InMemDicomObject {
    let uid = |tag, uid: &str| DataElement::new(tag, VR::UI, PrimitiveValue::from(uid));
    let mut item = InMemDicomObject::from_element_iter([
        uid(tags::REFERENCED_SOP_CLASS_UID, instance.sop_class_uid.as_str()),
        uid(tags::REFERENCED_SOP_INSTANCE_UID, instance.sop_instance_uid.as_str()),
    ]);
    if let Some(FailureReason(reason)) = reason {
        let value = PrimitiveValue::from(reason);
        item.put(DataElement::new(tags::FAILURE_REASON, VR::US, value));
    }
    item
}

/// Encodes in one of [`SYNTAXES`].
fn encode<const N: usize>(
    transaction_uid: &TransactionUid,
    sequences: [(dicom::core::Tag, Vec<InMemDicomObject>); N],
    transfer_syntax_uid: &str,
) -> Vec<u8> {
    let uid = PrimitiveValue::from(transaction_uid.as_str());
    let mut dataset =
        InMemDicomObject::from_element_iter([DataElement::new(tags::TRANSACTION_UID, VR::UI, uid)]);
    for (tag, items) in sequences {
        if !items.is_empty() {
            let sequence = Value::Sequence(DataSetSequence::new(items, Length::UNDEFINED));
            dataset.put(DataElement::new(tag, VR::SQ, sequence));
        }
    }
    encode_dataset(&dataset, transfer_syntax_uid)
}

/// Encodes a data set of identifiers and numbers in one of [`SYNTAXES`].
pub(crate) fn encode_dataset(dataset: &InMemDicomObject, transfer_syntax_uid: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let written = if transfer_syntax_uid == EXPLICIT_VR_LITTLE_ENDIAN.uid() {
        dataset.write_dataset_with_ts(&mut bytes, &EXPLICIT_VR_LITTLE_ENDIAN.erased())
    } else {
        dataset.write_dataset_with_ts(&mut bytes, &IMPLICIT_VR_LITTLE_ENDIAN.erased())
    };
    written.expect("identifiers and numbers can be encoded, and memory can be written");
    bytes
}

/// Transfer syntaxes that these data sets are read in, the preferred one first.
pub(crate) const SYNTAXES: [&str; 2] =
    [IMPLICIT_VR_LITTLE_ENDIAN.uid(), EXPLICIT_VR_LITTLE_ENDIAN.uid()];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn report() -> CommitmentReport {
        let instance = |number: u32| ReferencedInstance {
            sop_class_uid: "1.2.840.10008.5.1.4.1.1.2".parse().unwrap(),
            sop_instance_uid: format!("2.25.{number}").parse().unwrap(),
        };
        CommitmentReport {
            transaction_uid: "2.25.99".parse().unwrap(),
            committed: vec![instance(1), instance(22)],
            failed: vec![(instance(3), FailureReason::NO_SUCH_OBJECT)],
        }
    }

    fn implicit() -> TransferSyntaxUid {
        "1.2.840.10008.1.2".parse().unwrap()
    }

    #[test]
    fn a_request_and_a_report_read_back() {
        let request = CommitmentRequest {
            transaction_uid: "2.25.99".parse().unwrap(),
            instances: report().committed,
        };

        assert_eq!(
            CommitmentRequest::decode(&request.encode(implicit().as_str()), &implicit()).unwrap(),
            request
        );
        assert_eq!(
            CommitmentReport::decode(&report().encode(implicit().as_str()), &implicit()).unwrap(),
            report()
        );
        assert_eq!(report().event_type(), 2);
    }

    #[test]
    fn a_request_for_nothing_or_without_transaction_is_refused() {
        let nothing =
            CommitmentRequest { transaction_uid: "2.25.9".parse().unwrap(), instances: Vec::new() };

        assert!(
            CommitmentRequest::decode(&nothing.encode(implicit().as_str()), &implicit()).is_err()
        );
        assert!(CommitmentReport::decode(&[], &implicit()).is_err());
    }

    proptest! {
        #[test]
        fn any_damage_gives_a_report_or_an_error(
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = report().encode(implicit().as_str());
            for (index, value) in damage {
                let index = index.index(bytes.len());
                bytes[index] = value;
            }
            bytes.truncate(cut.index(bytes.len() + 1));

            let _ = CommitmentReport::decode(&bytes, &implicit());
            let _ = CommitmentRequest::decode(&bytes, &implicit());
        }
    }
}
