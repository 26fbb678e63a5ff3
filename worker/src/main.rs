#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod cli;
#[expect(dead_code, reason = "the roles of the service read the other sections")]
mod config;
mod packs;
mod protocol;
mod routing;
mod segment;
mod telemetry;
mod vocabulary;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
