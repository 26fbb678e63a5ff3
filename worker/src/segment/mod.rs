//! From files to a segmentation object: the path that the service and the one-shot command share.

mod input;
mod source;

pub(crate) use input::find_files;
pub(crate) use source::{SeriesSource, series_of};
