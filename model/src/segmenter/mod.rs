//! From a volume and text prompts to masks on the volume's own grid.

mod control;
mod error;
mod estimate;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dicom_types::{Mask, Modality, Volume};
use rayon::prelude::*;

use crate::cost::Cost;
use crate::net::{Convolution, InferError, Network};
use crate::pack::{Pack, PromptModality};
use crate::preprocess::{OrientationCode, Prepared, PreprocessError, prepare};
use crate::restore::StoredGrid;
use crate::sliding_window::{Gaussian, Mode, Window, windows, with_body};
use crate::sums::{Room, Sums};
use crate::text::TextEncoder;
pub use control::{Control, Progress};
pub use error::{LoadSegmenterError, SegmentError};
pub use estimate::Estimate;

/// Memory for the sums of targets where nothing is said: enough for 451 organs in a scan of the whole body.
const ACCUMULATOR_BYTES: u64 = 2 << 30;
/// Share of the range of intensities above which a voxel is body; -350 HU for the published range.
const BODY: f64 = 0.1;
/// Most queries of free text that are kept. Free text has no end: what was asked first stays.
const MOST_KEPT: usize = 4096;

/// What to segment, in what.
#[derive(Debug, Clone, Copy)]
pub struct SegmentRequest<'a> {
    /// The volume, in HU for CT.
    pub volume: &'a Volume,
    /// What the network is told that the scan is, and how intensities are normalised.
    pub modality: Modality,
    /// Voxel order for the network.
    pub orientation: OrientationCode,
    /// What to look for. Upper and lower case make no difference.
    pub prompts: &'a [&'a str],
    /// How windows cover the volume.
    pub mode: Mode,
}

/// How a segmenter computes.
#[derive(Debug, Clone, Default)]
pub struct SegmenterOptions {
    /// Threads; one for each core where nothing is said.
    pub threads: Option<NonZeroUsize>,
    /// How the network's convolutions are computed.
    pub convolution: Convolution,
    /// Memory for the sums of all targets of a volume, in bytes; 2 GiB where nothing is said. What goes beyond lies in a
    /// file without name in [`Self::scratch`]: the same masks, more slowly.
    pub accumulator_bytes: Option<u64>,
    /// Memory that a volume may take in all, in bytes: sums get what is left of it, and a volume that needs more is
    /// refused; no limit where nothing is said.
    pub memory_bytes: Option<u64>,
    /// Folder of that file; the system's for temporary files where nothing is said.
    pub scratch: Option<PathBuf>,
}

/// How long each stage took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StageTimes {
    /// Turning prompts into queries.
    pub embed: Duration,
    /// Orienting, resampling, cropping and normalising.
    pub preprocess: Duration,
    /// The network's vision part, over all windows.
    pub encode: Duration,
    /// Queries, masks and their weighted sums, over all windows.
    pub decode: Duration,
    /// Bringing the masks back to the stored grid.
    pub restore: Duration,
}

/// Masks on the volume's own grid.
#[derive(Debug, Clone)]
pub struct Segmentation {
    /// One for each prompt, in their order.
    pub masks: Vec<Mask>,
    /// Number of windows; none where no voxel of the volume is above zero, air on a CT.
    pub windows: usize,
    /// How long each stage took.
    pub times: StageTimes,
    /// Bytes of sums that lay on the disk, because memory was not meant for as many.
    pub spilled_bytes: u64,
}

type Embedded = HashMap<(String, PromptModality), Arc<[f32]>>;

/// A loaded pack: network, text encoder, and the prompts embedded so far.
#[derive(Debug)]
pub struct Segmenter {
    pack: Pack,
    network: Network,
    text: Option<TextEncoder>,
    gaussian: Gaussian,
    embedded: Mutex<Embedded>,
    threads: rayon::ThreadPool,
    options: SegmenterOptions,
    /// Speed of the network: of the latest volume, or assumed.
    macs_per_second: Mutex<f64>,
}

impl Segmenter {
    /// Loads the network of `pack`, and its text encoder where it has one.
    ///
    /// # Errors
    /// [`LoadSegmenterError`].
    pub fn new(pack: &Pack, options: SegmenterOptions) -> Result<Self, LoadSegmenterError> {
        let threads = options.threads.map_or(0, NonZeroUsize::get);
        let threads = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
        let manifest = pack.manifest();
        let load = || Network::load(pack.weights(), &manifest.architecture, options.convolution);
        let network = threads.install(load)?;
        Ok(Self {
            pack: pack.clone(),
            network,
            text: TextEncoder::load(pack)?,
            gaussian: Gaussian::new(manifest.preprocessing.window),
            embedded: Mutex::default(),
            macs_per_second: Mutex::new(
                Cost::ASSUMED_MACS_PER_SECOND * threads.current_num_threads() as f64,
            ),
            threads,
            options,
        })
    }

    /// The pack.
    pub fn pack(&self) -> &Pack {
        &self.pack
    }

    /// Segments a volume. The result is the same for any number of threads.
    ///
    /// Beside the volume, memory is that of the resampled volume, one window of the network, and the places where
    /// targets are.
    ///
    /// # Errors
    /// [`SegmentError`].
    pub fn segment(
        &self,
        request: &SegmentRequest<'_>,
        control: &Control,
    ) -> Result<Segmentation, SegmentError> {
        self.threads.install(|| self.segment_here(request, control))
    }

    /// What a volume will cost. The speed is that of the windows that this segmenter has computed, and before the first
    /// a cautious guess.
    ///
    /// # Errors
    /// [`SegmentError::Preprocess`] for a grid that cannot be resampled.
    pub fn estimate(&self, request: &SegmentRequest<'_>) -> Result<Estimate, SegmentError> {
        let speed = *self.macs_per_second.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Estimate::new(
            self.pack.manifest(),
            request.volume.geometry(),
            request.orientation,
            request.prompts.len(),
            request.mode,
            speed,
        )?)
    }

    /// Where the sums of a volume may live.
    fn room_for(&self, request: &SegmentRequest<'_>) -> Result<Room, SegmentError> {
        let Some(limit_bytes) = self.options.memory_bytes else { return Ok(self.options.room()) };
        let estimate = self.estimate(request)?;
        let rest = limit_bytes.checked_sub(estimate.memory_bytes);
        let rest = rest.ok_or(SegmentError::TooLarge { estimate, limit_bytes })?;
        let wanted = self.options.accumulator_bytes.unwrap_or(ACCUMULATOR_BYTES);
        let options =
            SegmenterOptions { accumulator_bytes: Some(rest.min(wanted)), ..self.options.clone() };
        Ok(options.room())
    }

    fn segment_here(
        &self,
        request: &SegmentRequest<'_>,
        control: &Control,
    ) -> Result<Segmentation, SegmentError> {
        let mut times = StageTimes::default();
        let queries = timed(&mut times.embed, || self.queries(request))?;
        control.check()?;
        let room = self.room_for(request)?;
        let settings = &self.pack.manifest().preprocessing;
        let prepared = timed(&mut times.preprocess, || {
            prepare(request.volume, request.modality, request.orientation, settings)
        });
        let prepared = match prepared {
            // Nothing is there to look at, and so nothing is found. The reference breaks down here.
            Err(PreprocessError::NoForeground) => {
                let nothing = Mask::empty(request.volume.geometry().shape());
                let masks = vec![nothing; request.prompts.len()];
                return Ok(Segmentation { masks, windows: 0, times, spilled_bytes: 0 });
            }
            prepared => prepared?,
        };
        let targets = request.prompts.len();
        let volume = (&prepared.values[..], prepared.shape);
        let windows = chosen_windows(&prepared, settings.window, request.mode);
        let sums = Sums::new(prepared.shape, targets, room);
        let sums = self.sum(sums, volume, &windows, &queries, control, &mut times)?;
        self.learn_speed(&times, windows.len(), targets);
        let spilled_bytes = sums.room().spilled_bytes();
        let shape = request.volume.geometry().shape();
        let masks = timed(&mut times.restore, || restore(&prepared, &sums, shape, targets))?;
        Ok(Segmentation { masks, windows: windows.len(), times, spilled_bytes })
    }

    /// Queries of all prompts, `[prompt][query width]`.
    fn queries(&self, request: &SegmentRequest<'_>) -> Result<Vec<f32>, SegmentError> {
        if request.prompts.is_empty() {
            return Err(SegmentError::NoPrompt);
        }
        let modality = PromptModality::from(request.modality);
        let mut queries = Vec::new();
        for prompt in request.prompts {
            queries.extend_from_slice(&self.query(prompt, modality)?);
        }
        Ok(queries)
    }

    /// The query of one prompt: cached in the pack, embedded before, or embedded now.
    ///
    /// # Errors
    /// [`SegmentError::UnknownPrompt`] where the pack has no text encoder for it.
    pub fn query(
        &self,
        prompt: &str,
        modality: PromptModality,
    ) -> Result<Arc<[f32]>, SegmentError> {
        let prompt = prompt.to_lowercase();
        if let Some(row) = self.pack.prompts().get(&prompt, modality) {
            return Ok(row.into());
        }
        let key = (prompt, modality);
        let embedded =
            self.embedded.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(row) = embedded {
            return Ok(row);
        }
        let Some(text) = &self.text else {
            return Err(self.unknown(&key.0, modality));
        };
        let row: Arc<[f32]> = text.embed(&key.0, modality)?.into();
        let mut embedded = self.embedded.lock().unwrap_or_else(PoisonError::into_inner);
        if embedded.len() < MOST_KEPT {
            embedded.insert(key, Arc::clone(&row));
        }
        Ok(row)
    }

    fn unknown(&self, prompt: &str, modality: PromptModality) -> SegmentError {
        let mut known: Vec<&str> = self.pack.prompts().prompts(modality).collect();
        if known.is_empty() {
            return SegmentError::UnknownModality { modality: modality.as_str() };
        }
        known.sort_by_cached_key(|known| (distance(prompt, known), *known));
        known.truncate(3);
        SegmentError::UnknownPrompt {
            prompt: prompt.to_owned(),
            modality: modality.as_str(),
            hint: format!("; the nearest that it knows: {}", known.join(", ")),
        }
    }

    /// Remembers how fast windows were computed.
    fn learn_speed(&self, times: &StageTimes, windows: usize, targets: usize) {
        let cost = Cost::of(self.pack.manifest());
        let macs = cost.macs_per_window + targets as u64 * cost.macs_per_target;
        let seconds = (times.encode + times.decode).as_secs_f64();
        if seconds > 0.0 {
            let speed = macs as f64 * windows as f64 / seconds;
            *self.macs_per_second.lock().unwrap_or_else(PoisonError::into_inner) = speed;
        }
    }

    /// Adds every window to `sums`.
    fn sum(
        &self,
        mut sums: Sums,
        (values, shape): (&[f32], [usize; 3]),
        windows: &[Window],
        queries: &[f32],
        control: &Control,
        times: &mut StageTimes,
    ) -> Result<Sums, SegmentError> {
        let size = self.pack.manifest().preprocessing.window;
        let mut input = vec![0.0f32; size.iter().product()];
        for (done, &window) in windows.iter().enumerate() {
            control.check()?;
            cut((values, shape), window, size, &mut input);
            let features =
                timed(&mut times.encode, || self.network.encode(&input, size, &control.cancelled))?;
            timed(&mut times.decode, || -> Result<(), InferError> {
                let embeddings = self.network.mask_embeddings(&features, queries)?;
                let mut planes = sums.planes_of(window, &self.gaussian);
                self.network.masks(&features, &embeddings, &mut planes, |plane, strip| {
                    plane.add(&strip, size[2]);
                })
            })?;
            let spilled = sums.check();
            spilled.map_err(|source| SegmentError::Spill {
                folder: sums.room().folder().to_owned(),
                source,
            })?;
            if let Some(progress) = &control.progress {
                progress(Progress { done: done + 1, windows: windows.len() });
            }
        }
        Ok(sums)
    }
}

impl SegmenterOptions {
    /// Where the sums of one volume live.
    pub(crate) fn room(&self) -> Room {
        let memory_bytes = self.accumulator_bytes.unwrap_or(ACCUMULATOR_BYTES);
        Room::new(memory_bytes, self.scratch.clone().unwrap_or_else(std::env::temp_dir))
    }
}

/// The windows over a prepared volume.
pub(crate) fn chosen_windows(prepared: &Prepared, size: [usize; 3], mode: Mode) -> Vec<Window> {
    let all = windows(prepared.shape, size, mode);
    match mode {
        Mode::Reference => all,
        Mode::Fast => {
            let level = prepared.normalisation.level(BODY);
            with_body(all, (&prepared.values, prepared.shape), level)
        }
    }
}

/// Copies a window out of the volume, zero beyond its end.
fn cut((values, shape): (&[f32], [usize; 3]), window: Window, size: [usize; 3], input: &mut [f32]) {
    let [_, width, depth] = shape;
    let [h0, w0, d0] = window.start;
    let [hs, ws, ds] = window.shape();
    input.par_chunks_exact_mut(size[1] * size[2]).enumerate().for_each(|(h, plane)| {
        plane.fill(0.0);
        if h >= hs {
            return;
        }
        for (w, row) in plane.chunks_exact_mut(size[2]).take(ws).enumerate() {
            let first = ((h0 + h) * width + w0 + w) * depth + d0;
            row[..ds].copy_from_slice(&values[first..first + ds]);
        }
    });
}

pub(crate) fn restore(
    prepared: &Prepared,
    sums: &Sums,
    shape: [usize; 3],
    targets: usize,
) -> Result<Vec<Mask>, SegmentError> {
    let grid = StoredGrid::new(shape, &prepared.oriented, &prepared.from_oriented)
        .ok_or(PreprocessError::Degenerate)?;
    let masks = (0..targets).into_par_iter().map(|target| grid.mask(sums, target));
    Ok(masks.collect())
}

fn timed<T>(total: &mut Duration, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let done = work();
    *total += start.elapsed();
    done
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.chars().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}
