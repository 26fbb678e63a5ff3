//! A worker process whose device sleeps.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use dicom_types::Mask;
use prosector_model::{Segmentation, StageTimes};
use tokio_util::sync::CancellationToken;

use crate::config::{self, Packs};
use crate::open_packs::OpenPacks;
use crate::queue::Queue;
use crate::serve;
use crate::work::{Device, Tally, Worker};

/// Variable that makes this program a worker, and names its site file.
pub(crate) const SITE: &str = "PROSECTOR_BENCH_SITE";
/// Variable with the time that the device takes, milliseconds.
pub(crate) const DEVICE_MS: &str = "PROSECTOR_BENCH_DEVICE_MS";

/// Works until it is killed or told to stop.
pub(crate) fn run() -> Result<()> {
    let site = std::env::var(SITE)?;
    let device_ms: u64 = std::env::var(DEVICE_MS)?.parse()?;
    let config = config::load(Some(Path::new(&site)), Packs::NotNeeded)?.config;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let config::Queue::Amqp(url) = &config.queue else { anyhow::bail!("no broker is named") };
        let queue = Queue::at(url.expose())?;
        let worker = Worker {
            store: serve::connect(&config, "work").await?,
            spool: serve::open_spool(&config).await?,
            queue,
            packs: Arc::new(OpenPacks::new(config.model.packs.clone())),
            device: Device::serving(move |task| {
                std::thread::sleep(Duration::from_millis(device_ms));
                let shape = task.volume.geometry().shape();
                let inner = |at: usize, size: usize| at > 0 && at + 1 < size;
                let mask = Mask::from_fn(shape, |[slice, row, column]| {
                    inner(slice, shape[0]) && inner(row, shape[1]) && inner(column, shape[2])
                });
                let masks = task.prompts.iter().map(|_| mask.clone()).collect();
                Ok(Segmentation {
                    masks,
                    windows: 1,
                    times: StageTimes::default(),
                    spilled_bytes: 0,
                })
            })?,
            destinations: config.destinations.clone().into(),
            name: serve::actor("work"),
            grace: Duration::from_secs(5),
            ageing: config.ageing,
            leases: config.leases,
            tally: Tally::default(),
        };
        worker.run(CancellationToken::new()).await.context("the worker ended")
    })
}
