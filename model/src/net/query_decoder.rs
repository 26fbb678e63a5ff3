//! The query decoder: pre-norm layers of cross-attention from queries to image tokens.
//!
//! Queries never look at each other, so they may be decoded in groups of any size; keys and values
//! depend on the window alone and are made once per window.

use candle_core::{D, Device, Result, Tensor};

use super::{
    linear::{LayerNorm, Linear},
    weights::{LoadNetworkError, TensorSource},
};
use crate::pack::Architecture;

/// Most queries decoded at once, which bounds the attention scores held in memory.
const QUERY_GROUP: usize = 256;

/// The transformer with its final norm.
#[derive(Debug)]
pub(crate) struct QueryDecoder {
    layers: Vec<Layer>,
    norm: LayerNorm,
    heads: usize,
    width: usize,
}

#[derive(Debug)]
struct Layer {
    attention_norm: LayerNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    feed_forward_norm: LayerNorm,
    expand: Linear,
    contract: Linear,
}

/// Keys and values of one window for every layer.
#[derive(Debug)]
pub(crate) struct Memory {
    /// Per layer: keys `[heads, head width, tokens]`, already scaled, and values
    /// `[heads, tokens, head width]`.
    layers: Vec<(Tensor, Tensor)>,
}

impl QueryDecoder {
    pub(crate) fn load(
        weights: &dyn TensorSource,
        architecture: &Architecture,
    ) -> std::result::Result<Self, LoadNetworkError> {
        let (width, hidden) = (architecture.query_width, architecture.query_feed_forward);
        let mut layers = Vec::with_capacity(architecture.query_layers);
        for index in 0..architecture.query_layers {
            let name = format!("transformer_decoder.layers.{index}");
            let attention = format!("{name}.multihead_attn");
            let weight = format!("{attention}.in_proj_weight");
            let weight = weights.values(&weight, &[3 * width, width])?;
            let bias = weights.values(&format!("{attention}.in_proj_bias"), &[3 * width])?;
            let block = |part: usize| {
                let rows = &weight[part * width * width..(part + 1) * width * width];
                Linear::new(rows, &bias[part * width..(part + 1) * width], width, width)
            };
            layers.push(Layer {
                attention_norm: LayerNorm::load(weights, &format!("{name}.norm2"), width)?,
                query: block(0)?,
                key: block(1)?,
                value: block(2)?,
                output: Linear::load(weights, &format!("{attention}.out_proj"), width, width)?,
                feed_forward_norm: LayerNorm::load(weights, &format!("{name}.norm3"), width)?,
                expand: Linear::load(weights, &format!("{name}.linear1"), hidden, width)?,
                contract: Linear::load(weights, &format!("{name}.linear2"), width, hidden)?,
            });
        }
        let norm = LayerNorm::load(weights, "transformer_decoder.norm", width)?;
        Ok(Self { layers, norm, heads: architecture.query_heads, width })
    }

    /// Keys and values of tokens `[tokens, width]` whose positions are coded in `positions`.
    pub(crate) fn memory(&self, tokens: &Tensor, positions: &Tensor) -> Result<Memory> {
        let located = (tokens + positions)?;
        let scale = 1.0 / ((self.width / self.heads) as f64).sqrt();
        let layers = self.layers.iter().map(|layer| {
            let keys = (self.split_heads(&layer.key.forward(&located)?)? * scale)?;
            let values = self.split_heads(&layer.value.forward(tokens)?)?;
            Ok((keys.transpose(1, 2)?.contiguous()?, values))
        });
        Ok(Memory { layers: layers.collect::<Result<_>>()? })
    }

    /// Decodes queries `[count, width]`, row-major; `observe` sees the state after each layer.
    ///
    /// Returns `[count, width]` after the final norm.
    pub(crate) fn decode(
        &self,
        queries: &[f32],
        memory: &Memory,
        observe: &mut dyn FnMut(usize, &Tensor),
    ) -> Result<Tensor> {
        let mut groups = Vec::new();
        for group in queries.chunks(QUERY_GROUP * self.width) {
            let shape = (group.len() / self.width, self.width);
            let mut state = Tensor::from_slice(group, shape, &Device::Cpu)?;
            for (index, (layer, (keys, values))) in
                self.layers.iter().zip(&memory.layers).enumerate()
            {
                let normed = layer.attention_norm.forward(&state)?;
                let query = self.split_heads(&layer.query.forward(&normed)?)?;
                let attention = candle_nn::ops::softmax_last_dim(&query.matmul(keys)?)?;
                let mixed = attention.matmul(values)?.transpose(0, 1)?.contiguous()?;
                state = (state + layer.output.forward(&mixed.flatten_from(1)?)?)?;
                let normed = layer.feed_forward_norm.forward(&state)?;
                let hidden = layer.expand.forward(&normed)?.relu()?;
                state = (state + layer.contract.forward(&hidden)?)?;
                observe(index, &state);
            }
            groups.push(self.norm.forward(&state)?);
        }
        Tensor::cat(&groups, 0)
    }

    /// `[rows, width]` to `[heads, rows, head width]`.
    fn split_heads(&self, rows: &Tensor) -> Result<Tensor> {
        let count = rows.dim(D::Minus2)?;
        rows.reshape((count, self.heads, self.width / self.heads))?.transpose(0, 1)?.contiguous()
    }
}
