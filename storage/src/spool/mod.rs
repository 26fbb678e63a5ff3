//! The spool: bytes of received instances and of results, in a folder.
//!
//! Owns keys, writing, durability and the free-space reserve. `incoming/` holds what is being written,
//! `instances/` and `results/` what is durable, `set-aside/` files without a row.

mod file;
mod key;
mod reconcile;
mod writer;

pub use file::{Space, Spool, SpoolError, SpoolOptions};
pub use key::{ParseSpoolKeyError, SpoolKey};
pub use reconcile::{ReconcileError, Reconciled};
pub use writer::{FinishedFile, SpoolWriter};
