//! What both kinds of encoder are made of.

use candle_core::{D, Device, Tensor};
use candle_nn::ops::softmax_last_dim;

use crate::pack::{TextEncoderSizes, Weights};

use super::LoadTextEncoderError;

/// Weights as tensors.
pub(super) struct Tensors<'a> {
    weights: &'a Weights,
}

impl<'a> Tensors<'a> {
    pub(super) fn new(weights: &'a Weights) -> Self {
        Self { weights }
    }

    /// The tensor `name` in float32.
    pub(super) fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor, LoadTextEncoderError> {
        let values = self.weights.values(name, shape)?;
        Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
    }

    /// The linear layer `name`.
    pub(super) fn linear(
        &self,
        name: &str,
        inputs: usize,
        outputs: usize,
    ) -> Result<Linear, LoadTextEncoderError> {
        let weight = self.get(&format!("{name}.weight"), &[outputs, inputs])?;
        let bias = self.get(&format!("{name}.bias"), &[outputs])?;
        Ok(Linear { weight: weight.t()?.contiguous()?, bias })
    }

    /// The layer norm `name`.
    pub(super) fn norm(
        &self,
        name: &str,
        width: usize,
        eps: f64,
    ) -> Result<Norm, LoadTextEncoderError> {
        Ok(Norm {
            weight: self.get(&format!("{name}.weight"), &[width])?,
            bias: self.get(&format!("{name}.bias"), &[width])?,
            eps,
        })
    }
}

/// `x W + b`, rows of `x` apart.
#[derive(Debug)]
pub(super) struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor, candle_core::Error> {
        x.matmul(&self.weight)?.broadcast_add(&self.bias)
    }
}

/// Layer norm over the last axis.
#[derive(Debug)]
pub(super) struct Norm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl Norm {
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor, candle_core::Error> {
        let mean = x.mean_keepdim(D::Minus1)?;
        let centred = x.broadcast_sub(&mean)?;
        let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
        let scaled = centred.broadcast_div(&(variance + self.eps)?.sqrt()?)?;
        scaled.broadcast_mul(&self.weight)?.broadcast_add(&self.bias)
    }
}

/// Names of a layer's parts, which differ between the kinds.
pub(super) struct LayerNames {
    pub(super) query: &'static str,
    pub(super) key: &'static str,
    pub(super) value: &'static str,
    pub(super) output: &'static str,
    pub(super) attention_norm: &'static str,
}

/// A transformer layer that normalises after each part.
#[derive(Debug)]
pub(super) struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    attention_norm: Norm,
    intermediate: Linear,
    back: Linear,
    norm: Norm,
    heads: usize,
}

impl Layer {
    pub(super) fn load(
        tensors: &Tensors<'_>,
        prefix: &str,
        names: &LayerNames,
        sizes: &TextEncoderSizes,
    ) -> Result<Self, LoadTextEncoderError> {
        let hidden = sizes.hidden;
        let square = |name: &str| tensors.linear(&format!("{prefix}.{name}"), hidden, hidden);
        let norm =
            |name: &str| tensors.norm(&format!("{prefix}.{name}"), hidden, sizes.layer_norm_eps);
        let (wide, narrow) =
            (format!("{prefix}.intermediate.dense"), format!("{prefix}.output.dense"));
        Ok(Self {
            query: square(names.query)?,
            key: square(names.key)?,
            value: square(names.value)?,
            output: square(names.output)?,
            attention_norm: norm(names.attention_norm)?,
            intermediate: tensors.linear(&wide, hidden, sizes.feed_forward)?,
            back: tensors.linear(&narrow, sizes.feed_forward, hidden)?,
            norm: norm("output.LayerNorm")?,
            heads: sizes.heads,
        })
    }

    /// `x` is `[token][hidden]`; `bias` `[head][query][key]` is added to the scores.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        bias: Option<&Tensor>,
    ) -> Result<Tensor, candle_core::Error> {
        let (tokens, hidden) = x.dims2()?;
        let split = |t: Tensor| {
            t.reshape((tokens, self.heads, hidden / self.heads))?.transpose(0, 1)?.contiguous()
        };
        let query = split(self.query.forward(x)?)?;
        let key = split(self.key.forward(x)?)?;
        let value = split(self.value.forward(x)?)?;
        let scale = 1.0 / ((hidden / self.heads) as f64).sqrt();
        let mut scores = (query.matmul(&key.transpose(1, 2)?.contiguous()?)? * scale)?;
        if let Some(bias) = bias {
            scores = (scores + bias)?;
        }
        let attended = softmax_last_dim(&scores)?.matmul(&value)?;
        let attended = attended.transpose(0, 1)?.contiguous()?.reshape((tokens, hidden))?;
        let x = self.attention_norm.forward(&(self.output.forward(&attended)? + x)?)?;
        let wide = self.intermediate.forward(&x)?.gelu_erf()?;
        self.norm.forward(&(self.back.forward(&wide)? + x)?)
    }
}

/// Rows `ids` of a table.
pub(super) fn rows(table: &Tensor, ids: &[u32]) -> Result<Tensor, candle_core::Error> {
    table.index_select(&Tensor::new(ids, &Device::Cpu)?, 0)
}
