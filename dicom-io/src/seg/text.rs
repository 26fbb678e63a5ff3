//! Texts of ours that fit a DICOM long string in any character set.

use std::fmt;

/// Longest long string (PS3.5 6.2, LO).
const MAX_LENGTH: usize = 64;

/// Text for a value of representation LO: 1 to 64 printable ASCII characters, no backslash, trimmed.
///
/// ASCII alone, because the object carries the character set of its source, and ASCII means the same in all of them.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct LongString(Box<str>);

impl LongString {
    /// Fits `text`: outer spaces go, a character that cannot be written becomes `?` (a space where it is white
    /// space, `/` where it is a backslash), and what is longer than 64 characters ends in `...`. Nothing at all
    /// becomes `?`.
    pub fn fitted(text: &str) -> Self {
        let mut fitted = printable(text);
        if fitted.is_empty() {
            fitted.push('?');
        }
        if fitted.len() > MAX_LENGTH {
            fitted.truncate(MAX_LENGTH - 3);
            fitted.push_str("...");
        }
        Self(fitted.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for LongString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

/// `text` trimmed, with each character that is not printable ASCII, or that separates values, replaced.
pub(crate) fn printable(text: &str) -> String {
    text.trim()
        .chars()
        .map(|c| match c {
            '\\' => '/',
            ' '..='~' => c,
            _ if c.is_whitespace() => ' ',
            _ => '?',
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fits_any_text() {
        assert_eq!(LongString::fitted(" left kidney\n").as_str(), "left kidney");
        assert_eq!(LongString::fitted("a\\b\tc größer").as_str(), "a/b c gr??er");
        assert_eq!(LongString::fitted("  ").as_str(), "?");
        assert_eq!(LongString::fitted(&"x".repeat(65)).as_str().len(), 64);
        assert_eq!(LongString::fitted(&"x".repeat(64)).as_str(), "x".repeat(64));
    }
}
