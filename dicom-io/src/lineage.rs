//! How a result came about, told by its file alone.
//!
//! Every form carries the same statement in Contributing Equipment (PS3.3 C.12.1) and Software Versions, which any PACS
//! keeps as they are. What was looked for stands in the segments, in the content of a report, or in Image Comments.

use std::path::Path;

use dicom::core::Tag;
use dicom::core::value::Value;
use dicom::dictionary_std::tags;
use dicom::object::InMemDicomObject;
use dicom::object::mem::InMemElement;
use dicom_types::{SeriesInstanceUid, SopClassUid, SopInstanceUid, StudyInstanceUid};

use crate::header::{HeaderLimits, ReadHeaderError, read_part10};
use crate::secondary_capture::TARGETS;
use crate::seg::SegProvenance;
use crate::seg::origin::MANUFACTURER;

const PROTOCOL: &str = "Segmented by protocol ";
const REVISION: &str = " revision ";
const PACK: &str = " with model pack ";
const DIGEST: &str = " (sha256 ";

/// Image Comments (0020,4000).
const IMAGE_COMMENTS: Tag = Tag(0x0020, 0x4000);
/// UID (0040,A124) of a content item.
const CONTENT_UID: Tag = Tag(0x0040, 0xA124);
/// Deepest content tree that is followed; ours has four levels.
const MAX_DEPTH: usize = 8;

/// An object with a thousand segments and their frames; a sequence of frames may be passed over, segments may not.
const LIMITS: HeaderLimits = HeaderLimits {
    max_bytes: 4 << 30,
    max_kept_bytes: 64 << 20,
    skip_element_bytes: Some(16 << 20),
    max_elements: 4 << 20,
    max_depth: 24,
};

/// How a result came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lineage {
    /// Its SOP class.
    pub sop_class_uid: SopClassUid,
    /// Its identity.
    pub sop_instance_uid: SopInstanceUid,
    /// Its series.
    pub series_instance_uid: SeriesInstanceUid,
    /// The study of source and result.
    pub study_instance_uid: StudyInstanceUid,
    /// The series that was segmented, where the file still names it.
    pub source_series_instance_uid: Option<String>,
    /// Date and time of the job, as DICOM writes them.
    pub created: Option<String>,
    /// Name and version of the program.
    pub software: String,
    /// Name of the protocol.
    pub protocol_name: String,
    /// Revision of the protocol.
    pub protocol_revision: String,
    /// Name of the model pack.
    pub pack_name: String,
    /// SHA-256 of the model pack, lower-case hexadecimal.
    pub pack_digest: String,
    /// What was looked for and found, as the model was asked for it.
    pub targets: Vec<String>,
}

/// Why a file does not tell how it came about.
#[derive(Debug, thiserror::Error)]
pub enum LineageError {
    /// It is no DICOM file, or a damaged one.
    #[error("cannot read it as DICOM")]
    Header(#[from] ReadHeaderError),
    /// No Contributing Equipment is ours.
    #[error("it is not a result of {MANUFACTURER}: none of its contributing equipment is")]
    NotOurs,
    /// The statement was changed on the way, or is of a version that wrote another one.
    #[error("{attribute} does not say how it came about in a way that this version reads")]
    Unknown {
        /// Keyword of the attribute.
        attribute: &'static str,
    },
}

/// What Contribution Description says.
pub(crate) fn statement(provenance: &SegProvenance) -> String {
    let SegProvenance { protocol_name, protocol_revision, model_name, pack_digest, notice, .. } =
        provenance;
    format!(
        "{PROTOCOL}{protocol_name}{REVISION}{protocol_revision}{PACK}{model_name}{DIGEST}{pack_digest}). {notice}"
    )
}

/// Reads how the result in the Part 10 file at `path` came about. The pixels are not looked at.
///
/// # Errors
/// [`LineageError`]
pub fn read(path: &Path) -> Result<Lineage, LineageError> {
    let file = std::fs::File::open(path).map_err(ReadHeaderError::from)?;
    let header = read_part10(file, LIMITS)?;
    let dataset = &header.dataset;
    // The last one is the youngest: a result of a result would carry both.
    let equipment = items(dataset, tags::CONTRIBUTING_EQUIPMENT_SEQUENCE).last();
    let equipment = equipment
        .filter(|item| text(item, tags::MANUFACTURER).as_deref() == Some(MANUFACTURER))
        .ok_or(LineageError::NotOurs)?;
    let description = text(equipment, tags::CONTRIBUTION_DESCRIPTION).unwrap_or_default();
    let unknown = |attribute| LineageError::Unknown { attribute };
    let said = parse(&description).ok_or(unknown("ContributionDescription"))?;
    let software = texts(equipment, tags::SOFTWARE_VERSIONS).into_iter().next();
    Ok(Lineage {
        software: software.ok_or(unknown("SoftwareVersions"))?,
        created: text(equipment, tags::CONTRIBUTION_DATE_TIME),
        protocol_name: said.protocol_name.to_owned(),
        protocol_revision: said.protocol_revision.to_owned(),
        pack_name: said.pack_name.to_owned(),
        pack_digest: said.pack_digest.to_owned(),
        targets: targets(dataset),
        source_series_instance_uid: source_series(dataset),
        sop_class_uid: header.sop_class_uid,
        sop_instance_uid: header.sop_instance_uid,
        series_instance_uid: header.series_instance_uid,
        study_instance_uid: header.study_instance_uid,
    })
}

struct Statement<'a> {
    protocol_name: &'a str,
    protocol_revision: &'a str,
    pack_name: &'a str,
    pack_digest: &'a str,
}

fn parse(description: &str) -> Option<Statement<'_>> {
    let rest = description.strip_prefix(PROTOCOL)?;
    let (protocol_name, rest) = rest.split_once(REVISION)?;
    let (protocol_revision, rest) = rest.split_once(PACK)?;
    let (pack_name, rest) = rest.split_once(DIGEST)?;
    let (pack_digest, _) = rest.split_once(')')?;
    let is_digest = pack_digest.len() == 64 && pack_digest.bytes().all(|b| b.is_ascii_hexdigit());
    is_digest.then_some(Statement { protocol_name, protocol_revision, pack_name, pack_digest })
}

/// Prompts of the segments, labels of a report's groups, or what Image Comments lists.
fn targets(dataset: &InMemDicomObject) -> Vec<String> {
    let segments: Vec<String> = items(dataset, tags::SEGMENT_SEQUENCE)
        .filter(|segment| number(segment, tags::SEGMENT_NUMBER) != Some(0))
        .filter_map(|segment| prompt(segment).or_else(|| text(segment, tags::SEGMENT_LABEL)))
        .collect();
    if !segments.is_empty() {
        return segments;
    }
    let mut labels = Vec::new();
    content(dataset, "112039", MAX_DEPTH, &mut |item| labels.extend(text(item, tags::TEXT_VALUE)));
    if !labels.is_empty() {
        return labels;
    }
    if let Some(label) = regions(dataset) {
        return label;
    }
    let comments = text(dataset, IMAGE_COMMENTS).unwrap_or_default();
    let listed = comments.strip_prefix(TARGETS).unwrap_or_default();
    listed.split("; ").filter(|target| !target.is_empty()).map(str::to_owned).collect()
}

/// Names of the regions of a structure set.
fn regions(dataset: &InMemDicomObject) -> Option<Vec<String>> {
    let names: Vec<String> = items(dataset, tags::STRUCTURE_SET_ROI_SEQUENCE)
        .filter_map(|region| text(region, tags::ROI_NAME))
        .collect();
    (!names.is_empty()).then_some(names)
}

/// The prompt that Algorithm Parameters states.
fn prompt(segment: &InMemDicomObject) -> Option<String> {
    let algorithm = items(segment, tags::SEGMENTATION_ALGORITHM_IDENTIFICATION_SEQUENCE).next()?;
    let parameters = text(algorithm, tags::ALGORITHM_PARAMETERS)?;
    let rest = parameters.strip_prefix("prompt=")?;
    // A prompt may hold a semicolon; what follows it does not.
    rest.rsplit_once("; modality=").map(|(prompt, _)| prompt.to_owned())
}

/// The series that images refer to, or that a report says was segmented.
fn source_series(dataset: &InMemDicomObject) -> Option<String> {
    let referenced = items(dataset, tags::REFERENCED_SERIES_SEQUENCE)
        .next()
        .and_then(|series| text(series, tags::SERIES_INSTANCE_UID));
    let mut source = referenced.or_else(|| {
        let frame = items(dataset, tags::REFERENCED_FRAME_OF_REFERENCE_SEQUENCE).next()?;
        let study = items(frame, tags::RT_REFERENCED_STUDY_SEQUENCE).next()?;
        let series = items(study, tags::RT_REFERENCED_SERIES_SEQUENCE).next()?;
        text(series, tags::SERIES_INSTANCE_UID)
    });
    content(dataset, "121232", MAX_DEPTH, &mut |item| {
        source = source.take().or_else(|| text(item, CONTENT_UID));
    });
    source
}

/// Calls `found` with every content item that is named by `code` of DCM.
fn content(
    item: &InMemDicomObject,
    code: &str,
    depth: usize,
    found: &mut impl FnMut(&InMemDicomObject),
) {
    let Some(depth) = depth.checked_sub(1) else { return };
    for child in items(item, tags::CONTENT_SEQUENCE) {
        let name = items(child, tags::CONCEPT_NAME_CODE_SEQUENCE).next();
        if name.and_then(|name| text(name, tags::CODE_VALUE)).as_deref() == Some(code) {
            found(child);
        }
        content(child, code, depth, found);
    }
}

fn items(dataset: &InMemDicomObject, tag: Tag) -> impl Iterator<Item = &InMemDicomObject> {
    let element: Option<&InMemElement> = dataset.get(tag);
    let items = match element.map(InMemElement::value) {
        Some(Value::Sequence(sequence)) => sequence.items(),
        _ => &[],
    };
    items.iter()
}

fn text(dataset: &InMemDicomObject, tag: Tag) -> Option<String> {
    let text = dataset.get(tag)?.to_str().ok()?;
    Some(text.trim_matches(['\0', ' ']).to_owned()).filter(|text| !text.is_empty())
}

fn texts(dataset: &InMemDicomObject, tag: Tag) -> Vec<String> {
    let values = dataset.get(tag).and_then(|element| element.to_multi_str().ok());
    let values = values.as_deref().unwrap_or_default();
    values.iter().map(|text| text.trim_matches(['\0', ' ']).to_owned()).collect()
}

fn number(dataset: &InMemDicomObject, tag: Tag) -> Option<u32> {
    dataset.get(tag)?.to_int().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provenance(protocol_name: &str, model_name: &str) -> SegProvenance {
        SegProvenance {
            software_version: "1.2.3".to_owned(),
            model_name: model_name.to_owned(),
            model_version: "1".to_owned(),
            pack_digest: "0123456789abcdef".repeat(4),
            protocol_name: protocol_name.to_owned(),
            protocol_revision: "264d16223f5a".to_owned(),
            device_serial_number: "prosector".to_owned(),
            notice: "Research use only (not for diagnosis)".to_owned(),
        }
    }

    #[test]
    fn reads_back_what_it_states() {
        for (protocol, pack) in [("ct-abdomen", "sat-nano"), ("command line", "my pack, 2nd try")] {
            let stated = statement(&provenance(protocol, pack));

            let said = parse(&stated).unwrap();

            assert_eq!((said.protocol_name, said.pack_name), (protocol, pack));
            assert_eq!(said.protocol_revision, "264d16223f5a");
            assert_eq!(said.pack_digest, "0123456789abcdef".repeat(4));
        }
    }

    #[test]
    fn takes_no_other_text_for_a_statement() {
        let stated = statement(&provenance("ct", "sat"));
        for text in ["", "Edited by hand", &stated[1..], &stated[..stated.len() / 2]] {
            assert!(parse(text).is_none(), "{text}");
        }
    }
}
