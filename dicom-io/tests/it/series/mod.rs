//! From files to volumes.

mod shared_material;
