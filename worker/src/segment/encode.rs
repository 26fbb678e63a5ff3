//! From masks to a checked segmentation object.

use std::time::{Duration, Instant};

use dicom_io::Attribute;
use dicom_io::seg::{
    BuildSegError, LongString, SegIdentity, SegMismatch, SegProvenance, SegmentDescription,
    SegmentInput, SegmentationOutcome,
};
use dicom_io::series::Stack;
use dicom_types::{Mask, SeriesInstanceUid, SopInstanceUid};
use prosector_storage::{JobId, Sha256Digest, TargetMeasurement};
use time::OffsetDateTime;

use super::order::Order;

/// Status of every result, for whoever reads the object.
pub(crate) const NOTICE: &str = "Research use only, not for diagnosis";
/// What is added to the source's Series Number (0020,0011) to number the result's series.
const SERIES_NUMBER_OFFSET: i64 = 1000;

/// Which job a result is of.
#[derive(Debug, Clone)]
pub(crate) struct JobIdentity {
    /// Its id, from which every UID of the result is derived.
    pub(crate) job_id: JobId,
    /// When it was created, the date of the result.
    pub(crate) created: OffsetDateTime,
}

/// The model pack that made the masks.
#[derive(Debug, Clone)]
pub(crate) struct PackIdentity {
    /// Its name.
    pub(crate) name: String,
    /// Its digest.
    pub(crate) digest: Sha256Digest,
}

/// Why masks do not become an object that may be sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EncodeError {
    /// The object cannot be built.
    #[error("cannot build the segmentation")]
    Build(#[from] BuildSegError),
    /// The object does not say what the masks say. It must not be sent.
    #[error("the segmentation does not pass its check")]
    Check(#[from] SegMismatch),
}

/// A segmentation object that was read again and found to agree with its masks.
#[derive(Debug, Clone)]
pub(crate) struct CheckedObject {
    /// Part 10 file.
    pub(crate) bytes: Vec<u8>,
    /// Digest of `bytes`.
    pub(crate) sha256: Sha256Digest,
    /// Series of the result.
    pub(crate) series_instance_uid: SeriesInstanceUid,
    /// Identity of the result.
    pub(crate) sop_instance_uid: SopInstanceUid,
}

/// What came of the masks.
#[derive(Debug, Clone)]
pub(crate) struct Encoded {
    /// The object; none when no mask has a voxel.
    pub(crate) object: Option<CheckedObject>,
    /// What was found of each target, in the order of the order.
    pub(crate) measurements: Vec<TargetMeasurement>,
    /// How long building took.
    pub(crate) build_time: Duration,
    /// How long reading it again and comparing took.
    pub(crate) check_time: Duration,
}

/// Builds the object and checks it. `masks` are in the order of the order's targets, on the grid of `stack`.
///
/// # Errors
/// [`EncodeError`]
pub(crate) fn encode(
    stack: &Stack,
    order: &Order,
    masks: &[Mask],
    job: &JobIdentity,
    pack: &PackIdentity,
) -> Result<Encoded, EncodeError> {
    debug_assert_eq!(order.targets.len(), masks.len());
    let descriptions: Vec<SegmentDescription> = order
        .targets
        .iter()
        .map(|target| SegmentDescription {
            label: LongString::fitted(&target.prompt),
            prompt: target.prompt.clone(),
            concept: target.concept.clone(),
            rgb: target.rgb,
        })
        .collect();
    let segments: Vec<SegmentInput<'_>> = descriptions
        .iter()
        .zip(masks)
        .map(|(description, mask)| SegmentInput { description, mask })
        .collect();
    let identity = SegIdentity {
        job_id: job.job_id.into(),
        created: job.created,
        series_number: series_number(stack),
    };

    let start = Instant::now();
    let built = dicom_io::seg::build(stack, &segments, &identity, &provenance(order, pack))?;
    let build_time = start.elapsed();

    let start = Instant::now();
    let (object, written) = match built {
        SegmentationOutcome::AllEmpty => (None, Vec::new()),
        SegmentationOutcome::Object(object) => {
            dicom_io::seg::check(&object.bytes, stack, &segments)?;
            let checked = CheckedObject {
                sha256: Sha256Digest::of(&object.bytes),
                bytes: object.bytes,
                series_instance_uid: object.series_instance_uid,
                sop_instance_uid: object.sop_instance_uid,
            };
            (Some(checked), object.written)
        }
    };
    let check_time = start.elapsed();

    let measurements = measure(stack, order, masks, &written);
    Ok(Encoded { object, measurements, build_time, check_time })
}

fn measure(
    stack: &Stack,
    order: &Order,
    masks: &[Mask],
    written: &[usize],
) -> Vec<TargetMeasurement> {
    let voxel_ml = stack.geometry.voxel_volume_mm3() / 1000.0;
    let numbered = order.targets.iter().zip(masks).enumerate();
    numbered
        .map(|(index, (target, mask))| {
            let place = written.iter().position(|&input| input == index);
            let voxel_count = mask.count();
            TargetMeasurement {
                prompt: target.prompt.clone(),
                segment_number: place.map(|place| place as u32 + 1),
                voxel_count,
                volume_ml: voxel_count as f64 * voxel_ml,
            }
        })
        .collect()
}

fn provenance(order: &Order, pack: &PackIdentity) -> SegProvenance {
    SegProvenance {
        software_version: env!("CARGO_PKG_VERSION").to_owned(),
        model_name: pack.name.clone(),
        model_version: short(&pack.digest),
        pack_digest: pack.digest.to_string(),
        protocol_name: order.protocol_name.clone(),
        protocol_revision: short(&order.digest()),
        // The same job gives the same bytes on every machine: nothing here may name one.
        device_serial_number: "prosector".to_owned(),
        notice: NOTICE.to_owned(),
    }
}

fn short(digest: &Sha256Digest) -> String {
    digest.to_string()[..12].to_owned()
}

/// The source's number and a thousand, so that results stand behind the images; a thousand where there is none.
fn series_number(stack: &Stack) -> u32 {
    let attribute = Attribute::by_keyword("SeriesNumber");
    let values = attribute.map(|attribute| attribute.values(&stack.header)).unwrap_or_default();
    let source = values.first().and_then(|text| text.trim().parse::<i64>().ok()).unwrap_or(0);
    // PS3.5 6.2: an integer string lies within 32 bits, signed.
    let number = (source.max(0) + SERIES_NUMBER_OFFSET).min(i64::from(i32::MAX));
    u32::try_from(number).unwrap_or(SERIES_NUMBER_OFFSET as u32)
}
