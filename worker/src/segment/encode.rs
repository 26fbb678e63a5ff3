//! From masks to checked objects.

use std::collections::BTreeSet;
use std::time::Duration;

use dicom_io::seg::{
    BuildSegError, LongString, SegMismatch, SegProvenance, SegmentDescription, SegmentInput,
};
use dicom_io::series::Stack;
use dicom_types::{Mask, SeriesInstanceUid, SopClassUid, SopInstanceUid, Volume};
use prosector_storage::{Finding, JobId, Sha256Digest, TargetMeasurement};
use time::OffsetDateTime;

use super::order::Order;
use super::plausibility;
use super::products::Writer;
use crate::protocol::{Forms, Product, Shipment};

/// Status of every result, for whoever reads the object.
pub(crate) const NOTICE: &str = "Research use only, not for diagnosis";

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
    /// An object cannot be built.
    #[error("cannot build the result")]
    Build(#[from] BuildSegError),
    /// An object does not say what the masks say. It must not be sent.
    #[error("the result does not pass its check")]
    Check(#[from] SegMismatch),
}

/// An object that was read again and found to agree with what it was made from.
#[derive(Debug, Clone)]
pub(crate) struct CheckedObject {
    /// Which of the job's objects it is.
    pub(crate) product: Product,
    /// Part 10 file.
    pub(crate) bytes: Vec<u8>,
    /// Digest of `bytes`.
    pub(crate) sha256: Sha256Digest,
    /// Its SOP class.
    pub(crate) sop_class_uid: SopClassUid,
    /// Series of the result.
    pub(crate) series_instance_uid: SeriesInstanceUid,
    /// Identity of the result.
    pub(crate) sop_instance_uid: SopInstanceUid,
}

/// What came of the masks.
#[derive(Debug, Clone)]
pub(crate) struct Encoded {
    /// The binary segmentation, and what else some destination may get; none when no mask has a voxel.
    pub(crate) objects: Vec<CheckedObject>,
    /// Whether targets overlap, so that no label map can be written.
    pub(crate) overlap: bool,
    /// What was found of each target, in the order of the order.
    pub(crate) measurements: Vec<TargetMeasurement>,
    /// What is odd about it.
    pub(crate) findings: Vec<Finding>,
    /// How long building took.
    pub(crate) build_time: Duration,
    /// How long reading again and comparing took.
    pub(crate) check_time: Duration,
}

impl Encoded {
    /// The object of a product, where it was written.
    pub(crate) fn object(&self, product: Product) -> Option<&CheckedObject> {
        self.objects.iter().find(|object| object.product == product)
    }

    /// Drops what would go out only where a destination refuses something else.
    pub(crate) fn keep_preferred(&mut self, forms: &Forms) {
        let preferred: BTreeSet<Product> =
            possible(forms, self.overlap).products().chain([Product::Seg]).collect();
        self.objects.retain(|object| preferred.contains(&object.product));
    }

    /// What goes to a destination with these forms.
    pub(crate) fn shipments(&self, forms: &Forms) -> Vec<Shipment> {
        possible(forms, self.overlap).shipments()
    }
}

/// The forms that can be written of masks that overlap, or do not.
fn possible(forms: &Forms, overlap: bool) -> Forms {
    if overlap { forms.without_labelmap() } else { forms.clone() }
}

/// What a volume holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found<'a> {
    /// Where the volume comes from.
    pub(crate) stack: &'a Stack,
    /// Its values.
    pub(crate) volume: &'a Volume,
    /// What was looked for.
    pub(crate) order: &'a Order,
    /// A mask for each target of the order, on the grid of the stack.
    pub(crate) masks: &'a [Mask],
}

/// Builds and checks the binary segmentation, and every other object that destinations with these `lists` of forms may
/// get. What cannot be written as a label map is not, see [`Encoded::overlap`].
///
/// # Errors
/// [`EncodeError`]
pub(crate) fn encode(
    found: Found<'_>,
    lists: &[Forms],
    job: &JobIdentity,
    pack: &PackIdentity,
) -> Result<Encoded, EncodeError> {
    let Found { stack, volume, order, masks } = found;
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
    let wants_labelmap = lists.iter().flat_map(Forms::products).any(|p| p == Product::Labelmap);
    let overlap = wants_labelmap && dicom_io::seg::overlap(&segments).is_some();
    let mut products = BTreeSet::from([Product::Seg]);
    for list in lists {
        products.extend(possible(list, overlap).every_product());
    }

    let findings =
        plausibility::findings(volume, stack.modality, &order.targets, masks, &order.plausibility);
    let mut writer = Writer::new(found, &segments, &findings, job, provenance(order, pack));
    for product in products {
        if !writer.write(product)? {
            break;
        }
    }
    let measurements = measure(stack, order, masks, &writer.written);
    let Writer { objects, build_time, check_time, .. } = writer;
    Ok(Encoded { objects, overlap, measurements, findings, build_time, check_time })
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
