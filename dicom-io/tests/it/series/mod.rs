//! From files to volumes.

mod fixture;
mod geometry;
mod pixels;
pub(crate) mod shared_material;
mod splitting;
mod third_party;
