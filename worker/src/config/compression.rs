//! Transfer syntaxes that a destination is offered results in.

use dicom_io::compression::Compression;

use super::problem::{FieldPath, Problems};
use super::raw::RawDestination;
use super::suggest;

const WORDS: [(&str, Compression); 2] =
    [("rle", Compression::Rle), ("deflated", Compression::Deflated)];

/// Reads `compress` of a destination.
pub(super) fn of(
    raw: &RawDestination,
    path: &FieldPath,
    problems: &mut Problems,
) -> [Option<Compression>; 2] {
    let path = path.key("compress");
    if raw.folder.is_some() && !raw.compress.is_empty() {
        problems.error(&path, "a folder gets files as they are");
    }
    let mut wanted: Vec<Compression> = Vec::new();
    for (index, word) in raw.compress.iter().enumerate() {
        let path = path.index(index);
        match WORDS.iter().find(|(known, _)| known == word) {
            Some((_, compression)) if wanted.contains(compression) => {
                problems.error(&path, format!("{word} is in the list already"));
            }
            Some((_, compression)) => wanted.push(*compression),
            None => {
                let words = WORDS.map(|(word, _)| word);
                let hint = suggest::hint(word, words);
                problems.error(&path, format!("{word:?} is none of {}{hint}", words.join(", ")));
            }
        }
    }
    [wanted.first().copied(), wanted.get(1).copied()]
}
