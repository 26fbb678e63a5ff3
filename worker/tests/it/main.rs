//! The program as its users run it.

mod cli;
mod pack;
mod program;
mod segment;
mod series;
