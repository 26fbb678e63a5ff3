//! Attributes that a result copies from its source, as the bytes that the source has.

use std::path::Path;

use dicom::core::Tag;
use dicom::dictionary_std::tags;
use dicom_types::StudyInstanceUid;

use super::raw_elements::{RawElement, RawValue, ReadSourceAttributesError, read_elements};
use super::writer::{DataSetWriter, Vr};

/// Attributes of the Patient, Patient Study, General Study and Clinical Trial modules (PS3.3 C.7.1, C.7.2) that a
/// result shares with its source, and those of SOP Common and Frame of Reference that they depend on.
const COPIED: &[Tag] = &[
    tags::SPECIFIC_CHARACTER_SET,
    tags::STUDY_DATE,
    tags::STUDY_TIME,
    tags::ACCESSION_NUMBER,
    tags::ISSUER_OF_ACCESSION_NUMBER_SEQUENCE,
    tags::REFERRING_PHYSICIAN_NAME,
    tags::REFERRING_PHYSICIAN_IDENTIFICATION_SEQUENCE,
    tags::CONSULTING_PHYSICIAN_NAME,
    tags::CONSULTING_PHYSICIAN_IDENTIFICATION_SEQUENCE,
    tags::TIMEZONE_OFFSET_FROM_UTC,
    tags::STUDY_DESCRIPTION,
    tags::PROCEDURE_CODE_SEQUENCE,
    tags::PHYSICIANS_OF_RECORD,
    tags::PHYSICIANS_OF_RECORD_IDENTIFICATION_SEQUENCE,
    tags::NAME_OF_PHYSICIANS_READING_STUDY,
    tags::PHYSICIANS_READING_STUDY_IDENTIFICATION_SEQUENCE,
    tags::ADMITTING_DIAGNOSES_DESCRIPTION,
    tags::ADMITTING_DIAGNOSES_CODE_SEQUENCE,
    tags::REFERENCED_STUDY_SEQUENCE,
    tags::REFERENCED_PATIENT_SEQUENCE,
    tags::PATIENT_NAME,
    tags::PATIENT_ID,
    tags::ISSUER_OF_PATIENT_ID,
    tags::TYPE_OF_PATIENT_ID,
    tags::ISSUER_OF_PATIENT_ID_QUALIFIERS_SEQUENCE,
    tags::PATIENT_BIRTH_DATE,
    tags::PATIENT_BIRTH_TIME,
    tags::PATIENT_SEX,
    tags::QUALITY_CONTROL_SUBJECT,
    tags::OTHER_PATIENT_NAMES,
    tags::OTHER_PATIENT_I_DS_SEQUENCE,
    tags::PATIENT_AGE,
    tags::PATIENT_SIZE,
    tags::PATIENT_WEIGHT,
    tags::PATIENT_SIZE_CODE_SEQUENCE,
    tags::MEDICAL_ALERTS,
    tags::ALLERGIES,
    tags::SMOKING_STATUS,
    tags::LAST_MENSTRUAL_DATE,
    tags::OCCUPATION,
    tags::PREGNANCY_STATUS,
    tags::ADDITIONAL_PATIENT_HISTORY,
    tags::PATIENT_SPECIES_DESCRIPTION,
    tags::PATIENT_SPECIES_CODE_SEQUENCE,
    tags::PATIENT_SEX_NEUTERED,
    tags::PATIENT_BREED_DESCRIPTION,
    tags::PATIENT_BREED_CODE_SEQUENCE,
    tags::BREED_REGISTRATION_SEQUENCE,
    tags::RESPONSIBLE_PERSON,
    tags::RESPONSIBLE_PERSON_ROLE,
    tags::RESPONSIBLE_ORGANIZATION,
    tags::PATIENT_COMMENTS,
    tags::CLINICAL_TRIAL_SPONSOR_NAME,
    tags::CLINICAL_TRIAL_PROTOCOL_ID,
    tags::CLINICAL_TRIAL_PROTOCOL_NAME,
    tags::CLINICAL_TRIAL_SITE_ID,
    tags::CLINICAL_TRIAL_SITE_NAME,
    tags::CLINICAL_TRIAL_SUBJECT_ID,
    tags::CLINICAL_TRIAL_SUBJECT_READING_ID,
    tags::CLINICAL_TRIAL_TIME_POINT_ID,
    tags::CLINICAL_TRIAL_TIME_POINT_DESCRIPTION,
    tags::PATIENT_IDENTITY_REMOVED,
    tags::DEIDENTIFICATION_METHOD,
    tags::DEIDENTIFICATION_METHOD_CODE_SEQUENCE,
    tags::CLINICAL_TRIAL_PROTOCOL_ETHICS_COMMITTEE_NAME,
    tags::CLINICAL_TRIAL_PROTOCOL_ETHICS_COMMITTEE_APPROVAL_NUMBER,
    tags::BODY_PART_EXAMINED,
    tags::STUDY_ID,
    tags::POSITION_REFERENCE_INDICATOR,
    tags::REQUESTING_SERVICE,
    tags::REASON_FOR_VISIT,
    tags::REASON_FOR_VISIT_CODE_SEQUENCE,
    tags::ADMISSION_ID,
    tags::ISSUER_OF_ADMISSION_ID_SEQUENCE,
    tags::SERVICE_EPISODE_ID,
    tags::SERVICE_EPISODE_DESCRIPTION,
    tags::ISSUER_OF_SERVICE_EPISODE_ID_SEQUENCE,
    tags::PATIENT_STATE,
];

/// Whether a copied attribute is of type 2 or 3. Empty ones of these are copied too, so that all objects of a study say
/// the same of it.
fn may_be_empty(tag: Tag) -> bool {
    let is_clinical_trial = tag.0 == 0x0012;
    !is_clinical_trial && tag != tags::SPECIFIC_CHARACTER_SET && tag != tags::BODY_PART_EXAMINED
}

/// Attributes of type 2: what the source says of them is who and what the object is about, and is copied whatever it is.
const TYPE_2: &[Tag] = &[
    tags::STUDY_DATE,
    tags::STUDY_TIME,
    tags::ACCESSION_NUMBER,
    tags::REFERRING_PHYSICIAN_NAME,
    tags::PATIENT_NAME,
    tags::PATIENT_ID,
    tags::PATIENT_BIRTH_DATE,
    tags::PATIENT_SEX,
    tags::STUDY_ID,
    tags::POSITION_REFERENCE_INDICATOR,
];

/// Whether an element may stand in a new object: a value that its representation forbids (PS3.5 6.2), such as an age of
/// two characters, is not repeated where it can be left out.
fn may_be_repeated(tag: Tag, vr: Vr, bytes: &[u8]) -> bool {
    if TYPE_2.contains(&tag) {
        return true;
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return !matches!(&vr.0, b"AS" | b"CS" | b"DA" | b"DS" | b"TM");
    };
    let text = text.trim_end_matches([' ', '\0']);
    let is_legal = |value: &str| {
        let is_number_of = |range: std::ops::Range<usize>| {
            value.get(range).is_some_and(|part| part.bytes().all(|b| b.is_ascii_digit()))
        };
        match &vr.0 {
            b"AS" => {
                value.len() == 4 && is_number_of(0..3) && value.ends_with(['D', 'W', 'M', 'Y'])
            }
            b"DA" => value.len() == 8 && is_number_of(0..8),
            b"TM" => {
                let whole = value.split('.').next().unwrap_or_default().len();
                matches!(whole, 2 | 4 | 6) && is_number_of(0..whole)
            }
            b"DS" => value.len() <= 16 && value.trim().parse::<f64>().is_ok(),
            b"CS" => {
                let is_plain = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
                value.len() <= 16 && value.trim().bytes().all(|b| is_plain(b) || b == b' ')
            }
            _ => true,
        }
    };
    text.is_empty() || text.split('\\').all(|value| value.is_empty() || is_legal(value))
}

/// What a result takes over from the first instance of its source.
#[derive(Debug, Clone)]
pub(crate) struct SourceAttributes {
    /// Elements to copy unchanged, ascending.
    pub(crate) copied: Vec<RawElement>,
    /// Items of the source's Contributing Equipment Sequence.
    pub(crate) contributing_equipment: Vec<Vec<RawElement>>,
    /// Lossy Image Compression and what belongs to it, where any of it is stated.
    pub(crate) lossy: Vec<RawElement>,
    /// Study Instance UID of the file.
    pub(crate) study_instance_uid: Option<String>,
    /// SOP Instance UID of the file.
    pub(crate) sop_instance_uid: Option<String>,
}

impl SourceAttributes {
    /// Reads them from the Part 10 file at `path`.
    ///
    /// # Errors
    /// [`ReadSourceAttributesError`]
    pub(crate) fn read(path: &Path) -> Result<Self, ReadSourceAttributesError> {
        let is_lossy = |tag| {
            matches!(
                tag,
                tags::LOSSY_IMAGE_COMPRESSION
                    | tags::LOSSY_IMAGE_COMPRESSION_RATIO
                    | tags::LOSSY_IMAGE_COMPRESSION_METHOD
            )
        };
        let wanted = |tag| {
            let is_identity = matches!(tag, tags::STUDY_INSTANCE_UID | tags::SOP_INSTANCE_UID);
            let is_equipment = tag == tags::CONTRIBUTING_EQUIPMENT_SEQUENCE;
            is_identity || is_equipment || is_lossy(tag) || COPIED.contains(&tag)
        };
        let elements = read_elements(path, wanted, tags::PATIENT_STATE)?;
        let mut attributes = Self {
            copied: Vec::new(),
            contributing_equipment: Vec::new(),
            lossy: Vec::new(),
            study_instance_uid: None,
            sop_instance_uid: None,
        };
        for element in elements {
            match (element.tag, element.value) {
                (tags::CONTRIBUTING_EQUIPMENT_SEQUENCE, RawValue::Items(items)) => {
                    attributes.contributing_equipment = items;
                }
                (tags::STUDY_INSTANCE_UID, value) => {
                    attributes.study_instance_uid = value.ascii().map(str::to_owned);
                }
                (tags::SOP_INSTANCE_UID, value) => {
                    attributes.sop_instance_uid = value.ascii().map(str::to_owned);
                }
                (tag, value) if is_lossy(tag) => {
                    attributes.lossy.push(RawElement { value, ..element });
                }
                // Where an empty value is not allowed, it is left out.
                (_, RawValue::Items(items)) if items.iter().all(Vec::is_empty) => {}
                (tag, RawValue::Bytes(bytes)) if bytes.is_empty() && !may_be_empty(tag) => {}
                (tag, RawValue::Bytes(bytes)) if !may_be_repeated(tag, element.vr, &bytes) => {}
                (_, value) => attributes.copied.push(RawElement { value, ..element }),
            }
        }
        Ok(attributes)
    }

    /// Writes what a result shares with its source: patient and study.
    pub(crate) fn put_patient_and_study(
        &self,
        study_instance_uid: &StudyInstanceUid,
        dataset: &mut DataSetWriter,
    ) {
        for element in &self.copied {
            dataset.put(|w| element.write(w));
        }
        dataset.text(tags::STUDY_INSTANCE_UID, *b"UI", study_instance_uid.as_str());
        for (tag, vr) in [
            (tags::PATIENT_NAME, *b"PN"),
            (tags::PATIENT_ID, *b"LO"),
            (tags::PATIENT_BIRTH_DATE, *b"DA"),
            (tags::PATIENT_SEX, *b"CS"),
            (tags::STUDY_DATE, *b"DA"),
            (tags::STUDY_TIME, *b"TM"),
            (tags::ACCESSION_NUMBER, *b"SH"),
            (tags::REFERRING_PHYSICIAN_NAME, *b"PN"),
            (tags::STUDY_ID, *b"SH"),
        ] {
            dataset.empty_if_absent(tag, vr);
        }
    }

    /// The first value of a copied attribute, as ASCII text.
    pub(crate) fn ascii(&self, tag: Tag) -> Option<&str> {
        self.copied
            .iter()
            .find(|element| element.tag == tag)
            .and_then(|element| element.value.ascii())
    }
}
