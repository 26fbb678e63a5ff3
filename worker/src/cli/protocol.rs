//! `prosector protocol`

use anyhow::Result;
use clap::Subcommand;
use serde_json::json;

use super::table::{Format, Table};
use super::{Outcome, output};
use crate::config::{Config, Loaded};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Check the protocols and print what each takes, in the order in which series are matched
    Check {
        /// How to print the table
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
}

pub(super) fn run(command: &Command, loaded: &Loaded) -> Result<Outcome> {
    match command {
        Command::Check { format } => check(&loaded.config, *format),
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
            json!(protocol.orientation),
            json!(protocol.priority),
            json!(protocol.targets.len()),
            json!(protocol.destinations),
        ]);
    }
    output::print(&table.render(format)?)?;
    Ok(Outcome::Done)
}
