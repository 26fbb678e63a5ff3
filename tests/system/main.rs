//! The whole system against tools that others wrote.
#![expect(clippy::unwrap_used, reason = "a test fails where its steps do")]

mod architecture;
mod audit;
mod audit_messages;
mod backfill;
mod browser;
mod bucket;
mod chaos;
mod commitment;
mod dicomweb;
mod durability;
mod evaluate;
mod forms;
mod golden;
mod hospital;
mod hostile_peers;
mod house;
mod kill_campaign;
mod ledger;
mod main_job;
mod operating_files;
mod operations;
mod pacs;
mod patient_data;
mod phantom;
mod plausibility;
mod priorities;
mod proof;
mod real_series;
mod recall;
mod services;
mod shadow;
mod stow;
mod tls;
