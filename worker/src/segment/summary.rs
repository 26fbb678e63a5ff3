//! `summary.json`: what a person or a script wants to know of a result without reading DICOM.

use dicom_io::coded_concept::CodedConcept;
use dicom_io::series::Stack;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::encode::{Encoded, JobIdentity, NOTICE, PackIdentity};
use super::order::Order;

/// Milliseconds of one stage.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct StageTime {
    /// Its name.
    pub(crate) stage: String,
    /// How long it took.
    pub(crate) duration_ms: f64,
}

/// The summary of one job. No patient attribute is in it, and no free text of the header.
pub(crate) fn summary(
    stack: &Stack,
    order: &Order,
    job: &JobIdentity,
    pack: &PackIdentity,
    encoded: &Encoded,
    stages: &[StageTime],
    left_out: &[String],
) -> Value {
    let targets: Vec<Value> = order
        .targets
        .iter()
        .zip(&encoded.measurements)
        .map(|(target, measured)| {
            json!({
                "prompt": target.prompt,
                "segment_number": measured.segment_number,
                "voxel_count": measured.voxel_count,
                "volume_ml": rounded(measured.volume_ml),
                "category": code(&target.concept.property_category),
                "type": code(&target.concept.property_type),
                "modifier": target.concept.property_type_modifier.as_ref().map(code),
                "exact": target.exact,
                "rgb": target.rgb,
            })
        })
        .collect();
    let segmentation = encoded.object.as_ref().map(|object| {
        json!({
            "file": "seg.dcm",
            "series_instance_uid": object.series_instance_uid.as_str(),
            "sop_instance_uid": object.sop_instance_uid.as_str(),
            "size_bytes": object.bytes.len(),
            "sha256": object.sha256.to_string(),
        })
    });
    let times: Map<String, Value> = stages
        .iter()
        .map(|time| (time.stage.clone(), json!(rounded(time.duration_ms))))
        .collect();
    let total_ms: f64 = stages.iter().map(|time| time.duration_ms).sum();
    json!({
        "notice": NOTICE,
        "version": env!("CARGO_PKG_VERSION"),
        "job_id": job.job_id.to_string(),
        "study_instance_uid": stack.study_instance_uid.as_str(),
        "series_instance_uid": stack.series_instance_uid.as_str(),
        "modality": order.modality_of(stack).as_str(),
        "orientation": order.orientation.as_str(),
        "volume": {
            "shape": stack.geometry.shape(),
            "spacing_mm": stack.geometry.spacing_mm().map(rounded),
        },
        "left_out": left_out,
        "protocol": order.protocol_name,
        "protocol_digest": order.digest().to_string(),
        "model": { "name": pack.name, "digest": pack.digest.to_string() },
        "targets": targets,
        "segmentation": segmentation,
        "duration_ms": times,
        "total_duration_ms": rounded(total_ms),
    })
}

fn code(concept: &CodedConcept) -> Value {
    json!({
        "value": concept.value(),
        "scheme": concept.scheme_designator(),
        "meaning": concept.meaning(),
    })
}

/// Three decimals: a microsecond, a cubic millimetre, a micrometre.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
