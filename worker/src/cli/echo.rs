//! `prosector echo`: is a destination there?

use anyhow::{Result, bail};
use clap::Args;
use dicom_io::{scu, stow};

use super::{Outcome, UsageError, output};
use crate::config::{Config, DestinationKind};
use crate::deliver;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Name of a destination in the configuration
    destination: String,
}

pub(super) async fn run(arguments: &Arguments, config: &Config) -> Result<Outcome> {
    let name = &arguments.destination;
    let Some(destination) = config.destinations.iter().find(|d| d.name == *name) else {
        let known: Vec<&str> = config.destinations.iter().map(|d| d.name.as_str()).collect();
        bail!(UsageError(format!("no destination {name:?}; there are {}", known.join(", "))));
    };
    match &destination.kind {
        DestinationKind::Folder(folder) => {
            let metadata = std::fs::metadata(folder);
            if metadata.is_ok_and(|metadata| !metadata.is_dir()) {
                bail!("{} is not a folder", folder.display());
            }
            output::print(&format!("{name}: folder {}\n", folder.display()))?;
        }
        DestinationKind::Dicomweb(server) => {
            stow::echo(server).await?;
            output::print(&format!("{name}: {} answers\n", server.root))?;
        }
        DestinationKind::Dimse(peer) => {
            scu::echo(&deliver::peer(peer), &deliver::patience(peer)).await?;
            output::print(&format!("{name}: {} at {} answers\n", peer.ae_title, peer.address))?;
        }
    }
    Ok(Outcome::Done)
}
