//! Rejection notes: Key Object Selection documents that tell a PACS to hide instances (IHE IOCM; PS3.3 A.35.4, PS3.16
//! TID 2010).

use std::collections::BTreeMap;
use std::path::Path;

use dicom::dictionary_std::tags;
use dicom_types::{SeriesInstanceUid, SopClassUid, SopInstanceUid, StudyInstanceUid};
use time::{OffsetDateTime, UtcOffset};

use crate::ResultObject;
use crate::coded_concept::CodedConcept;
use crate::seg::frames::concept;
use crate::seg::source_attributes::SourceAttributes;
use crate::seg::writer::{DataSetWriter, ElementWriter};
use crate::seg::{LongString, ReadSourceAttributesError, SegIdentity, derived_uid};

/// Key Object Selection Document Storage.
pub const SOP_CLASS_UID: &str = "1.2.840.10008.5.1.4.1.1.88.59";
/// Manufacturer and Manufacturer's Model Name.
const MANUFACTURER: &str = "prosector";
/// SOP Classes under this root that are images: a note refers to these as IMAGE, to others as COMPOSITE.
const IMAGES: [&str; 4] = [
    "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.4",
    "1.2.840.10008.5.1.4.1.1.7",
    "1.2.840.10008.5.1.4.1.1.66",
];

/// Why instances are rejected: the title of the document (PS3.16 CID 7011).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RejectionReason {
    /// (113001, DCM, "Rejected for Quality Reasons").
    Quality,
    /// (113037, DCM, "Rejected for Patient Safety Reasons").
    PatientSafety,
    /// (113038, DCM, "Incorrect Modality Worklist Entry").
    WrongWorklistEntry,
    /// (113039, DCM, "Data Retention Policy Expired").
    RetentionExpired,
}

impl RejectionReason {
    /// The title in codes.
    pub fn title(self) -> CodedConcept {
        let (value, meaning) = match self {
            Self::Quality => ("113001", "Rejected for Quality Reasons"),
            Self::PatientSafety => ("113037", "Rejected for Patient Safety Reasons"),
            Self::WrongWorklistEntry => ("113038", "Incorrect Modality Worklist Entry"),
            Self::RetentionExpired => ("113039", "Data Retention Policy Expired"),
        };
        concept(value, "DCM", meaning)
    }

    /// The word for it in identifiers.
    fn word(self) -> &'static str {
        match self {
            Self::Quality => "quality",
            Self::PatientSafety => "patient safety",
            Self::WrongWorklistEntry => "wrong worklist entry",
            Self::RetentionExpired => "retention expired",
        }
    }
}

/// An instance that is rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedInstance {
    /// Its series.
    pub series_instance_uid: SeriesInstanceUid,
    /// Itself.
    pub sop_instance_uid: SopInstanceUid,
    /// Its SOP Class.
    pub sop_class_uid: SopClassUid,
}

/// What a note says.
#[derive(Debug, Clone)]
pub struct RejectionNoteContent<'a> {
    /// The study of the instances.
    pub study_instance_uid: &'a StudyInstanceUid,
    /// The instances: at least one.
    pub rejected: &'a [RejectedInstance],
    /// Why.
    pub reason: RejectionReason,
    /// Why, for a person (113012, DCM, "Key Object Description"); words of ours, never text of a data set.
    pub description: &'a str,
    /// Job and time that UIDs and dates follow from: the same content gives the same bytes.
    pub identity: &'a SegIdentity,
    /// Version of this software.
    pub software_version: &'a str,
    /// What tells this installation from others: Device Serial Number.
    pub device_serial_number: &'a str,
}

/// Why there is no note.
#[derive(Debug, thiserror::Error)]
pub enum BuildRejectionNoteError {
    /// Nothing is rejected.
    #[error("a rejection note needs an instance to reject")]
    Nothing,
    /// The instance that patient and study are taken from cannot be read.
    #[error(transparent)]
    Source(#[from] ReadSourceAttributesError),
    /// It belongs to another study.
    #[error("instance that patient and study are taken from belongs to another study")]
    OtherStudy,
}

/// Writes a note. Patient and study are those of the Part 10 file at `instance`, which belongs to the study: a result,
/// or an instance that it was made from.
///
/// # Errors
/// [`BuildRejectionNoteError`]
pub fn build(
    instance: &Path,
    content: &RejectionNoteContent<'_>,
) -> Result<ResultObject, BuildRejectionNoteError> {
    if content.rejected.is_empty() {
        return Err(BuildRejectionNoteError::Nothing);
    }
    let source = SourceAttributes::read(instance)?;
    if source.study_instance_uid.as_deref() != Some(content.study_instance_uid.as_str()) {
        return Err(BuildRejectionNoteError::OtherStudy);
    }
    let kind = format!("rejection note {}", content.reason.word());
    let sop_instance_uid = content.identity.sop_instance_uid(&kind);
    let series_instance_uid = content.identity.series_instance_uid(&kind);
    let mut dataset = DataSetWriter::new();
    source.put_patient_and_study(content.study_instance_uid, &mut dataset);
    // These belong to images.
    dataset.remove(tags::POSITION_REFERENCE_INDICATOR);
    dataset.remove(tags::BODY_PART_EXAMINED);
    put_series_and_equipment(content, &series_instance_uid, &mut dataset);
    dataset.text(tags::SOP_CLASS_UID, *b"UI", SOP_CLASS_UID);
    dataset.text(tags::SOP_INSTANCE_UID, *b"UI", sop_instance_uid.as_str());
    dataset.text(tags::INSTANCE_NUMBER, *b"IS", "1");
    let [date, time] = date_and_time(&source, content.identity.created);
    for tag in [tags::SERIES_DATE, tags::CONTENT_DATE, tags::INSTANCE_CREATION_DATE] {
        dataset.text(tag, *b"DA", &date);
    }
    for tag in [tags::SERIES_TIME, tags::CONTENT_TIME, tags::INSTANCE_CREATION_TIME] {
        dataset.text(tag, *b"TM", &time);
    }
    dataset.put(|w| write_evidence(content, w));
    put_document(content, &mut dataset);

    Ok(ResultObject::of_dataset(SOP_CLASS_UID, series_instance_uid, sop_instance_uid, dataset))
}

/// Key Object Document Series and General Equipment (PS3.3 C.17.6.1, C.7.5.1).
fn put_series_and_equipment(
    content: &RejectionNoteContent<'_>,
    series_instance_uid: &SeriesInstanceUid,
    dataset: &mut DataSetWriter,
) {
    let version = LongString::fitted(&format!("{MANUFACTURER} {}", content.software_version));
    let serial = LongString::fitted(content.device_serial_number);
    dataset.text(tags::MODALITY, *b"CS", "KO");
    dataset.text(tags::SERIES_INSTANCE_UID, *b"UI", series_instance_uid.as_str());
    dataset.text(tags::SERIES_NUMBER, *b"IS", &content.identity.series_number.to_string());
    dataset.text(tags::SERIES_DESCRIPTION, *b"LO", "Rejection note for automatic results (AI)");
    dataset.put(|w| w.sequence(tags::REFERENCED_PERFORMED_PROCEDURE_STEP_SEQUENCE, |_| {}));
    dataset.text(tags::MANUFACTURER, *b"LO", MANUFACTURER);
    dataset.text(tags::MANUFACTURER_MODEL_NAME, *b"LO", MANUFACTURER);
    dataset.text(tags::DEVICE_SERIAL_NUMBER, *b"LO", serial.as_str());
    dataset.text(tags::SOFTWARE_VERSIONS, *b"LO", version.as_str());
}

/// Current Requested Procedure Evidence Sequence (PS3.3 C.17.6.2).
fn write_evidence(content: &RejectionNoteContent<'_>, writer: &mut ElementWriter) {
    let mut series: BTreeMap<&str, Vec<&RejectedInstance>> = BTreeMap::new();
    for instance in content.rejected {
        series.entry(instance.series_instance_uid.as_str()).or_default().push(instance);
    }
    writer.sequence(tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE, |w| {
        w.item(|w| {
            w.sequence(tags::REFERENCED_SERIES_SEQUENCE, |w| {
                for (series_uid, instances) in &series {
                    w.item(|w| {
                        w.sequence(tags::REFERENCED_SOP_SEQUENCE, |w| {
                            for instance in instances {
                                w.item(|w| write_reference(instance, w));
                            }
                        });
                        w.text(tags::SERIES_INSTANCE_UID, *b"UI", series_uid);
                    });
                }
            });
            w.text(tags::STUDY_INSTANCE_UID, *b"UI", content.study_instance_uid.as_str());
        });
    });
}

/// The content tree of TID 2010, with the observer of TID 1004.
fn put_document(content: &RejectionNoteContent<'_>, dataset: &mut DataSetWriter) {
    let device_uid = derived_uid(
        &uuid::Uuid::NAMESPACE_OID,
        &["prosector device", content.device_serial_number],
    );
    dataset.text(tags::VALUE_TYPE, *b"CS", "CONTAINER");
    dataset.put(|w| w.concept(tags::CONCEPT_NAME_CODE_SEQUENCE, &content.reason.title()));
    dataset.text(tags::CONTINUITY_OF_CONTENT, *b"CS", "SEPARATE");
    dataset.put(|w| {
        w.sequence(tags::CONTENT_TEMPLATE_SEQUENCE, |w| {
            w.item(|w| {
                w.text(tags::MAPPING_RESOURCE, *b"CS", "DCMR");
                w.text(tags::TEMPLATE_IDENTIFIER, *b"CS", "2010");
            });
        });
    });
    dataset.put(|w| {
        w.sequence(tags::CONTENT_SEQUENCE, |w| {
            w.item(|w| {
                named(w, "HAS OBS CONTEXT", "CODE", &concept("121005", "DCM", "Observer Type"));
                w.concept(tags::CONCEPT_CODE_SEQUENCE, &concept("121007", "DCM", "Device"));
            });
            w.item(|w| {
                let name = concept("121012", "DCM", "Device Observer UID");
                named(w, "HAS OBS CONTEXT", "UIDREF", &name);
                w.text(tags::UID, *b"UI", &device_uid);
            });
            w.item(|w| {
                let name = concept("113012", "DCM", "Key Object Description");
                named(w, "CONTAINS", "TEXT", &name);
                w.text(tags::TEXT_VALUE, *b"UT", content.description);
            });
            for instance in content.rejected {
                w.item(|w| {
                    w.sequence(tags::REFERENCED_SOP_SEQUENCE, |w| {
                        w.item(|w| write_reference(instance, w));
                    });
                    w.text(tags::RELATIONSHIP_TYPE, *b"CS", "CONTAINS");
                    w.text(tags::VALUE_TYPE, *b"CS", value_type(&instance.sop_class_uid));
                });
            }
        });
    });
}

fn named(w: &mut ElementWriter, relationship: &str, value_type: &str, name: &CodedConcept) {
    w.text(tags::RELATIONSHIP_TYPE, *b"CS", relationship);
    w.text(tags::VALUE_TYPE, *b"CS", value_type);
    w.concept(tags::CONCEPT_NAME_CODE_SEQUENCE, name);
}

fn write_reference(instance: &RejectedInstance, w: &mut ElementWriter) {
    w.text(tags::REFERENCED_SOP_CLASS_UID, *b"UI", instance.sop_class_uid.as_str());
    w.text(tags::REFERENCED_SOP_INSTANCE_UID, *b"UI", instance.sop_instance_uid.as_str());
}

/// Date and time of `created` in the offset that the copied times have too.
fn date_and_time(source: &SourceAttributes, created: OffsetDateTime) -> [String; 2] {
    let offset = source.ascii(tags::TIMEZONE_OFFSET_FROM_UTC).and_then(parse_offset);
    let created = offset.map_or(created, |offset| created.to_offset(offset));
    let (hour, minute, second) = created.to_hms();
    [
        format!("{:04}{:02}{:02}", created.year(), u8::from(created.month()), created.day()),
        format!("{hour:02}{minute:02}{second:02}"),
    ]
}

/// Reads `+HHMM` or `-HHMM`.
fn parse_offset(text: &str) -> Option<UtcOffset> {
    let text = text.trim();
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let digits = text.get(1..).filter(|digits| digits.len() == 4)?;
    let (hours, minutes): (i8, i8) = (digits[..2].parse().ok()?, digits[2..].parse().ok()?);
    UtcOffset::from_hms(sign * hours, sign * minutes, 0).ok()
}

fn value_type(sop_class_uid: &SopClassUid) -> &'static str {
    let is_image = IMAGES.iter().any(|root| {
        let rest = sop_class_uid.as_str().strip_prefix(root);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    });
    if is_image { "IMAGE" } else { "COMPOSITE" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segmentations_and_pictures_are_images_and_reports_are_not() {
        for (uid, expected) in [
            ("1.2.840.10008.5.1.4.1.1.66.4", "IMAGE"),
            ("1.2.840.10008.5.1.4.1.1.66.7", "IMAGE"),
            ("1.2.840.10008.5.1.4.1.1.7", "IMAGE"),
            ("1.2.840.10008.5.1.4.1.1.88.34", "COMPOSITE"),
            ("1.2.840.10008.5.1.4.1.1.481.3", "COMPOSITE"),
        ] {
            assert_eq!(value_type(&uid.parse().unwrap()), expected, "{uid}");
        }
    }
}
