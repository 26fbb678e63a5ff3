//! Questions that people ask: what is there, what happened, and why did nothing happen.
//!
//! Owns the reading side: lists with filters and paging, a job with its timeline, `why`, counts for metrics.

mod answer;
mod counts;
mod deliveries;
mod events;
mod filter;
mod jobs;
mod studies;
mod why;

pub use answer::{Answer, AnswerAbout};
pub use counts::{Counts, DeliveryCount, JobCount};
pub use deliveries::DeliveryRow;
pub use events::EventFilter;
pub use filter::{AuditFilter, Cursor, Listing, Page, ParseCursorError};
pub use jobs::{DeliverySummary, JobDetail, JobSummary, ResultSummary};
pub use studies::{DecisionSummary, Sender, SeriesSummary, StoredInstance, StudySummary};
pub use why::{OpenDelivery, Recognised, StudyStory, Why, WhyEntry, WhyWhat};
