//! Builds the objects of a job one after the other, and reads each of them again.

use std::time::{Duration, Instant};

use dicom_io::rtstruct;
use dicom_io::secondary_capture::{self, render_series};
use dicom_io::seg::{
    self, SegIdentity, SegProvenance, SegmentInput, Segmentation, SegmentationOutcome,
    SegmentationType,
};
use dicom_io::series::Stack;
use dicom_io::sr::{self, ReportedSegment, ReportedSegmentation};
use dicom_io::{Attribute, ResultObject};
use prosector_storage::{Finding, Sha256Digest};

use super::encode::{CheckedObject, EncodeError, Found, JobIdentity, NOTICE};
use super::preview::overlays;
use crate::protocol::Product;

/// What is added to the source's Series Number (0020,0011) to number the series of the first form.
const SERIES_NUMBER_OFFSET: i64 = 1000;
/// Pictures of a capture behind the first.
const PICTURE_STEPS: usize = 8;

/// Builds objects, those that others refer to first.
pub(super) struct Writer<'a> {
    found: Found<'a>,
    segments: &'a [SegmentInput<'a>],
    findings: &'a [Finding],
    job: &'a JobIdentity,
    provenance: SegProvenance,
    /// What a report says of each segment, once it was measured.
    measured: Vec<sr::TargetMeasurement>,
    /// Indices of the segments that have voxels, by Segment Number.
    pub(super) written: Vec<usize>,
    pub(super) objects: Vec<CheckedObject>,
    pub(super) build_time: Duration,
    pub(super) check_time: Duration,
}

impl<'a> Writer<'a> {
    pub(super) fn new(
        found: Found<'a>,
        segments: &'a [SegmentInput<'a>],
        findings: &'a [Finding],
        job: &'a JobIdentity,
        provenance: SegProvenance,
    ) -> Self {
        Self {
            found,
            segments,
            findings,
            job,
            provenance,
            measured: Vec::new(),
            written: Vec::new(),
            objects: Vec::new(),
            build_time: Duration::ZERO,
            check_time: Duration::ZERO,
        }
    }

    /// Builds and checks one object; nothing, and `false`, where no mask has a voxel.
    pub(super) fn write(&mut self, product: Product) -> Result<bool, EncodeError> {
        let start = Instant::now();
        let built = match product {
            Product::Seg => self.segmentation(SegmentationType::Binary)?,
            Product::Labelmap => self.segmentation(SegmentationType::Labelmap)?,
            Product::Report => Some(self.report(SegmentationType::Binary)?),
            Product::ReportOfLabelmap => Some(self.report(SegmentationType::Labelmap)?),
            Product::Picture => Some(self.picture()?),
            Product::StructureSet => Some(self.structure_set()?),
        };
        self.build_time += start.elapsed();
        let Some(object) = built else { return Ok(false) };

        let start = Instant::now();
        let (bytes, stack) = (&object.bytes, self.found.stack);
        match product {
            Product::Seg => seg::check(bytes, stack, self.segments)?,
            Product::Labelmap => seg::check_labelmap(bytes, stack, self.segments)?,
            Product::Report | Product::ReportOfLabelmap => {
                seg::check_document(bytes, stack, sr::SOP_CLASS_UID)?;
            }
            Product::Picture => {
                seg::check_document(bytes, stack, secondary_capture::SOP_CLASS_UID)?;
            }
            Product::StructureSet => seg::check_structure_set(bytes, stack, self.segments)?,
        }
        self.check_time += start.elapsed();
        self.objects.push(CheckedObject {
            product,
            sha256: Sha256Digest::of(&object.bytes),
            bytes: object.bytes,
            sop_class_uid: object.sop_class_uid,
            series_instance_uid: object.series_instance_uid,
            sop_instance_uid: object.sop_instance_uid,
        });
        Ok(true)
    }

    fn identity(&self, product: Product) -> SegIdentity {
        SegIdentity {
            job_id: self.job.job_id.into(),
            created: self.job.created,
            series_number: series_number(self.found.stack, product),
        }
    }

    fn segmentation(
        &mut self,
        kind: SegmentationType,
    ) -> Result<Option<ResultObject>, EncodeError> {
        let (stack, segments, provenance) = (self.found.stack, self.segments, &self.provenance);
        let built = match kind {
            SegmentationType::Binary => {
                seg::build(stack, segments, &self.identity(Product::Seg), provenance)?
            }
            SegmentationType::Labelmap => {
                seg::build_labelmap(stack, segments, &self.identity(Product::Labelmap), provenance)?
            }
        };
        match built {
            SegmentationOutcome::AllEmpty => Ok(None),
            SegmentationOutcome::Object(Segmentation {
                bytes,
                series_instance_uid,
                sop_instance_uid,
                written,
                ..
            }) => {
                self.written = written;
                let sop_class_uid = kind.sop_class_uid();
                Ok(Some(ResultObject {
                    bytes,
                    sop_class_uid,
                    series_instance_uid,
                    sop_instance_uid,
                }))
            }
        }
    }

    /// The report of the segmentation of `kind`, which need not have been written.
    fn report(&mut self, kind: SegmentationType) -> Result<ResultObject, EncodeError> {
        let (product, of) = match kind {
            SegmentationType::Binary => (Product::Report, Product::Seg),
            SegmentationType::Labelmap => (Product::ReportOfLabelmap, Product::Labelmap),
        };
        if self.measured.is_empty() {
            let volume = self.found.volume;
            let masks = self.written.iter().map(|&index| self.segments[index].mask);
            self.measured = masks.map(|mask| sr::measure(volume, mask)).collect();
        }
        let numbered = self.written.iter().zip(&self.measured).zip(1..);
        let reported: Vec<_> = numbered
            .map(|((&index, measurement), segment_number)| ReportedSegment {
                description: self.segments[index].description,
                segment_number,
                measurement: *measurement,
            })
            .collect();
        let segmentation = ReportedSegmentation::of(kind, &self.identity(of));
        let identity = self.identity(product);
        let remarks: Vec<String> = self.findings.iter().map(ToString::to_string).collect();
        let content = sr::ReportContent {
            segmentation: &segmentation,
            segments: &reported,
            remarks: &remarks,
        };
        Ok(sr::build(self.found.stack, &content, &identity, &self.provenance)?)
    }

    fn structure_set(&self) -> Result<ResultObject, EncodeError> {
        let identity = self.identity(Product::StructureSet);
        Ok(rtstruct::build(self.found.stack, self.segments, &identity, &self.provenance)?)
    }

    fn picture(&self) -> Result<ResultObject, EncodeError> {
        let Found { stack, volume, order, masks } = self.found;
        let overlays = overlays(order, masks);
        let pictures = render_series(volume, stack.modality, &overlays, NOTICE, PICTURE_STEPS);
        let targets: Vec<&str> = self
            .written
            .iter()
            .map(|&index| self.segments[index].description.prompt.as_str())
            .collect();
        let identity = self.identity(Product::Picture);
        Ok(secondary_capture::build(stack, &pictures, &targets, &identity, &self.provenance)?)
    }
}

/// The source's number and a thousand, so that results stand behind the images; a thousand where there is none. Each
/// form has a number of its own.
fn series_number(stack: &Stack, product: Product) -> u32 {
    let of_form = match product {
        Product::Seg => 0,
        Product::Labelmap => 1,
        Product::Report | Product::ReportOfLabelmap => 2,
        Product::Picture => 3,
        Product::StructureSet => 4,
    };
    let attribute = Attribute::by_keyword("SeriesNumber");
    let values = attribute.map(|attribute| attribute.values(&stack.header)).unwrap_or_default();
    let source = values.first().and_then(|text| text.trim().parse::<i64>().ok()).unwrap_or(0);
    // PS3.5 6.2: an integer string lies within 32 bits, signed.
    let number = (source.max(0) + SERIES_NUMBER_OFFSET + of_form).min(i64::from(i32::MAX));
    u32::try_from(number).unwrap_or(SERIES_NUMBER_OFFSET as u32)
}
