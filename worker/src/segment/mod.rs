//! From files to a segmentation object: the path that the service and the one-shot command share.

mod encode;
mod input;
mod moment;
mod options;
mod order;
mod pipeline;
mod plausibility;
mod preview;
mod products;
mod result_folder;
mod source;
mod summary;

pub(crate) use encode::{EncodeError, Encoded, Found, JobIdentity, NOTICE, PackIdentity, encode};
pub(crate) use input::find_files;
pub(crate) use moment::moment_of;
pub(crate) use options::segmenter_options;
pub(crate) use order::{Order, new_job, shadow_job};
pub(crate) use pipeline::{Pipeline, remark};
pub(crate) use preview::{png_of, preview_png};
pub(crate) use result_folder::{ResultFiles, write_result};
pub(crate) use source::{SeriesSource, series_of};
pub(crate) use summary::{frame_of_reference, summary};
