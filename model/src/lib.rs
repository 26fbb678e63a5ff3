#![doc = include_str!("../README.md")]

mod cost;
mod generated;
#[cfg(test)]
mod golden;
mod import;
mod metrics;
mod net;
mod ops;
mod pack;
pub mod phantom;
mod preprocess;
mod probe;
mod restore;
mod segmenter;
mod sliding_window;
mod stages;
mod sums;
mod text;

pub use cost::Cost;
pub use generated::{generated_input, generated_tensor, generated_values};
pub use import::{
    ImportError, ImportOptions, ImportReport, InferSizesError, ReadCheckpointError, TextSource,
    import,
};
pub use metrics::Agreement;
pub use net::{
    Convolution, GeneratedTensors, InferError, LoadNetworkError, MaskStrip, Network, StageTiming,
    TensorSource, WindowFeatures,
};
pub use pack::{
    Architecture, Manifest, ManifestError, OpenPackError, Pack, PackDigest, PackWriter,
    Preprocessing, PromptModality, PromptTable, PromptTableError, Provenance, SourceFile, Text,
    TextEncoderSizes, TextKind, Weights, WeightsError, WritePackError,
};
pub use preprocess::{OrientationCode, ParseOrientationError, PreprocessError};
pub use probe::{MakeProbeError, Verification, VerifyError};
pub use segmenter::{
    Control, Estimate, LoadSegmenterError, Progress, SegmentError, SegmentRequest, Segmentation,
    Segmenter, SegmenterOptions, StageTimes,
};
pub use sliding_window::{Mode, ParseModeError};
pub use stages::Stages;
pub use text::{EmbedError, LoadTextEncoderError, LoadTokenizerError, TextEncoder};
