//! `prosector demo`: the main job on one machine, with a phantom.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use tokio::task::JoinSet;

use super::table::Format;
use super::{Outcome, output};
use crate::config::{Log, LogFormat};
use crate::demo::Demo;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Folder for what is made; a new folder under the system's temporary folder when not given
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Stay up afterwards, with the page, until told to stop
    #[arg(long, conflicts_with = "no_wait")]
    stay: bool,
    /// Exit as soon as the table is printed, which is the default
    #[arg(long)]
    no_wait: bool,
    /// How the table is printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) async fn run(arguments: &Arguments) -> Result<Outcome> {
    crate::telemetry::start(&Log { level: "warn".to_owned(), format: LogFormat::Text })?;
    let folder = match &arguments.keep {
        Some(folder) => {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("make {}", folder.display()))?;
            folder.canonicalize()?
        }
        None => tempfile::Builder::new().prefix("prosector-demo-").tempdir()?.keep(),
    };
    let mut tasks = JoinSet::new();
    let stop = crate::serve::stop_on_signals(&mut tasks)?;
    let shown = Demo { folder, format: arguments.format }.run().await?;
    let is_good = shown.is_good;
    if arguments.stay {
        output::print(&format!("page           {} (stop with Ctrl-C)\n", shown.page))?;
        shown.stay(stop).await?;
    } else {
        shown.end().await?;
    }
    Ok(if is_good { Outcome::Done } else { Outcome::Failed })
}
