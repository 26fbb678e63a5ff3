//! The conformance suite: every operation of the store against both databases, and the spool.
#![expect(clippy::unwrap_used, reason = "a test may stop at whatever it did not expect")]

mod audit;
mod audit_forwarding;
mod backfill;
mod bench;
mod bucket;
mod commitment;
mod delivery;
mod durability;
mod intake;
mod job;
mod lanes;
mod ledger;
mod operations;
mod outbox;
mod random_walk;
mod recall;
mod retention;
mod roles;
mod routing;
mod schema;
mod settle;
mod spool;
mod views;
mod why;
