//! `prosector explain`: how a result came about, from its file alone.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use dicom_io::lineage::{self, Lineage};
use prosector_storage::ResultForm;
use serde_json::{Value, json};

use super::table::{Format, Table};
use super::{Outcome, output};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A result: segmentation, report, pictures or structure set, from wherever it was found
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// How it is printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn run(arguments: &Arguments) -> Result<Outcome> {
    let path = &arguments.file;
    let lineage = lineage::read(path)
        .with_context(|| format!("{} does not say how it came about", path.display()))?;
    let rows = rows(&lineage);
    let text = match arguments.format {
        Format::Json => {
            let mut object: serde_json::Map<String, Value> =
                rows.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
            object.insert("targets".to_owned(), json!(lineage.targets));
            serde_json::to_string_pretty(&object)? + "\n"
        }
        format => {
            let mut table = Table::new(&["what", "value"]);
            for (key, value) in rows {
                table.push(vec![json!(key), value]);
            }
            for target in &lineage.targets {
                table.push(vec![json!("target"), json!(target)]);
            }
            table.render(format)?
        }
    };
    output::print(&text)?;
    Ok(Outcome::Done)
}

fn rows(lineage: &Lineage) -> Vec<(&'static str, Value)> {
    vec![
        ("form", json!(form(lineage.sop_class_uid.as_str()).map(ResultForm::as_str))),
        ("sop_class_uid", json!(lineage.sop_class_uid.as_str())),
        ("sop_instance_uid", json!(lineage.sop_instance_uid.as_str())),
        ("series_instance_uid", json!(lineage.series_instance_uid.as_str())),
        ("study_instance_uid", json!(lineage.study_instance_uid.as_str())),
        ("source_series_instance_uid", json!(lineage.source_series_instance_uid)),
        ("created", json!(lineage.created)),
        ("software", json!(lineage.software)),
        ("protocol", json!(lineage.protocol_name)),
        ("protocol_revision", json!(lineage.protocol_revision)),
        ("model", json!(lineage.pack_name)),
        ("pack_digest", json!(lineage.pack_digest)),
    ]
}

fn form(sop_class_uid: &str) -> Option<ResultForm> {
    match sop_class_uid {
        "1.2.840.10008.5.1.4.1.1.66.4" => Some(ResultForm::Seg),
        "1.2.840.10008.5.1.4.1.1.66.7" => Some(ResultForm::Labelmap),
        "1.2.840.10008.5.1.4.1.1.88.34" => Some(ResultForm::Sr),
        "1.2.840.10008.5.1.4.1.1.7.4" => Some(ResultForm::Picture),
        "1.2.840.10008.5.1.4.1.1.481.3" => Some(ResultForm::Rtstruct),
        _ => None,
    }
}
