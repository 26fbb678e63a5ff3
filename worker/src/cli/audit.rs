//! `prosector audit`: what was received, what was done with it, and whether the ledger is whole.

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;
use prosector_storage::{Event, EventFilter, EventKind, JobId, LedgerRoot, Store};
use serde_json::json;

use super::filter::Filter;
use super::table::{Format, Table};
use super::{Outcome, output};
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
    Verify {
        /// Root that was noted earlier, `SEQ:HASH`: also tells whether the ledger was cut or replaced since
        #[arg(long, value_name = "SEQ:HASH", value_parser = parse_root)]
        root: Option<LedgerRoot>,
    },
    /// The whole ledger, one JSON object per line
    Export,
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
        Command::Verify { root } => return verify(&store, *root).await,
        Command::Export => export(&store).await?,
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

async fn verify(store: &Store, root: Option<LedgerRoot>) -> Result<Outcome> {
    let verdict = store.verify_ledger(root).await?;
    let head = store.ledger_root().await?;
    if let Some(defect) = verdict.defect {
        output::print(&format!("{} entries are sound; {defect}\n", verdict.sound))?;
        return Ok(Outcome::Failed);
    }
    output::print(&format!(
        "{} entries are sound; root {}:{}\n",
        verdict.sound, head.seq, head.hash
    ))?;
    Ok(Outcome::Done)
}

async fn export(store: &Store) -> Result<()> {
    const PAGE: u32 = 1000;
    let mut filter = EventFilter::default();
    loop {
        let events = store.events(&filter, PAGE).await?;
        let Some(last) = events.last() else { return Ok(()) };
        filter.after_seq = last.seq;
        let mut text = String::new();
        for event in &events {
            let mut object = event.object();
            object["association_id"] =
                json!(event.event.association_id.map(|association| association.to_string()));
            text.push_str(&serde_json::to_string(&object)?);
            text.push('\n');
        }
        output::print(&text)?;
    }
}

fn parse_root(text: &str) -> Result<LedgerRoot> {
    let Some((seq, hash)) = text.split_once(':') else { bail!("expected SEQ:HASH") };
    Ok(LedgerRoot {
        seq: seq.parse().context("SEQ is not a number")?,
        hash: hash.parse().context("HASH is not a SHA-256")?,
    })
}
