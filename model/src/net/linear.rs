//! Affine maps and layer norms on candle's CPU tensors.

use candle_core::{Device, Result, Tensor};

use super::weights::{LoadNetworkError, TensorSource};

/// `y = x·Wᵀ + b` over the last axis.
#[derive(Debug)]
pub(crate) struct Linear {
    /// Transposed weight, `[input, output]`.
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    pub(crate) fn load(
        weights: &dyn TensorSource,
        name: &str,
        output: usize,
        input: usize,
    ) -> std::result::Result<Self, LoadNetworkError> {
        let weight = weights.values(&format!("{name}.weight"), &[output, input])?;
        let bias = weights.values(&format!("{name}.bias"), &[output])?;
        Ok(Self::new(&weight, &bias, output, input)?)
    }

    /// From a row-major `[output, input]` weight.
    pub(crate) fn new(weight: &[f32], bias: &[f32], output: usize, input: usize) -> Result<Self> {
        let weight = Tensor::from_slice(weight, (output, input), &Device::Cpu)?;
        let bias = Tensor::from_slice(bias, output, &Device::Cpu)?;
        Ok(Self { weight: weight.t()?.contiguous()?, bias })
    }

    /// Maps `[rows, input]` to `[rows, output]`.
    pub(crate) fn forward(&self, rows: &Tensor) -> Result<Tensor> {
        rows.matmul(&self.weight)?.broadcast_add(&self.bias)
    }
}

/// Linear, GELU, linear, GELU: the shape of both projections of the network.
#[derive(Debug)]
pub(crate) struct GeluProjection {
    hidden: Linear,
    output: Linear,
}

impl GeluProjection {
    /// Loads `{name}.0` and `{name}.2`; `sizes` are input, hidden and output width.
    pub(crate) fn load(
        weights: &dyn TensorSource,
        name: &str,
        sizes: [usize; 3],
    ) -> std::result::Result<Self, LoadNetworkError> {
        Ok(Self {
            hidden: Linear::load(weights, &format!("{name}.0"), sizes[1], sizes[0])?,
            output: Linear::load(weights, &format!("{name}.2"), sizes[2], sizes[1])?,
        })
    }

    pub(crate) fn forward(&self, rows: &Tensor) -> Result<Tensor> {
        let hidden = self.hidden.forward(rows)?.gelu_erf()?;
        self.output.forward(&hidden)?.gelu_erf()
    }
}

/// Layer norm over the last axis, epsilon 1e-5.
#[derive(Debug)]
pub(crate) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
}

impl LayerNorm {
    pub(crate) fn load(
        weights: &dyn TensorSource,
        name: &str,
        width: usize,
    ) -> std::result::Result<Self, LoadNetworkError> {
        let weight = weights.values(&format!("{name}.weight"), &[width])?;
        let bias = weights.values(&format!("{name}.bias"), &[width])?;
        Ok(Self {
            weight: Tensor::from_slice(&weight, width, &Device::Cpu)?,
            bias: Tensor::from_slice(&bias, width, &Device::Cpu)?,
        })
    }

    pub(crate) fn forward(&self, rows: &Tensor) -> Result<Tensor> {
        candle_nn::ops::layer_norm(rows, &self.weight, &self.bias, 1e-5)
    }
}
