//! Application Entity titles (PS3.5 6.2, value representation AE).

use std::fmt;
use std::str::FromStr;

/// Why a text is not an Application Entity title.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseAeTitleError {
    /// Nothing but spaces, which the standard forbids.
    #[error("empty application entity title")]
    Empty,
    /// More than 16 characters.
    #[error("application entity title of {length} characters, at most 16 are allowed")]
    TooLong {
        /// Characters found, padding excluded.
        length: usize,
    },
    /// A backslash, a control character or something outside ASCII.
    #[error(
        "application entity title with a backslash, a control character or a character outside ASCII"
    )]
    Malformed,
}

/// Application Entity title: 1 to 16 printable ASCII characters, case sensitive, outer spaces not significant.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AeTitle(Box<str>);

impl AeTitle {
    /// The title without padding.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AeTitle {
    type Err = ParseAeTitleError;

    fn from_str(text: &str) -> Result<Self, ParseAeTitleError> {
        let trimmed = text.trim_matches([' ', '\0']);
        if trimmed.is_empty() {
            return Err(ParseAeTitleError::Empty);
        }
        if !trimmed.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'\\') {
            return Err(ParseAeTitleError::Malformed);
        }
        if trimmed.len() > 16 {
            return Err(ParseAeTitleError::TooLong { length: trimmed.len() });
        }
        Ok(Self(trimmed.into()))
    }
}

impl TryFrom<String> for AeTitle {
    type Error = ParseAeTitleError;

    fn try_from(text: String) -> Result<Self, ParseAeTitleError> {
        text.parse()
    }
}

impl fmt::Display for AeTitle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for AeTitle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trims_and_keeps_case() {
        assert_eq!("  Pacs 1 ".parse::<AeTitle>().unwrap().as_str(), "Pacs 1");
    }

    #[test]
    fn refuses_each_kind_of_bad_title() {
        assert_eq!("   ".parse::<AeTitle>(), Err(ParseAeTitleError::Empty));
        assert_eq!("A\\B".parse::<AeTitle>(), Err(ParseAeTitleError::Malformed));
        assert_eq!("A\nB".parse::<AeTitle>(), Err(ParseAeTitleError::Malformed));
        assert_eq!(
            "ABCDEFGHIJKLMNOPQ".parse::<AeTitle>(),
            Err(ParseAeTitleError::TooLong { length: 17 })
        );
    }
}
