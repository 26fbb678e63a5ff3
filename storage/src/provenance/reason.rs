//! Reason codes: one word for each way in which something did not happen.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// A machine-readable reason such as `no_protocol`: lowercase letters, digits and underscores, at most 64.
///
/// Free text does not fit, so that nothing from a data set slips into logs and ledger by way of a reason.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReasonCode(Cow<'static, str>);

/// A text that is not a reason code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "reason code has other characters than lowercase letters, digits and underscores, or not 1 to 64 of them"
)]
pub struct ParseReasonCodeError;

impl ReasonCode {
    /// A second copy of an instance with the same bytes.
    pub const DUPLICATE_INSTANCE: Self = Self::new("duplicate_instance");
    /// An instance came again with other bytes under the same UID.
    pub const CONFLICTING_DIGEST: Self = Self::new("conflicting_digest");
    /// An instance claims a series that belongs to another study, or another series than before.
    pub const CONFLICTING_PARENT: Self = Self::new("conflicting_parent");
    /// A result of ours came back.
    pub const OWN_RESULT: Self = Self::new("own_result");
    /// Later instances made a new job.
    pub const LATE_INSTANCES: Self = Self::new("late_instances");
    /// A worker stopped renewing its lease.
    pub const LEASE_LAPSED: Self = Self::new("lease_lapsed");
    /// A worker gave its lease back before it was done, because it shuts down.
    pub const WORKER_DRAINED: Self = Self::new("worker_drained");
    /// A worker gave a job of the shadow lane back, because other work came.
    pub const YIELDED: Self = Self::new("yielded");
    /// A job of the shadow lane waits until nothing else does.
    pub const IDLE_LANE: Self = Self::new("idle_lane");
    /// Every allowed attempt was used.
    pub const ATTEMPTS_EXHAUSTED: Self = Self::new("attempts_exhausted");
    /// A person asked for it.
    pub const OPERATOR: Self = Self::new("operator");
    /// The listener that held the association is gone.
    pub const LISTENER_LOST: Self = Self::new("listener_lost");
    /// Another series of the study is taken in its place, or it is taken again.
    pub const SERIES_CHOSEN: Self = Self::new("series_chosen");
    /// A protocol takes one series of the study, and the study is not complete yet.
    pub const CHOICE_WAITS: Self = Self::new("choice_waits_for_study");
    /// A protocol takes another series of the study.
    pub const OTHER_SERIES_CHOSEN: Self = Self::new("other_series_chosen");
    /// No protocol applies to the series.
    pub const NO_PROTOCOL: Self = Self::new("no_protocol");
    /// The series has a volume, and this is not in it.
    pub const PART_LEFT_OUT: Self = Self::new("part_left_out");

    /// A code known at compile time.
    ///
    /// # Panics
    /// Where `code` is not a reason code; in a constant, that stops the compiler.
    pub const fn new(code: &'static str) -> Self {
        assert!(is_reason_code(code.as_bytes()), "not a reason code");
        Self(Cow::Borrowed(code))
    }

    /// The code.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

const fn is_reason_code(bytes: &[u8]) -> bool {
    let mut index = 0;
    while index < bytes.len() {
        if !matches!(bytes[index], b'a'..=b'z' | b'0'..=b'9' | b'_') {
            return false;
        }
        index += 1;
    }
    !bytes.is_empty() && bytes.len() <= 64
}

impl FromStr for ReasonCode {
    type Err = ParseReasonCodeError;

    fn from_str(text: &str) -> Result<Self, ParseReasonCodeError> {
        if !is_reason_code(text.as_bytes()) {
            return Err(ParseReasonCodeError);
        }
        Ok(Self(Cow::Owned(text.to_owned())))
    }
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_free_text() {
        assert_eq!("no_protocol".parse(), Ok(ReasonCode::NO_PROTOCOL));
        for text in ["", "Doe^Jane", "no protocol", &"a".repeat(65)] {
            assert_eq!(text.parse::<ReasonCode>(), Err(ParseReasonCodeError), "{text}");
        }
    }
}
