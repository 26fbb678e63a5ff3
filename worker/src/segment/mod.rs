//! From files to a segmentation object: the path that the service and the one-shot command share.

mod encode;
mod input;
mod moment;
mod order;
mod source;

pub(crate) use encode::{
    CheckedObject, EncodeError, Encoded, JobIdentity, NOTICE, PackIdentity, encode,
};
pub(crate) use input::find_files;
pub(crate) use moment::moment_of;
pub(crate) use order::Order;
pub(crate) use source::{SeriesSource, series_of};
