#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod dictionary;

pub use dictionary::{Attribute, ValueKind};
