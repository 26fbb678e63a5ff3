//! How to make sure that a destination has what it was sent.

use super::problem::{FieldPath, Problems};
use super::raw::RawDestination;
use super::section::Proof;
use super::suggest;

const WORDS: [(&str, Proof); 2] = [("find", Proof::Find), ("read_back", Proof::ReadBack)];

/// Reads `proof` of a destination.
pub(super) fn of(raw: &RawDestination, path: &FieldPath, problems: &mut Problems) -> Option<Proof> {
    let word = raw.proof.as_deref()?;
    let path = path.key("proof");
    if raw.folder.is_some() {
        problems.error(&path, "a folder cannot be asked");
    }
    if raw.commitment == Some(true) {
        problems.error(&path, "commitment is proof already");
    }
    let found = WORDS.iter().find(|(known, _)| *known == word).map(|(_, proof)| *proof);
    if found.is_none() {
        let words = WORDS.map(|(word, _)| word);
        let hint = suggest::hint(word, words);
        problems.error(&path, format!("{word:?} is none of {}{hint}", words.join(", ")));
    }
    found
}
