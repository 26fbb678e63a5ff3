//! `prosector self-test`: a phantom through the service that runs.

use anyhow::Result;
use clap::Args;

use super::{Outcome, output};
use crate::config::Config;
use crate::self_test::SelfTest;
use crate::serve::open_spool;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Address and port of the listener; that of the configuration when not given
    #[arg(long, value_name = "ADDRESS")]
    at: Option<std::net::SocketAddr>,
}

pub(super) async fn run(arguments: &Arguments, config: &Config) -> Result<Outcome> {
    let store = super::connect(config).await?;
    let spool = open_spool(config).await?;
    let address = arguments.at.unwrap_or(config.listener.bind);
    let verdict = SelfTest::of(&config.listener, address, store, spool).run().await?;
    let dice = verdict.mean_dice.map_or_else(String::new, |dice| format!(", mean Dice {dice:.3}"));
    let seconds = verdict.duration.as_secs_f64();
    match verdict.reason {
        None => {
            output::print(&format!("passed in {seconds:.1} s{dice}\n"))?;
            Ok(Outcome::Done)
        }
        Some(reason) => {
            output::print(&format!("failed after {seconds:.1} s: {reason}{dice}\n"))?;
            Ok(Outcome::Failed)
        }
    }
}
