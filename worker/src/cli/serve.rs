//! `prosector serve`: the service.

use anyhow::Result;
use clap::Args;
use tokio::task::JoinSet;

use super::Outcome;
use crate::config::{DestinationKind, Loaded};
use crate::serve::{self, Role, Service};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A part to play; may be given more than once, all parts when not given
    #[arg(long = "role", value_enum, value_name = "ROLE")]
    roles: Vec<Role>,
}

pub(super) async fn run(arguments: &Arguments, loaded: Loaded) -> Result<Outcome> {
    if loaded.is_embedded {
        say_defaults(&loaded);
    }
    let mut tasks = JoinSet::new();
    let cancel = serve::stop_on_signals(&mut tasks)?;
    let service = Service::build(loaded.config, &arguments.roles).await?;
    if let Some(page) = service.page()? {
        tracing::info!("page on {page}");
    }
    service.run(cancel).await?;
    Ok(Outcome::Done)
}

fn say_defaults(loaded: &Loaded) {
    let config = &loaded.config;
    for destination in &config.destinations {
        if let DestinationKind::Folder(folder) = &destination.kind {
            tracing::info!(
                "no protocol is configured: CT and MR go to the phantom pack, results to {}",
                folder.display()
            );
        }
    }
    tracing::info!(
        "listening as {} on {} for whoever calls; see `prosector config show`",
        config.listener.ae_title,
        config.listener.bind
    );
}
