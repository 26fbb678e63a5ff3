//! Unique identifiers (PS3.5 clause 9), a distinct type for each kind.

use std::fmt;
use std::str::FromStr;

/// Longest unique identifier that the standard allows (PS3.5 9.1).
const MAX_LENGTH: usize = 64;

/// Why a text is not a unique identifier. The text itself is not repeated: a peer wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseUidError {
    /// Nothing but padding.
    #[error("empty unique identifier")]
    Empty,
    /// More than 64 characters.
    #[error("unique identifier of {length} characters, at most 64 are allowed")]
    TooLong {
        /// Characters found, padding excluded.
        length: usize,
    },
    /// Something other than a digit or a dot, or two dots without a digit between them.
    #[error(
        "unique identifier with a character or component that is not allowed at position {position}"
    )]
    Malformed {
        /// Byte offset of the first offender.
        position: usize,
    },
}

/// Checks `text` and strips the padding (NUL by the standard, space by common mistake).
///
/// Leading zeros in a component break PS3.5 9.1 but occur on real scanners; they are harmless in a path and in a
/// reference, so they pass.
fn parse(text: &str) -> Result<&str, ParseUidError> {
    let trimmed = text.trim_end_matches(['\0', ' ']);
    if trimmed.is_empty() {
        return Err(ParseUidError::Empty);
    }
    if trimmed.len() > MAX_LENGTH {
        return Err(ParseUidError::TooLong { length: trimmed.chars().count() });
    }
    let mut previous_is_dot = true;
    for (position, byte) in trimmed.bytes().enumerate() {
        let is_dot = byte == b'.';
        if !(is_dot || byte.is_ascii_digit()) || (is_dot && previous_is_dot) {
            return Err(ParseUidError::Malformed { position });
        }
        previous_is_dot = is_dot;
    }
    if previous_is_dot {
        return Err(ParseUidError::Malformed { position: trimmed.len() - 1 });
    }
    Ok(trimmed)
}

macro_rules! uid {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// Digits and dots only, at most 64 characters, no empty component: safe as a file name.
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Box<str>);

        impl $name {
            /// The identifier without padding.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = ParseUidError;

            fn from_str(text: &str) -> Result<Self, ParseUidError> {
                parse(text).map(|uid| Self(uid.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = ParseUidError;

            fn try_from(text: String) -> Result<Self, ParseUidError> {
                text.parse()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

uid! {
    /// Study Instance UID (0020,000D).
    StudyInstanceUid
}
uid! {
    /// Series Instance UID (0020,000E).
    SeriesInstanceUid
}
uid! {
    /// SOP Instance UID (0008,0018).
    SopInstanceUid
}
uid! {
    /// SOP Class UID (0008,0016).
    SopClassUid
}
uid! {
    /// Transfer Syntax UID (0002,0010).
    TransferSyntaxUid
}
uid! {
    /// Transaction UID (0008,1195).
    TransactionUid
}
uid! {
    /// Frame of Reference UID (0020,0052).
    FrameOfReferenceUid
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn strips_nul_and_space_padding() {
        let uid: StudyInstanceUid = "1.2.840.10008\0".parse().unwrap();

        assert_eq!(uid.as_str(), "1.2.840.10008");
        assert_eq!("1.2 ".parse::<SopClassUid>().unwrap().as_str(), "1.2");
    }

    #[test]
    fn refuses_what_could_leave_a_folder() {
        for text in ["", "\0", "..", "1..2", ".1", "1.", "1/2", "1.2\\3", "1.a", "../../etc"] {
            assert!(text.parse::<SopInstanceUid>().is_err(), "{text:?}");
        }
        assert_eq!(
            "1".repeat(65).parse::<SopInstanceUid>(),
            Err(ParseUidError::TooLong { length: 65 })
        );
    }

    proptest! {
        #[test]
        fn what_parses_prints_the_same(text in "[0-9]{1,5}(\\.[0-9]{1,5}){0,9}") {
            let uid: SeriesInstanceUid = text.parse().unwrap();
            prop_assert_eq!(uid.to_string(), text);
        }

        #[test]
        fn any_text_parses_or_is_refused(text in ".{0,80}") {
            if let Ok(uid) = text.parse::<SopInstanceUid>() {
                prop_assert!(uid.as_str().bytes().all(|b| b == b'.' || b.is_ascii_digit()));
            }
        }
    }
}
