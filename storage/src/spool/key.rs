//! Keys: where something is in the spool.

use std::fmt;
use std::str::FromStr;

use dicom_types::{SeriesInstanceUid, SopInstanceUid, StudyInstanceUid};

use crate::digest::Sha256Digest;
use crate::job::JobId;

/// Hexadecimal digits of the digest in a file name: 128 bits, so that nobody makes two files meet on purpose.
const DIGEST_DIGITS: usize = 32;

/// A relative path of plain names: letters, digits, dots, hyphens and underscores, none beginning with a dot.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpoolKey(Box<str>);

/// A text that is not a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a spool key")]
pub struct ParseSpoolKeyError;

impl SpoolKey {
    /// `instances/STUDY/SERIES/SOP-DIGEST.dcm`.
    pub fn for_instance(
        study: &StudyInstanceUid,
        series: &SeriesInstanceUid,
        instance: &SopInstanceUid,
        sha256: &Sha256Digest,
    ) -> Self {
        let digest = sha256.to_string();
        let digest = &digest[..DIGEST_DIGITS];
        Self(format!("instances/{study}/{series}/{instance}-{digest}.dcm").into())
    }

    /// `results/JOB/SOP.dcm`.
    pub fn for_result(job: JobId, instance: &SopInstanceUid) -> Self {
        Self(format!("results/{job}/{instance}.dcm").into())
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SpoolKey {
    type Err = ParseSpoolKeyError;

    fn from_str(text: &str) -> Result<Self, ParseSpoolKeyError> {
        let is_name = |name: &str| {
            !name.is_empty()
                && !name.starts_with('.')
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
        };
        if text.len() > 1024 || !text.split('/').all(is_name) {
            return Err(ParseSpoolKeyError);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for SpoolKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SpoolKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_an_instance_by_its_uids_and_digest() {
        let key = SpoolKey::for_instance(
            &"1.2".parse().unwrap(),
            &"1.2.3".parse().unwrap(),
            &"1.2.3.4".parse().unwrap(),
            &Sha256Digest::of(b"abc"),
        );

        assert_eq!(
            key.as_str(),
            "instances/1.2/1.2.3/1.2.3.4-ba7816bf8f01cfea414140de5dae2223.dcm"
        );
        assert_eq!(key.as_str().parse(), Ok(key));
    }

    #[test]
    fn refuses_what_could_leave_the_spool() {
        for text in ["", "/etc", "a/../b", "a//b", "a/.b", "a b", "a\\b", "a\0", "a/"] {
            assert_eq!(text.parse::<SpoolKey>(), Err(ParseSpoolKeyError), "{text:?}");
        }
    }
}
