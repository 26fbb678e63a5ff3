//! From files to voxel values.
//!
//! A frame is read as the bytes that its file holds (`source`), cut out of fragments where it is encapsulated
//! (`fragments`), decoded to stored samples (a module per codec), then turned into values (`samples`). The codecs are
//! called with one frame each, never with a whole object, and a codec that panics costs that frame an error.

mod encoding;
mod error;
mod format;
mod fragments;
mod fuzz;
mod jpeg;
mod jpeg_2000;
mod jpeg_lossless;
mod jpeg_ls;
mod load;
mod rescale;
mod rle;
mod samples;
mod source;

pub(super) use encoding::Encoding;
pub use encoding::can_decode;
pub use error::DecodeFrameError;
pub(super) use format::PixelFormat;
pub(crate) use fuzz::fuzz_pixel_data;
pub(super) use load::load;
pub(super) use rescale::Rescale;
pub(super) use source::{FrameLocation, PixelFile, PixelSource};
