//! The command line: one file per command.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.

mod audit;
mod backfill;
mod config;
mod demo;
mod echo;
mod explain;
mod filter;
mod job;
mod ledger;
mod migrate;
mod model;
mod output;
mod progress;
mod protocol;
mod recall;
mod replay;
mod report;
mod segment;
mod self_test;
mod serve;
mod table;
mod user;
mod why;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use prosector_storage::Store;

use crate::config::{Config, ConfigError, Loaded, Packs};
pub(crate) use filter::parse_time;
pub(crate) use table::{Format, Table};

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
    /// Show the main job end to end on this machine, with a phantom
    Demo(demo::Arguments),
    /// Check a configuration, or show what it amounts to
    #[command(subcommand)]
    Config(config::Command),
    /// Look into model packs
    #[command(subcommand)]
    Model(model::Command),
    /// Check the rules of routing, or try them on files
    #[command(subcommand)]
    Protocol(protocol::Command),
    /// Segment files without a service: a folder per series with seg.dcm, summary.json and preview.png
    Segment(segment::Command),
    /// How a result came about, from its file alone
    Explain(explain::Arguments),
    /// Jobs, and what a person may do with them
    #[command(subcommand)]
    Job(job::Command),
    /// What was received, what was done with it, and whether the ledger is whole
    #[command(subcommand)]
    Audit(audit::Command),
    /// Everything that happened to a study, or why nothing did
    Why(why::Arguments),
    /// Take back the results of a faulty pack or protocol: rejection notes to where they were sent
    Recall(recall::Arguments),
    /// Fetch series of the past from a PACS for one protocol, at the lowest priority; goes on where it was
    Backfill(backfill::Arguments),
    /// Bring the schema of the store up to date
    Migrate,
    /// Receive, segment and deliver, until told to stop
    Serve(serve::Arguments),
    /// Ask whether a destination is there
    Echo(echo::Arguments),
    /// Send a phantom through the service that runs, and compare what comes of it with the truth
    SelfTest(self_test::Arguments),
    /// Make entries for the file of users of the page and REST
    #[command(subcommand)]
    User(user::Command),
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
        Command::Demo(arguments) => block_on(demo::run(arguments)),
        Command::Config(command) => config::run(*command, &load(cli, command.packs())?),
        Command::Model(command) => model::run(command, &load(cli, Packs::NotNeeded)?),
        Command::Protocol(command) => protocol::run(command, &load(cli, command.packs())?),
        Command::Segment(command) => segment::run(command, &load(cli, Packs::NotNeeded)?),
        Command::Explain(arguments) => explain::run(arguments),
        Command::Job(command) => block_on(job::run(command, &load(cli, Packs::NotNeeded)?.config)),
        Command::Audit(command) => {
            block_on(audit::run(command, &load(cli, Packs::NotNeeded)?.config))
        }
        Command::Why(arguments) => {
            block_on(why::run(arguments, &load(cli, Packs::NotNeeded)?.config))
        }
        Command::Recall(arguments) => {
            block_on(recall::run(arguments, &load(cli, Packs::NotNeeded)?.config))
        }
        Command::Backfill(arguments) => {
            block_on(backfill::run(arguments, &load(cli, Packs::NotNeeded)?.config))
        }
        Command::Serve(arguments) => block_on(serve::run(arguments, load(cli, Packs::Needed)?)),
        Command::Echo(arguments) => {
            block_on(echo::run(arguments, &load(cli, Packs::NotNeeded)?.config))
        }
        Command::SelfTest(arguments) => {
            block_on(self_test::run(arguments, &load(cli, Packs::NotNeeded)?.config))
        }
        Command::User(command) => user::run(command),
        Command::Migrate => block_on(migrate::run(&load(cli, Packs::NotNeeded)?.config)),
    }
}

/// Runs the asynchronous part of a command to its end.
fn block_on<T>(command: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(command)
}

/// Opens the store for a question or an order of a person.
async fn connect(config: &Config) -> Result<Store> {
    crate::serve::connect(config, "cli").await
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
