#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod cli;
mod config;
mod protocol;
mod routing;
mod telemetry;
mod vocabulary;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
