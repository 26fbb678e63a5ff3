//! "Did you mean": the nearest of the words that would have been right.

/// How alike two words must be, 0 to 1, for one to be a likely typo of the other.
const ALIKE: f64 = 0.75;

/// The word nearest to `text`, when one is near enough.
pub(crate) fn nearest<'a>(text: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = text.to_lowercase();
    let alike = |word: &str| strsim::normalized_damerau_levenshtein(&lower, &word.to_lowercase());
    let scored = words.into_iter().map(|word| (alike(word), word));
    let likely = scored.filter(|&(score, _)| score >= ALIKE);
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
        assert_eq!(hint("splen", words), ", did you mean \"spleen\"?");
    }
}
