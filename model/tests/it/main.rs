//! The crate through its public door.

mod modes;
mod phantom_pack;
