//! The program as its users run it.

#![expect(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

mod cli;
mod pack;
mod program;
mod routing;
mod segment;
mod series;
mod service;
