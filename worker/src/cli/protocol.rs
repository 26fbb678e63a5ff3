//! `prosector protocol`

use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;
use serde_json::{Value, json};

use super::table::{Format, Table};
use super::{Outcome, output};
use crate::config::{Config, Loaded, Packs};
use crate::routing::{self, decide};
use crate::segment::{SeriesSource, find_files, series_of};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Check the protocols and print what each takes, in the order in which series are matched
    Check {
        /// How to print the table
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Print which protocol would take which series of the inputs, and why the others would not
    Match {
        /// DICOM files, or folders of them
        #[arg(required = true, value_name = "INPUT")]
        inputs: Vec<PathBuf>,
        /// How to print the table
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
}

impl Command {
    /// Whether the packs that protocols name must be there.
    pub(super) fn packs(&self) -> Packs {
        match self {
            Self::Check { .. } => Packs::Needed,
            Self::Match { .. } => Packs::NotNeeded,
        }
    }
}

pub(super) fn run(command: &Command, loaded: &Loaded) -> Result<Outcome> {
    match command {
        Command::Check { format } => check(&loaded.config, *format),
        Command::Match { inputs, format } => match_inputs(&loaded.config, inputs, *format),
    }
}

fn check(config: &Config, format: Format) -> Result<Outcome> {
    let columns =
        ["protocol", "takes", "model", "orientation", "priority", "targets", "destinations"];
    let mut table = Table::new(&columns);
    for protocol in &config.protocols {
        table.push(vec![
            json!(protocol.name),
            json!(protocol.condition.to_string()),
            json!(protocol.model),
            json!(protocol.orientation.as_str()),
            json!(protocol.priority.as_str()),
            json!(protocol.targets.len()),
            json!(protocol.destinations),
        ]);
    }
    output::print(&table.render(format)?)?;
    Ok(Outcome::Done)
}

fn match_inputs(config: &Config, inputs: &[PathBuf], format: Format) -> Result<Outcome> {
    let files = find_files(inputs)?;
    let series = series_of(dicom_io::series::read_stacks(&files));
    let mut table = Table::new(&["series", "volume", "protocol", "takes", "reason"]);
    for source in &series {
        add_rows(&mut table, source, config);
    }
    output::print(&table.render(format)?)?;
    Ok(Outcome::Done)
}

fn add_rows(table: &mut Table, source: &SeriesSource, config: &Config) {
    let series = json!(source.series_instance_uid.as_ref().map(ToString::to_string));
    let Some(stack) = source.volume() else {
        let reasons = source.reasons().join("; ");
        table.push(vec![series, json!("none"), Value::Null, json!(false), json!(reasons)]);
        return;
    };
    let [slices, rows, columns] = stack.geometry.shape();
    let volume = json!(format!("{columns}x{rows}x{slices}"));
    for decision in decide(&config.protocols, &source.facts(&config.protocols)) {
        let (takes, reason) = match decision.outcome {
            routing::Outcome::Matched => (true, Value::Null),
            routing::Outcome::NotMatched(reason) => (false, json!(reason)),
        };
        table.push(vec![
            series.clone(),
            volume.clone(),
            json!(decision.protocol),
            json!(takes),
            reason,
        ]);
    }
}
