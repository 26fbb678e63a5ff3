#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod coded_concept;
pub mod compression;
mod dictionary;
pub mod dimse;
#[doc(hidden)]
pub mod fuzz;
pub mod header;
pub mod lineage;
pub mod part10;
pub mod phi;
pub mod read_back;
pub mod rejection_note;
mod result_object;
pub mod rtstruct;
pub mod scp;
pub mod scu;
pub mod secondary_capture;
pub mod seg;
pub mod series;
pub mod sr;
pub mod stow;
pub mod synthetic;
pub mod tls;
mod upper_layer;

pub use dictionary::{Attribute, ValueKind};
pub use result_object::ResultObject;
