//! The SAT network: vision backbone, query decoder and mask head, in float32 on the CPU.
//!
//! A window is encoded once, whatever the number of targets; queries are then turned into mask
//! embeddings and those into probabilities, strip by strip, so that no logit volume ever exists.

mod backbone;
mod conv_unit;
mod linear;
mod position;
mod query_decoder;
#[cfg(test)]
mod tests;
mod weights;

use std::{
    ops::Range,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
};

use candle_core::{Device, Tensor};

pub use self::backbone::StageTiming;
pub use self::weights::{GeneratedTensors, LoadNetworkError, TensorSource};
use self::{
    backbone::{Backbone, Observer},
    linear::GeluProjection,
    position::positional_table,
    query_decoder::{Memory, QueryDecoder},
};
use crate::{
    ops::cpu::{Arena, FeatureMap, Level, MaskWeights, masks},
    pack::Architecture,
};

/// How 3×3×3 convolutions with stride 1 are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Convolution {
    /// Winograd's F(4×4×4) where it pays: several times faster, rounding errors a few times larger.
    #[default]
    Winograd,
    /// The sum over all taps, as the definition has it.
    Direct,
}

/// A loaded network. Work runs on the current rayon thread pool; results are the same bits for any
/// number of threads.
#[derive(Debug)]
pub struct Network {
    architecture: Architecture,
    level: Level,
    backbone: Backbone,
    projection: GeluProjection,
    decoder: QueryDecoder,
    mask_projection: GeluProjection,
    arena: Arc<Arena>,
    /// Shape of the latest window, whose buffers the arena keeps.
    shape: Mutex<[usize; 3]>,
}

/// What the network keeps of one window: features per voxel, and keys and values for queries.
///
/// Holds `4·C0·h·w·d` bytes until it is dropped.
#[derive(Debug)]
pub struct WindowFeatures {
    voxels: FeatureMap,
    timings: Vec<StageTiming>,
    tokens: Tensor,
    memory: Memory,
}

/// Probabilities of all targets on some rows of one plane of a window.
#[derive(Debug, Clone)]
pub struct MaskStrip<'a> {
    /// Plane of the window.
    pub h: usize,
    /// Rows of that plane; each spans the window along `d`.
    pub w: Range<usize>,
    /// In `[0, 1]`, `[target][w][d]`, targets in the order of the embeddings.
    pub probabilities: &'a [f32],
}

/// Why a window was not encoded or its queries not decoded.
#[derive(Debug, thiserror::Error)]
pub enum InferError {
    /// A side of the window is zero or no multiple of the token edge, or the number of values is
    /// not their product.
    #[error("window of {values} values cannot have shape {shape:?}")]
    WindowShape {
        /// Sides `[h, w, d]`.
        shape: [usize; 3],
        /// Number of values given.
        values: usize,
    },
    /// Queries or embeddings do not come in whole rows.
    #[error("{values} values are no rows of width {width}")]
    RowWidth {
        /// Number of values given.
        values: usize,
        /// Width of a row.
        width: usize,
    },
    /// The caller's flag was raised.
    #[error("cancelled")]
    Cancelled,
    /// The tensor library refused an operation.
    #[error("cannot decode the queries")]
    Tensor {
        /// The library's own error.
        #[from]
        source: candle_core::Error,
    },
}

impl Network {
    /// Builds the network of `architecture` from `weights`, packing kernels for this machine.
    ///
    /// # Errors
    /// [`LoadNetworkError`] when a tensor is missing, misshapen or not finite, or when sizes
    /// contradict each other.
    pub fn load(
        weights: &dyn TensorSource,
        architecture: &Architecture,
        convolution: Convolution,
    ) -> Result<Self, LoadNetworkError> {
        Self::load_at(Level::detect(), weights, architecture, convolution)
    }

    fn load_at(
        level: Level,
        weights: &dyn TensorSource,
        architecture: &Architecture,
        convolution: Convolution,
    ) -> Result<Self, LoadNetworkError> {
        let mut problems = Vec::new();
        architecture.check(&mut problems);
        if !problems.is_empty() {
            return Err(LoadNetworkError::Architecture { problems });
        }
        let sizes = architecture;
        let projection = [sizes.token_input(), sizes.token_hidden, sizes.query_width];
        let mask = [sizes.query_width, sizes.mask_hidden, sizes.feature_width()];
        Ok(Self {
            architecture: architecture.clone(),
            level,
            backbone: Backbone::load(weights, architecture, level, convolution)?,
            projection: GeluProjection::load(weights, "projection_layer", projection)?,
            decoder: QueryDecoder::load(weights, architecture)?,
            mask_projection: GeluProjection::load(weights, "mask_embed_proj", mask)?,
            arena: Arc::default(),
            shape: Mutex::default(),
        })
    }

    /// Sizes of this network.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// Name of the instructions that the kernels use on this machine.
    pub fn instructions(&self) -> &'static str {
        self.level.name()
    }

    /// Encodes one window: `[h, w, d]` normalised intensities, `d` fastest, every side a multiple of
    /// [`Architecture::token_edge`]. `cancel` is looked at between layers.
    ///
    /// # Errors
    /// [`InferError::WindowShape`] when shape and values disagree, [`InferError::Cancelled`] when
    /// the flag was raised.
    pub fn encode(
        &self,
        window: &[f32],
        shape: [usize; 3],
        cancel: &AtomicBool,
    ) -> Result<WindowFeatures, InferError> {
        self.encode_observed(window, shape, cancel, &mut |_, _| ())
    }

    fn encode_observed(
        &self,
        window: &[f32],
        shape: [usize; 3],
        cancel: &AtomicBool,
        observe: Observer<'_>,
    ) -> Result<WindowFeatures, InferError> {
        let edge = self.architecture.token_edge();
        let whole = shape.iter().all(|&side| side > 0 && side % edge == 0);
        if !whole || shape.iter().product::<usize>() != window.len() {
            return Err(InferError::WindowShape { shape, values: window.len() });
        }
        self.forget_other_shapes(shape);
        let vision = self
            .backbone
            .run(&self.arena, window, shape, cancel, observe)
            .map_err(|backbone::Cancelled| InferError::Cancelled)?;
        let channels = self.architecture.token_input();
        let rows = (vision.tokens.len() / channels, channels);
        let tokens = Tensor::from_vec(vision.tokens, rows, &Device::Cpu)?;
        let tokens = self.projection.forward(&tokens)?;
        let grid = shape.map(|side| side / edge);
        let width = self.architecture.query_width;
        let positions = positional_table(grid, width);
        let positions = Tensor::from_vec(positions, (rows.0, width), &Device::Cpu)?;
        let memory = self.decoder.memory(&tokens, &positions)?;
        Ok(WindowFeatures { voxels: vision.voxels, timings: vision.timings, tokens, memory })
    }

    /// Turns `queries`, `[target][query width]`, into mask embeddings `[target][C0]` for a window.
    ///
    /// Targets do not influence each other: any split of them gives the same embeddings up to
    /// rounding.
    ///
    /// # Errors
    /// [`InferError::RowWidth`] when `queries` are not whole rows.
    pub fn mask_embeddings(
        &self,
        features: &WindowFeatures,
        queries: &[f32],
    ) -> Result<Vec<f32>, InferError> {
        let width = self.architecture.query_width;
        if !queries.len().is_multiple_of(width) {
            return Err(InferError::RowWidth { values: queries.len(), width });
        }
        if queries.is_empty() {
            return Ok(Vec::new());
        }
        let decoded = self.decoder.decode(queries, &features.memory, &mut |_, _| ())?;
        Ok(self.mask_projection.forward(&decoded)?.flatten_all()?.to_vec1()?)
    }

    /// Computes the probabilities of all targets strip by strip and hands each to `visit`.
    ///
    /// `planes[h]` belongs to plane `h` of the window: `visit` gets it with every strip of that
    /// plane, on whichever thread computes the plane, so that accumulators split by plane need no
    /// lock. Planes beyond the end of `planes` (padding) are not computed. Strips of a plane come in
    /// order; planes come in any. At most a few hundred kilobytes of probabilities exist per thread,
    /// whatever the number of targets.
    ///
    /// # Errors
    /// [`InferError::RowWidth`] when `embeddings` are not whole rows of `C0`.
    ///
    /// # Panics
    /// When `planes` is longer than the window is high.
    pub fn masks<P: Send>(
        &self,
        features: &WindowFeatures,
        embeddings: &[f32],
        planes: &mut [P],
        visit: impl Fn(&mut P, MaskStrip<'_>) + Sync,
    ) -> Result<(), InferError> {
        let width = self.architecture.feature_width();
        if !embeddings.len().is_multiple_of(width) {
            return Err(InferError::RowWidth { values: embeddings.len(), width });
        }
        assert!(planes.len() <= features.voxels.shape[0], "more planes than the window has");
        let weights = MaskWeights::pack(embeddings, width);
        masks(
            self.level,
            &self.arena,
            &features.voxels,
            &weights,
            planes,
            &|plane: &mut P, h, w, probabilities: &[f32]| {
                visit(plane, MaskStrip { h, w, probabilities });
            },
        );
        Ok(())
    }

    /// Gives the memory kept for windows of another shape back to the system.
    fn forget_other_shapes(&self, shape: [usize; 3]) {
        let mut latest = self.shape.lock().unwrap_or_else(PoisonError::into_inner);
        if *latest != shape {
            *latest = shape;
            self.arena.release();
        }
    }
}

impl WindowFeatures {
    /// Shape of the window, `[h, w, d]`.
    pub fn shape(&self) -> [usize; 3] {
        self.voxels.shape
    }

    /// Time of every stage of the vision network, in order.
    pub fn timings(&self) -> &[StageTiming] {
        &self.timings
    }

    /// Projected tokens, `[token][query width]`, tokens in row-major order of the coarsest grid.
    ///
    /// # Errors
    /// [`InferError::Tensor`] when the tensor library cannot copy them out.
    pub fn tokens(&self) -> Result<Vec<f32>, InferError> {
        Ok(self.tokens.flatten_all()?.to_vec1()?)
    }
}
