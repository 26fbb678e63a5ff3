//! `prosector backfill`: fetches series of the past from a PACS for one protocol.
//!
//! What is planned is kept in the store, so that a run that was killed goes on where it was. The running service
//! receives what the PACS sends (C-MOVE) and makes the jobs, which wait for everything else.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use dicom_io::scu::{self, QueryError, ScuConfig};
use dicom_types::{AeTitle, SeriesInstanceUid};
use prosector_storage::{BackfillSeries, BackfillState, Fetched, PlannedSeries, ReasonCode, Store};
use serde_json::json;
use time::OffsetDateTime;
use time::macros::format_description;
use tokio::time::{Instant, sleep};

use super::filter::parse_time;
use super::table::{Format, Table};
use super::{Outcome, UsageError, output};
use crate::config::{Config, DestinationKind, suggest};
use crate::deliver;
use crate::serve::stop_on_signals;

/// Longest silence of a PACS while it sends a series: some say nothing until the end.
const MOVE_PATIENCE: Duration = Duration::from_mins(15);
/// How long the last instances may be on their way after the PACS said that it has sent them.
const ARRIVAL_PATIENCE: Duration = Duration::from_mins(1);
/// How often the store is asked.
const LOOK: Duration = Duration::from_millis(250);
/// How often somebody who waits is told so.
const REMIND: Duration = Duration::from_mins(1);
/// Modalities that are asked for.
const MODALITIES: [&str; 3] = ["CT", "MR", "PT"];
/// C-MOVE refused: Move Destination unknown (PS3.4 table C.4-2).
const MOVE_DESTINATION_UNKNOWN: u16 = 0xA801;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Name of the destination in the configuration that is asked: a PACS that answers C-FIND and C-MOVE
    #[arg(long, value_name = "DESTINATION")]
    from: String,
    /// Studies made at this time or later: 2026-05-01, 2026-05-01T12:00:00Z, or an age such as 7d
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: OffsetDateTime,
    /// The protocol that the series are fetched for
    #[arg(long, value_name = "NAME")]
    protocol: String,
    /// Series under way at a time, from the request to the end of their jobs
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    under_way: u32,
    /// Pause between two requests to the PACS, seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pause: u32,
    /// Only list what would be fetched
    #[arg(long)]
    dry_run: bool,
    /// How the table is printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// The PACS, and where it sends.
struct Source {
    name: String,
    peer: scu::Destination,
    config: ScuConfig,
    to: AeTitle,
}

pub(super) async fn run(arguments: &Arguments, config: &Config) -> Result<Outcome> {
    let source = source(&arguments.from, config)?;
    if config.protocol(&arguments.protocol).is_none() {
        let known = config.protocols.iter().map(|protocol| protocol.name.as_str());
        let hint = suggest::hint(&arguments.protocol, known);
        bail!(UsageError(format!("no protocol {:?}{hint}", arguments.protocol)));
    }
    let found = find(&source, arguments.since).await.with_context(|| source.name.clone())?;
    let mut table = Table::new(COLUMNS);
    if arguments.dry_run {
        for planned in found {
            let state = "would be fetched";
            push(&mut table, &planned, 0, state, None);
        }
        output::print(&table.render(arguments.format)?)?;
        return Ok(Outcome::Done);
    }
    let store = super::connect(config).await?;
    let planned = store.plan_backfill(&source.name, &arguments.protocol, &found).await?;
    tracing::info!(found = found.len(), planned, "series of the PACS");
    let fetched = fetch_all(&store, &source, arguments).await;
    let series = store.backfill(&source.name, &arguments.protocol).await?;
    let is_whole = series.iter().all(|series| series.state == BackfillState::Received);
    for BackfillSeries { planned, state, reason_code, received_instances } in &series {
        let reason = reason_code.as_deref();
        push(&mut table, planned, *received_instances, state.as_str(), reason);
    }
    output::print(&table.render(arguments.format)?)?;
    fetched?;
    Ok(if is_whole { Outcome::Done } else { Outcome::Failed })
}

const COLUMNS: &[&str] = &[
    "study_instance_uid",
    "series_instance_uid",
    "expected_instances",
    "received_instances",
    "state",
    "reason_code",
];

fn push(
    table: &mut Table,
    planned: &PlannedSeries,
    received: u64,
    state: &str,
    reason: Option<&str>,
) {
    table.push(vec![
        json!(planned.study_instance_uid.as_str()),
        json!(planned.series_instance_uid.as_str()),
        json!(planned.expected_instances),
        json!(received),
        json!(state),
        json!(reason),
    ]);
}

fn source(name: &str, config: &Config) -> Result<Source> {
    let destination = config.destinations.iter().find(|destination| destination.name == name);
    let Some(destination) = destination else {
        let known = config.destinations.iter().map(|destination| destination.name.as_str());
        bail!(UsageError(format!("no destination {name:?}{}", suggest::hint(name, known))));
    };
    let DestinationKind::Dimse(peer) = &destination.kind else {
        bail!(UsageError(format!("destination {name:?} has no AE title to ask")));
    };
    Ok(Source {
        name: name.to_owned(),
        peer: deliver::peer(peer),
        config: deliver::patience(peer),
        to: config.listener.ae_title.clone(),
    })
}

/// Series of images that the PACS has of studies made at `since` or later, each once.
async fn find(source: &Source, since: OffsetDateTime) -> Result<Vec<PlannedSeries>, QueryError> {
    let Source { peer, config, .. } = source;
    let day = since.format(format_description!("[year][month][day]")).unwrap_or_default();
    let time = since.format(format_description!("[hour][minute][second]")).unwrap_or_default();
    let mut studies = BTreeSet::new();
    for modality in MODALITIES {
        for study in scu::find_studies(peer, &day, modality, config).await? {
            // Where the PACS does not match a range of dates, or the day is the first one, we look ourselves.
            let is_older = !study.date.is_empty() && study.date < day;
            let is_earlier = study.date == day && study.time.len() >= 6 && study.time[..6] < *time;
            if !is_older && !is_earlier {
                studies.insert(study.study_instance_uid);
            }
        }
    }
    let mut found = Vec::new();
    for study in studies {
        for series in scu::find_series(peer, &study, config).await? {
            if series.modality.is_empty() || MODALITIES.contains(&series.modality.as_str()) {
                found.push(PlannedSeries {
                    study_instance_uid: study.clone(),
                    series_instance_uid: series.series_instance_uid,
                    expected_instances: series.instances,
                });
            }
        }
    }
    Ok(found)
}

/// Fetches what is not here yet, one series at a time, until all is done or the process is told to stop.
async fn fetch_all(store: &Store, source: &Source, arguments: &Arguments) -> Result<()> {
    let mut signals = tokio::task::JoinSet::new();
    let cancel = stop_on_signals(&mut signals)?;
    let open = store.backfill(&source.name, &arguments.protocol).await?;
    let is_open = |series: &&BackfillSeries| {
        matches!(series.state, BackfillState::Waiting | BackfillState::Requested)
    };
    for BackfillSeries { planned, .. } in open.iter().filter(is_open) {
        let fetching = async {
            wait_for_room(store, arguments.under_way).await?;
            fetch(store, source, &arguments.protocol, planned).await?;
            sleep(Duration::from_secs(arguments.pause.into())).await;
            anyhow::Ok(())
        };
        match cancel.run_until_cancelled(fetching).await {
            Some(fetched) => fetched?,
            None => bail!("stopped; the same command goes on"),
        }
    }
    Ok(())
}

/// Waits until fewer than `limit` series are under way.
async fn wait_for_room(store: &Store, limit: u32) -> Result<()> {
    let mut told = Instant::now();
    loop {
        let under_way = store.backfill_under_way().await?;
        if under_way < u64::from(limit) {
            return Ok(());
        }
        if told.elapsed() >= REMIND {
            tracing::info!(under_way, "waiting for series under way to end");
            told = Instant::now();
        }
        sleep(LOOK).await;
    }
}

async fn fetch(
    store: &Store,
    source: &Source,
    protocol: &str,
    planned: &PlannedSeries,
) -> Result<()> {
    let PlannedSeries { study_instance_uid: study, series_instance_uid: series, .. } = planned;
    store.backfill_requested(protocol, series).await?;
    let moved =
        scu::move_series(&source.peer, study, series, &source.to, &source.config, MOVE_PATIENCE);
    let moved = moved.await.with_context(|| source.name.clone())?;
    if moved.status.0 == MOVE_DESTINATION_UNKNOWN {
        bail!("{} does not know {}: enter it there as an AE", source.name, source.to);
    }
    let is_sent = moved.failed == 0 && matches!(moved.status.0, 0x0000 | 0xB000);
    let has_come = is_sent && arrived(store, series, moved.completed).await?;
    let fetched = match (is_sent, has_come) {
        (false, _) => Fetched::Failed(ReasonCode::new("retrieval_failed")),
        (true, false) => Fetched::Failed(ReasonCode::new("instances_missing")),
        (true, true) => Fetched::Received,
    };
    store.backfill_ended(protocol, series, &fetched).await?;
    tracing::info!(
        series.uid = %series,
        status = %moved.status,
        sent = moved.completed,
        failed = moved.failed,
        received = has_come,
        "series fetched"
    );
    Ok(())
}

/// Whether at least `count` instances of the series are here, after some patience.
async fn arrived(store: &Store, series: &SeriesInstanceUid, count: u64) -> Result<bool> {
    let start = Instant::now();
    loop {
        if store.series_instances(series).await?.len() as u64 >= count.max(1) {
            return Ok(true);
        }
        if start.elapsed() >= ARRIVAL_PATIENCE {
            return Ok(false);
        }
        sleep(LOOK).await;
    }
}
