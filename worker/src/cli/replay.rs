//! `prosector protocol replay`: the configured protocols tried on the recorded past.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::Args;
use prosector_storage::{Sha256Digest, Store};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::task::JoinSet;

use super::filter::parse_time;
use super::table::{Format, Table};
use super::{Outcome, output};
use crate::config::Config;
use crate::protocol::Protocol;
use crate::routing::{Amount, Change, LineReader, Replay, Tried};

/// Studies read in one go.
const STUDIES: u32 = 2_000;
/// Jobs whose time on the device is the measure for others.
const MEASURED_JOBS: u32 = 2_000;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Studies complete at this time or later: 2026-05-01, 2026-05-01T12:00:00Z, or an age such as 30d
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: OffsetDateTime,
    /// Print every series that would change instead of the sums
    #[arg(long)]
    changes: bool,
    /// How to print the table
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) async fn run(arguments: &Arguments, config: &Config) -> Result<Outcome> {
    let store = super::connect(config).await?;
    let protocols: Arc<[Protocol]> = config.protocols.clone().into();
    let replay = Arc::new(Replay::new(Arc::clone(&protocols), arguments.changes));
    let tried = read(&store, &replay, arguments.since).await?;
    for keyword in replay.never_kept() {
        tracing::warn!("{keyword} is never recorded: conditions on it hold as if it were absent");
    }
    if tried.incomplete > 0 {
        tracing::warn!(
            series = tried.incomplete,
            "the protocols ask these series for attributes that were not recorded when they came"
        );
    }
    let old = old_revisions(&store, &protocols, &tried).await?;
    let rates = rates(&store).await?;
    let report = Report { protocols: &protocols, tried: &tried, old: &old, rates: &rates };
    let table = if arguments.changes { report.changes() } else { report.sums() };
    output::print(&table.render(arguments.format)?)?;
    Ok(Outcome::Done)
}

/// Reads page after page while the pages before are tried on other threads.
async fn read(store: &Store, replay: &Arc<Replay>, since: OffsetDateTime) -> Result<Tried> {
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let mut total = Tried::default();
    let mut tasks: JoinSet<Result<Tried>> = JoinSet::new();
    let mut cursor = None;
    while let Some(page) = store.recorded_page(since, cursor.as_ref(), STUDIES).await? {
        cursor = Some(page.next);
        if tasks.len() >= threads
            && let Some(tried) = tasks.join_next().await
        {
            total.add(tried??);
        }
        let (replay, lines) = (Arc::clone(replay), page.lines);
        tasks.spawn_blocking(move || replay.try_lines(lines.expose()));
    }
    while let Some(tried) = tasks.join_next().await {
        total.add(tried??);
    }
    Ok(total)
}

/// A wording of the past that can still be read.
struct OldRevision {
    is_same_result: bool,
}

async fn old_revisions(
    store: &Store,
    protocols: &[Protocol],
    tried: &Tried,
) -> Result<HashMap<Sha256Digest, OldRevision>> {
    let reworded: BTreeSet<(&str, Sha256Digest)> = tried
        .amounts
        .keys()
        .filter_map(|(name, change)| match change {
            Change::Reworded(revision) => Some((name.as_str(), *revision)),
            _ => None,
        })
        .collect();
    let mut old = HashMap::new();
    for (name, revision) in reworded {
        let Some(kept) = store.protocol_revision(&revision).await? else { continue };
        let Ok(before) = Protocol::of_definition(&kept.definition) else { continue };
        let now = protocols.iter().find(|protocol| protocol.name == name);
        let is_same_result = now.is_some_and(|now| now.gives_the_same_as(&before));
        old.insert(revision, OldRevision { is_same_result });
    }
    Ok(old)
}

/// Time on the device for a litre of scan, seconds, by model; the last resort is the mean of all.
#[derive(Debug, Default)]
struct Rates {
    by_model: BTreeMap<String, (f64, f64)>,
}

impl Rates {
    fn seconds(&self, model: &str, volume_l: f64) -> Option<f64> {
        let all = || {
            let sums = self.by_model.values();
            sums.fold((0.0, 0.0), |(s, l), (seconds, litres)| (s + seconds, l + litres))
        };
        let (seconds, litres) = self.by_model.get(model).copied().unwrap_or_else(all);
        (litres > 0.0).then(|| seconds / litres * volume_l)
    }
}

async fn rates(store: &Store) -> Result<Rates> {
    let mut rates = Rates::default();
    let mut models: HashMap<Sha256Digest, Option<String>> = HashMap::new();
    let reader = LineReader::new(&[]);
    for recorded in store.recorded_durations(MEASURED_JOBS).await? {
        let revision = recorded.protocol_revision;
        if let std::collections::hash_map::Entry::Vacant(entry) = models.entry(revision) {
            let kept = store.protocol_revision(&revision).await?;
            let protocol = kept.and_then(|kept| Protocol::of_definition(&kept.definition).ok());
            entry.insert(protocol.map(|protocol| protocol.model));
        }
        let Some(Some(model)) = models.get(&revision) else { continue };
        let facts = reader.read(recorded.facts.expose()).context("facts of a series")?.facts;
        let Some(geometry) = facts.geometry else { continue };
        let (seconds, litres) = rates.by_model.entry(model.clone()).or_default();
        *seconds += recorded.device.as_secs_f64();
        *litres += geometry.volume_l;
    }
    Ok(rates)
}

struct Report<'a> {
    protocols: &'a [Protocol],
    tried: &'a Tried,
    old: &'a HashMap<Sha256Digest, OldRevision>,
    rates: &'a Rates,
}

/// Sums of one protocol.
#[derive(Default)]
struct Sums {
    before: u64,
    after: u64,
    added: Amount,
    removed: Amount,
    changed: Amount,
}

impl Report<'_> {
    /// `added`, `removed`, `changed`, or nothing where the result stays what it is.
    fn word(&self, change: Change) -> Option<&'static str> {
        match change {
            Change::Added => Some("added"),
            Change::Removed => Some("removed"),
            Change::Same => None,
            Change::Reworded(old) => {
                let is_same = self.old.get(&old).is_some_and(|old| old.is_same_result);
                (!is_same).then_some("changed")
            }
        }
    }

    fn model_of<'p>(&'p self, name: &str) -> &'p str {
        let protocol = self.protocols.iter().find(|protocol| protocol.name == name);
        protocol.map_or("", |protocol| protocol.model.as_str())
    }

    fn seconds(&self, name: &str, volume_l: f64) -> Value {
        let seconds = self.rates.seconds(self.model_of(name), volume_l);
        json!(seconds.map(|seconds| (seconds * 10.0).round() / 10.0))
    }

    fn sums(&self) -> Table {
        let columns =
            ["protocol", "before", "after", "added", "removed", "changed", "device_s", "saved_s"];
        let mut table = Table::new(&columns);
        let mut by_name: BTreeMap<&str, Sums> = BTreeMap::new();
        for protocol in self.protocols {
            by_name.entry(&protocol.name).or_default();
        }
        for ((name, change), amount) in &self.tried.amounts {
            let sums = by_name.entry(name).or_default();
            let word = self.word(*change);
            sums.before += if *change == Change::Added { 0 } else { amount.series };
            sums.after += if *change == Change::Removed { 0 } else { amount.series };
            let sum = match word {
                Some("added") => &mut sums.added,
                Some("removed") => &mut sums.removed,
                Some(_) => &mut sums.changed,
                None => continue,
            };
            sum.series += amount.series;
            sum.volume_l += amount.volume_l;
        }
        let configured = self.protocols.iter().map(|protocol| protocol.name.as_str());
        let mut order: Vec<&str> = configured.collect();
        order.extend(
            by_name
                .keys()
                .filter(|name| !self.protocols.iter().any(|protocol| protocol.name == **name)),
        );
        for name in order {
            let sums = &by_name[name];
            table.push(vec![
                json!(name),
                json!(sums.before),
                json!(sums.after),
                json!(sums.added.series),
                json!(sums.removed.series),
                json!(sums.changed.series),
                self.seconds(name, sums.added.volume_l + sums.changed.volume_l),
                self.seconds(name, sums.removed.volume_l),
            ]);
        }
        table
    }

    fn changes(&self) -> Table {
        let mut table = Table::new(&["study", "series", "protocol", "change", "device_s"]);
        let mut changes: Vec<_> = self.tried.changes.iter().collect();
        changes.sort_by(|a, b| {
            (&a.study, &a.series, &a.protocol).cmp(&(&b.study, &b.series, &b.protocol))
        });
        for change in changes {
            let Some(word) = self.word(change.change) else { continue };
            let device = if change.change == Change::Removed {
                Value::Null
            } else {
                self.seconds(&change.protocol, change.volume_l)
            };
            table.push(vec![
                json!(change.study),
                json!(change.series),
                json!(change.protocol),
                json!(word),
                device,
            ]);
        }
        table
    }
}
