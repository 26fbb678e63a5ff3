//! What all results of a job say alike, whatever their form: patient and study, series, equipment, source.

use std::collections::HashSet;

use dicom::dictionary_std::tags;
use time::{OffsetDateTime, UtcOffset};

use super::content::SegProvenance;
use super::frames::concept;
use super::identity::SegIdentity;
use super::modules::truncated;
use super::raw_elements::write_items;
use super::source_attributes::SourceAttributes;
use super::text::{LongString, printable};
use super::writer::{DataSetWriter, ElementWriter};
use crate::series::Stack;

/// Who wrote it: Manufacturer and Manufacturer's Model Name.
pub(crate) const MANUFACTURER: &str = "prosector";

/// Where a result comes from: what all kinds of results say alike.
#[derive(Clone, Copy)]
pub(crate) struct Origin<'a> {
    pub(crate) stack: &'a Stack,
    pub(crate) source: &'a SourceAttributes,
    pub(crate) identity: &'a SegIdentity,
    pub(crate) provenance: &'a SegProvenance,
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
        self.source.put_patient_and_study(&self.stack.study_instance_uid, dataset);
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
        let description = printable(&crate::lineage::statement(provenance));
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

    /// Once lossy, always lossy (PS3.3 C.7.6.1.1.5).
    pub(crate) fn put_lossy(&self, dataset: &mut DataSetWriter) {
        if !self.stack.lossy_image_compression {
            dataset.text(tags::LOSSY_IMAGE_COMPRESSION, *b"CS", "00");
            return;
        }
        let first = &self.stack.slices[0];
        if let Some(method) = lossy_method(first.transfer_syntax_uid.as_str()) {
            dataset.text(tags::LOSSY_IMAGE_COMPRESSION_METHOD, *b"CS", method);
        }
        // What the source states replaces what its file suggests.
        dataset.text(tags::LOSSY_IMAGE_COMPRESSION_RATIO, *b"DS", &self.apparent_ratio());
        for element in self.source.lossy.iter().filter(|element| !element.value.is_empty()) {
            dataset.put(|w| element.write(w));
        }
        dataset.text(tags::LOSSY_IMAGE_COMPRESSION, *b"CS", "01");
    }

    /// Ratio of 16-bit pixels to the first file, for a source that is lossy but does not say by how much.
    fn apparent_ratio(&self) -> String {
        let [slices, rows, columns] = self.stack.geometry.shape();
        let first = &self.stack.slices[0];
        let frames = if first.frame_number.is_some() { slices } else { 1 };
        let bytes = std::fs::metadata(&first.path).map_or(0, |metadata| metadata.len());
        let ratio = (2 * frames * rows * columns) as f64 / bytes.max(1) as f64;
        format!("{:.2}", ratio.clamp(1.0, 9999.0))
    }

    /// Refers to the source series with every instance of it (PS3.3 C.12.2).
    pub(crate) fn put_references(&self, dataset: &mut DataSetWriter) {
        let mut seen = HashSet::new();
        let instances: Vec<_> =
            self.stack.slices.iter().filter(|slice| seen.insert(&slice.sop_instance_uid)).collect();
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
                    let series = self.stack.series_instance_uid.as_str();
                    w.text(tags::SERIES_INSTANCE_UID, *b"UI", series);
                });
            });
        });
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
