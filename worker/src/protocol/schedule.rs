//! When the jobs of a protocol begin, and how many of them.

use prosector_storage::{Hours, ProtocolRule};

use crate::config::{FieldPath, Problems, RawProtocol};

/// Windows of the day and limits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Schedule {
    /// Windows in one of which jobs begin, UTC; none: at any time.
    hours: Vec<Hours>,
    /// Jobs that run at the same time.
    concurrent: Option<u32>,
    /// Jobs that are begun between two midnights, UTC.
    per_day: Option<u32>,
}

impl Schedule {
    /// Reads `hours` and `limits`.
    pub(super) fn read(raw: &RawProtocol, path: &FieldPath, problems: &mut Problems) -> Self {
        let mut hours = Vec::new();
        for (index, text) in raw.hours.iter().enumerate() {
            match text.parse::<Hours>() {
                Ok(window) => hours.push(window),
                Err(error) => problems.error(&path.key("hours").index(index), error.to_string()),
            }
        }
        let limits = path.key("limits");
        let mut limit = |name: &str, value: Option<u32>| {
            if value == Some(0) {
                problems.error(&limits.key(name), "no job would ever begin; leave the limit out");
            }
            value
        };
        let raw_limits = raw.limits.as_ref();
        let concurrent = limit("concurrent", raw_limits.and_then(|limits| limits.concurrent));
        let per_day = limit("per_day", raw_limits.and_then(|limits| limits.per_day));
        Self { hours, concurrent, per_day }
    }

    /// The same for the store, unless jobs of `protocol_name` are free to begin.
    pub(super) fn rule(&self, protocol_name: &str) -> Option<ProtocolRule> {
        (*self != Self::default()).then(|| ProtocolRule {
            protocol_name: protocol_name.to_owned(),
            hours: self.hours.clone(),
            concurrent: self.concurrent,
            per_day: self.per_day,
        })
    }
}
