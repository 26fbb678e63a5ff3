//! The main job on one machine, over real DICOM networking, against a phantom whose truth is known.

mod pacs;
mod picture;
mod study;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use dicom_io::scu::{self, Destination, InstanceSource, ScuConfig, StoreDisposition};
use dicom_io::seg::ReadSegment;
use dicom_types::AeTitle;
use prosector_storage::{AuditFilter, JobDetail, JobState, Page, Store};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::cli::{Format, Table};
use crate::config::{self, Packs};
use crate::serve::Service;
use pacs::Pacs;
pub(crate) use study::Study;

/// Longest wait for the segmentation.
const PATIENCE: Duration = Duration::from_mins(5);
/// Mean Dice below which the demonstration counts as failed.
const EXPECTED_DICE: f64 = 0.90;

/// What a demonstration leaves behind, and whether it stays up.
#[derive(Debug)]
pub(crate) struct Demo {
    /// Folder for everything that is made: site file, store, spool, study, result, picture.
    pub(crate) folder: PathBuf,
    /// How the table is printed.
    pub(crate) format: Format,
}

/// A demonstration that ran.
pub(crate) struct Shown {
    /// Address of the page.
    pub(crate) page: String,
    /// Whether every target was found where the phantom has it.
    pub(crate) is_good: bool,
    service: JoinSet<Result<()>>,
    cancel: CancellationToken,
}

impl Demo {
    /// Sends a phantom through the service and checks what the PACS received.
    ///
    /// # Errors
    /// When any step of the way fails.
    pub(crate) async fn run(&self) -> Result<Shown> {
        let start = Instant::now();
        let pacs = Pacs::start(&self.folder.join("pacs")).await?;
        let loaded = config::load(Some(&self.site_file(&pacs)?), Packs::Needed)?;
        let listener = loaded.config.listener.bind;
        let store = crate::serve::connect(&loaded.config, "demo").await?;
        let service = Service::build(loaded.config, &[]).await?;
        let listener = service.listener_address().unwrap_or(listener);
        let page = service.page()?.context("the service has no page")?;
        let cancel = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(service.run(cancel.clone()));
        say(start, &format!("service as PROSECTOR on {listener}, page on {page}"));
        say(start, &format!("PACS stand-in as {} on {}", pacs::AE_TITLE, pacs.address()));

        let uid = || format!("2.25.{}", Uuid::new_v4().as_u128());
        let study = Study::make(&self.folder.join("study"), &uid(), &uid())?;
        say(start, &format!("phantom CT of {} slices, oblique acquisition", study.files.len()));
        send(&study, &listener.to_string()).await?;
        say(start, "sent by C-STORE, every instance durable");

        let received = tokio::select! {
            received = pacs.next() => received?,
            ended = tasks.join_next() => bail!("the service ended: {ended:?}"),
            () = tokio::time::sleep(PATIENCE) => bail!("no segmentation after {PATIENCE:?}"),
        };
        say(start, "segmentation stored in the PACS");
        let detail = finished_job(&store).await?;
        let is_good = self.report(&study, &received, &detail)?;
        Ok(Shown { page, is_good, service: tasks, cancel })
    }

    fn site_file(&self, pacs: &Pacs) -> Result<PathBuf> {
        let folder = |name: &str| self.folder.join(name).display().to_string();
        let site = json!({
            "listener": { "bind": "127.0.0.1:0" },
            "store": { "url": format!("sqlite://{}", folder("prosector.db")) },
            "spool": { "url": format!("file://{}", folder("spool")) },
            "api": { "bind": "127.0.0.1:0" },
            "completeness": { "quiet": "1s" },
            "log": { "level": "warn" },
            "destination": [{
                "name": "pacs",
                "ae_title": pacs::AE_TITLE,
                "address": pacs.address().to_string(),
            }],
            "protocol": [{
                "name": "phantom",
                "match": { "modality": ["CT", "MR"] },
                "model": "phantom",
                "targets": ["@phantom"],
                "destinations": ["pacs"],
            }],
        });
        let path = self.folder.join("prosector.toml");
        std::fs::write(&path, toml::to_string(&site)?)
            .with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }

    /// Prints what was found beside what is there, and names the files.
    fn report(&self, study: &Study, received: &Path, detail: &JobDetail) -> Result<bool> {
        let bytes = std::fs::read(received)?;
        let stack = study.stack()?;
        let segments = dicom_io::seg::read(&bytes, &stack).context("read the segmentation")?;
        let mut table = Table::new(&["target", "volume_ml", "truth_ml", "dice"]);
        let voxel_ml = stack.geometry.voxel_volume_mm3() / 1000.0;
        let mut total = 0.0;
        let truths = study.truths(stack.geometry)?;
        for (prompt, truth) in &truths {
            let found = segments.iter().find(|segment| segment.label == *prompt);
            let (volume, common) = found.map_or((0, 0), |ReadSegment { mask, .. }| {
                (mask.count(), mask.count_common(truth))
            });
            let dice = 2.0 * common as f64 / (volume + truth.count()).max(1) as f64;
            total += dice;
            let round = |value: f64, digits: i32| {
                let scale = 10f64.powi(digits);
                (value * scale).round() / scale
            };
            table.push(vec![
                json!(prompt),
                json!(round(volume as f64 * voxel_ml, 1)),
                json!(round(truth.count() as f64 * voxel_ml, 1)),
                json!(round(dice, 3)),
            ]);
        }
        let mean = total / truths.len() as f64;
        let picture = self.folder.join("overlay.png");
        std::fs::write(&picture, picture::overlay(&stack, &segments)?)?;

        let mut out = std::io::stdout().lock();
        writeln!(out, "\n{}", table.render(self.format)?)?;
        writeln!(out, "mean Dice {mean:.3}")?;
        writeln!(out, "{}", where_the_time_went(detail))?;
        for (what, path) in [
            ("segmentation", received),
            ("picture", &picture),
            ("phantom study", &study.folder),
            ("site file", &self.folder.join("prosector.toml")),
        ] {
            writeln!(out, "{what:<14} {}", path.display())?;
        }
        Ok(mean >= EXPECTED_DICE)
    }
}

impl Shown {
    /// Lets the service run until it is told to stop.
    ///
    /// # Errors
    /// When the service breaks down.
    pub(crate) async fn stay(mut self, stop: CancellationToken) -> Result<()> {
        tokio::select! {
            () = stop.cancelled() => self.end().await,
            ended = self.service.join_next() => ended.context("the service is gone")??,
        }
    }

    /// Stops the service.
    ///
    /// # Errors
    /// When it does not stop well.
    pub(crate) async fn end(mut self) -> Result<()> {
        self.cancel.cancel();
        match self.service.join_next().await {
            Some(ended) => ended?,
            None => Ok(()),
        }
    }
}

async fn send(study: &Study, address: &str) -> Result<()> {
    let title = |text: &str| text.parse::<AeTitle>().context("a title of ours");
    let destination = Destination {
        ae_title: title("PROSECTOR")?,
        address: address.to_owned(),
        calling_ae_title: title("PHANTOM_CT")?,
        tls: None,
    };
    let instances: Vec<InstanceSource> =
        study.files.iter().map(|path| path.clone().into()).collect();
    for outcome in scu::store(&destination, &instances, &ScuConfig::default()).await? {
        if outcome.result.disposition() != StoreDisposition::Delivered {
            bail!("an instance was not stored: {:?}", outcome.result);
        }
    }
    Ok(())
}

/// Waits until the job behind the result is recorded as done and delivered.
async fn finished_job(store: &Store) -> Result<Arc<JobDetail>> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        let jobs = store.list_jobs(&AuditFilter::default(), &Page::first(1)).await?;
        if let Some(job) = jobs.rows.first()
            && job.state == JobState::Done
            && job.delivered == job.deliveries
        {
            let detail = store.show_job(job.job_id).await?.context("the job is gone")?;
            return Ok(Arc::new(detail));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("the delivery was not recorded")
}

/// From the received series to the delivered result, stage by stage, as the ledger has it.
fn where_the_time_went(detail: &JobDetail) -> String {
    let finished = detail.timeline.iter().rev().find_map(|entry| entry.event.detail.get("work"));
    let Some(times) = finished else { return String::new() };
    let part = |name: &str| {
        times.get(format!("{name}_ms")).and_then(serde_json::Value::as_u64).unwrap_or(0)
    };
    let parts: Vec<String> = ["load", "infer", "encode", "store"]
        .iter()
        .map(|name| format!("{name} {} ms", part(name)))
        .collect();
    format!("time in the job: {}", parts.join(", "))
}

fn say(start: Instant, what: &str) {
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(std::io::stderr(), "{:6.1} s  {what}", start.elapsed().as_secs_f64());
}
