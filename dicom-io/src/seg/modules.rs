//! The modules of a segmentation in front of its functional groups (PS3.3 A.51.3).

use dicom::dictionary_std::tags;
use dicom_types::Mask;

use super::content::SegmentInput;
use super::enums::{SegmentationType, SegmentsOverlap};
use super::frames::{FramePlan, concept};
use super::identity::frame_of_reference_of;
use super::origin::{MANUFACTURER, Origin};
use super::pixels::label_bytes;
use super::recommended_display_cielab;
use super::text::{LongString, printable};
use super::writer::{DataSetWriter, ElementWriter};

/// Longest Algorithm Parameters, a long text.
pub(crate) const MAX_LONG_TEXT: usize = 10240;

/// Everything that the modules of a segmentation are written from.
pub(crate) struct Parts<'a> {
    pub(crate) origin: Origin<'a>,
    pub(crate) segments: &'a [SegmentInput<'a>],
    pub(crate) plan: &'a FramePlan,
    pub(crate) overlap: SegmentsOverlap,
    pub(crate) kind: SegmentationType,
}

impl Parts<'_> {
    /// Elements of the data set up to group 0062.
    pub(crate) fn write_modules(&self) -> Vec<u8> {
        let mut dataset = DataSetWriter::new();
        self.origin.put_patient_and_study(&mut dataset);
        self.origin.put_series(&mut dataset, "SEG", self.kind.uid_word());
        self.origin.put_equipment(&mut dataset);
        self.put_frame_of_reference(&mut dataset);
        self.put_image(&mut dataset);
        self.origin.put_references(&mut dataset);
        self.put_dimensions(&mut dataset);
        dataset.put(|w| {
            w.sequence(tags::SEGMENT_SEQUENCE, |w| {
                if self.kind == SegmentationType::Labelmap {
                    w.item(|w| self.write_background(w));
                }
                for (index, segment) in self.segments.iter().enumerate() {
                    w.item(|w| self.write_segment(index as u16 + 1, segment, w));
                }
            });
        });
        dataset.into_bytes()
    }

    fn put_frame_of_reference(&self, dataset: &mut DataSetWriter) {
        dataset.empty_if_absent(tags::POSITION_REFERENCE_INDICATOR, *b"LO");
        let uid = frame_of_reference_of(self.origin.stack);
        dataset.text(tags::FRAME_OF_REFERENCE_UID, *b"UI", uid.as_str());
    }

    fn put_image(&self, dataset: &mut DataSetWriter) {
        let [_, rows, columns] = self.origin.stack.geometry.shape();
        let instance = self.origin.identity.sop_instance_uid(self.kind.uid_word());
        dataset.text(tags::SOP_CLASS_UID, *b"UI", self.kind.sop_class_uid().as_str());
        dataset.text(tags::SOP_INSTANCE_UID, *b"UI", instance.as_str());
        dataset.text(tags::IMAGE_TYPE, *b"CS", "DERIVED\\PRIMARY");
        dataset.text(tags::INSTANCE_NUMBER, *b"IS", "1");
        dataset.text(tags::CONTENT_LABEL, *b"CS", "SEGMENTATION");
        let description =
            LongString::fitted(&format!("AI segmentation. {}", self.origin.provenance.notice));
        dataset.text(tags::CONTENT_DESCRIPTION, *b"LO", description.as_str());
        dataset.text(tags::CONTENT_CREATOR_NAME, *b"PN", "prosector^automatic");
        dataset.us(tags::SAMPLES_PER_PIXEL, 1);
        dataset.text(tags::PHOTOMETRIC_INTERPRETATION, *b"CS", "MONOCHROME2");
        dataset.text(tags::NUMBER_OF_FRAMES, *b"IS", &self.plan.frames.len().to_string());
        dataset.us(tags::ROWS, rows as u16);
        dataset.us(tags::COLUMNS, columns as u16);
        let bits = match self.kind {
            SegmentationType::Binary => 1,
            SegmentationType::Labelmap => 8 * label_bytes(self.segments.len()) as u16,
        };
        dataset.us(tags::BITS_ALLOCATED, bits);
        dataset.us(tags::BITS_STORED, bits);
        dataset.us(tags::HIGH_BIT, bits - 1);
        dataset.us(tags::PIXEL_REPRESENTATION, 0);
        if self.kind == SegmentationType::Labelmap {
            dataset.us(tags::PIXEL_PADDING_VALUE, 0);
        }
        dataset.text(tags::SEGMENTATION_TYPE, *b"CS", self.kind.as_str());
        dataset.text(tags::SEGMENTS_OVERLAP, *b"CS", self.overlap.as_str());
        self.origin.put_lossy(dataset);
    }

    fn put_dimensions(&self, dataset: &mut DataSetWriter) {
        let organization = self.origin.identity.dimension_organization_uid(self.kind.uid_word());
        dataset.put(|w| {
            w.sequence(tags::DIMENSION_ORGANIZATION_SEQUENCE, |w| {
                w.item(|w| w.text(tags::DIMENSION_ORGANIZATION_UID, *b"UI", &organization));
            });
        });
        let mut indices = Vec::new();
        match self.kind {
            SegmentationType::Binary => indices.push((
                tags::REFERENCED_SEGMENT_NUMBER,
                tags::SEGMENT_IDENTIFICATION_SEQUENCE,
                "Segment Number",
            )),
            // All slices in a row: a volume, unless a tilted gantry shifts them (PS3.3 C.7.6.17).
            SegmentationType::Labelmap if !self.is_tilted() => {
                dataset.text(tags::DIMENSION_ORGANIZATION_TYPE, *b"CS", "3D");
            }
            SegmentationType::Labelmap => {}
        }
        let position = (tags::IMAGE_POSITION_PATIENT, tags::PLANE_POSITION_SEQUENCE);
        indices.push((position.0, position.1, "Image Position Patient"));
        dataset.put(|w| {
            w.sequence(tags::DIMENSION_INDEX_SEQUENCE, |w| {
                for (index, group, label) in indices {
                    w.item(|w| {
                        w.text(tags::DIMENSION_ORGANIZATION_UID, *b"UI", &organization);
                        w.at(tags::DIMENSION_INDEX_POINTER, index);
                        w.at(tags::FUNCTIONAL_GROUP_POINTER, group);
                        w.text(tags::DIMENSION_DESCRIPTION_LABEL, *b"LO", label);
                    });
                }
            });
        });
    }

    /// Whether the slices do not lie along the normal of their planes.
    fn is_tilted(&self) -> bool {
        const TOLERANCE_MM: f64 = 1e-3;
        let step_mm = self.origin.stack.geometry.spacing_mm()[0];
        step_mm - self.origin.stack.geometry.plane_distance_mm() > TOLERANCE_MM
    }

    /// Describes the value 0 of a label map: every value that occurs needs a segment (PS3.3 C.8.20.2).
    fn write_background(&self, writer: &mut ElementWriter) {
        let background = concept("125040", "DCM", "Background");
        let algorithm = self.origin.algorithm_name();
        writer.concept(tags::SEGMENTED_PROPERTY_CATEGORY_CODE_SEQUENCE, &background);
        writer.us(tags::SEGMENT_NUMBER, &[0]);
        writer.text(tags::SEGMENT_LABEL, *b"LO", "Background");
        writer.text(tags::SEGMENT_ALGORITHM_TYPE, *b"CS", "AUTOMATIC");
        writer.text(tags::SEGMENT_ALGORITHM_NAME, *b"LO", algorithm.as_str());
        writer.concept(tags::SEGMENTED_PROPERTY_TYPE_CODE_SEQUENCE, &background);
    }

    fn write_segment(&self, number: u16, segment: &SegmentInput<'_>, writer: &mut ElementWriter) {
        let description = segment.description;
        let concept = &description.concept;
        let algorithm = self.origin.algorithm_name();
        if let Some(region) = &concept.anatomic_region {
            writer.sequence(tags::ANATOMIC_REGION_SEQUENCE, |w| {
                w.item(|w| {
                    w.concept_attributes(region);
                    if let Some(modifier) = &concept.anatomic_region_modifier {
                        w.concept(tags::ANATOMIC_REGION_MODIFIER_SEQUENCE, modifier);
                    }
                });
            });
        }
        writer.concept(tags::SEGMENTED_PROPERTY_CATEGORY_CODE_SEQUENCE, &concept.property_category);
        writer.us(tags::SEGMENT_NUMBER, &[number]);
        writer.text(tags::SEGMENT_LABEL, *b"LO", description.label.as_str());
        writer.sequence(tags::SEGMENTATION_ALGORITHM_IDENTIFICATION_SEQUENCE, |w| {
            w.item(|w| self.write_algorithm(&description.prompt, algorithm.as_str(), w));
        });
        writer.text(tags::SEGMENT_ALGORITHM_TYPE, *b"CS", "AUTOMATIC");
        writer.text(tags::SEGMENT_ALGORITHM_NAME, *b"LO", algorithm.as_str());
        let color = recommended_display_cielab(description.rgb);
        writer.us(tags::RECOMMENDED_DISPLAY_CIE_LAB_VALUE, &color);
        writer.sequence(tags::SEGMENTED_PROPERTY_TYPE_CODE_SEQUENCE, |w| {
            w.item(|w| {
                w.concept_attributes(&concept.property_type);
                if let Some(modifier) = &concept.property_type_modifier {
                    w.concept(tags::SEGMENTED_PROPERTY_TYPE_MODIFIER_CODE_SEQUENCE, modifier);
                }
            });
        });
        let tracking = self.origin.identity.tracking_uid(&description.prompt);
        writer.text(tags::TRACKING_ID, *b"UT", description.label.as_str());
        writer.text(tags::TRACKING_UID, *b"UI", &tracking);
    }

    fn write_algorithm(&self, prompt: &str, name: &str, writer: &mut ElementWriter) {
        let provenance = self.origin.provenance;
        let version = LongString::fitted(&provenance.model_version);
        let parameters = printable(&format!(
            "prompt={prompt}; modality={}; pack=sha256:{}; protocol={}; revision={}; software={} {}",
            self.origin.stack.modality,
            provenance.pack_digest,
            provenance.protocol_name,
            provenance.protocol_revision,
            MANUFACTURER,
            provenance.software_version,
        ));
        writer.text(tags::ALGORITHM_SOURCE, *b"LO", MANUFACTURER);
        writer.concept(
            tags::ALGORITHM_FAMILY_CODE_SEQUENCE,
            &concept("123110", "DCM", "Artificial Intelligence"),
        );
        writer.text(tags::ALGORITHM_VERSION, *b"LO", version.as_str());
        writer.text(tags::ALGORITHM_PARAMETERS, *b"LT", truncated(&parameters, MAX_LONG_TEXT));
        writer.text(tags::ALGORITHM_NAME, *b"LO", name);
    }
}

/// The first `max` bytes of ASCII text.
pub(crate) fn truncated(text: &str, max: usize) -> &str {
    &text[..text.len().min(max)]
}

/// The masks of segments.
pub(crate) fn masks<'a>(segments: &[SegmentInput<'a>]) -> Vec<&'a Mask> {
    segments.iter().map(|segment| segment.mask).collect()
}
