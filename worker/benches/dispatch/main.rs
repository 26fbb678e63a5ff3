//! What does a job cost beside the device, how soon does it start, and does work grow with workers?
//!
//! `cargo bench -p prosector --bench dispatch [-- WORKERS...]`
//!
//! Starts PostgreSQL and RabbitMQ, a listener from the built program, and worker processes that are the program's own
//! but for the device, which sleeps in place of computing. Series are sent by DCMTK. Prints figures, asserts nothing
//! about time; ends with an error where a job ran twice.
#![expect(clippy::print_stdout, reason = "a bench prints its figures")]
#![allow(dead_code, reason = "the program's modules, of which a worker needs some")]
#![allow(unreachable_pub, reason = "as in the program")]
#![allow(unused_imports, reason = "of unit tests, which a bench does not have")]

#[path = "../../src/api/mod.rs"]
mod api;
#[path = "../../src/audit_trail/mod.rs"]
mod audit_trail;
#[path = "../../src/backoff.rs"]
mod backoff;
#[path = "../../src/cli/mod.rs"]
mod cli;
#[path = "../../src/config/mod.rs"]
mod config;
#[path = "../../src/deliver/mod.rs"]
mod deliver;
#[path = "../../src/demo/mod.rs"]
mod demo;
#[path = "../../src/ledger_roots.rs"]
mod ledger_roots;
#[path = "../../src/listen/mod.rs"]
mod listen;
mod measure;
#[path = "../../src/open_packs.rs"]
mod open_packs;
#[path = "../../src/packs.rs"]
mod packs;
#[path = "../../src/protocol/mod.rs"]
mod protocol;
#[path = "../../src/queue/mod.rs"]
mod queue;
#[path = "../../src/routing/mod.rs"]
mod routing;
#[path = "../../src/segment/mod.rs"]
mod segment;
#[path = "../../src/self_test/mod.rs"]
mod self_test;
mod series;
#[path = "../../src/serve/mod.rs"]
mod serve;
mod stand_in;
#[path = "../../src/telemetry/mod.rs"]
mod telemetry;
#[path = "../../src/views.rs"]
mod views;
#[path = "../../src/vocabulary/mod.rs"]
mod vocabulary;
#[path = "../../src/work/mod.rs"]
mod work;

use anyhow::{Context as _, Result};

fn main() -> Result<()> {
    if std::env::var_os(stand_in::SITE).is_some() {
        return stand_in::run();
    }
    let counts = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let counts: Result<Vec<usize>, _> = counts.map(|argument| argument.parse()).collect();
    let mut counts = counts.context("name numbers of workers")?;
    if counts.is_empty() {
        counts = vec![1, 2, 4, 8];
    }
    measure::run(&counts)
}
