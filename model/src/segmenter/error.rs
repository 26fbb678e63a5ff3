//! What can go wrong.

use std::io;
use std::path::PathBuf;

use super::Estimate;
use crate::net::{InferError, LoadNetworkError};
use crate::preprocess::PreprocessError;
use crate::text::{EmbedError, LoadTextEncoderError};

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
    /// What does not fit in the memory for sums does not fit on the disk either.
    #[error("cannot keep sums of targets in {folder}")]
    Spill {
        /// The folder for what does not fit in memory.
        folder: PathBuf,
        /// What the file system says.
        source: io::Error,
    },
    /// It would take more memory than a volume may.
    #[error(
        "the volume would take {estimate}, more than the {:.1} GB that it may",
        *.limit_bytes as f64 / 1e9
    )]
    TooLarge {
        /// What it would take.
        estimate: Estimate,
        /// Memory that a volume may take.
        limit_bytes: u64,
    },
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
