//! What is kept of a header: what routing asks, and whose image it is.

use dicom_io::Attribute;
use dicom_io::header::InstanceHeader;
use dicom_types::Phi;
use prosector_storage::PatientIdentity;
use serde_json::{Map, Value};

use crate::routing::KEPT;

/// Header facts of an instance by keyword, for the restricted table.
pub(super) fn header_facts(header: &InstanceHeader) -> Phi<Value> {
    let mut facts = Map::new();
    for attribute in KEPT.iter().filter_map(|keyword| Attribute::by_keyword(keyword)) {
        let values = attribute.values(&header.dataset);
        if !values.is_empty() {
            facts.insert(attribute.keyword().to_owned(), values.into());
        }
    }
    Phi::new(Value::Object(facts))
}

/// Patient ID and Accession Number, empty where the instance has none.
pub(super) fn identity(header: &InstanceHeader) -> PatientIdentity {
    let first = |keyword: &str| {
        let attribute = Attribute::by_keyword(keyword);
        let value = attribute.and_then(|a| a.values(&header.dataset).into_iter().next());
        Phi::new(value.unwrap_or_default())
    };
    PatientIdentity { patient_id: first("PatientID"), accession_number: first("AccessionNumber") }
}

/// Instance Number (0020,0013), where it is a number.
pub(super) fn instance_number(header: &InstanceHeader) -> Option<i64> {
    let attribute = Attribute::by_keyword("InstanceNumber")?;
    attribute.values(&header.dataset).first()?.trim().parse().ok()
}
