//! `prosector job`: jobs and what a person may do with them.

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use prosector_storage::{JobId, JobSummary, ReasonCode, RecordedEvent, Retried, Store};
use serde_json::json;

use super::audit::{print_rows, say_next};
use super::filter::Filter;
use super::table::Format;
use super::{Outcome, output};
use crate::config::Config;
use crate::views::{self, View as _};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Jobs, newest first
    List(Filter),
    /// One job: measurements, results, deliveries, and what happened
    Show {
        #[command(flatten)]
        job: Named,
        /// How it is printed
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Queue a job that failed once more, or its deliveries that failed
    Retry(Named),
    /// Stop a job that has not ended
    Cancel(Named),
    /// Let a job go on that is held or in quarantine
    Release(Named),
}

#[derive(Debug, Args)]
pub(super) struct Named {
    /// Id of the job
    id: JobId,
}

pub(super) async fn run(command: &Command, config: &Config) -> Result<Outcome> {
    let store = super::connect(config).await?;
    match command {
        Command::List(filter) => {
            filter.note(&store, "jobs").await?;
            let listing = store.list_jobs(&filter.audit(), &filter.page()).await?;
            print_rows(&listing.rows, filter.format)?;
            say_next(listing.next.as_ref(), filter.format)?;
        }
        Command::Show { job, format } => {
            let Some(detail) = store.show_job(job.id).await? else { bail!("no job {}", job.id) };
            if *format == Format::Json {
                let mut object = views::job_detail(&detail);
                object["left_out"] = left_out(&store, &detail.summary).await?.into();
                let text = serde_json::to_string_pretty(&object)?;
                output::print(&(text + "\n"))?;
            } else {
                let names = JobSummary::COLUMNS.iter();
                for (name, value) in names.zip(detail.summary.values()) {
                    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    output::print(&format!("{name:<20} {text}\n"))?;
                }
                let findings = match detail.findings.as_slice() {
                    [] => None,
                    findings => Some(table(findings, *format)?),
                };
                let parts = [table(&detail.targets, *format)?].into_iter().chain(findings);
                for part in parts.chain([
                    table(&detail.deliveries, *format)?,
                    timeline(&detail.timeline).render(*format)?,
                ]) {
                    output::print(&format!("\n{part}"))?;
                }
                for reason in left_out(&store, &detail.summary).await? {
                    output::print(&format!("\nleft out: {reason}\n"))?;
                }
            }
        }
        Command::Retry(job) => {
            let said = match store.retry_job(job.id).await? {
                Retried::Job => format!("job {} is queued again\n", job.id),
                Retried::Deliveries { count } => format!("{count} deliveries are due again\n"),
            };
            output::print(&said)?;
        }
        Command::Cancel(job) => {
            store.cancel_job(job.id).await?;
            output::print(&format!("job {} is cancelled\n", job.id))?;
        }
        Command::Release(job) => {
            store.release_job(job.id).await?;
            output::print(&format!("job {} is released\n", job.id))?;
        }
    }
    Ok(Outcome::Done)
}

/// What of the job's series is not in its volume, with the reasons.
async fn left_out(store: &Store, job: &JobSummary) -> Result<Vec<String>> {
    let series = store.series_of_study(&job.study_instance_uid).await?;
    let of_job = series.into_iter().filter(|s| s.series_instance_uid == job.series_instance_uid);
    let decisions = of_job.flat_map(|series| series.decisions);
    let left_out = decisions.filter(|d| d.reason_code == ReasonCode::PART_LEFT_OUT);
    Ok(left_out.map(|decision| decision.reason).collect())
}

/// What happened, in few columns; `--format json` has all of them.
fn timeline(events: &[RecordedEvent]) -> super::table::Table {
    let mut table = super::table::Table::new(&["recorded_at", "kind", "reason_code", "actor"]);
    for event in events {
        table.push(vec![
            json!(views::time_text(event.recorded_at)),
            json!(event.event.kind.as_str()),
            json!(event.event.reason_code.as_ref().map(ToString::to_string)),
            json!(event.actor),
        ]);
    }
    table
}

fn table<T: views::View>(rows: &[T], format: Format) -> Result<String> {
    let mut table = super::table::Table::new(T::COLUMNS);
    for row in rows {
        table.push(row.values());
    }
    table.render(format)
}
