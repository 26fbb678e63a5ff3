//! `prosector audit`: what was received, what was done with it, and whether the ledger is whole.

use anyhow::Result;
use clap::Subcommand;
use prosector_storage::{Event, EventFilter, EventKind, JobId, Store};

use super::filter::Filter;
use super::table::{Format, Table};
use super::{Outcome, ledger, output};
use crate::config::Config;
use crate::views::View;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Studies, newest first
    Studies(Filter),
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
        Command::Studies(filter) => {
            note_identity_question(&store, filter).await?;
            let listing = store.list_studies(&filter.audit(), &filter.page()).await?;
            print_rows(&listing.rows, filter.format)?;
            say_next(listing.next.as_ref(), filter.format)?;
        }
        Command::Instances(filter) => {
            note_identity_question(&store, filter).await?;
            let listing = store.list_instances(&filter.audit(), &filter.page()).await?;
            print_rows(&listing.rows, filter.format)?;
            say_next(listing.next.as_ref(), filter.format)?;
        }
        Command::Events { filter, job, kind, after_seq } => {
            let audit = filter.audit();
            let wanted = EventFilter {
                since: filter.since(),
                until: filter.until(),
                kind: *kind,
                study_instance_uid: audit.study_instance_uid,
                series_instance_uid: audit.series_instance_uid,
                job_id: *job,
                after_seq: *after_seq,
            };
            let events = store.events(&wanted, filter.limit()).await?;
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

/// Says on the terminal where the next page begins; machines ask with `--limit`.
pub(super) fn say_next(next: Option<&prosector_storage::Cursor>, format: Format) -> Result<()> {
    match next {
        Some(cursor) if format == Format::Table => {
            output::print(&format!("more: --after {cursor}\n"))
        }
        _ => Ok(()),
    }
}

async fn note_identity_question(store: &Store, filter: &Filter) -> Result<()> {
    if filter.names_a_patient() {
        store.record(Event::new(EventKind::IdentifiersRead)).await?;
    }
    Ok(())
}
