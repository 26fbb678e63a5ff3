//! The modules of a segmentation in front of its functional groups (PS3.3 A.51.3).

use std::collections::HashSet;

use dicom::dictionary_std::tags;
use dicom_types::Mask;
use time::{OffsetDateTime, UtcOffset};

use super::content::{SegProvenance, SegmentInput};
use super::enums::{SegmentationType, SegmentsOverlap};
use super::frames::{FramePlan, concept};
use super::identity::SegIdentity;
use super::pixels::label_bytes;
use super::raw_elements::write_items;
use super::recommended_display_cielab;
use super::source_attributes::SourceAttributes;
use super::text::{LongString, printable};
use super::writer::{DataSetWriter, ElementWriter};
use crate::series::Stack;

/// Who wrote it: Manufacturer and Manufacturer's Model Name.
const MANUFACTURER: &str = "prosector";

/// Longest Algorithm Parameters, a long text.
const MAX_LONG_TEXT: usize = 10240;

/// Where a result comes from: what all kinds of results say alike.
#[derive(Clone, Copy)]
pub(crate) struct Origin<'a> {
    pub(crate) stack: &'a Stack,
    pub(crate) source: &'a SourceAttributes,
    pub(crate) identity: &'a SegIdentity,
    pub(crate) provenance: &'a SegProvenance,
}

/// Everything that the modules of a segmentation are written from.
pub(crate) struct Parts<'a> {
    pub(crate) origin: Origin<'a>,
    pub(crate) segments: &'a [SegmentInput<'a>],
    pub(crate) plan: &'a FramePlan,
    pub(crate) overlap: SegmentsOverlap,
    pub(crate) kind: SegmentationType,
}

impl Origin<'_> {
    /// The moment of the job, in the offset that the copied times have too.
    pub(crate) fn created(&self) -> OffsetDateTime {
        let offset = self.source.ascii(tags::TIMEZONE_OFFSET_FROM_UTC).and_then(parse_offset);
        offset.map_or(self.identity.created, |offset| self.identity.created.to_offset(offset))
    }

    pub(crate) fn date_and_time(&self) -> [String; 2] {
        let created = self.created();
        let (hour, minute, second) = created.to_hms();
        [
            format!("{:04}{:02}{:02}", created.year(), u8::from(created.month()), created.day()),
            format!("{hour:02}{minute:02}{second:02}"),
        ]
    }

    pub(crate) fn put_patient_and_study(&self, dataset: &mut DataSetWriter) {
        for element in &self.source.copied {
            dataset.put(|w| element.write(w));
        }
        dataset.text(tags::STUDY_INSTANCE_UID, *b"UI", self.stack.study_instance_uid.as_str());
        for (tag, vr) in [
            (tags::PATIENT_NAME, *b"PN"),
            (tags::PATIENT_ID, *b"LO"),
            (tags::PATIENT_BIRTH_DATE, *b"DA"),
            (tags::PATIENT_SEX, *b"CS"),
            (tags::STUDY_DATE, *b"DA"),
            (tags::STUDY_TIME, *b"TM"),
            (tags::ACCESSION_NUMBER, *b"SH"),
            (tags::REFERRING_PHYSICIAN_NAME, *b"PN"),
            (tags::STUDY_ID, *b"SH"),
        ] {
            dataset.empty_if_absent(tag, vr);
        }
    }

    pub(crate) fn put_equipment(&self, dataset: &mut DataSetWriter) {
        let provenance = self.provenance;
        let serial = LongString::fitted(&provenance.device_serial_number);
        let versions = [
            format!("{MANUFACTURER} {}", provenance.software_version),
            format!("{} {}", provenance.model_name, provenance.model_version),
            provenance.pack_digest.clone(),
        ]
        .map(|text| LongString::fitted(&text));
        let versions = versions.each_ref().map(LongString::as_str);
        let write_device = |w: &mut ElementWriter| {
            w.text(tags::DEVICE_SERIAL_NUMBER, *b"LO", serial.as_str());
            w.texts(tags::SOFTWARE_VERSIONS, *b"LO", &versions);
        };
        dataset.text(tags::MANUFACTURER, *b"LO", MANUFACTURER);
        dataset.text(tags::MANUFACTURER_MODEL_NAME, *b"LO", MANUFACTURER);
        dataset.text(tags::DEVICE_SERIAL_NUMBER, *b"LO", serial.as_str());
        dataset.put(|w| w.texts(tags::SOFTWARE_VERSIONS, *b"LO", &versions));
        let [date, time] = self.date_and_time();
        let description = printable(&format!(
            "Segmented by protocol {} revision {}. {}",
            provenance.protocol_name, provenance.protocol_revision, provenance.notice
        ));
        dataset.put(|w| {
            w.sequence(tags::CONTRIBUTING_EQUIPMENT_SEQUENCE, |w| {
                write_items(&self.source.contributing_equipment, w);
                w.item(|w| {
                    w.text(tags::MANUFACTURER, *b"LO", MANUFACTURER);
                    w.text(tags::MANUFACTURER_MODEL_NAME, *b"LO", MANUFACTURER);
                    write_device(w);
                    w.text(tags::CONTRIBUTION_DATE_TIME, *b"DT", &format!("{date}{time}"));
                    w.text(tags::CONTRIBUTION_DESCRIPTION, *b"ST", truncated(&description, 1024));
                    w.concept(
                        tags::PURPOSE_OF_REFERENCE_CODE_SEQUENCE,
                        &concept("109102", "DCM", "Processing Equipment"),
                    );
                });
            });
        });
    }

    pub(crate) fn algorithm_name(&self) -> LongString {
        LongString::fitted(&format!("{MANUFACTURER} {}", self.provenance.model_name))
    }

    /// What all results put into their series: `kind` is the word in its UIDs.
    pub(crate) fn put_series(&self, dataset: &mut DataSetWriter, modality: &str, kind: &str) {
        let [date, time] = self.date_and_time();
        let series = self.identity.series_instance_uid(kind);
        let description = LongString::fitted(&format!(
            "Automatic segmentation (AI): {}",
            self.provenance.protocol_name
        ));
        dataset.text(tags::MODALITY, *b"CS", modality);
        dataset.text(tags::SERIES_INSTANCE_UID, *b"UI", series.as_str());
        dataset.text(tags::SERIES_NUMBER, *b"IS", &self.identity.series_number.to_string());
        dataset.text(tags::SERIES_DESCRIPTION, *b"LO", description.as_str());
        for tag in [tags::SERIES_DATE, tags::CONTENT_DATE, tags::INSTANCE_CREATION_DATE] {
            dataset.text(tag, *b"DA", &date);
        }
        for tag in [tags::SERIES_TIME, tags::CONTENT_TIME, tags::INSTANCE_CREATION_TIME] {
            dataset.text(tag, *b"TM", &time);
        }
    }
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
        self.put_references(&mut dataset);
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
        if let Some(uid) = &self.origin.stack.frame_of_reference_uid {
            dataset.text(tags::FRAME_OF_REFERENCE_UID, *b"UI", uid.as_str());
        }
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
        self.put_lossy(dataset);
    }

    /// Once lossy, always lossy (PS3.3 C.7.6.1.1.5).
    fn put_lossy(&self, dataset: &mut DataSetWriter) {
        if !self.origin.stack.lossy_image_compression {
            dataset.text(tags::LOSSY_IMAGE_COMPRESSION, *b"CS", "00");
            return;
        }
        let first = &self.origin.stack.slices[0];
        if let Some(method) = lossy_method(first.transfer_syntax_uid.as_str()) {
            dataset.text(tags::LOSSY_IMAGE_COMPRESSION_METHOD, *b"CS", method);
        }
        // What the source states replaces what its file suggests.
        dataset.text(tags::LOSSY_IMAGE_COMPRESSION_RATIO, *b"DS", &self.apparent_ratio());
        for element in self.origin.source.lossy.iter().filter(|element| !element.value.is_empty()) {
            dataset.put(|w| element.write(w));
        }
        dataset.text(tags::LOSSY_IMAGE_COMPRESSION, *b"CS", "01");
    }

    /// Ratio of 16-bit pixels to the first file, for a source that is lossy but does not say by how much.
    fn apparent_ratio(&self) -> String {
        let [slices, rows, columns] = self.origin.stack.geometry.shape();
        let first = &self.origin.stack.slices[0];
        let frames = if first.frame_number.is_some() { slices } else { 1 };
        let bytes = std::fs::metadata(&first.path).map_or(0, |metadata| metadata.len());
        let ratio = (2 * frames * rows * columns) as f64 / bytes.max(1) as f64;
        format!("{:.2}", ratio.clamp(1.0, 9999.0))
    }

    fn put_references(&self, dataset: &mut DataSetWriter) {
        let mut seen = HashSet::new();
        let instances: Vec<_> = self
            .origin
            .stack
            .slices
            .iter()
            .filter(|slice| seen.insert(&slice.sop_instance_uid))
            .collect();
        dataset.put(|w| {
            w.sequence(tags::REFERENCED_SERIES_SEQUENCE, |w| {
                w.item(|w| {
                    w.sequence(tags::REFERENCED_INSTANCE_SEQUENCE, |w| {
                        for instance in instances {
                            w.item(|w| {
                                let class = instance.sop_class_uid.as_str();
                                let uid = instance.sop_instance_uid.as_str();
                                w.text(tags::REFERENCED_SOP_CLASS_UID, *b"UI", class);
                                w.text(tags::REFERENCED_SOP_INSTANCE_UID, *b"UI", uid);
                            });
                        }
                    });
                    let series = self.origin.stack.series_instance_uid.as_str();
                    w.text(tags::SERIES_INSTANCE_UID, *b"UI", series);
                });
            });
        });
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

/// Defined term of Lossy Image Compression Method (PS3.3 C.7.6.1.1.5.1) for a transfer syntax.
fn lossy_method(transfer_syntax_uid: &str) -> Option<&'static str> {
    match transfer_syntax_uid {
        "1.2.840.10008.1.2.4.50" | "1.2.840.10008.1.2.4.51" => Some("ISO_10918_1"),
        "1.2.840.10008.1.2.4.81" => Some("ISO_14495_1"),
        "1.2.840.10008.1.2.4.91" | "1.2.840.10008.1.2.4.93" => Some("ISO_15444_1"),
        _ => None,
    }
}

/// The first `max` bytes of ASCII text.
fn truncated(text: &str, max: usize) -> &str {
    &text[..text.len().min(max)]
}

/// A Timezone Offset From UTC: sign, hours, minutes (PS3.3 C.12.1.1).
fn parse_offset(text: &str) -> Option<UtcOffset> {
    let text = text.trim();
    let sign = match text.get(..1)? {
        "+" => 1,
        "-" => -1,
        _ => return None,
    };
    let hours: i8 = text.get(1..3)?.parse().ok()?;
    let minutes: i8 = text.get(3..5)?.parse().ok()?;
    UtcOffset::from_hms(sign * hours, sign * minutes, 0).ok()
}

/// The masks of segments.
pub(crate) fn masks<'a>(segments: &[SegmentInput<'a>]) -> Vec<&'a Mask> {
    segments.iter().map(|segment| segment.mask).collect()
}
