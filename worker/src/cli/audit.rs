//! `prosector audit`: what was received, what was done with it, and whether the ledger is whole.

use std::collections::BTreeSet;

use anyhow::Result;
use clap::Subcommand;
use dicom_types::Phi;
use prosector_storage::{EventFilter, EventKind, JobId, PatientIdentity, Store, StudySummary};
use serde_json::json;

use super::filter::Filter;
use super::table::{Format, Table};
use super::{Outcome, ledger, output};
use crate::config::Config;
use crate::views::View;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Studies, newest first
    Studies {
        #[command(flatten)]
        filter: Filter,
        /// Show patient ids and accession numbers too; the ledger records it
        #[arg(long)]
        identifiers: bool,
    },
    /// Instances, newest first
    Instances(Filter),
    /// Entries of the ledger in their order
    Events {
        #[command(flatten)]
        filter: Filter,
        /// About this job
        #[arg(long, value_name = "ID")]
        job: Option<JobId>,
        /// Of this kind
        #[arg(long, value_name = "KIND")]
        kind: Option<EventKind>,
        /// Behind this entry
        #[arg(long, default_value_t = 0, value_name = "SEQ")]
        after_seq: u64,
    },
    /// Check the ledger from its first entry to its last
    Verify(ledger::Verify),
    /// The whole ledger, one JSON object per line, as `ops/verify_ledger.py` reads it
    Export {
        /// Only the signed roots, in the form of `audit.roots`
        #[arg(long)]
        roots: bool,
    },
    /// Sign the ledger's present end, add that root to `audit.roots` and print it
    Root,
    /// Print the public key that roots are signed with; make the key where there is none
    Key {
        /// As PEM
        #[arg(long)]
        pem: bool,
    },
}

pub(super) async fn run(command: &Command, config: &Config) -> Result<Outcome> {
    let store = super::connect(config).await?;
    match command {
        Command::Studies { filter, identifiers } => {
            filter.note(&store, "studies").await?;
            let listing = store.list_studies(&filter.audit(), &filter.page()).await?;
            if *identifiers {
                print_with_identifiers(&store, &listing.rows, filter.format).await?;
            } else {
                print_rows(&listing.rows, filter.format)?;
            }
            say_next(listing.next.as_ref(), filter.format)?;
        }
        Command::Instances(filter) => {
            filter.note(&store, "instances").await?;
            let listing = store.list_instances(&filter.audit(), &filter.page()).await?;
            print_rows(&listing.rows, filter.format)?;
            say_next(listing.next.as_ref(), filter.format)?;
        }
        Command::Events { filter, job, kind, after_seq } => {
            filter.check_for_events()?;
            filter.note(&store, "events").await?;
            let audit = filter.audit();
            let wanted = EventFilter {
                since: filter.since(),
                until: filter.until(),
                kind: *kind,
                study_instance_uid: audit.study_instance_uid,
                series_instance_uid: audit.series_instance_uid,
                job_id: *job,
                patient_id: audit.patient_id,
                accession_number: audit.accession_number,
                after_seq: *after_seq,
            };
            let events = store.events(&wanted, filter.limit()).await?;
            ledger::note_reading(&store, "events").await;
            print_rows(&events, filter.format)?;
        }
        Command::Verify(arguments) => {
            return ledger::verify(&store, arguments, &config.audit).await;
        }
        Command::Export { roots: true } => ledger::export_roots(&store).await?,
        Command::Export { roots: false } => ledger::export(&store).await?,
        Command::Root => return ledger::sign(&store, &config.audit).await,
        Command::Key { pem } => ledger::show_key(&config.audit, *pem)?,
    }
    Ok(Outcome::Done)
}

/// Prints rows of one kind.
pub(super) fn print_rows<T: View>(rows: &[T], format: Format) -> Result<()> {
    let mut table = Table::new(T::COLUMNS);
    for row in rows {
        table.push(row.values());
    }
    output::print(&table.render(format)?)
}

/// Prints studies with the identifiers that they came with: several where a study came with several.
async fn print_with_identifiers(
    store: &Store,
    studies: &[StudySummary],
    format: Format,
) -> Result<()> {
    let uids: Vec<_> = studies.iter().map(|study| study.study_instance_uid.clone()).collect();
    let identities = store.show_identities(&uids, "studies", "cli").await?;
    let mut columns = StudySummary::COLUMNS.to_vec();
    columns.extend(["patient_id", "accession_number"]);
    let mut table = Table::new(&columns);
    for study in studies {
        let known = identities.get(&study.study_instance_uid).map_or(&[][..], Vec::as_slice);
        let column = |value: fn(&PatientIdentity) -> &Phi<String>| {
            let values: BTreeSet<&str> =
                known.iter().map(|identity| value(identity).expose().as_str()).collect();
            json!(values.into_iter().collect::<Vec<_>>().join(" "))
        };
        let mut row = study.values();
        row.push(column(|identity| &identity.patient_id));
        row.push(column(|identity| &identity.accession_number));
        table.push(row);
    }
    output::print(&table.render(format)?)
}

/// Says on the terminal where the next page begins; machines ask with `--limit`.
pub(super) fn say_next(next: Option<&prosector_storage::Cursor>, format: Format) -> Result<()> {
    match next {
        Some(cursor) if format == Format::Table => {
            output::print(&format!("more: --after {cursor}\n"))
        }
        _ => Ok(()),
    }
}
