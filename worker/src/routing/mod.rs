//! Which protocol takes which series, and why the others do not: pure functions over facts of a series.

mod choice;
mod condition;
mod derived;
mod facts;
mod recorded;
mod replay;
mod terms;
mod value_test;

pub(crate) use choice::{Candidate, Choose, attributes as choice_attributes, choose, pick, score};
pub(crate) use condition::Condition;
pub(crate) use facts::{GeometryFacts, SeriesFacts};
pub(crate) use recorded::{KEPT, LineReader, RecordedSeries, attributes_to_read, line};
pub(crate) use replay::{Amount, Change, Replay, Tried};

use crate::protocol::Protocol;

/// What one protocol made of one series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decision {
    /// Name of the protocol.
    pub(crate) protocol: String,
    /// Whether it takes the series.
    pub(crate) outcome: Outcome,
}

/// Whether a protocol takes a series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Every condition holds.
    Matched,
    /// Every condition holds, and the protocol takes one series of the study: how well this one suits.
    Candidate(String),
    /// Every condition holds, and of all series of the study it takes this one: why.
    Chosen(String),
    /// The first condition that does not hold, or the series that is taken in its place, in words without free text or patient attributes of the header.
    NotMatched(String),
}

/// What each protocol makes of a series by itself, in the order of the configuration. Every one that matches takes it,
/// or chooses among those of the study.
pub(crate) fn decide(protocols: &[Protocol], facts: &SeriesFacts) -> Vec<Decision> {
    protocols
        .iter()
        .map(|protocol| Decision {
            protocol: protocol.name.clone(),
            outcome: match protocol.condition.check(facts) {
                Ok(()) if !protocol.chooses() => Outcome::Matched,
                Ok(()) => Outcome::Candidate(score(protocol, facts).text()),
                Err(reason) => Outcome::NotMatched(reason),
            },
        })
        .collect()
}

/// What a protocol that takes one series of a study made of a series that matches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Index of the protocol.
    pub(crate) protocol: usize,
    /// Index of the series.
    pub(crate) series: usize,
    /// Whether it is the one.
    pub(crate) is_chosen: bool,
    /// Why.
    pub(crate) reason: String,
}

/// What every protocol that takes one series of a study chooses among `study`.
pub(crate) fn choices(protocols: &[Protocol], study: &[Candidate<'_>]) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for (number, protocol) in protocols.iter().enumerate() {
        if !protocol.chooses() {
            continue;
        }
        let matching: Vec<usize> =
            (0..study.len()).filter(|&i| protocol.condition.holds(study[i].facts)).collect();
        let candidates: Vec<Candidate<'_>> = matching.iter().map(|&i| study[i]).collect();
        let chosen = choose(protocol, &candidates);
        verdicts.extend(matching.into_iter().zip(chosen).map(|(series, (is_chosen, reason))| {
            Verdict { protocol: number, series, is_chosen, reason }
        }));
    }
    verdicts
}

/// What each protocol makes of each series of a whole study, in the order of `study` and of the configuration.
pub(crate) fn decide_study(protocols: &[Protocol], study: &[Candidate<'_>]) -> Vec<Vec<Decision>> {
    let mut decisions: Vec<Vec<Decision>> =
        study.iter().map(|member| decide(protocols, member.facts)).collect();
    for verdict in choices(protocols, study) {
        decisions[verdict.series][verdict.protocol].outcome = if verdict.is_chosen {
            Outcome::Chosen(verdict.reason)
        } else {
            Outcome::NotMatched(verdict.reason)
        };
    }
    decisions
}

#[cfg(test)]
mod hospital;
#[cfg(test)]
mod tests;
