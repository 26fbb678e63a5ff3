//! The operations of the vision network on dense maps, and nothing that knows the network.
//!
//! A map is `[h, w, d]` voxels with channels last and padded to whole vectors. Normalisation and
//! activation of a map are never a pass of their own: they stay pending with the map and its readers
//! apply them while loading.

pub(crate) mod cpu;
