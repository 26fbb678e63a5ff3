//! BERT, as the encoders `medcpt` and `basebert` are.

use candle_core::Tensor;

use crate::pack::TextEncoderSizes;

use super::LoadTextEncoderError;
use super::layers::{Layer, LayerNames, Norm, Tensors, rows};

const ROOT: &str = "model";
const NAMES: LayerNames = LayerNames {
    query: "attention.self.query",
    key: "attention.self.key",
    value: "attention.self.value",
    output: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
};

#[derive(Debug)]
pub(super) struct Bert {
    words: Tensor,
    positions: Tensor,
    /// Row of the first token type, the only one that prompts have.
    token_type: Tensor,
    norm: Norm,
    layers: Vec<Layer>,
}

impl Bert {
    pub(super) fn load(
        tensors: &Tensors<'_>,
        sizes: &TextEncoderSizes,
    ) -> Result<Self, LoadTextEncoderError> {
        let types = sizes.token_types.ok_or(LoadTextEncoderError::MissingSize("token_types"))?;
        let table = |name: &str, rows: usize| {
            tensors.get(&format!("{ROOT}.embeddings.{name}.weight"), &[rows, sizes.hidden])
        };
        let norm = format!("{ROOT}.embeddings.LayerNorm");
        let layers = (0..sizes.layers).map(|layer| {
            Layer::load(tensors, &format!("{ROOT}.encoder.layer.{layer}"), &NAMES, sizes)
        });
        Ok(Self {
            words: table("word_embeddings", sizes.vocabulary)?,
            positions: table("position_embeddings", sizes.positions)?,
            token_type: table("token_type_embeddings", types)?.narrow(0, 0, 1)?,
            norm: tensors.norm(&norm, sizes.hidden, sizes.layer_norm_eps)?,
            layers: layers.collect::<Result<_, _>>()?,
        })
    }

    /// Last hidden states, `[token][hidden]`.
    pub(super) fn forward(&self, ids: &[u32]) -> Result<Tensor, candle_core::Error> {
        let positions: Vec<u32> = (0..ids.len() as u32).collect();
        let embedded = (rows(&self.words, ids)? + rows(&self.positions, &positions)?)?;
        let mut x = self.norm.forward(&embedded.broadcast_add(&self.token_type)?)?;
        for layer in &self.layers {
            x = layer.forward(&x, None)?;
        }
        Ok(x)
    }
}
