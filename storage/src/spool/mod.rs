//! The spool: bytes of received instances and of results, in a folder or in an S3 bucket.
//!
//! Owns keys, writing, durability and the free-space reserve. `incoming/` holds what is being written,
//! `instances/` and `results/` what is durable, `set-aside/` files without a row. With a bucket, `incoming/` and
//! `fetched/`, what is being read, are in a staging folder of this machine, and the rest is in the bucket.

mod bucket;
mod error;
mod fetched;
mod folder;
mod handle;
mod key;
mod reconcile;
mod writer;

pub use bucket::{BucketCredentials, BucketOptions};
pub use error::SpoolError;
pub use fetched::LocalFiles;
pub use handle::{Space, Spool, SpoolOptions};
pub use key::{ParseSpoolKeyError, SpoolKey};
pub use reconcile::{ReconcileError, Reconciled};
pub use writer::{FinishedFile, SpoolWriter};
