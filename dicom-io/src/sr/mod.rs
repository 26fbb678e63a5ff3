//! Structured reports of what was measured: Comprehensive 3D SR with template 1500 (PS3.16 TID 1500).

mod content;
mod measure;

use dicom::dictionary_std::tags;
use dicom_types::{Modality, SeriesInstanceUid, SopInstanceUid};

pub use measure::{TargetMeasurement, measure};

use crate::ResultObject;
use crate::coded_concept::CodedConcept;
use crate::seg::frames::concept;
use crate::seg::origin::Origin;
use crate::seg::sop::read_source;
use crate::seg::writer::{DataSetWriter, ElementWriter};
use crate::seg::{
    BuildSegError, SegIdentity, SegProvenance, SegmentDescription, SegmentationType, derived_uid,
};
use crate::series::Stack;
use content::{Content, Value};

/// Comprehensive 3D SR Storage.
pub const SOP_CLASS_UID: &str = "1.2.840.10008.5.1.4.1.1.88.34";
/// Word that goes into the UIDs of a report, which speaks of one segmentation alone.
fn uid_word(kind: SegmentationType) -> &'static str {
    match kind {
        SegmentationType::Binary => "sr",
        SegmentationType::Labelmap => "sr of labelmap",
    }
}

/// What the report says of one segment.
#[derive(Debug, Clone, Copy)]
pub struct ReportedSegment<'a> {
    /// What it is.
    pub description: &'a SegmentDescription,
    /// Its Segment Number in the segmentation that the report refers to.
    pub segment_number: u16,
    /// What was measured of it.
    pub measurement: TargetMeasurement,
}

/// The segmentation that a report refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportedSegmentation {
    /// Binary or label map.
    pub kind: SegmentationType,
    /// Its series.
    pub series_instance_uid: SeriesInstanceUid,
    /// Its identity.
    pub sop_instance_uid: SopInstanceUid,
}

impl ReportedSegmentation {
    /// The segmentation of `kind` of the job with this identity.
    pub fn of(kind: SegmentationType, identity: &SegIdentity) -> Self {
        Self {
            kind,
            series_instance_uid: identity.series_instance_uid(kind.uid_word()),
            sop_instance_uid: identity.sop_instance_uid(kind.uid_word()),
        }
    }
}

/// What a report says.
#[derive(Debug, Clone, Copy)]
pub struct ReportContent<'a> {
    /// The segmentation that it refers to.
    pub segmentation: &'a ReportedSegmentation,
    /// Its segments.
    pub segments: &'a [ReportedSegment<'a>],
    /// What a person should look at, a sentence each.
    pub remarks: &'a [String],
}

/// Writes what was measured of the segments of a segmentation: volume in millilitres, and where the modality gives the
/// values a meaning, their mean and standard deviation. Remarks are qualitative evaluations (TID 1500). The same inputs give the same bytes.
///
/// # Errors
/// [`BuildSegError`] when the source instance cannot be read for what the report copies from it.
pub fn build(
    stack: &Stack,
    content: &ReportContent<'_>,
    identity: &SegIdentity,
    provenance: &SegProvenance,
) -> Result<ResultObject, BuildSegError> {
    let segmentation = content.segmentation;
    let source = read_source(stack)?;
    let origin = Origin { stack, source: &source, identity, provenance };
    let uid_word = uid_word(segmentation.kind);
    let sop_instance_uid = identity.sop_instance_uid(uid_word);
    let mut dataset = DataSetWriter::new();
    origin.put_patient_and_study(&mut dataset);
    origin.put_series(&mut dataset, "SR", uid_word);
    origin.put_equipment(&mut dataset);
    // These belong to images.
    dataset.remove(tags::POSITION_REFERENCE_INDICATOR);
    dataset.remove(tags::BODY_PART_EXAMINED);
    dataset.text(tags::SERIES_DESCRIPTION, *b"LO", "Automatic measurements (AI)");
    dataset.put(|w| w.sequence(tags::REFERENCED_PERFORMED_PROCEDURE_STEP_SEQUENCE, |_| {}));
    dataset.text(tags::SOP_CLASS_UID, *b"UI", SOP_CLASS_UID);
    dataset.text(tags::SOP_INSTANCE_UID, *b"UI", sop_instance_uid.as_str());
    dataset.text(tags::INSTANCE_NUMBER, *b"IS", "1");
    dataset.text(tags::COMPLETION_FLAG, *b"CS", "COMPLETE");
    dataset.text(tags::VERIFICATION_FLAG, *b"CS", "UNVERIFIED");
    dataset.put(|w| w.sequence(tags::PERFORMED_PROCEDURE_CODE_SEQUENCE, |_| {}));
    dataset.put(|w| write_evidence(stack, segmentation, w));
    let root = document(&origin, content);
    root.put_root(&mut dataset);

    let series = identity.series_instance_uid(uid_word);
    Ok(ResultObject::of_dataset(SOP_CLASS_UID, series, sop_instance_uid, dataset))
}

/// Every instance that the report depends on (PS3.3 C.17.2.3).
fn write_evidence(stack: &Stack, segmentation: &ReportedSegmentation, writer: &mut ElementWriter) {
    let class = segmentation.kind.sop_class_uid();
    let ours = vec![(class.as_str(), segmentation.sop_instance_uid.as_str())];
    let mut images: Vec<_> = stack
        .slices
        .iter()
        .map(|slice| (slice.sop_class_uid.as_str(), slice.sop_instance_uid.as_str()))
        .collect();
    let mut seen = std::collections::HashSet::new();
    images.retain(|image| seen.insert(*image));
    let series = [
        (segmentation.series_instance_uid.as_str(), ours),
        (stack.series_instance_uid.as_str(), images),
    ];
    writer.sequence(tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE, |w| {
        w.item(|w| {
            w.sequence(tags::REFERENCED_SERIES_SEQUENCE, |w| {
                for (series_uid, instances) in &series {
                    w.item(|w| {
                        w.sequence(tags::REFERENCED_SOP_SEQUENCE, |w| {
                            for (class, instance) in instances {
                                w.item(|w| {
                                    w.text(tags::REFERENCED_SOP_CLASS_UID, *b"UI", class);
                                    w.text(tags::REFERENCED_SOP_INSTANCE_UID, *b"UI", instance);
                                });
                            }
                        });
                        w.text(tags::SERIES_INSTANCE_UID, *b"UI", series_uid);
                    });
                }
            });
            w.text(tags::STUDY_INSTANCE_UID, *b"UI", stack.study_instance_uid.as_str());
        });
    });
}

/// The content tree of TID 1500.
fn document(origin: &Origin<'_>, content: &ReportContent<'_>) -> Content {
    let ReportContent { segmentation, segments, remarks } = content;
    let groups =
        segments.iter().map(|segment| measurement_group(origin, segmentation, segment)).collect();
    let language = concept("en-US", "RFC5646", "English (United States)");
    let serial_number = origin.provenance.device_serial_number.as_str();
    let device_uid = derived_uid(&uuid::Uuid::NAMESPACE_OID, &["prosector device", serial_number]);
    let name = origin.algorithm_name().as_str().to_owned();
    let mut items = vec![
        Content::new(
            "HAS CONCEPT MOD",
            concept("121049", "DCM", "Language of Content Item and Descendants"),
            Value::Code(language),
        ),
        Content::new(
            "HAS OBS CONTEXT",
            concept("121005", "DCM", "Observer Type"),
            Value::Code(concept("121007", "DCM", "Device")),
        ),
        Content::new(
            "HAS OBS CONTEXT",
            concept("121012", "DCM", "Device Observer UID"),
            Value::Uid(device_uid),
        ),
        Content::new(
            "HAS OBS CONTEXT",
            concept("121013", "DCM", "Device Observer Name"),
            Value::Text(name),
        ),
        Content::new(
            "HAS CONCEPT MOD",
            concept("121058", "DCM", "Procedure reported"),
            Value::Code(concept("363679005", "SCT", "Imaging procedure")),
        ),
        Content::new(
            "CONTAINS",
            concept("126010", "DCM", "Imaging Measurements"),
            Value::Container { template: None },
        )
        .with(groups),
    ];
    items.extend(evaluations(remarks));
    Content::new(
        "CONTAINS",
        concept("126000", "DCM", "Imaging Measurement Report"),
        Value::Container { template: Some("1500") },
    )
    .with(items)
}

/// What a person should look at.
fn evaluations(remarks: &[String]) -> Option<Content> {
    let comment = |remark: &String| {
        let name = concept("121106", "DCM", "Comment");
        Content::new("CONTAINS", name, Value::Text(remark.clone()))
    };
    let name = concept("C0034375", "UMLS", "Qualitative Evaluations");
    let items: Vec<Content> = remarks.iter().map(comment).collect();
    let container = || Content::new("CONTAINS", name, Value::Container { template: None });
    (!items.is_empty()).then(|| container().with(items))
}

/// One segment by TID 1411.
fn measurement_group(
    origin: &Origin<'_>,
    segmentation: &ReportedSegmentation,
    segment: &ReportedSegment<'_>,
) -> Content {
    let description = segment.description;
    let what = &description.concept;
    let mut items = vec![
        Content::new(
            "HAS OBS CONTEXT",
            concept("112039", "DCM", "Tracking Identifier"),
            Value::Text(description.label.as_str().to_owned()),
        ),
        Content::new(
            "HAS OBS CONTEXT",
            concept("112040", "DCM", "Tracking Unique Identifier"),
            Value::Uid(origin.identity.tracking_uid(&description.prompt)),
        ),
        Content::new(
            "CONTAINS",
            concept("121191", "DCM", "Referenced Segment"),
            Value::Segment {
                sop_class_uid: segmentation.kind.sop_class_uid(),
                sop_instance_uid: segmentation.sop_instance_uid.clone(),
                segment_number: segment.segment_number,
            },
        ),
        Content::new(
            "CONTAINS",
            concept("121232", "DCM", "Source series for segmentation"),
            Value::Uid(origin.stack.series_instance_uid.to_string()),
        ),
        Content::new(
            "CONTAINS",
            concept("121071", "DCM", "Finding"),
            Value::Code(what.property_type.clone()),
        ),
    ];
    // A lesion lies in its region; an organ is its own site. The side belongs to the site.
    let (site, side) = match &what.anatomic_region {
        Some(region) => (region, &what.anatomic_region_modifier),
        None => (&what.property_type, &what.property_type_modifier),
    };
    let laterality = side.iter().map(|side| {
        Content::new(
            "HAS CONCEPT MOD",
            concept("272741003", "SCT", "Laterality"),
            Value::Code(side.clone()),
        )
    });
    items.push(
        Content::new(
            "HAS CONCEPT MOD",
            concept("363698007", "SCT", "Finding Site"),
            Value::Code(site.clone()),
        )
        .with(laterality.collect()),
    );
    items.extend(measurements(origin, segment.measurement));
    Content::new(
        "CONTAINS",
        concept("125007", "DCM", "Measurement Group"),
        Value::Container { template: Some("1411") },
    )
    .with(items)
}

fn measurements(origin: &Origin<'_>, measured: TargetMeasurement) -> Vec<Content> {
    let milliliter = concept("mL", "UCUM", "milliliter");
    let volume = concept("118565006", "SCT", "Volume");
    let mut items = vec![number(origin, volume, measured.volume_ml, milliliter, None)];
    let Some((what, unit)) = intensity(origin.stack.modality) else { return items };
    for (value, derivation) in [
        (measured.mean, concept("373098007", "SCT", "Mean")),
        (measured.standard_deviation, concept("386136009", "SCT", "Standard Deviation")),
    ] {
        items.push(number(origin, what.clone(), value, unit.clone(), Some(derivation)));
    }
    items
}

/// What the stored values of a modality are, and their unit; nothing where the series alone does not say.
fn intensity(modality: Modality) -> Option<(CodedConcept, CodedConcept)> {
    match modality {
        Modality::Ct => Some((
            concept("112031", "DCM", "Attenuation Coefficient"),
            concept("[hnsf'U]", "UCUM", "Hounsfield unit"),
        )),
        Modality::Mr => Some((
            concept("110852", "DCM", "MR signal intensity"),
            concept("1", "UCUM", "no units"),
        )),
        Modality::Pt => None,
    }
}

/// A measurement by TID 1419, with its algorithm by TID 4019.
fn number(
    origin: &Origin<'_>,
    what: CodedConcept,
    value: f64,
    unit: CodedConcept,
    derivation: Option<CodedConcept>,
) -> Content {
    let mut children: Vec<_> = derivation
        .into_iter()
        .map(|derivation| {
            let name = concept("121401", "DCM", "Derivation");
            Content::new("HAS CONCEPT MOD", name, Value::Code(derivation))
        })
        .collect();
    let provenance = origin.provenance;
    let version = crate::seg::LongString::fitted(&format!(
        "{} {}",
        provenance.model_version, provenance.pack_digest
    ));
    for (code, meaning, text) in [
        ("111001", "Algorithm Name", origin.algorithm_name().as_str().to_owned()),
        ("111003", "Algorithm Version", version.as_str().to_owned()),
    ] {
        let name = concept(code, "DCM", meaning);
        children.push(Content::new("HAS CONCEPT MOD", name, Value::Text(text)));
    }
    Content::new("CONTAINS", what, Value::Number { value, unit }).with(children)
}
