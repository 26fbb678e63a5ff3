//! `summary.json`: what a person or a script wants to know of a result without reading DICOM.

use std::time::Duration;

use dicom_io::coded_concept::CodedConcept;
use dicom_io::series::Stack;
use serde_json::{Map, Value, json};

use super::encode::{CheckedObject, JobIdentity, NOTICE, PackIdentity};
use super::order::Order;
use super::pipeline::Segmented;
use super::result_folder::file_name;
use crate::protocol::Product;
use crate::views::View;

/// Where the frame of reference of a result comes from.
pub(crate) fn frame_of_reference(stack: &Stack) -> &'static str {
    match stack.frame_of_reference_uid {
        Some(_) => "of the source",
        None => "derived from the series",
    }
}

/// The summary of one job. No patient attribute is in it, and no free text of the header.
pub(crate) fn summary(
    stack: &Stack,
    order: &Order,
    job: &JobIdentity,
    pack: &PackIdentity,
    result: &Segmented,
    left_out: &[String],
) -> Value {
    let targets: Vec<Value> = order
        .targets
        .iter()
        .zip(&result.encoded.measurements)
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
    let findings: Vec<Value> = result.encoded.findings.iter().map(View::object).collect();
    let segmentation = result.encoded.object(Product::Seg).map(object);
    let results: Vec<Value> = result.encoded.objects.iter().map(object).collect();
    let milliseconds = |duration: Duration| rounded(duration.as_secs_f64() * 1000.0);
    let times: Map<String, Value> = result
        .stages
        .iter()
        .map(|(stage, duration)| ((*stage).to_owned(), json!(milliseconds(*duration))))
        .collect();
    let total: Duration = result.stages.iter().map(|(_, duration)| *duration).sum();
    json!({
        "notice": NOTICE,
        "version": env!("CARGO_PKG_VERSION"),
        "job_id": job.job_id.to_string(),
        "study_instance_uid": stack.study_instance_uid.as_str(),
        "series_instance_uid": stack.series_instance_uid.as_str(),
        "modality": order.modality_of(stack).as_str(),
        "orientation": order.orientation.as_str(),
        "mode": order.mode.as_str(),
        "volume": {
            "shape": stack.geometry.shape(),
            "spacing_mm": stack.geometry.spacing_mm().map(rounded),
        },
        "frame_of_reference": frame_of_reference(stack),
        "left_out": left_out,
        "protocol": order.protocol_name,
        "protocol_digest": order.digest().to_string(),
        "model": { "name": pack.name, "digest": pack.digest.to_string() },
        "targets": targets,
        "findings": findings,
        "segmentation": segmentation,
        "results": results,
        "duration_ms": times,
        "total_duration_ms": milliseconds(total),
    })
}

fn object(object: &CheckedObject) -> Value {
    json!({
        "form": object.product.form().as_str(),
        "file": file_name(object.product.form()),
        "series_instance_uid": object.series_instance_uid.as_str(),
        "sop_instance_uid": object.sop_instance_uid.as_str(),
        "size_bytes": object.bytes.len(),
        "sha256": object.sha256.to_string(),
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
