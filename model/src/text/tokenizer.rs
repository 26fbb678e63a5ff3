//! Lower-casing WordPiece, as the published text encoders were trained with.

use std::borrow::Cow;

use tokenizers::Tokenizer;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;

use super::EmbedError;

/// Id that the reference pads with, whatever the vocabulary calls it; attention leaves it out.
pub(super) const PADDING: u32 = 0;
const UNKNOWN: &str = "[UNK]";
const FIRST: &str = "[CLS]";
const LAST: &str = "[SEP]";
/// A longer word is unknown as a whole.
const LONGEST_WORD: usize = 100;

/// Why a tokenizer file is refused.
#[derive(Debug, thiserror::Error)]
pub enum LoadTokenizerError {
    /// Not a list of words, nor a `tokenizer.json` with a WordPiece model.
    #[error("{file} holds no WordPiece vocabulary")]
    Vocabulary {
        /// Name of the file.
        file: String,
    },
    /// A token that every prompt needs.
    #[error("the vocabulary has no {0}")]
    Missing(&'static str),
    /// A token beyond the encoder's table.
    #[error("the vocabulary has {found} tokens, the encoder {expected}")]
    Size {
        /// Tokens of the file.
        found: usize,
        /// Rows of the encoder's word table.
        expected: usize,
    },
    /// The library refused the vocabulary.
    #[error("the vocabulary is unusable")]
    Library(#[source] tokenizers::Error),
}

/// Cuts prompts into the ids of an encoder.
#[derive(Debug)]
pub(crate) struct PromptTokenizer {
    tokenizer: Tokenizer,
    first: u32,
    last: u32,
    max_tokens: usize,
}

impl PromptTokenizer {
    /// Reads `vocab.txt` (a word a line) or `tokenizer.json`, of which the vocabulary alone is used: truncation, padding
    /// and boundary tokens in it are those of another use.
    ///
    /// # Errors
    /// [`LoadTokenizerError`].
    pub(crate) fn new(
        file: &str,
        bytes: &[u8],
        vocabulary_size: usize,
        max_tokens: usize,
    ) -> Result<Self, LoadTokenizerError> {
        let refused = || LoadTokenizerError::Vocabulary { file: file.to_owned() };
        let lines = if file == "tokenizer.json" {
            Cow::Owned(lines_of_json(bytes).ok_or_else(refused)?)
        } else {
            Cow::Borrowed(bytes)
        };
        let vocabulary = WordPiece::read_bytes(&lines).map_err(LoadTokenizerError::Library)?;
        let largest = vocabulary.values().max().map_or(0, |&id| id as usize + 1);
        if largest > vocabulary_size {
            return Err(LoadTokenizerError::Size { found: largest, expected: vocabulary_size });
        }
        let id = |token: &'static str| {
            vocabulary.get(token).copied().ok_or(LoadTokenizerError::Missing(token))
        };
        let (first, last) = (id(FIRST)?, id(LAST)?);
        id(UNKNOWN)?;
        let words = WordPiece::builder()
            .vocab(vocabulary)
            .unk_token(UNKNOWN.to_owned())
            .max_input_chars_per_word(LONGEST_WORD)
            .build()
            .map_err(LoadTokenizerError::Library)?;
        let mut tokenizer = Tokenizer::new(words);
        tokenizer
            .with_normalizer(Some(BertNormalizer::new(true, true, None, true)))
            .map_err(LoadTokenizerError::Library)?
            .with_pre_tokenizer(Some(BertPreTokenizer));
        Ok(Self { tokenizer, first, last, max_tokens })
    }

    /// Ids of a prompt between its boundary tokens; of a prompt that is too long, its beginning.
    ///
    /// # Errors
    /// [`EmbedError::Empty`] for nothing but white space.
    pub(crate) fn ids(&self, prompt: &str) -> Result<Vec<u32>, EmbedError> {
        let encoding = self.tokenizer.encode(prompt, false).map_err(EmbedError::Tokenize)?;
        if encoding.get_ids().is_empty() {
            return Err(EmbedError::Empty);
        }
        let mut ids = Vec::with_capacity(encoding.get_ids().len() + 2);
        ids.push(self.first);
        ids.extend_from_slice(encoding.get_ids());
        ids.truncate(self.max_tokens - 1);
        ids.push(self.last);
        Ok(ids)
    }
}

/// The vocabulary of a `tokenizer.json` as a list of words by id; ids that it leaves out become words that nobody writes.
fn lines_of_json(bytes: &[u8]) -> Option<Vec<u8>> {
    let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    let vocabulary = value.get("model")?.get("vocab")?.as_object()?;
    let mut words = Vec::with_capacity(vocabulary.len());
    for (word, id) in vocabulary {
        words.push((u32::try_from(id.as_u64()?).ok()?, word.as_str()));
    }
    words.sort_unstable();
    let mut lines = String::new();
    let mut next = 0;
    for (id, word) in words {
        for gap in next..id {
            lines.push_str("[gap ");
            lines.push_str(&gap.to_string());
            lines.push_str("]\n");
        }
        lines.push_str(word);
        lines.push('\n');
        next = id.checked_add(1)?;
    }
    Some(lines.into_bytes())
}
