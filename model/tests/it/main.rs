//! The crate through its public door.

mod phantom_pack;
