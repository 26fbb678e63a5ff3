//! `prosector protocol report`: candidates of the shadow lane compared with production, target by target.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use dicom_io::series::{Stack, read_stacks};
use dicom_types::Mask;
use prosector_storage::{ComparedJob, LocalFiles, Sha256Digest, ShadowPair, Spool, Store};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::filter::parse_time;
use super::table::{Format, Table};
use super::{Outcome, output};
use crate::config::Config;
use crate::segment::series_of;
use crate::serve::open_spool;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Protocol whose candidate is compared; default: every one
    #[arg(long, value_name = "NAME")]
    protocol: Option<String>,
    /// Candidate's jobs that ended at this time or later: 2026-05-01, 2026-05-01T12:00:00Z, or an age such as 30d
    #[arg(long, value_name = "TIME", value_parser = parse_time, default_value = "30d")]
    since: OffsetDateTime,
    /// Print every series instead of the sums
    #[arg(long)]
    series: bool,
    /// How to print the table
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// What production and a candidate found of one target in one series.
struct Comparison {
    target: String,
    /// Volume of the masks of production and of the candidate, mL.
    volume_ml: [f64; 2],
    /// Agreement of the masks; none where both are empty.
    dice: Option<f64>,
}

pub(super) async fn run(arguments: &Arguments, config: &Config) -> Result<Outcome> {
    let store = super::connect(config).await?;
    let spool = open_spool(config).await?;
    let mut sums = Sums::default();
    let columns = [
        "study",
        "series",
        "protocol",
        "target",
        "dice",
        "volume_ml",
        "candidate_ml",
        "change_percent",
    ];
    let mut single = Table::new(&columns);
    let mut uncompared = 0;
    for pair in store.shadow_pairs(arguments.protocol.as_deref(), arguments.since).await? {
        let compared = match compare(&store, &spool, &pair).await {
            Ok(compared) => compared,
            Err(error) => {
                uncompared += 1;
                tracing::warn!(
                    series.uid = %pair.series_instance_uid,
                    protocol = pair.protocol_name,
                    error = format!("{error:#}"),
                    "series not compared"
                );
                continue;
            }
        };
        for comparison in compared {
            single.push(single_row(&pair, &comparison));
            sums.add(&pair, &comparison);
        }
    }
    let table = if arguments.series { single } else { sums.table() };
    output::print(&table.render(arguments.format)?)?;
    Ok(if uncompared == 0 { Outcome::Done } else { Outcome::Failed })
}

/// Compares the masks of both jobs on the grid of their series.
async fn compare(store: &Store, spool: &Spool, pair: &ShadowPair) -> Result<Vec<Comparison>> {
    let instances = store.job_instances(pair.candidate.job_id).await?;
    let files = spool.fetch(instances.iter().map(|i| i.spool_key.clone()).collect()).await?;
    let of_production = fetch_masks(spool, &pair.production).await?;
    let of_candidate = fetch_masks(spool, &pair.candidate).await?;
    let pair = pair.clone();
    let comparing = tokio::task::spawn_blocking(move || {
        let sources = series_of(read_stacks(files.paths()));
        let stack = sources.iter().find_map(|source| source.volume());
        let stack = stack.context("the series is no volume any more")?;
        let production = masks(&pair.production, of_production.paths().first(), stack)?;
        let candidate = masks(&pair.candidate, of_candidate.paths().first(), stack)?;
        Ok(compare_targets(&pair, [&production, &candidate]))
    });
    comparing.await.context("comparing broke off")?
}

/// The segmentation of a job, where it has one.
async fn fetch_masks(spool: &Spool, job: &ComparedJob) -> Result<LocalFiles> {
    Ok(spool.fetch(job.masks.iter().cloned().collect()).await?)
}

/// The masks of a job by prompt, of the targets that have a voxel.
fn masks(
    job: &ComparedJob,
    file: Option<&PathBuf>,
    stack: &Stack,
) -> Result<HashMap<String, Mask>> {
    let is_found = job.targets.iter().any(|target| target.segment_number.is_some());
    if !is_found {
        return Ok(HashMap::new());
    }
    let file = file.with_context(|| format!("job {} has no segmentation any more", job.job_id))?;
    let bytes = std::fs::read(file)
        .with_context(|| format!("cannot read the segmentation of job {}", job.job_id))?;
    let segments = dicom_io::seg::read(&bytes, stack)
        .with_context(|| format!("cannot read the segmentation of job {}", job.job_id))?;
    let mut by_number: HashMap<u32, Mask> =
        segments.into_iter().map(|segment| (u32::from(segment.number), segment.mask)).collect();
    let mut masks = HashMap::new();
    for target in &job.targets {
        let Some(number) = target.segment_number else { continue };
        let mask = by_number.remove(&number).with_context(|| {
            format!("the segmentation of job {} has no segment {number}", job.job_id)
        })?;
        masks.insert(target.prompt.clone(), mask);
    }
    Ok(masks)
}

fn compare_targets(pair: &ShadowPair, masks: [&HashMap<String, Mask>; 2]) -> Vec<Comparison> {
    let volume = |job: &ComparedJob, prompt: &str| {
        let target = job.targets.iter().find(|target| target.prompt == prompt);
        target.map_or(0.0, |target| target.volume_ml)
    };
    let compare = |prompt: &String| {
        let dice = match masks.map(|masks| masks.get(prompt)) {
            [None, None] => None,
            [Some(production), Some(candidate)] => {
                let common = production.count_common(candidate) as f64;
                Some(2.0 * common / (production.count() + candidate.count()) as f64)
            }
            _ => Some(0.0),
        };
        let volume_ml = [&pair.production, &pair.candidate].map(|job| volume(job, prompt));
        Comparison { target: prompt.clone(), volume_ml, dice }
    };
    pair.production.targets.iter().map(|target| compare(&target.prompt)).collect()
}

fn single_row(pair: &ShadowPair, comparison: &Comparison) -> Vec<Value> {
    let [volume_ml, candidate_ml] = comparison.volume_ml;
    vec![
        json!(pair.study_instance_uid.as_str()),
        json!(pair.series_instance_uid.as_str()),
        json!(pair.protocol_name),
        json!(comparison.target),
        json!(comparison.dice.map(|dice| round(dice, 1e4))),
        json!(round(volume_ml, 1e3)),
        json!(round(candidate_ml, 1e3)),
        change_percent(volume_ml, candidate_ml),
    ]
}

/// Sums of one target under one pair of packs.
#[derive(Default)]
struct Sum {
    series: u64,
    both_empty: u64,
    dice: f64,
    lowest_dice: Option<f64>,
    volume_ml: [f64; 2],
    found_by_one: [u64; 2],
}

/// Protocol, packs of production and candidate, and place of the target in the protocol's list with its name.
type Subject = (String, Sha256Digest, Sha256Digest, usize, String);

#[derive(Default)]
struct Sums(BTreeMap<Subject, Sum>);

impl Sums {
    fn add(&mut self, pair: &ShadowPair, comparison: &Comparison) {
        let mut targets = pair.production.targets.iter();
        let place = targets.position(|target| target.prompt == comparison.target);
        let subject = (
            pair.protocol_name.clone(),
            pair.production.pack_digest,
            pair.candidate.pack_digest,
            place.unwrap_or_default(),
            comparison.target.clone(),
        );
        let sum = self.0.entry(subject).or_default();
        sum.series += 1;
        for (index, volume_ml) in comparison.volume_ml.into_iter().enumerate() {
            sum.volume_ml[index] += volume_ml;
            let other = comparison.volume_ml[1 - index];
            sum.found_by_one[index] += u64::from(volume_ml > 0.0 && other == 0.0);
        }
        match comparison.dice {
            Some(dice) => {
                sum.dice += dice;
                sum.lowest_dice = Some(sum.lowest_dice.map_or(dice, |lowest| lowest.min(dice)));
            }
            None => sum.both_empty += 1,
        }
    }

    fn table(&self) -> Table {
        let mut table = Table::new(&[
            "protocol",
            "pack",
            "candidate",
            "target",
            "series",
            "dice_mean",
            "dice_lowest",
            "volume_ml",
            "candidate_ml",
            "change_percent",
            "only_production",
            "only_candidate",
            "neither",
        ]);
        for ((protocol, pack, candidate, _, target), sum) in &self.0 {
            let compared = sum.series - sum.both_empty;
            let mean = (compared > 0).then(|| round(sum.dice / compared as f64, 1e4));
            let [volume_ml, candidate_ml] = sum.volume_ml.map(|sum_ml| sum_ml / sum.series as f64);
            table.push(vec![
                json!(protocol),
                json!(short(pack)),
                json!(short(candidate)),
                json!(target),
                json!(sum.series),
                json!(mean),
                json!(sum.lowest_dice.map(|dice| round(dice, 1e4))),
                json!(round(volume_ml, 1e3)),
                json!(round(candidate_ml, 1e3)),
                change_percent(volume_ml, candidate_ml),
                json!(sum.found_by_one[0]),
                json!(sum.found_by_one[1]),
                json!(sum.both_empty),
            ]);
        }
        table
    }
}

/// Enough of a digest to tell packs apart.
fn short(digest: &Sha256Digest) -> String {
    digest.to_string().chars().take(12).collect()
}

/// By how much the candidate's volume differs, in percent of production's; nothing where that is none.
fn change_percent(volume_ml: f64, candidate_ml: f64) -> Value {
    let change = (volume_ml > 0.0).then(|| 100.0 * (candidate_ml - volume_ml) / volume_ml);
    json!(change.map(|change| round(change, 100.0)))
}

fn round(value: f64, steps: f64) -> f64 {
    (value * steps).round() / steps
}
