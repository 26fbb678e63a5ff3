//! Segments, identity and provenance that the tests share.

use dicom_io::coded_concept::CodedConcept;
use dicom_io::seg::{
    LongString, SegIdentity, SegProvenance, SegmentConcept, SegmentDescription, SegmentInput,
    Segmentation, SegmentationOutcome, build,
};
use dicom_io::series::Stack;
use dicom_types::Mask;
use time::OffsetDateTime;
use uuid::Uuid;

/// Descriptions and masks of a few segments on one grid.
pub(super) struct Example {
    descriptions: Vec<SegmentDescription>,
    pub(super) masks: Vec<Mask>,
}

impl Example {
    /// Shapes that no mirror image, rotation or shift leaves alone: a liver-like ellipsoid in one corner, a lesion in
    /// it (so they overlap), a kidney of scattered voxels, a target that was not found, and single voxels in corners.
    pub(super) fn new(shape: [usize; 3]) -> Self {
        let [slices, rows, columns] = shape.map(|length| length as f64);
        let ellipsoid = |center: [f64; 3], radius: [f64; 3]| {
            Mask::from_fn(shape, move |[s, r, c]| {
                let place = [s as f64 / slices, r as f64 / rows, c as f64 / columns];
                let squares = (0..3).map(|i| ((place[i] - center[i]) / radius[i]).powi(2));
                squares.sum::<f64>() < 1.0
            })
        };
        let liver = ellipsoid([0.4, 0.35, 0.3], [0.45, 0.22, 0.17]);
        let lesion = ellipsoid([0.3, 0.3, 0.33], [0.3, 0.06, 0.09]);
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let kidney = Mask::from_fn(shape, |[s, r, c]| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            // No voxel on the first slice, so that the slices of the segments differ.
            s > 0 && r > shape[1] / 2 && c > 2 * shape[2] / 3 && state.is_multiple_of(7)
        });
        let corners = Mask::from_fn(shape, |voxel| {
            voxel == [0, 0, shape[2] - 1] || voxel == [shape[0] - 1, shape[1] - 1, 0]
        });
        let descriptions = vec![
            description("liver", concept("10200004", "Liver"), None, [221, 130, 101]),
            description(
                "liver tumor",
                concept("108369006", "Neoplasm"),
                Some(concept("10200004", "Liver")),
                [255, 0, 0],
            ),
            description("spleen", concept("78961009", "Spleen"), None, [157, 108, 162]),
            left(description("left kidney", concept("64033007", "Kidney"), None, [185, 102, 83])),
            description("aorta", concept("15825003", "Aorta"), None, [216, 101, 79]),
        ];
        let masks = vec![liver, lesion, Mask::empty(shape), kidney, corners];
        Self { descriptions, masks }
    }

    /// The same, the lesion cut out of the liver: no voxel belongs to two.
    pub(super) fn disjoint(shape: [usize; 3]) -> Self {
        let mut example = Self::new(shape);
        let [liver, lesion] = [&example.masks[0], &example.masks[1]];
        let rest = Mask::from_fn(shape, |v| liver.contains(v) && !lesion.contains(v));
        example.masks[0] = rest;
        example
    }

    /// Replaces the segments by `count` of the first description, numbered, with masks of their own.
    pub(super) fn repeat(&mut self, count: usize, mask: impl Fn(usize) -> Mask) {
        let first = self.descriptions[0].clone();
        self.descriptions = (0..count)
            .map(|k| {
                let label = format!("target {k}");
                SegmentDescription {
                    label: LongString::fitted(&label),
                    prompt: label,
                    ..first.clone()
                }
            })
            .collect();
        self.masks = (0..count).map(mask).collect();
    }

    pub(super) fn segments(&self) -> Vec<SegmentInput<'_>> {
        self.descriptions
            .iter()
            .zip(&self.masks)
            .map(|(description, mask)| SegmentInput { description, mask })
            .collect()
    }

    /// The object, which has voxels.
    pub(super) fn build(&self, stack: &Stack) -> Segmentation {
        self.build_as(stack, 0x5EED)
    }

    /// The object of another job.
    pub(super) fn build_as(&self, stack: &Stack, job: u128) -> Segmentation {
        let identity = SegIdentity { job_id: Uuid::from_u128(job), ..identity() };
        match build(stack, &self.segments(), &identity, &provenance()).unwrap() {
            SegmentationOutcome::Object(segmentation) => segmentation,
            SegmentationOutcome::AllEmpty => panic!("the example has voxels"),
        }
    }
}

fn description(
    prompt: &str,
    property_type: CodedConcept,
    anatomic_region: Option<CodedConcept>,
    rgb: [u8; 3],
) -> SegmentDescription {
    let property_category = if anatomic_region.is_some() {
        concept("49755003", "Morphologically Abnormal Structure")
    } else {
        concept("91723000", "Anatomical Structure")
    };
    SegmentDescription {
        label: LongString::fitted(prompt),
        prompt: prompt.to_owned(),
        concept: SegmentConcept {
            property_category,
            property_type,
            property_type_modifier: None,
            anatomic_region,
            anatomic_region_modifier: None,
        },
        rgb,
    }
}

fn left(mut description: SegmentDescription) -> SegmentDescription {
    description.concept.property_type_modifier = Some(concept("7771000", "Left"));
    description
}

fn concept(value: &str, meaning: &str) -> CodedConcept {
    CodedConcept::new(value, "SCT", meaning).unwrap()
}

pub(super) fn identity() -> SegIdentity {
    SegIdentity {
        job_id: Uuid::from_u128(0x5EED),
        created: OffsetDateTime::from_unix_timestamp(1_750_000_000).unwrap(),
        series_number: 9001,
    }
}

pub(super) fn provenance() -> SegProvenance {
    SegProvenance {
        software_version: "0.1.0".to_owned(),
        model_name: "phantom".to_owned(),
        model_version: "1".to_owned(),
        pack_digest: "0123456789abcdef".repeat(4),
        protocol_name: "ct-abdomen".to_owned(),
        protocol_revision: "3".to_owned(),
        device_serial_number: "site-1".to_owned(),
        notice: "Research use only, not for diagnosis".to_owned(),
    }
}
