#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod dictionary;
pub mod header;
pub mod part10;

pub use dictionary::{Attribute, ValueKind};
