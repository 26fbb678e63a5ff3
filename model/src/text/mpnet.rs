//! MPNet: a BERT whose attention is biased by how far apart two tokens are.

use candle_core::{Device, Tensor};

use crate::pack::TextEncoderSizes;

use super::LoadTextEncoderError;
use super::layers::{Layer, LayerNames, Norm, Tensors, rows};
use super::tokenizer::PADDING;

const ROOT: &str = "text_tower.biolord";
const NAMES: LayerNames = LayerNames {
    query: "attention.attn.q",
    key: "attention.attn.k",
    value: "attention.attn.v",
    output: "attention.attn.o",
    attention_norm: "attention.LayerNorm",
};
/// Position of the first token: MPNet counts from behind its padding index.
const FIRST_POSITION: u32 = 2;
/// Distance from which buckets grow, and the largest that they tell apart.
const FARTHEST: f32 = 128.0;
/// What keeps a padding token from being attended to.
const MASKED: f32 = -1e9;

#[derive(Debug)]
pub(super) struct MpNet {
    words: Tensor,
    positions: Tensor,
    norm: Norm,
    layers: Vec<Layer>,
    /// Bias of each bucket and head.
    buckets: Vec<Vec<f32>>,
    heads: usize,
}

impl MpNet {
    pub(super) fn load(
        tensors: &Tensors<'_>,
        sizes: &TextEncoderSizes,
    ) -> Result<Self, LoadTextEncoderError> {
        let buckets =
            sizes.relative_buckets.ok_or(LoadTextEncoderError::MissingSize("relative_buckets"))?;
        let embeddings = format!("{ROOT}.embeddings");
        let word_table = format!("{embeddings}.word_embeddings.weight");
        let position_table = format!("{embeddings}.position_embeddings.weight");
        let norm = format!("{embeddings}.LayerNorm");
        let layers = (0..sizes.layers).map(|layer| {
            Layer::load(tensors, &format!("{ROOT}.encoder.layer.{layer}"), &NAMES, sizes)
        });
        let bias = format!("{ROOT}.encoder.relative_attention_bias.weight");
        Ok(Self {
            words: tensors.get(&word_table, &[sizes.vocabulary, sizes.hidden])?,
            positions: tensors.get(&position_table, &[sizes.positions, sizes.hidden])?,
            norm: tensors.norm(&norm, sizes.hidden, sizes.layer_norm_eps)?,
            layers: layers.collect::<Result<_, _>>()?,
            buckets: tensors.get(&bias, &[buckets, sizes.heads])?.to_vec2()?,
            heads: sizes.heads,
        })
    }

    /// Last hidden states, `[token][hidden]`.
    pub(super) fn forward(&self, ids: &[u32]) -> Result<Tensor, candle_core::Error> {
        let positions: Vec<u32> = (FIRST_POSITION..).take(ids.len()).collect();
        let embedded = (rows(&self.words, ids)? + rows(&self.positions, &positions)?)?;
        let mut x = self.norm.forward(&embedded)?;
        let bias = self.bias(ids)?;
        for layer in &self.layers {
            x = layer.forward(&x, Some(&bias))?;
        }
        Ok(x)
    }

    /// Bias of every pair of tokens, `[head][query][key]`.
    fn bias(&self, ids: &[u32]) -> Result<Tensor, candle_core::Error> {
        let tokens = ids.len();
        let mut values = Vec::with_capacity(self.heads * tokens * tokens);
        for head in 0..self.heads {
            for query in 0..tokens {
                for (key, &id) in ids.iter().enumerate() {
                    let bucket = bucket(key as i64 - query as i64, self.buckets.len());
                    let masked = if id == PADDING { MASKED } else { 0.0 };
                    values.push(self.buckets[bucket][head] + masked);
                }
            }
        }
        Tensor::from_vec(values, (self.heads, tokens, tokens), &Device::Cpu)
    }
}

/// Bucket of a key `relative` tokens behind its query: half of them for each direction, the near ones exact, the far
/// ones on a logarithmic scale.
// transformers modeling_mpnet.py, MPNetEncoder.relative_position_bucket.
fn bucket(relative: i64, buckets: usize) -> usize {
    let half = buckets / 2;
    let base = if relative > 0 { half } else { 0 };
    let distance = relative.unsigned_abs() as usize;
    let exact = half / 2;
    if distance < exact {
        return base + distance;
    }
    let ratio = (distance as f32 / exact as f32).ln() / (FARTHEST / exact as f32).ln();
    let far = exact + (ratio * (half - exact) as f32) as usize;
    base + far.min(half - 1)
}
