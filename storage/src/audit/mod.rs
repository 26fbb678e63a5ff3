//! Questions that people ask: what is there, what happened, and why did nothing happen.
//!
//! Owns the reading side: lists with filters and paging, a job with its timeline, `why`, counts for metrics.

mod events;

pub use events::EventFilter;
