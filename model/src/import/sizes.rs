//! Sizes of a network read off the shapes of its tensors.

use std::collections::BTreeMap;

use crate::pack::{Architecture, TextEncoderSizes, TextKind};

use super::names::Kept;

/// Heads of the query decoder in every published network.
const QUERY_HEADS: usize = 8;
/// Width of a head in BERT-base.
const BERT_HEAD: usize = 64;
/// Heads of a BERT that is too narrow to tell.
const SMALL_BERT_HEADS: usize = 4;

/// Why sizes cannot be read off.
#[derive(Debug, thiserror::Error)]
pub enum InferSizesError {
    /// A tensor that every such network has.
    #[error("{name} is missing or has another rank than {rank}")]
    Missing {
        /// Its name.
        name: String,
        /// Axes that it should have.
        rank: usize,
    },
    /// Names that no known text encoder has.
    #[error("the tensors are of no known text encoder")]
    UnknownEncoder,
    /// A BERT of which nobody said what it is.
    #[error(
        "the text encoder is a BERT: whether medcpt or basebert must be stated, their tensors are the same"
    )]
    UnstatedEncoder,
    /// Another kind than was stated.
    #[error("the tensors are not of a {} text encoder", .stated.as_str())]
    OtherEncoder {
        /// What was stated.
        stated: TextKind,
    },
}

struct Shapes<'a>(&'a BTreeMap<String, Vec<usize>>);

impl Shapes<'_> {
    fn get<const RANK: usize>(&self, name: &str) -> Result<[usize; RANK], InferSizesError> {
        let found = self.0.get(name).and_then(|shape| shape.as_slice().try_into().ok());
        found.ok_or_else(|| InferSizesError::Missing { name: name.to_owned(), rank: RANK })
    }

    /// How many of `name(0)`, `name(1)`, … there are without a gap.
    fn count(&self, name: impl Fn(usize) -> String) -> usize {
        let most = self.0.len();
        (0..most).take_while(|&index| self.0.contains_key(&name(index))).count()
    }
}

/// Sizes of a plain SAT network.
pub(super) fn architecture(kept: &Kept) -> Result<Architecture, InferSizesError> {
    let shapes = Shapes(&kept.shapes);
    let encoder = |stage: usize, unit: usize| {
        format!("backbone.encoder.stages.{stage}.0.convs.{unit}.conv.weight")
    };
    let stages = shapes.count(|stage| encoder(stage, 0)).max(1);
    let [_, input_channels, ..] = shapes.get::<5>(&encoder(0, 0))?;
    let mut channels = Vec::with_capacity(stages);
    for stage in 0..stages {
        channels.push(shapes.get::<5>(&encoder(stage, 0))?[0]);
    }
    let [token_hidden, _] = shapes.get("projection_layer.0.weight")?;
    let [query_width, _] = shapes.get("projection_layer.2.weight")?;
    let [mask_hidden, _] = shapes.get("mask_embed_proj.0.weight")?;
    let layer = |layer: usize| format!("transformer_decoder.layers.{layer}.linear1.weight");
    let [query_feed_forward, _] = shapes.get(&layer(0))?;
    Ok(Architecture {
        input_channels,
        channels,
        encoder_units: shapes.count(|unit| encoder(0, unit)),
        decoder_units: shapes
            .count(|unit| format!("backbone.decoder.stages.0.convs.{unit}.conv.weight")),
        token_hidden,
        query_width,
        query_heads: QUERY_HEADS,
        query_layers: shapes.count(layer),
        query_feed_forward,
        mask_hidden,
    })
}

/// Kind and sizes of a text encoder, and the rows of its modality table. The two kinds of BERT differ in their weights
/// alone, so that which one it is has to be `stated`.
pub(super) fn text(
    kept: &Kept,
    stated: Option<TextKind>,
) -> Result<(TextKind, TextEncoderSizes, usize), InferSizesError> {
    let shapes = Shapes(&kept.shapes);
    let is_mpnet = kept.shapes.keys().any(|name| name.starts_with("text_tower.biolord."));
    let is_bert = kept.shapes.keys().any(|name| name.starts_with("model.embeddings."));
    let (kind, root) = match (is_mpnet, is_bert) {
        (true, _) => (TextKind::Ours, "text_tower.biolord"),
        (false, true) => (stated.ok_or(InferSizesError::UnstatedEncoder)?, "model"),
        (false, false) => return Err(InferSizesError::UnknownEncoder),
    };
    if let Some(stated) = stated.filter(|stated| (*stated == TextKind::Ours) != is_mpnet) {
        return Err(InferSizesError::OtherEncoder { stated });
    }
    let embeddings = format!("{root}.embeddings");
    let [vocabulary, hidden] = shapes.get(&format!("{embeddings}.word_embeddings.weight"))?;
    let [positions, _] = shapes.get(&format!("{embeddings}.position_embeddings.weight"))?;
    let wide = |layer: usize| format!("{root}.encoder.layer.{layer}.intermediate.dense.weight");
    let [feed_forward, _] = shapes.get(&wide(0))?;
    let [modalities, _] = shapes.get("modality_embed.weight")?;
    let sizes = TextEncoderSizes {
        layers: shapes.count(wide),
        hidden,
        heads: if hidden % BERT_HEAD == 0 { hidden / BERT_HEAD } else { SMALL_BERT_HEADS },
        feed_forward,
        vocabulary,
        positions,
        layer_norm_eps: if is_mpnet { 1e-5 } else { 1e-12 },
        max_tokens: if is_mpnet { 256.min(positions.saturating_sub(2)) } else { 64.min(positions) },
        relative_buckets: None,
        projection_hidden: None,
        token_types: None,
    };
    if is_mpnet {
        let bias = format!("{root}.encoder.relative_attention_bias.weight");
        let [buckets, heads] = shapes.get(&bias)?;
        let [middle, _] = shapes.get("projection_layer.0.weight")?;
        let _: [usize; 2] = shapes.get("projection_layer.2.weight")?;
        let sizes = TextEncoderSizes {
            heads,
            relative_buckets: Some(buckets),
            projection_hidden: Some(middle),
            ..sizes
        };
        return Ok((kind, sizes, modalities));
    }
    let [types, _] = shapes.get(&format!("{embeddings}.token_type_embeddings.weight"))?;
    Ok((kind, TextEncoderSizes { token_types: Some(types), ..sizes }, modalities))
}
