//! From files to volumes.

mod fixture;
mod geometry;
mod pixels;
mod shared_material;
mod splitting;
mod third_party;
