//! `prosector protocol`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Subcommand;
use dicom_types::{SeriesInstanceUid, StudyInstanceUid};
use serde_json::{Value, json};

use super::table::{Format, Table};
use super::{Outcome, output, replay, report};
use crate::config::{Config, Loaded, Packs};
use crate::protocol::Protocol;
use crate::routing::{self, Candidate, LineReader, SeriesFacts};
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
        /// DICOM files, folders of them, or UIDs of stored studies and series
        #[arg(required = true, value_name = "INPUT")]
        inputs: Vec<PathBuf>,
        /// How to print the table
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Try the protocols on the recorded past: what they would take and what was taken, and the device's time for it
    Replay(replay::Arguments),
    /// Compare the candidates of the shadow lane with production: Dice and volume of each target
    Report(report::Arguments),
}

impl Command {
    /// Whether the packs that protocols name must be there.
    pub(super) fn packs(&self) -> Packs {
        match self {
            Self::Check { .. } => Packs::Needed,
            Self::Match { .. } | Self::Replay(_) | Self::Report(_) => Packs::NotNeeded,
        }
    }
}

pub(super) fn run(command: &Command, loaded: &Loaded) -> Result<Outcome> {
    match command {
        Command::Check { format } => check(&loaded.config, *format),
        Command::Replay(arguments) => super::block_on(replay::run(arguments, &loaded.config)),
        Command::Report(arguments) => super::block_on(report::run(arguments, &loaded.config)),
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

/// A series that was looked at, and what protocols make of it.
struct Row {
    study: Option<StudyInstanceUid>,
    series: Option<SeriesInstanceUid>,
    volume: String,
    facts: Option<SeriesFacts>,
    reason: String,
}

fn match_inputs(config: &Config, inputs: &[PathBuf], format: Format) -> Result<Outcome> {
    let (stored, inputs): (Vec<_>, Vec<_>) = inputs.iter().partition(|input| is_stored(input));
    let inputs: Vec<PathBuf> = inputs.into_iter().cloned().collect();
    let mut rows = Vec::new();
    if !inputs.is_empty() {
        let files = find_files(&inputs)?;
        let series = series_of(dicom_io::series::read_stacks(&files));
        rows.extend(series.iter().map(|source| row_of(source, &config.protocols)));
    }
    for uid in stored {
        rows.extend(super::block_on(stored_rows(config, &uid.to_string_lossy()))?);
    }
    let mut table = Table::new(&["series", "volume", "protocol", "takes", "reason"]);
    print_rows(&mut table, &rows, &config.protocols);
    output::print(&table.render(format)?)?;
    Ok(Outcome::Done)
}

/// Whether an input names a study or series of the store rather than a file.
fn is_stored(input: &Path) -> bool {
    let is_uid = input.to_str().is_some_and(|text| {
        text.contains('.') && text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
    });
    is_uid && !input.exists()
}

fn row_of(source: &SeriesSource, protocols: &[Protocol]) -> Row {
    let stack = source.volume();
    Row {
        study: stack.map(|stack| stack.study_instance_uid.clone()),
        series: source.series_instance_uid.clone(),
        volume: stack.map_or_else(
            || "none".to_owned(),
            |stack| {
                let [slices, rows, columns] = stack.geometry.shape();
                format!("{columns}x{rows}x{slices}")
            },
        ),
        facts: stack.map(|_| source.facts(protocols)),
        reason: source.reasons().join("; "),
    }
}

async fn stored_rows(config: &Config, uid: &str) -> Result<Vec<Row>> {
    let store = super::connect(config).await?;
    let lines = store.recorded_series(uid).await?;
    if lines.is_empty() {
        bail!("{uid} is neither a file nor a study or series whose facts are in the store");
    }
    let reader = LineReader::new(&config.protocols);
    lines
        .iter()
        .map(|line| {
            let recorded = reader.read(line.facts.expose())?;
            let slices = recorded.facts.geometry.map(|geometry| geometry.slices);
            Ok(Row {
                study: Some(recorded.study_instance_uid),
                series: Some(recorded.series_instance_uid),
                volume: slices.map(|slices| format!("{slices} slices")).unwrap_or_default(),
                facts: Some(recorded.facts),
                reason: String::new(),
            })
        })
        .collect()
}

fn print_rows(table: &mut Table, rows: &[Row], protocols: &[Protocol]) {
    let mut studies: BTreeMap<&StudyInstanceUid, Vec<Candidate<'_>>> = BTreeMap::new();
    for row in rows {
        if let (Some(study), Some(series), Some(facts)) = (&row.study, &row.series, &row.facts) {
            let candidate = Candidate { series_instance_uid: series, facts };
            studies.entry(study).or_default().push(candidate);
        }
    }
    let mut decided = BTreeMap::new();
    for study in studies.values() {
        let decisions = routing::decide_study(protocols, study);
        decided.extend(study.iter().map(|member| member.series_instance_uid).zip(decisions));
    }
    for row in rows {
        let series = json!(row.series.as_ref().map(ToString::to_string));
        let decisions = row.series.as_ref().and_then(|series| decided.get(series));
        let Some(decisions) = decisions else {
            let reason = json!(row.reason);
            table.push(vec![series, json!("none"), Value::Null, json!(false), reason]);
            continue;
        };
        for decision in decisions {
            let (takes, reason) = match &decision.outcome {
                routing::Outcome::Matched => (true, Value::Null),
                routing::Outcome::Candidate(reason) | routing::Outcome::Chosen(reason) => {
                    (true, json!(reason))
                }
                routing::Outcome::NotMatched(reason) => (false, json!(reason)),
            };
            table.push(vec![
                series.clone(),
                json!(row.volume),
                json!(decision.protocol),
                json!(takes),
                reason,
            ]);
        }
    }
}
