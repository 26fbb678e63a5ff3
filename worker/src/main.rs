#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod api;
mod audit_trail;
mod backoff;
mod cli;
mod config;
mod deliver;
mod demo;
mod ledger_roots;
mod listen;
mod open_packs;
mod packs;
mod protocol;
mod queue;
mod routing;
mod segment;
mod self_test;
mod serve;
mod telemetry;
mod views;
mod vocabulary;
mod work;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
