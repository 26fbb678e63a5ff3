//! `prosector config`

use std::fmt::Write as _;

use anyhow::Result;
use clap::Subcommand;

use super::{Outcome, output};
use crate::config::{Config, DestinationKind, Loaded, Packs, Queue};

#[derive(Debug, Clone, Copy, Subcommand)]
pub(super) enum Command {
    /// Report everything that is wrong with the configuration, each at its place
    Check,
    /// Print the configuration that defaults, site file and environment amount to, without passwords
    Show,
}

impl Command {
    /// Whether the packs that protocols name must be there.
    pub(super) fn packs(self) -> Packs {
        match self {
            Self::Check => Packs::Needed,
            Self::Show => Packs::NotNeeded,
        }
    }
}

pub(super) fn run(command: Command, loaded: &Loaded) -> Result<Outcome> {
    match command {
        Command::Check => output::print(&summary(&loaded.config))?,
        Command::Show => output::print(&toml::to_string_pretty(&loaded.effective)?)?,
    }
    Ok(Outcome::Done)
}

fn summary(config: &Config) -> String {
    let mut text = String::from("configuration is valid\n");
    let listener = &config.listener;
    let queue = match &config.queue {
        Queue::Embedded => "embedded:".to_owned(),
        Queue::Amqp(url) => url.to_string(),
    };
    let lines = [
        format!("listens as {} on {}", listener.ae_title, listener.bind),
        format!("store {}, queue {queue}, spool {}", config.store.url, config.spool.place),
        format!("web page on http://{}", config.api.bind),
    ];
    for line in lines {
        let _ = writeln!(text, "  {line}");
    }
    for destination in &config.destinations {
        let place = match &destination.kind {
            DestinationKind::Dimse(pacs) => format!("{} at {}", pacs.ae_title, pacs.address),
            DestinationKind::Dicomweb(server) => server.root.to_string(),
            DestinationKind::Folder(folder) => format!("folder {}", folder.display()),
        };
        let _ = writeln!(text, "  destination {}: {place}", destination.name);
    }
    for protocol in &config.protocols {
        let count = protocol.targets.len();
        let _ = writeln!(
            text,
            "  protocol {}: {count} targets with {} to {}",
            protocol.name,
            protocol.model,
            protocol.destinations.join(", ")
        );
    }
    text
}
