//! `prosector model`

mod evaluate;
mod import;
mod prompts;

use anyhow::{Context as _, Result};
use clap::Subcommand;
use prosector_model::{Convolution, Cost, Pack, PromptModality};
use serde_json::{Value, json};

use super::table::{Format, Table};
use super::{Outcome, UsageError, output};
use crate::config::{Config, Loaded};
use crate::packs::{self, PackError};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Turn checkpoints in the published layout into a pack
    Import(import::Arguments),
    /// Print what a pack holds and where it comes from
    Inspect {
        /// A name in model.packs, a folder, or phantom
        #[arg(value_name = "PACK")]
        pack: String,
        /// How to print the table
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Recompute the digest of every file of a pack, and run its self test
    Verify {
        /// A name in model.packs, a folder, or phantom
        #[arg(value_name = "PACK")]
        pack: String,
    },
    /// Print how a pack understands texts: where their embedding comes from, and the nearest prompt that it caches
    Prompts(prompts::Arguments),
    /// Dice and normalised surface distance against reference segmentations, per class and region
    Evaluate(evaluate::Arguments),
}

pub(super) fn run(command: &Command, loaded: &Loaded) -> Result<Outcome> {
    match command {
        Command::Import(arguments) => import::run(arguments),
        Command::Prompts(arguments) => {
            prompts::run(arguments, &open_pack(&loaded.config, &arguments.pack)?)
        }
        Command::Evaluate(arguments) => {
            let pack = open_pack(&loaded.config, &arguments.pack)?;
            evaluate::run(arguments, &loaded.config, &pack)
        }
        Command::Inspect { pack, format } => inspect(&open_pack(&loaded.config, pack)?, *format),
        Command::Verify { pack } => verify(&open_pack(&loaded.config, pack)?),
    }
}

/// Opens the pack that the command line names; an unknown name is wrong usage.
pub(super) fn open_pack(config: &Config, name: &str) -> Result<Pack> {
    packs::open(&config.model.packs, name).map_err(|error| match error {
        PackError::Unknown { .. } => UsageError(error.to_string()).into(),
        error @ PackError::Open { .. } => error.into(),
    })
}

fn inspect(pack: &Pack, format: Format) -> Result<Outcome> {
    let manifest = pack.manifest();
    let architecture = &manifest.architecture;
    let cost = Cost::of(manifest);
    let prompts: Vec<String> = PromptModality::ALL
        .iter()
        .map(|modality| (modality.as_str(), pack.prompts().prompts(*modality).count()))
        .filter(|(_, count)| *count > 0)
        .map(|(modality, count)| format!("{count} for {modality}"))
        .collect();
    let sources = manifest.provenance.sources.iter();
    let sources: Vec<String> =
        sources.map(|source| format!("{} sha256 {}", source.file, source.sha256)).collect();
    let rows: Vec<(&str, Value)> = vec![
        ("name", json!(manifest.name)),
        ("digest", json!(pack.digest().to_string())),
        ("licence", json!(manifest.licence)),
        ("channels", json!(architecture.channels)),
        ("network_parameters", json!(cost.parameters)),
        ("multiply_adds_per_window", json!(cost.macs_per_window)),
        ("multiply_adds_per_target", json!(cost.macs_per_target)),
        ("weight_bytes", json!(cost.weight_bytes)),
        ("window_bytes", json!(cost.window_bytes)),
        ("core_ms_per_window", json!(core_ms(cost.macs_per_window))),
        ("core_ms_per_target", json!(core_ms(cost.macs_per_target))),
        ("query_width", json!(architecture.query_width)),
        ("spacing_mm", json!(manifest.preprocessing.spacing_mm)),
        ("window_voxels", json!(manifest.preprocessing.window)),
        ("text_encoder", json!(manifest.text.kind.as_str())),
        ("embeds_free_text", json!(pack.has_text_encoder())),
        ("cached_prompts", json!(prompts)),
        ("created_by", json!(manifest.provenance.created_by)),
        ("sources", json!(sources)),
    ];
    let mut table = Table::new(&["property", "value"]);
    for (property, value) in rows {
        table.push(vec![json!(property), value]);
    }
    output::print(&table.render(format)?)?;
    Ok(Outcome::Done)
}

/// Milliseconds of one core at the speed that estimates assume before a window was measured.
fn core_ms(macs: u64) -> f64 {
    let microseconds = macs as f64 / Cost::ASSUMED_MACS_PER_SECOND * 1e6;
    microseconds.round() / 1e3
}

fn verify(pack: &Pack) -> Result<Outcome> {
    let verified = pack.verify(Convolution::default()).context("the pack is not fit for use")?;
    let probe = match verified.probe_difference {
        Some(difference) => format!("the network answers its self test within {difference:.1e}"),
        None => "it carries no self test of its network".to_owned(),
    };
    let text = match verified.embedding_difference {
        Some(difference) => format!("cached prompts are embedded anew within {difference:.1e}"),
        None => "no cached prompt could be embedded anew".to_owned(),
    };
    let name = &pack.manifest().name;
    let files = verified.files;
    output::print(&format!("{name}: {files} files are as the manifest says; {probe}; {text}\n"))?;
    Ok(Outcome::Done)
}
