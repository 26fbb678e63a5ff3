//! The program as its users run it.

mod cli;
mod program;
mod series;
