//! From files to volumes.

mod shared_material;
mod third_party;
