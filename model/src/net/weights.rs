//! Where a network's tensors come from.

use crate::{
    generated::generated_tensor,
    pack::{Weights, WeightsError},
};

/// Float32 tensors by canonical name, as in `backbone.encoder.stages.0.0.convs.0.conv.weight`.
pub trait TensorSource {
    /// Values of tensor `name`, row-major, which must have exactly `shape`.
    ///
    /// # Errors
    /// [`WeightsError`] when the tensor is missing, has another shape, or values that are not
    /// finite.
    fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, WeightsError>;
}

impl TensorSource for Weights {
    fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, WeightsError> {
        Self::values(self, name, shape)
    }
}

/// Tensors that follow from their names, for benches and tests: every name has one.
#[derive(Debug, Clone, Default)]
pub struct GeneratedTensors {
    /// Stands in front of every name before it is turned into values.
    pub prefix: String,
}

impl TensorSource for GeneratedTensors {
    fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, WeightsError> {
        Ok(generated_tensor(&format!("{}{name}", self.prefix), shape))
    }
}

/// Why a network cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum LoadNetworkError {
    /// A tensor that the architecture needs cannot be had.
    #[error("a tensor of the network cannot be read")]
    Weights {
        /// Which tensor, and why.
        #[from]
        source: WeightsError,
    },
    /// Sizes that no network has.
    #[error("architecture cannot be built: {}", problems.join("; "))]
    Architecture {
        /// Everything that is wrong with the sizes.
        problems: Vec<String>,
    },
    /// The tensor library refused a shape or an operation.
    #[error("cannot build the query decoder")]
    Tensor {
        /// The library's own error.
        #[from]
        source: candle_core::Error,
    },
}
