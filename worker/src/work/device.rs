//! The computing device: one thread that owns the loaded models.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result};
use dicom_types::{Modality, Volume};
use prosector_model::{
    Control, LoadSegmenterError, OrientationCode, Pack, PackDigest, SegmentError, SegmentRequest,
    Segmentation, Segmenter, SegmenterOptions,
};
use tokio::sync::{mpsc, oneshot};

use crate::telemetry;

/// What the device is asked to do.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) pack: Arc<Pack>,
    pub(crate) volume: Arc<Volume>,
    pub(crate) modality: Modality,
    pub(crate) orientation: OrientationCode,
    pub(crate) prompts: Vec<String>,
    pub(crate) control: Control,
}

/// Why a task was not done.
#[derive(Debug)]
pub(crate) enum TaskError {
    /// The pack cannot be used.
    Load(LoadSegmenterError),
    /// Volume or prompts are no good, or the task was cancelled.
    Segment(SegmentError),
    /// The device thread is gone.
    Device(anyhow::Error),
}

type Reply = oneshot::Sender<Result<Segmentation, TaskError>>;

/// The way to the device thread. One task waits while another computes.
#[derive(Debug, Clone)]
pub(crate) struct Device {
    tasks: mpsc::Sender<(Task, Reply)>,
}

impl Device {
    /// Starts the thread. Models are loaded at first use and stay.
    ///
    /// # Errors
    /// When the system makes no thread.
    pub(crate) fn start(threads: Option<NonZeroUsize>) -> Result<Self> {
        let options = SegmenterOptions { threads, ..SegmenterOptions::default() };
        let (tasks, inbox) = mpsc::channel(1);
        thread::Builder::new()
            .name("device".to_owned())
            .spawn(move || serve(inbox, options))
            .context("start the device thread")?;
        Ok(Self { tasks })
    }

    /// Segments a volume.
    ///
    /// # Errors
    /// [`TaskError`].
    pub(crate) async fn segment(&self, task: Task) -> Result<Segmentation, TaskError> {
        let (reply, answer) = oneshot::channel();
        let gone = || TaskError::Device(anyhow::anyhow!("the device thread has ended"));
        self.tasks.send((task, reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

fn serve(mut inbox: mpsc::Receiver<(Task, Reply)>, options: SegmenterOptions) {
    let mut loaded: HashMap<PackDigest, Segmenter> = HashMap::new();
    while let Some((task, reply)) = inbox.blocking_recv() {
        let outcome = telemetry::busy(|| segment(&mut loaded, &task, options));
        // The one who asked may have given up.
        let _ = reply.send(outcome);
    }
}

fn segment(
    loaded: &mut HashMap<PackDigest, Segmenter>,
    task: &Task,
    options: SegmenterOptions,
) -> Result<Segmentation, TaskError> {
    let segmenter = match loaded.entry(task.pack.digest()) {
        Entry::Occupied(entry) => entry.into_mut(),
        Entry::Vacant(entry) => {
            let start = Instant::now();
            let segmenter = Segmenter::new(&task.pack, options).map_err(TaskError::Load)?;
            tracing::info!(
                pack = task.pack.manifest().name,
                duration_ms = start.elapsed().as_millis() as u64,
                "model loaded"
            );
            entry.insert(segmenter)
        }
    };
    let prompts: Vec<&str> = task.prompts.iter().map(String::as_str).collect();
    let request = SegmentRequest {
        volume: &task.volume,
        modality: task.modality,
        orientation: task.orientation,
        prompts: &prompts,
    };
    segmenter.segment(&request, &task.control).map_err(TaskError::Segment)
}
