//! Cached text embeddings by prompt and modality.

use std::collections::BTreeMap;

use dicom_types::Modality;

use super::weights::{Weights, WeightsError};

/// Row of the model's modality table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PromptModality {
    /// Computed tomography.
    Ct,
    /// Magnetic resonance.
    Mri,
    /// Ultrasound.
    Us,
    /// Positron emission tomography.
    Pet,
}

impl PromptModality {
    /// All modalities, in the order of the table.
    pub const ALL: [Self; 4] = [Self::Ct, Self::Mri, Self::Us, Self::Pet];

    /// The word that manifests and prompt files use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ct => "ct",
            Self::Mri => "mri",
            Self::Us => "us",
            Self::Pet => "pet",
        }
    }

    /// Row of the modality table.
    pub fn row(self) -> usize {
        match self {
            Self::Ct => 0,
            Self::Mri => 1,
            Self::Us => 2,
            Self::Pet => 3,
        }
    }
}

impl From<Modality> for PromptModality {
    fn from(modality: Modality) -> Self {
        match modality {
            Modality::Ct => Self::Ct,
            Modality::Mr => Self::Mri,
            Modality::Pt => Self::Pet,
        }
    }
}

/// Why a file of prompts is refused.
#[derive(Debug, thiserror::Error)]
pub enum PromptTableError {
    /// A tensor that is not as described.
    #[error(transparent)]
    Tensor(#[from] WeightsError),
    /// The list of prompts of a modality is not a JSON array of texts.
    #[error("metadata of {modality} is not a list of prompts")]
    List {
        /// Modality word.
        modality: &'static str,
        /// What the JSON reader says.
        source: serde_json::Error,
    },
    /// A prompt that is repeated or not in lower case.
    #[error("prompt {prompt:?} of {modality} is repeated or not in lower case")]
    Prompt {
        /// Modality word.
        modality: &'static str,
        /// The prompt.
        prompt: String,
    },
}

/// Embeddings of prompts, one table per modality.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PromptTable {
    width: usize,
    rows: BTreeMap<(PromptModality, String), Vec<f32>>,
}

impl PromptTable {
    pub(crate) fn read(weights: &Weights, width: usize) -> Result<Self, PromptTableError> {
        let mut table = Self { width, rows: BTreeMap::new() };
        let known = PromptModality::ALL.map(PromptModality::as_str);
        if let Some(name) = weights.names().find(|name| !known.contains(name)) {
            return Err(WeightsError::Unknown { name: name.to_owned() }.into());
        }
        for modality in PromptModality::ALL {
            let word = modality.as_str();
            let Some(list) = weights.metadata().get(word) else { continue };
            let prompts: Vec<String> = serde_json::from_str(list)
                .map_err(|source| PromptTableError::List { modality: word, source })?;
            if prompts.is_empty() {
                continue;
            }
            let values = weights.values(word, &[prompts.len(), width])?;
            for (prompt, row) in prompts.into_iter().zip(values.chunks_exact(width)) {
                let is_lower = prompt == prompt.to_lowercase();
                let key = (modality, prompt.clone());
                if !is_lower || table.rows.insert(key, row.to_vec()).is_some() {
                    return Err(PromptTableError::Prompt { modality: word, prompt });
                }
            }
        }
        Ok(table)
    }

    /// An empty table for embeddings of `width`.
    pub(crate) fn new(width: usize) -> Self {
        Self { width, rows: BTreeMap::new() }
    }

    /// Embedding of `prompt`, compared in lower case.
    pub fn get(&self, prompt: &str, modality: PromptModality) -> Option<&[f32]> {
        self.rows.get(&(modality, prompt.to_lowercase())).map(Vec::as_slice)
    }

    /// Adds or replaces an embedding.
    pub(crate) fn insert(&mut self, prompt: &str, modality: PromptModality, row: Vec<f32>) {
        debug_assert_eq!(row.len(), self.width);
        self.rows.insert((modality, prompt.to_lowercase()), row);
    }

    /// Prompts of a modality, sorted.
    pub fn prompts(&self, modality: PromptModality) -> impl Iterator<Item = &str> {
        self.rows
            .keys()
            .filter(move |(known, _)| *known == modality)
            .map(|(_, prompt)| prompt.as_str())
    }

    /// Number of embeddings.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no embedding.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(crate) fn width(&self) -> usize {
        self.width
    }
}
