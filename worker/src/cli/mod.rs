//! The command line: one file per command.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.

mod config;
mod model;
mod output;
mod protocol;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::config::{ConfigError, Loaded, Packs};

/// DICOM-native segmentation worker: CT and MR series in, DICOM segmentations out.
#[derive(Debug, Parser)]
#[command(name = "prosector", version, propagate_version = true)]
struct Cli {
    /// Site file; without one, the embedded default (loopback, SQLite, phantom pack)
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check a configuration, or show what it amounts to
    #[command(subcommand)]
    Config(config::Command),
    /// Look into model packs
    #[command(subcommand)]
    Model(model::Command),
    /// Check the rules of routing, or try them on files
    #[command(subcommand)]
    Protocol(protocol::Command),
}

/// How a command ended that did not break off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Everything was done.
    Done,
    /// Something failed, and was reported.
    Failed,
}

/// The command asks for something that cannot be asked for.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct UsageError(pub(crate) String);

/// Runs the command that the arguments of the process name.
pub(crate) fn run() -> ExitCode {
    let cli = Cli::parse();
    match dispatch(&cli) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Failed) => ExitCode::from(1),
        Err(error) => {
            output::complain(&error);
            let is_usage = error.is::<ConfigError>() || error.is::<UsageError>();
            ExitCode::from(if is_usage { 2 } else { 1 })
        }
    }
}

fn dispatch(cli: &Cli) -> Result<Outcome> {
    match &cli.command {
        Command::Config(command) => config::run(*command, &load(cli, command.packs())?),
        Command::Model(command) => model::run(command, &load(cli, Packs::NotNeeded)?),
        Command::Protocol(command) => protocol::run(command, &load(cli, command.packs())?),
    }
}

/// Reads the configuration, starts the log, and says what should be known before work starts.
fn load(cli: &Cli, packs: Packs) -> Result<Loaded> {
    let loaded = crate::config::load(cli.config.as_deref(), packs)?;
    crate::telemetry::start(&loaded.config.log)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    Ok(loaded)
}
