//! From a set of files to volumes in patient space.
//!
//! [`read_stacks`] reads headers only, groups instances by series, splits each series into stacks and places every
//! stack on a regular grid; [`Stack::load`] decodes the voxels. What is no volume is refused with a reason that names
//! the instance, and no file is passed over in silence.

mod attributes;
mod error;
mod file;
mod frame;
mod functional_groups;
mod grid;
mod image_type;
mod instance;
mod pixels;
mod plane;
mod report;
mod split;
mod split_facts;
mod stack;

pub use error::{InstanceName, ReadSeriesError};
pub(crate) use pixels::fuzz_pixel_data;
pub use pixels::{DecodeFrameError, can_decode};
pub use report::{Duplicate, Refusal, RefusedInstance, SeriesReport};
pub use split::read_stacks;
pub use stack::{SourceFrame, Stack};
