//! Synthetic torsos: what the built-in pack is trained on, and what the demo, the self test and the system tests send.
//!
//! A [`Torso`] is defined by formulas in patient space, not by voxels, so that its truth is known on every grid. It
//! is nobody's anatomy: organs have about the right size, place, order and intensity, which is enough for a network
//! to learn them from and for a person to recognise them.
//!
//! ```
//! use prosector_model::phantom::{Acquisition, Contrast, Plane, Structure, Torso};
//!
//! let torso = Torso::random(7);
//! let acquisition = Acquisition::new(Plane::Axial).with_spacing_mm([12.0, 8.0, 8.0]);
//! let grid = acquisition.grid(&torso);
//! let volume = torso.sample(&grid, Contrast::Ct, 1);
//! let liver = torso.truth(&grid, Structure::Liver);
//! assert_eq!(volume.geometry().shape(), liver.shape());
//! ```

mod acquisition;
mod appearance;
mod organs;
mod pack;
mod random;
mod shape;
mod structure;
mod tissue;
mod torso;
mod training;

pub use acquisition::{Acquisition, Plane};
pub use appearance::Contrast;
pub use structure::{Structure, Structures};
pub use torso::Torso;
pub use training::TrainingWindow;

/// The first of the seeds that the phantom pack was never trained on, nor chosen by.
pub const HELD_OUT_SEED: u64 = 2_000_000_000;

#[cfg(test)]
mod tests;
