//! Attributes that a result copies from its source, as the bytes that the source has.
//!
//! Text is not decoded: names in Japanese or Korean switch character sets inside a value (PS3.5 6.1.2.5), and only the
//! unchanged bytes beside the unchanged Specific Character Set are sure to mean the same.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use dicom::core::value::PrimitiveValue;
use dicom::core::{Tag, VR};
use dicom::dictionary_std::tags;
use dicom::encoding::TransferSyntaxIndex;
use dicom::encoding::transfer_syntax::{Codec, Endianness, TransferSyntax};
use dicom::parser::dataset::read::{DataSetReaderOptions, ValueReadStrategy};
use dicom::parser::dataset::{DataSetReader, DataToken};
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;
use dicom_types::TransferSyntaxUid;

use super::writer::{ElementWriter, Vr};
use crate::part10::{ReadMetaError, locate_dataset};

/// Deepest nesting of sequences that is copied.
const MAX_DEPTH: usize = 8;
/// Longest value that is copied; also the most that a 16-bit length holds.
const MAX_VALUE_BYTES: usize = 0xFFFE;

/// Why the attributes of a source cannot be read. No message repeats a value.
#[derive(Debug, thiserror::Error)]
pub enum ReadSourceAttributesError {
    /// The file cannot be opened or read.
    #[error("cannot read the source instance")]
    Read {
        /// What the system says.
        source: io::Error,
    },
    /// The file meta information is malformed.
    #[error("source instance is no Part 10 file")]
    Meta(#[from] ReadMetaError),
    /// The transfer syntax of the data set is not known.
    #[error("transfer syntax of the source instance is not supported")]
    TransferSyntax,
    /// The data set breaks off or nests wrongly in front of the attributes that are needed.
    #[error("data set of the source instance is malformed")]
    Malformed,
}

impl From<io::Error> for ReadSourceAttributesError {
    fn from(source: io::Error) -> Self {
        Self::Read { source }
    }
}

/// A data element with the bytes of its value, little endian.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawElement {
    pub(crate) tag: Tag,
    pub(crate) vr: Vr,
    pub(crate) value: RawValue,
}

/// The value of a [`RawElement`].
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum RawValue {
    /// Bytes without padding.
    Bytes(Vec<u8>),
    /// Items of a sequence.
    Items(Vec<Vec<RawElement>>),
}

impl std::fmt::Debug for RawValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<phi>")
    }
}

impl RawElement {
    /// Writes the element, and for a sequence its items.
    pub(crate) fn write(&self, writer: &mut ElementWriter) {
        match &self.value {
            RawValue::Bytes(bytes) => writer.raw(self.tag, self.vr, bytes),
            RawValue::Items(items) => writer.sequence(self.tag, |w| write_items(items, w)),
        }
    }
}

impl RawValue {
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::Items(items) => items.is_empty(),
        }
    }

    /// The value as text, when it is bytes in ASCII.
    pub(crate) fn ascii(&self) -> Option<&str> {
        match self {
            Self::Bytes(bytes) if bytes.is_ascii() => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }
}

pub(crate) fn write_items(items: &[Vec<RawElement>], writer: &mut ElementWriter) {
    for item in items {
        writer.item(|w| item.iter().for_each(|element| element.write(w)));
    }
}

/// Reads the elements of the Part 10 file at `path` for which `wanted` holds, in ascending order.
///
/// # Errors
/// [`ReadSourceAttributesError`]
pub(crate) fn read_elements(
    path: &Path,
    wanted: impl Fn(Tag) -> bool,
    last: Tag,
) -> Result<Vec<RawElement>, ReadSourceAttributesError> {
    let mut file = File::open(path)?;
    let uid = seek_dataset(&mut file)?;
    let syntax = TransferSyntaxRegistry
        .get(uid.as_str())
        .ok_or(ReadSourceAttributesError::TransferSyntax)?;
    let file = BufReader::new(file);
    match syntax.codec() {
        Codec::Dataset(Some(adapter)) => {
            let inflated = BufReader::new(adapter.adapt_reader(Box::new(file)));
            read_top_level(inflated, syntax, wanted, last)
        }
        Codec::Dataset(None) => Err(ReadSourceAttributesError::TransferSyntax),
        Codec::None | Codec::EncapsulatedPixelData(..) => {
            read_top_level(file, syntax, wanted, last)
        }
    }
}

/// Leaves `file` at the start of the data set.
fn seek_dataset(file: &mut File) -> Result<TransferSyntaxUid, ReadSourceAttributesError> {
    let mut prefix = Vec::new();
    loop {
        let wanted = (prefix.len() as u64).max(2048);
        let read = file.by_ref().take(wanted).read_to_end(&mut prefix)?;
        let is_whole = (read as u64) < wanted;
        if let Some(start) = locate_dataset(&prefix, is_whole)? {
            file.seek(SeekFrom::Start(start.offset as u64))?;
            return Ok(start.transfer_syntax_uid);
        }
        if is_whole {
            return Err(ReadSourceAttributesError::Malformed);
        }
    }
}

fn read_top_level<R: Read>(
    source: R,
    syntax: &TransferSyntax,
    wanted: impl Fn(Tag) -> bool,
    last: Tag,
) -> Result<Vec<RawElement>, ReadSourceAttributesError> {
    let options = DataSetReaderOptions::default().value_read(ValueReadStrategy::Raw);
    let reader = DataSetReader::new_with_ts_options(source, syntax, options)
        .map_err(|_| ReadSourceAttributesError::TransferSyntax)?;
    let mut tokens = Tokens { reader, swap: syntax.endianness() == Endianness::Big };
    let mut elements = Vec::new();
    while let Some(token) = tokens.next()? {
        let tag = match &token {
            DataToken::ElementHeader(header) => header.tag,
            DataToken::SequenceStart { tag, .. } => *tag,
            _ => break,
        };
        if tag > last {
            break;
        }
        let element = tokens.element(&token, 0)?;
        elements.extend(element.filter(|element| wanted(element.tag)));
    }
    Ok(elements)
}

/// The tokens of a data set, as trees of raw elements.
struct Tokens<R> {
    reader: DataSetReader<dicom::parser::stateful::decode::DynStatefulDecoder<R>>,
    swap: bool,
}

impl<R: Read> Tokens<R> {
    fn next(&mut self) -> Result<Option<DataToken>, ReadSourceAttributesError> {
        self.reader.next().transpose().map_err(|_| ReadSourceAttributesError::Malformed)
    }

    fn required(&mut self) -> Result<DataToken, ReadSourceAttributesError> {
        self.next()?.ok_or(ReadSourceAttributesError::Malformed)
    }

    /// The element that `token` starts; nothing where it is too long or no element that could be copied.
    fn element(
        &mut self,
        token: &DataToken,
        depth: usize,
    ) -> Result<Option<RawElement>, ReadSourceAttributesError> {
        match token {
            DataToken::ElementHeader(header) => {
                let DataToken::PrimitiveValue(value) = self.required()? else {
                    return Err(ReadSourceAttributesError::Malformed);
                };
                let vr = Vr(dictionary_vr(header.tag, header.vr).to_bytes());
                let mut bytes = match value {
                    PrimitiveValue::U8(bytes) => bytes.into_vec(),
                    _ => Vec::new(),
                };
                if bytes.len() > MAX_VALUE_BYTES || &vr.0 == b"SQ" {
                    return Ok(None);
                }
                if self.swap {
                    swap_numbers(vr, &mut bytes);
                }
                trim_padding(vr, &mut bytes);
                Ok(Some(RawElement { tag: header.tag, vr, value: RawValue::Bytes(bytes) }))
            }
            &DataToken::SequenceStart { tag, .. } => {
                if depth == MAX_DEPTH {
                    return Err(ReadSourceAttributesError::Malformed);
                }
                let items = self.items(depth)?;
                Ok(Some(RawElement { tag, vr: Vr(*b"SQ"), value: RawValue::Items(items) }))
            }
            DataToken::PixelSequenceStart => {
                while !matches!(self.required()?, DataToken::SequenceEnd) {}
                Ok(None)
            }
            _ => Err(ReadSourceAttributesError::Malformed),
        }
    }

    fn items(&mut self, depth: usize) -> Result<Vec<Vec<RawElement>>, ReadSourceAttributesError> {
        let mut items = Vec::new();
        loop {
            match self.required()? {
                DataToken::SequenceEnd => return Ok(items),
                DataToken::ItemStart { .. } => {
                    let mut item = Vec::new();
                    loop {
                        match self.required()? {
                            DataToken::ItemEnd => break,
                            token => item.extend(self.element(&token, depth + 1)?),
                        }
                    }
                    items.push(item);
                }
                _ => return Err(ReadSourceAttributesError::Malformed),
            }
        }
    }
}

/// The representation to write: the dictionary's where the source says unknown.
fn dictionary_vr(tag: Tag, vr: VR) -> VR {
    use dicom::core::dictionary::{DataDictionary, DataDictionaryEntry};
    if vr != VR::UN {
        return vr;
    }
    dicom::dictionary_std::StandardDataDictionary
        .by_tag(tag)
        .map_or(VR::UN, |entry| entry.vr().relaxed())
}

fn swap_numbers(vr: Vr, bytes: &mut [u8]) {
    let size = match &vr.0 {
        b"US" | b"SS" | b"AT" | b"OW" => 2,
        b"UL" | b"SL" | b"FL" | b"OF" | b"OL" => 4,
        b"FD" | b"OD" | b"SV" | b"UV" | b"OV" => 8,
        _ => return,
    };
    bytes.chunks_exact_mut(size).for_each(<[u8]>::reverse);
}

/// Removes what pads a text to an even length. Numbers stay as they are.
fn trim_padding(vr: Vr, bytes: &mut Vec<u8>) {
    let is_text = matches!(
        &vr.0,
        b"AE"
            | b"AS"
            | b"CS"
            | b"DA"
            | b"DS"
            | b"DT"
            | b"IS"
            | b"LO"
            | b"LT"
            | b"PN"
            | b"SH"
            | b"ST"
            | b"TM"
            | b"UC"
            | b"UI"
            | b"UR"
            | b"UT"
    );
    if is_text {
        while matches!(bytes.last(), Some(b' ' | 0)) {
            bytes.pop();
        }
    }
}

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
                (_, value) => attributes.copied.push(RawElement { value, ..element }),
            }
        }
        Ok(attributes)
    }

    /// The first value of a copied attribute, as ASCII text.
    pub(crate) fn ascii(&self, tag: Tag) -> Option<&str> {
        self.copied
            .iter()
            .find(|element| element.tag == tag)
            .and_then(|element| element.value.ascii())
    }
}
