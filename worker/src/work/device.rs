//! The computing device: one thread that owns the loaded models.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result};
use dicom_types::{Modality, Volume};
use prosector_model::{
    Control, LoadSegmenterError, Mode, OrientationCode, Pack, PackDigest, SegmentError,
    SegmentRequest, Segmentation, Segmenter, SegmenterOptions,
};
use prosector_storage::Priority;
use tokio::sync::oneshot;

use crate::telemetry;

/// What the device is asked to do.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) pack: Arc<Pack>,
    pub(crate) volume: Arc<Volume>,
    pub(crate) modality: Modality,
    pub(crate) orientation: OrientationCode,
    pub(crate) mode: Mode,
    pub(crate) prompts: Vec<String>,
    pub(crate) control: Control,
    /// Of several that wait, the most urgent is next.
    pub(crate) priority: Priority,
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

/// Tasks that wait, in the order in which they came.
#[derive(Debug, Default)]
struct Waiting {
    tasks: VecDeque<(Task, Reply)>,
    /// Nobody brings tasks any more, or nobody takes them.
    is_closed: bool,
}

#[derive(Debug, Default)]
struct Inbox {
    waiting: Mutex<Waiting>,
    bell: Condvar,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a task; false where nobody takes any.
    fn push(&self, task: Task, reply: Reply) -> bool {
        let mut waiting = self.lock();
        if !waiting.is_closed {
            waiting.tasks.push_back((task, reply));
            self.bell.notify_one();
        }
        !waiting.is_closed
    }

    /// Waits for the most urgent task, of several the one that came first; nothing when there will be none.
    fn pop(&self) -> Option<(Task, Reply)> {
        let mut waiting = self.lock();
        loop {
            let urgent =
                waiting.tasks.iter().enumerate().min_by_key(|(_, (task, _))| task.priority);
            if let Some(index) = urgent.map(|(index, _)| index) {
                return waiting.tasks.remove(index);
            }
            if waiting.is_closed {
                return None;
            }
            waiting = self.bell.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn close(&self) {
        self.lock().is_closed = true;
        self.bell.notify_all();
    }
}

/// Closes an inbox when the last one who uses it is gone.
#[derive(Debug)]
struct Closing(Arc<Inbox>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The way to the device thread. The hands of the worker bound how many tasks wait.
#[derive(Debug, Clone)]
pub(crate) struct Device {
    inbox: Arc<Closing>,
}

impl Device {
    /// Starts the thread. Models are loaded at first use and stay.
    ///
    /// # Errors
    /// When the system makes no thread.
    pub(crate) fn start(options: SegmenterOptions) -> Result<Self> {
        let mut loaded = HashMap::new();
        Self::serving(move |task| segment(&mut loaded, task, &options))
    }

    /// Starts the thread with what it does about a task.
    ///
    /// # Errors
    /// When the system makes no thread.
    pub(crate) fn serving(
        segment: impl FnMut(&Task) -> Result<Segmentation, TaskError> + Send + 'static,
    ) -> Result<Self> {
        let inbox = Arc::new(Inbox::default());
        let served = Closing(Arc::clone(&inbox));
        thread::Builder::new()
            .name("device".to_owned())
            .spawn(move || serve(&served, segment))
            .context("start the device thread")?;
        Ok(Self { inbox: Arc::new(Closing(inbox)) })
    }

    /// Segments a volume.
    ///
    /// # Errors
    /// [`TaskError`].
    pub(crate) async fn segment(&self, task: Task) -> Result<Segmentation, TaskError> {
        let (reply, answer) = oneshot::channel();
        let gone = || TaskError::Device(anyhow::anyhow!("the device thread has ended"));
        if !self.inbox.0.push(task, reply) {
            return Err(gone());
        }
        answer.await.map_err(|_| gone())?
    }
}

fn serve(inbox: &Closing, mut segment: impl FnMut(&Task) -> Result<Segmentation, TaskError>) {
    while let Some((task, reply)) = inbox.0.pop() {
        let outcome = telemetry::busy(|| segment(&task));
        // The one who asked may have given up.
        let _ = reply.send(outcome);
    }
}

fn segment(
    loaded: &mut HashMap<PackDigest, Segmenter>,
    task: &Task,
    options: &SegmenterOptions,
) -> Result<Segmentation, TaskError> {
    let segmenter = match loaded.entry(task.pack.digest()) {
        Entry::Occupied(entry) => entry.into_mut(),
        Entry::Vacant(entry) => {
            let start = Instant::now();
            let segmenter = Segmenter::new(&task.pack, options.clone()).map_err(TaskError::Load)?;
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
        mode: task.mode,
    };
    let estimate = segmenter.estimate(&request).map_err(TaskError::Segment)?;
    tracing::info!(
        windows = estimate.windows,
        duration_ms = estimate.duration.as_millis() as u64,
        size_bytes = estimate.memory_bytes,
        "the volume is expected to take at most this"
    );
    segmenter.segment(&request, &task.control).map_err(TaskError::Segment)
}

#[cfg(test)]
mod tests {
    use dicom_types::GridGeometry;

    use super::*;

    fn task(priority: Priority, slices: usize) -> Task {
        let steps = [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]];
        let geometry = GridGeometry::new([slices, 2, 2], [0.0; 3], steps).unwrap();
        Task {
            pack: Arc::new(Pack::phantom()),
            volume: Volume::new(geometry, vec![0.0; geometry.voxels()]).unwrap().into(),
            modality: Modality::Ct,
            orientation: OrientationCode::Ras,
            mode: Mode::Reference,
            prompts: Vec::new(),
            control: Control::default(),
            priority,
        }
    }

    #[test]
    fn the_most_urgent_task_is_next_and_of_equals_the_first() {
        let inbox = Inbox::default();
        for (slices, priority) in [
            (1, Priority::Routine),
            (2, Priority::Backfill),
            (3, Priority::Routine),
            (4, Priority::Stat),
        ] {
            assert!(inbox.push(task(priority, slices), oneshot::channel().0));
        }
        inbox.close();

        let order = std::iter::from_fn(|| inbox.pop());
        let order: Vec<usize> = order.map(|(task, _)| task.volume.geometry().shape()[0]).collect();

        assert_eq!(order, [4, 1, 3, 2]);
        assert!(!inbox.push(task(Priority::Stat, 1), oneshot::channel().0));
    }
}
