//! Content items of a report (PS3.3 C.17.3).

use dicom::core::Tag;
use dicom::dictionary_std::tags;
use dicom_types::{SopClassUid, SopInstanceUid};

use crate::coded_concept::CodedConcept;
use crate::seg::decimal;
use crate::seg::writer::{DataSetWriter, ElementWriter, Vr};

/// The value of a content item.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Container { template: Option<&'static str> },
    Code(CodedConcept),
    Text(String),
    Uid(String),
    Number { value: f64, unit: CodedConcept },
    Segment { sop_class_uid: SopClassUid, sop_instance_uid: SopInstanceUid, segment_number: u16 },
}

/// A content item and those below it.
#[derive(Debug, Clone)]
pub(super) struct Content {
    relationship: &'static str,
    name: CodedConcept,
    value: Value,
    children: Vec<Content>,
}

impl Content {
    pub(super) fn new(relationship: &'static str, name: CodedConcept, value: Value) -> Self {
        Self { relationship, name, value, children: Vec::new() }
    }

    pub(super) fn with(mut self, children: Vec<Content>) -> Self {
        self.children = children;
        self
    }

    /// Writes the attributes of the root, a container, which has no relationship, into a data set.
    pub(super) fn put_root(&self, dataset: &mut DataSetWriter) {
        dataset.text(tags::VALUE_TYPE, *b"CS", self.value_type());
        dataset.put(|w| w.concept(tags::CONCEPT_NAME_CODE_SEQUENCE, &self.name));
        dataset.text(tags::CONTINUITY_OF_CONTENT, *b"CS", "SEPARATE");
        if let Value::Container { template: Some(template) } = &self.value {
            dataset.put(|w| write_template(template, w));
        }
        dataset.put(|w| self.write_children(w));
    }

    fn value_type(&self) -> &'static str {
        match self.value {
            Value::Container { .. } => "CONTAINER",
            Value::Code(_) => "CODE",
            Value::Text(_) => "TEXT",
            Value::Uid(_) => "UIDREF",
            Value::Number { .. } => "NUM",
            Value::Segment { .. } => "IMAGE",
        }
    }

    /// Writes the item's attributes in ascending order.
    fn write(&self, w: &mut ElementWriter) {
        if let Value::Segment { sop_class_uid, sop_instance_uid, segment_number } = &self.value {
            w.sequence(tags::REFERENCED_SOP_SEQUENCE, |w| {
                w.item(|w| {
                    let (class, instance) = (sop_class_uid.as_str(), sop_instance_uid.as_str());
                    w.text(tags::REFERENCED_SOP_CLASS_UID, *b"UI", class);
                    w.text(tags::REFERENCED_SOP_INSTANCE_UID, *b"UI", instance);
                    w.us(tags::REFERENCED_SEGMENT_NUMBER, &[*segment_number]);
                });
            });
        }
        w.text(tags::RELATIONSHIP_TYPE, *b"CS", self.relationship);
        w.text(tags::VALUE_TYPE, *b"CS", self.value_type());
        w.concept(tags::CONCEPT_NAME_CODE_SEQUENCE, &self.name);
        match &self.value {
            Value::Container { template } => {
                w.text(tags::CONTINUITY_OF_CONTENT, *b"CS", "SEPARATE");
                if let Some(template) = template {
                    write_template(template, w);
                }
            }
            Value::Code(code) => w.concept(tags::CONCEPT_CODE_SEQUENCE, code),
            Value::Text(text) => w.text(tags::TEXT_VALUE, *b"UT", text),
            Value::Uid(uid) => w.text(UID, *b"UI", uid),
            Value::Number { value, unit } => {
                w.sequence(tags::MEASURED_VALUE_SEQUENCE, |w| {
                    w.item(|w| {
                        w.concept(tags::MEASUREMENT_UNITS_CODE_SEQUENCE, unit);
                        w.raw(tags::FLOATING_POINT_VALUE, Vr(*b"FD"), &value.to_le_bytes());
                        w.text(tags::NUMERIC_VALUE, *b"DS", &decimal::fitted(*value));
                    });
                });
            }
            Value::Segment { .. } => {}
        }
        if !self.children.is_empty() {
            self.write_children(w);
        }
    }

    fn write_children(&self, w: &mut ElementWriter) {
        w.sequence(tags::CONTENT_SEQUENCE, |w| {
            for child in &self.children {
                w.item(|w| child.write(w));
            }
        });
    }
}

/// UID (0040,A124).
const UID: Tag = Tag(0x0040, 0xA124);

fn write_template(template: &str, w: &mut ElementWriter) {
    w.sequence(tags::CONTENT_TEMPLATE_SEQUENCE, |w| {
        w.item(|w| {
            w.text(tags::MAPPING_RESOURCE, *b"CS", "DCMR");
            w.text(tags::TEMPLATE_IDENTIFIER, *b"CS", template);
        });
    });
}
