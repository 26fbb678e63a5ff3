//! Which protocol takes which series, and why the others do not: pure functions over facts of a series.

mod condition;
mod facts;
mod value_test;

pub(crate) use condition::Condition;
pub(crate) use facts::{GeometryFacts, SeriesFacts};

use crate::protocol::Protocol;

/// What one protocol made of one series.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Decision {
    /// Name of the protocol.
    pub(crate) protocol: String,
    /// Whether it takes the series.
    pub(crate) outcome: Outcome,
}

/// Whether a protocol takes a series.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// Every condition holds.
    Matched,
    /// The first condition that does not hold, in words without free text or patient attributes of the header.
    NotMatched(String),
}

/// What each protocol makes of a series, in the order of the configuration. Every one that matches takes it.
pub(crate) fn decide(protocols: &[Protocol], facts: &SeriesFacts) -> Vec<Decision> {
    protocols
        .iter()
        .map(|protocol| Decision {
            protocol: protocol.name.clone(),
            outcome: match protocol.condition.check(facts) {
                Ok(()) => Outcome::Matched,
                Err(reason) => Outcome::NotMatched(reason),
            },
        })
        .collect()
}

#[cfg(test)]
mod tests;
