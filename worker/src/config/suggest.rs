//! "Did you mean": the nearest of the words that would have been right.

/// How alike two words must be, 0 to 1, for one to be a likely typo of the other.
const ALIKE: f64 = 0.75;
/// Fewest letters of a word that one slip is told of: of two letters any word is made.
const SHORT: usize = 3;

/// The word nearest to `text`, when one is near enough.
pub(crate) fn nearest<'a>(text: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = text.to_lowercase();
    let alike = |word: &str| strsim::normalized_damerau_levenshtein(&lower, &word.to_lowercase());
    let scored = words.into_iter().map(|word| (alike(word), word));
    // One slip of the finger makes a short word unlike itself.
    let is_slip = |word: &str| {
        lower.len() >= SHORT && strsim::damerau_levenshtein(&lower, &word.to_lowercase()) == 1
    };
    let likely = scored.filter(|&(score, word)| score >= ALIKE || is_slip(word));
    // The alphabet decides between equals, so that the same typo gets the same answer every time.
    likely.max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| b.1.cmp(a.1))).map(|(_, word)| word)
}

/// `, did you mean "word"?`, or nothing.
pub(crate) fn hint<'a>(text: &str, words: impl IntoIterator<Item = &'a str>) -> String {
    match nearest(text, words) {
        Some(word) => format!(", did you mean {word:?}?"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_nearest_word_and_none_that_is_far() {
        let words = ["liver", "spleen", "left kidney"];

        assert_eq!(nearest("livr", words), Some("liver"));
        assert_eq!(nearest("Left kidny", words), Some("left kidney"));
        assert_eq!(nearest("xyzzy", words), None);
        assert_eq!(nearest("CTT", ["MR", "CT"]), Some("CT"));
        assert_eq!(hint("splen", words), ", did you mean \"spleen\"?");
    }
}
