//! From a volume and text prompts to masks on the volume's own grid.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dicom_types::{Mask, Modality, Volume};
use rayon::prelude::*;

use crate::net::{Convolution, InferError, LoadNetworkError, Network};
use crate::pack::{Pack, PromptModality};
use crate::preprocess::{OrientationCode, Prepared, PreprocessError, prepare};
use crate::restore::StoredGrid;
use crate::sliding_window::{Gaussian, Sums, Window, windows};
use crate::text::{EmbedError, LoadTextEncoderError, TextEncoder};

#[cfg(test)]
mod tests;

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
}

/// How a segmenter computes.
#[derive(Debug, Clone, Copy, Default)]
pub struct SegmenterOptions {
    /// Threads; one for each core where nothing is said.
    pub threads: Option<NonZeroUsize>,
    /// How the network's convolutions are computed.
    pub convolution: Convolution,
}

/// Windows done of all windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Windows that are finished.
    pub done: usize,
    /// Windows in all.
    pub windows: usize,
}

/// A hand on a segmentation that runs: stops it, and hears how far it is.
#[derive(Clone, Default)]
pub struct Control {
    cancelled: Arc<AtomicBool>,
    progress: Option<Arc<dyn Fn(Progress) + Send + Sync>>,
}

impl Control {
    /// A hand that calls `progress` after every window, on the thread that computes.
    pub fn with_progress(progress: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        Self { cancelled: Arc::default(), progress: Some(Arc::new(progress)) }
    }

    /// Stops the segmentation between two layers of the network.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    fn check(&self) -> Result<(), SegmentError> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(SegmentError::Cancelled);
        }
        Ok(())
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("cancelled", &self.cancelled).finish_non_exhaustive()
    }
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
}

/// Why a segmenter cannot be made of a pack.
#[derive(Debug, thiserror::Error)]
pub enum LoadSegmenterError {
    /// The network cannot be built.
    #[error("cannot build the network")]
    Network(#[from] LoadNetworkError),
    /// The text encoder cannot be built.
    #[error("cannot build the text encoder")]
    Text(#[from] LoadTextEncoderError),
    /// The system makes no threads.
    #[error("cannot start the threads")]
    Threads(#[from] rayon::ThreadPoolBuildError),
}

/// Why a volume was not segmented.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// No prompt was given.
    #[error("no target to segment")]
    NoPrompt,
    /// The pack neither knows the prompt nor has a text encoder to learn it with.
    #[error("the pack knows no prompt {prompt:?} for {modality} and has no text encoder{hint}")]
    UnknownPrompt {
        /// What was asked for.
        prompt: String,
        /// The modality word.
        modality: &'static str,
        /// The nearest prompts that it knows, as a clause.
        hint: String,
    },
    /// The pack was not trained for the modality.
    #[error("the pack was not trained for {modality}")]
    UnknownModality {
        /// The modality word.
        modality: &'static str,
    },
    /// A prompt could not be embedded.
    #[error("cannot embed a prompt")]
    Embed(#[from] EmbedError),
    /// The volume cannot be prepared.
    #[error("cannot prepare the volume")]
    Preprocess(#[from] PreprocessError),
    /// The network failed.
    #[error("the network failed")]
    Infer(#[source] InferError),
    /// It was stopped.
    #[error("cancelled")]
    Cancelled,
}

impl From<InferError> for SegmentError {
    fn from(error: InferError) -> Self {
        match error {
            InferError::Cancelled => Self::Cancelled,
            error => Self::Infer(error),
        }
    }
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
            threads,
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

    fn segment_here(
        &self,
        request: &SegmentRequest<'_>,
        control: &Control,
    ) -> Result<Segmentation, SegmentError> {
        let mut times = StageTimes::default();
        let queries = timed(&mut times.embed, || self.queries(request))?;
        control.check()?;
        let settings = &self.pack.manifest().preprocessing;
        let prepared = timed(&mut times.preprocess, || {
            prepare(request.volume, request.modality, request.orientation, settings)
        });
        let prepared = match prepared {
            // Nothing is there to look at, and so nothing is found. The reference breaks down here.
            Err(PreprocessError::NoForeground) => {
                let nothing = Mask::empty(request.volume.geometry().shape());
                let masks = vec![nothing; request.prompts.len()];
                return Ok(Segmentation { masks, windows: 0, times });
            }
            prepared => prepared?,
        };
        let sums = self.sum(
            (&prepared.values, prepared.shape),
            &queries,
            request.prompts.len(),
            control,
            &mut times,
        )?;
        let windows = windows(prepared.shape, settings.window).len();
        let shape = request.volume.geometry().shape();
        let masks =
            timed(&mut times.restore, || restore(&prepared, &sums, shape, request.prompts.len()));
        Ok(Segmentation { masks: masks?, windows, times })
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

    fn sum(
        &self,
        (values, shape): (&[f32], [usize; 3]),
        queries: &[f32],
        targets: usize,
        control: &Control,
        times: &mut StageTimes,
    ) -> Result<Sums, SegmentError> {
        let size = self.pack.manifest().preprocessing.window;
        let all = windows(shape, size);
        let mut sums = Sums::new(shape, targets);
        let mut input = vec![0.0f32; size.iter().product()];
        for (done, &window) in all.iter().enumerate() {
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
            if let Some(progress) = &control.progress {
                progress(Progress { done: done + 1, windows: all.len() });
            }
        }
        Ok(sums)
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

fn restore(
    prepared: &Prepared,
    sums: &Sums,
    shape: [usize; 3],
    targets: usize,
) -> Result<Vec<Mask>, SegmentError> {
    let grid = StoredGrid::new(shape, &prepared.oriented, &prepared.from_oriented)
        .ok_or(PreprocessError::Degenerate)?;
    let masks = (0..targets).into_par_iter().map(|target| {
        let probabilities = sums.probabilities(target);
        let mask = probabilities.map(|probabilities| grid.mask(&probabilities)).transpose();
        let mask = mask.expect("the box of a mask lies inside its grid");
        mask.unwrap_or_else(|| Mask::empty(shape))
    });
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
