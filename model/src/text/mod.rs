//! Text encoders: a prompt and a modality become the query that the network is asked with.
//!
//! Prompts are encoded one by one, without padding: results do not depend on what else is asked, and a query is cached
//! for as long as its pack is loaded.

mod bert;
mod layers;
mod mpnet;
#[cfg(test)]
mod tests;
mod tokenizer;

use std::path::Path;

use candle_core::{DType, Device, Tensor};

use crate::pack::{
    Bytes, Manifest, Pack, PromptModality, TextEncoderSizes, TextKind, Weights, WeightsError,
};
use bert::Bert;
use layers::{Linear, Tensors};
use mpnet::MpNet;
pub use tokenizer::LoadTokenizerError;
pub(crate) use tokenizer::PromptTokenizer;

/// Why a pack's text encoder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadTextEncoderError {
    /// The weights cannot be read.
    #[error("cannot read the weights")]
    Read(#[source] std::io::Error),
    /// A tensor is missing or misshapen.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The tokenizer file is not one.
    #[error("cannot read the tokenizer")]
    Tokenizer(#[from] LoadTokenizerError),
    /// The manifest leaves out a size that this kind of encoder has.
    #[error("text.encoder.{0} is missing")]
    MissingSize(&'static str),
    /// The tensor library refused the weights.
    #[error("cannot build the text encoder")]
    Tensor(#[from] candle_core::Error),
}

/// Why a prompt has no query.
#[derive(Debug, thiserror::Error)]
pub enum EmbedError {
    /// Nothing but white space.
    #[error("the prompt is empty")]
    Empty,
    /// The pack has no row for the modality.
    #[error("the text encoder does not know the modality {0}")]
    Modality(&'static str),
    /// The tokenizer refused the text.
    #[error("cannot cut the prompt into tokens")]
    Tokenize(#[source] tokenizers::Error),
    /// The tensor library refused an operation.
    #[error("cannot encode the prompt")]
    Tensor(#[from] candle_core::Error),
}

/// A loaded text encoder.
#[derive(Debug)]
pub struct TextEncoder {
    tokenizer: PromptTokenizer,
    tower: Tower,
    /// One row for each modality, `[modality][query width]`.
    modalities: Tensor,
    words: Vec<String>,
}

#[derive(Debug)]
enum Tower {
    /// Mean of the last hidden states, projected.
    Ours { tower: MpNet, first: Linear, second: Linear },
    /// Last hidden state of the first token.
    Bert(Bert),
}

impl TextEncoder {
    /// The text encoder of `pack`, where it has one.
    ///
    /// # Errors
    /// [`LoadTextEncoderError`].
    pub fn load(pack: &Pack) -> Result<Option<Self>, LoadTextEncoderError> {
        let text = &pack.manifest().text;
        let (Some(sizes), Some(files)) = (&text.encoder, pack.text_files()) else {
            return Ok(None);
        };
        let width = pack.manifest().architecture.query_width;
        let tokenizer = PromptTokenizer::new(
            files.tokenizer_file,
            &files.tokenizer,
            sizes.vocabulary,
            sizes.max_tokens,
        )?;
        let words = text.modalities.clone();
        Self::assemble(text.kind, sizes, &files.weights, tokenizer, words, width).map(Some)
    }

    /// The text encoder of a pack that is being written: weights at `weights`, and the bytes of its tokenizer.
    pub(crate) fn from_files(
        manifest: &Manifest,
        weights: &Path,
        tokenizer_file: &str,
        tokenizer: &[u8],
    ) -> Result<Self, LoadTextEncoderError> {
        let text = &manifest.text;
        let sizes = text.encoder.as_ref().ok_or(LoadTextEncoderError::MissingSize("layers"))?;
        let weights = Bytes::map(weights).map_err(LoadTextEncoderError::Read)?;
        let tokenizer =
            PromptTokenizer::new(tokenizer_file, tokenizer, sizes.vocabulary, sizes.max_tokens)?;
        let width = manifest.architecture.query_width;
        let words = text.modalities.clone();
        Self::assemble(text.kind, sizes, &Weights::new(weights)?, tokenizer, words, width)
    }

    fn assemble(
        kind: TextKind,
        sizes: &TextEncoderSizes,
        weights: &Weights,
        tokenizer: PromptTokenizer,
        words: Vec<String>,
        width: usize,
    ) -> Result<Self, LoadTextEncoderError> {
        let tensors = Tensors::new(weights);
        let tower = match kind {
            TextKind::Ours => {
                let missing = LoadTextEncoderError::MissingSize("projection_hidden");
                let middle = sizes.projection_hidden.ok_or(missing)?;
                Tower::Ours {
                    tower: MpNet::load(&tensors, sizes)?,
                    first: tensors.linear("projection_layer.0", sizes.hidden, middle)?,
                    second: tensors.linear("projection_layer.2", middle, width)?,
                }
            }
            TextKind::MedCpt | TextKind::BaseBert => Tower::Bert(Bert::load(&tensors, sizes)?),
        };
        let modalities = tensors.get("modality_embed.weight", &[words.len(), width])?;
        Ok(Self { tokenizer, tower, modalities, words })
    }

    /// The query of `prompt`, `[query width]`.
    ///
    /// # Errors
    /// [`EmbedError`].
    // SAT model/text_encoder.py, Text_Encoder.forward.
    pub fn embed(&self, prompt: &str, modality: PromptModality) -> Result<Vec<f32>, EmbedError> {
        let known = self.words.iter().position(|word| word == modality.as_str());
        let row = known.ok_or(EmbedError::Modality(modality.as_str()))?;
        let ids = self.tokenizer.ids(prompt)?;
        let text = self.encode(&ids)?;
        let modality = self.modalities.narrow(0, row, 1)?;
        Ok((text + modality)?.flatten_all()?.to_vec1()?)
    }

    fn encode(&self, ids: &[u32]) -> Result<Tensor, candle_core::Error> {
        match &self.tower {
            Tower::Ours { tower, first, second } => {
                let pooled = Self::pool(tower, ids)?;
                second.forward(&first.forward(&pooled)?.gelu_erf()?)
            }
            Tower::Bert(tower) => tower.forward(ids)?.narrow(0, 0, 1),
        }
    }

    /// Mean of the hidden states of all tokens that are not padding, `[1][hidden]`.
    fn pool(tower: &MpNet, ids: &[u32]) -> Result<Tensor, candle_core::Error> {
        let hidden = tower.forward(ids)?;
        let kept: Vec<f32> = ids.iter().map(|&id| f32::from(id != tokenizer::PADDING)).collect();
        let count: f32 = kept.iter().sum();
        let kept = Tensor::from_vec(kept, (1, ids.len()), &Device::Cpu)?.to_dtype(DType::F32)?;
        kept.matmul(&hidden)? / f64::from(count.max(1.0))
    }
}
