//! `pack.toml`: what a pack says about itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::architecture::{Architecture, TensorList};
use super::digest::{PackDigest, is_sha256_hex};

/// The only format that this version reads and writes.
pub(crate) const FORMAT: u32 = 1;

pub(crate) const WEIGHTS_FILE: &str = "weights.safetensors";
pub(crate) const PROMPTS_FILE: &str = "prompts.safetensors";
pub(crate) const TEXT_FILE: &str = "text.safetensors";
pub(crate) const TOKENIZER_FILES: [&str; 2] = ["tokenizer.json", "vocab.txt"];
pub(crate) const PROBE_FILE: &str = "probe.safetensors";

/// Largest extent of a window or of a table of the text encoder.
const MAX_EXTENT: usize = 1 << 20;

/// Content of `pack.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of the pack format.
    pub format: u32,
    /// Name of the pack: letters, digits, `-`, `_`, `.`.
    pub name: String,
    /// What an operator must know about the weights' licence.
    pub licence: String,
    /// Sizes of the segmentation network.
    pub architecture: Architecture,
    /// How volumes are prepared.
    pub preprocessing: Preprocessing,
    /// Which text encoder made the prompts' embeddings.
    pub text: Text,
    /// Where the weights come from.
    pub provenance: Provenance,
    /// SHA-256 of every file of the pack but the manifest, lower-case hexadecimal.
    pub files: BTreeMap<String, String>,
}

/// How a volume is prepared for the network. Axes `[H, W, D]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocessing {
    /// Voxel spacing in millimetres after resampling.
    pub spacing_mm: [f64; 3],
    /// Window of the network in voxels.
    pub window: [usize; 3],
    /// Range in HU to which CT is clipped.
    pub ct_clip_hu: [f64; 2],
    /// Percentiles to which other modalities are clipped.
    pub other_clip_percentiles: [f64; 2],
}

/// Family of a text encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TextKind {
    /// MPNet with a projection; the published Nano and Pro.
    Ours,
    /// BERT started from the `MedCPT` query encoder.
    MedCpt,
    /// BERT started from bert-base-uncased.
    BaseBert,
}

impl TextKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Ours, Self::MedCpt, Self::BaseBert];

    /// The word of the manifest.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::MedCpt => "medcpt",
            Self::BaseBert => "basebert",
        }
    }
}

/// The text side of a pack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Text {
    /// Family of the encoder.
    pub kind: TextKind,
    /// Words of the rows of the modality table, in its order.
    pub modalities: Vec<String>,
    /// Sizes of the encoder, when the pack has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoder: Option<TextEncoderSizes>,
}

/// Sizes of a text encoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextEncoderSizes {
    /// Transformer layers.
    pub layers: usize,
    /// Width of the hidden states.
    pub hidden: usize,
    /// Attention heads.
    pub heads: usize,
    /// Hidden width of the feed-forward network.
    pub feed_forward: usize,
    /// Rows of the word table.
    pub vocabulary: usize,
    /// Rows of the position table.
    pub positions: usize,
    /// Epsilon of every layer norm.
    pub layer_norm_eps: f64,
    /// Longest sequence, boundary tokens included.
    pub max_tokens: usize,
    /// Buckets of the relative attention bias (kind `ours`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relative_buckets: Option<usize>,
    /// Middle width of the projection (kind `ours`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub projection_hidden: Option<usize>,
    /// Rows of the token type table (kinds `medcpt`, `basebert`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_types: Option<usize>,
}

/// Where a pack comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// Program and version that wrote the pack.
    pub created_by: String,
    /// Files that it was made from.
    #[serde(default, rename = "source", skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<SourceFile>,
}

/// A file that a pack was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceFile {
    /// Name without folder.
    pub file: String,
    /// SHA-256 in lower-case hexadecimal.
    pub sha256: String,
    /// What the file says about itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Why a manifest is refused.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not TOML, a missing or an unknown key, or a value of another type.
    #[error("manifest cannot be read")]
    Syntax(#[source] toml::de::Error),
    /// A format that this version does not know.
    #[error("pack format {found}; this version reads format {FORMAT}")]
    Format {
        /// Format that the manifest states.
        found: i64,
    },
    /// Values that do not make a pack; all of them are listed.
    #[error("manifest with invalid values: {}", .problems.join("; "))]
    Invalid {
        /// One line per problem, each naming its field.
        problems: Vec<String>,
    },
}

impl Manifest {
    /// Reads and checks `pack.toml`; returns it with the digest of the pack.
    ///
    /// # Errors
    /// [`ManifestError`] for what is not a manifest of this format.
    pub fn parse(text: &str) -> Result<(Self, PackDigest), ManifestError> {
        let table: toml::Table = toml::from_str(text).map_err(ManifestError::Syntax)?;
        let format = table.get("format").and_then(toml::Value::as_integer);
        if let Some(found) = format.filter(|&found| found != i64::from(FORMAT)) {
            return Err(ManifestError::Format { found });
        }
        let manifest: Self = toml::from_str(text).map_err(ManifestError::Syntax)?;
        let problems = manifest.problems();
        if !problems.is_empty() {
            return Err(ManifestError::Invalid { problems });
        }
        Ok((manifest, PackDigest::of_manifest(&table)))
    }

    /// Everything that is wrong with the values, one line each.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = self.problems_of_sizes();
        self.check_files(&mut problems);
        problems
    }

    /// What is wrong with everything but the list of files.
    pub(crate) fn problems_of_sizes(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !is_plain_name(&self.name) {
            problems.push("name: letters, digits, '-', '_' and '.' only, 64 at most".to_owned());
        }
        self.architecture.check(&mut problems);
        if problems.is_empty() {
            self.preprocessing.check(self.architecture.token_edge(), &mut problems);
        }
        self.text.check(&mut problems);
        problems
    }

    fn check_files(&self, problems: &mut Vec<String>) {
        let known = [WEIGHTS_FILE, PROMPTS_FILE, TEXT_FILE, PROBE_FILE];
        for (name, digest) in &self.files {
            if !known.contains(&name.as_str()) && !TOKENIZER_FILES.contains(&name.as_str()) {
                problems.push(format!("files: {name:?} is not a file of a pack"));
            }
            if !is_sha256_hex(digest) {
                problems.push(format!("files.{name:?}: not a SHA-256 in lower-case hexadecimal"));
            }
        }
        for needed in [WEIGHTS_FILE, PROMPTS_FILE] {
            if !self.files.contains_key(needed) {
                problems.push(format!("files: {needed:?} is missing"));
            }
        }
        let has_encoder = self.text.encoder.is_some();
        if self.files.contains_key(TEXT_FILE) != has_encoder {
            problems.push(format!("files: {TEXT_FILE:?} and [text.encoder] go together"));
        }
        let tokenizers = TOKENIZER_FILES.iter().filter(|name| self.files.contains_key(**name));
        if tokenizers.count() != usize::from(has_encoder) {
            problems.push("files: a text encoder has exactly one tokenizer file".to_owned());
        }
    }
}

impl Preprocessing {
    fn check(&self, token_edge: usize, problems: &mut Vec<String>) {
        let spacing_ok = self.spacing_mm.iter().all(|mm| (0.05..=50.0).contains(mm));
        if !spacing_ok {
            problems.push("preprocessing.spacing_mm: allowed are 0.05 to 50".to_owned());
        }
        let window_ok = self
            .window
            .iter()
            .all(|&extent| extent > 0 && extent <= MAX_EXTENT && extent.is_multiple_of(token_edge));
        let voxels = self.window.iter().try_fold(1usize, |n, &extent| n.checked_mul(extent));
        let small_enough = voxels.is_some_and(|n| u32::try_from(n).is_ok());
        if !window_ok || !small_enough {
            problems.push(format!(
                "preprocessing.window: multiples of {token_edge}, fewer than 2^32 voxels"
            ));
        }
        let [low, high] = self.ct_clip_hu;
        if !(low.is_finite() && high.is_finite() && low < high) {
            problems.push("preprocessing.ct_clip_hu: not a range".to_owned());
        }
        let [low, high] = self.other_clip_percentiles;
        if !(0.0 <= low && low < high && high <= 100.0) {
            problems
                .push("preprocessing.other_clip_percentiles: not a range within 0..100".to_owned());
        }
    }
}

impl Text {
    fn check(&self, problems: &mut Vec<String>) {
        let known = ["ct", "mri", "us", "pet", "microscopy"];
        let in_order = !self.modalities.is_empty()
            && self.modalities.len() <= known.len()
            && self.modalities.iter().zip(known).all(|(word, expected)| word == expected);
        if !in_order {
            problems.push(format!("text.modalities: a beginning of {known:?}"));
        }
        if let Some(encoder) = &self.encoder {
            encoder.check(self.kind, problems);
        }
    }
}

impl TextEncoderSizes {
    /// Every tensor that the encoder reads, with its shape.
    ///
    /// `query_width` and `modalities` are those of the pack.
    pub fn tensors(
        &self,
        kind: TextKind,
        query_width: usize,
        modalities: usize,
    ) -> Vec<(String, Vec<usize>)> {
        let mut list = TensorList::default();
        let root = match kind {
            TextKind::Ours => "text_tower.biolord",
            TextKind::MedCpt | TextKind::BaseBert => "model",
        };
        let embeddings = format!("{root}.embeddings");
        let hidden = self.hidden;
        list.push(format!("{embeddings}.word_embeddings.weight"), &[self.vocabulary, hidden]);
        list.push(format!("{embeddings}.position_embeddings.weight"), &[self.positions, hidden]);
        if let Some(types) = self.token_types {
            list.push(format!("{embeddings}.token_type_embeddings.weight"), &[types, hidden]);
        }
        list.norm(&format!("{embeddings}.LayerNorm"), hidden);
        for layer in 0..self.layers {
            let prefix = format!("{root}.encoder.layer.{layer}");
            let names = match kind {
                TextKind::Ours => {
                    ["attention.attn.q", "attention.attn.k", "attention.attn.v", "attention.attn.o"]
                }
                TextKind::MedCpt | TextKind::BaseBert => [
                    "attention.self.query",
                    "attention.self.key",
                    "attention.self.value",
                    "attention.output.dense",
                ],
            };
            for name in names {
                list.linear(&format!("{prefix}.{name}"), hidden, hidden);
            }
            let norm = match kind {
                TextKind::Ours => "attention.LayerNorm",
                TextKind::MedCpt | TextKind::BaseBert => "attention.output.LayerNorm",
            };
            list.norm(&format!("{prefix}.{norm}"), hidden);
            list.linear(&format!("{prefix}.intermediate.dense"), hidden, self.feed_forward);
            list.linear(&format!("{prefix}.output.dense"), self.feed_forward, hidden);
            list.norm(&format!("{prefix}.output.LayerNorm"), hidden);
        }
        if let Some(buckets) = self.relative_buckets {
            let name = format!("{root}.encoder.relative_attention_bias.weight");
            list.push(name, &[buckets, self.heads]);
        }
        if let Some(middle) = self.projection_hidden {
            list.linear("projection_layer.0", hidden, middle);
            list.linear("projection_layer.2", middle, query_width);
        }
        list.push("modality_embed.weight".to_owned(), &[modalities, query_width]);
        list.0
    }

    fn check(&self, kind: TextKind, problems: &mut Vec<String>) {
        let sizes = [
            ("layers", self.layers),
            ("hidden", self.hidden),
            ("heads", self.heads),
            ("feed_forward", self.feed_forward),
            ("vocabulary", self.vocabulary),
            ("positions", self.positions),
            ("relative_buckets", self.relative_buckets.unwrap_or(1)),
            ("projection_hidden", self.projection_hidden.unwrap_or(1)),
            ("token_types", self.token_types.unwrap_or(1)),
        ];
        for (name, size) in sizes {
            if !(1..=MAX_EXTENT).contains(&size) {
                problems
                    .push(format!("text.encoder.{name}: {size}, allowed are 1 to {MAX_EXTENT}"));
            }
        }
        if self.heads != 0 && !self.hidden.is_multiple_of(self.heads) {
            problems.push(format!(
                "text.encoder.heads: width {} is no multiple of {} heads",
                self.hidden, self.heads
            ));
        }
        // MPNet counts positions from 2.
        let reserved = if kind == TextKind::Ours { 2 } else { 0 };
        if self.max_tokens < 3 || self.max_tokens + reserved > self.positions {
            problems.push(format!(
                "text.encoder.max_tokens: {} with {} positions",
                self.max_tokens, self.positions
            ));
        }
        if !(self.layer_norm_eps > 0.0 && self.layer_norm_eps < 1.0) {
            problems.push("text.encoder.layer_norm_eps: between 0 and 1".to_owned());
        }
        let is_ours = kind == TextKind::Ours;
        let optional = [
            ("relative_buckets", self.relative_buckets.is_some(), is_ours),
            ("projection_hidden", self.projection_hidden.is_some(), is_ours),
            ("token_types", self.token_types.is_some(), !is_ours),
        ];
        for (name, present, expected) in optional {
            if present != expected {
                let verb = if expected { "needs" } else { "has no" };
                problems.push(format!("text.encoder: kind {} {verb} {name}", kind.as_str()));
            }
        }
        if self.relative_buckets.is_some_and(|buckets| buckets % 4 != 0) {
            problems.push("text.encoder.relative_buckets: a multiple of 4".to_owned());
        }
    }
}

fn is_plain_name(name: &str) -> bool {
    let characters = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (1..=64).contains(&name.len()) && name.chars().all(characters) && !name.starts_with('.')
}
