//! Rules tried on the past: what they would take, beside what was taken.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use dicom_types::StudyInstanceUid;
use prosector_storage::{Sha256Digest, Taken, read_taken};

use super::{Candidate, LineReader, RecordedSeries, pick};
use crate::protocol::Protocol;

/// Rules to be tried.
#[derive(Debug)]
pub(crate) struct Replay {
    protocols: Arc<[Protocol]>,
    revisions: Vec<Sha256Digest>,
    index: HashMap<String, usize>,
    reader: LineReader,
    /// Whether single changes are kept, not just counted.
    keeps_changes: bool,
}

/// What became of a series under a protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Change {
    /// Not taken before, taken now.
    Added,
    /// Taken before, not now.
    Removed,
    /// Taken before by another wording of the protocol.
    Reworded(Sha256Digest),
    /// As before.
    Same,
}

/// How often a change happened, and on how much.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Amount {
    /// Series.
    pub(crate) series: u64,
    /// Their volume, litres.
    pub(crate) volume_l: f64,
}

/// A change of one series.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SeriesChange {
    /// The study.
    pub(crate) study: String,
    /// The series.
    pub(crate) series: String,
    /// Name of the protocol.
    pub(crate) protocol: String,
    /// What changed.
    pub(crate) change: Change,
    /// Volume of the series, litres.
    pub(crate) volume_l: f64,
}

/// What came of some of the past.
#[derive(Debug, Default)]
pub(crate) struct Tried {
    /// Series looked at.
    pub(crate) series: u64,
    /// Series of which the rules ask something that was not read when they came.
    pub(crate) incomplete: u64,
    /// For each protocol, old or new, and each kind of change.
    pub(crate) amounts: BTreeMap<(String, Change), Amount>,
    /// Single changes, where they are kept.
    pub(crate) changes: Vec<SeriesChange>,
}

impl Tried {
    /// Adds what came of another part.
    pub(crate) fn add(&mut self, other: Self) {
        self.series += other.series;
        self.incomplete += other.incomplete;
        self.changes.extend(other.changes);
        for (key, amount) in other.amounts {
            let sum = self.amounts.entry(key).or_default();
            sum.series += amount.series;
            sum.volume_l += amount.volume_l;
        }
    }
}

struct Member {
    recorded: RecordedSeries,
    taken: Taken,
}

impl Replay {
    /// Tries `protocols`.
    pub(crate) fn new(protocols: Arc<[Protocol]>, keeps_changes: bool) -> Self {
        let revisions = protocols.iter().map(|protocol| protocol.revision().sha256).collect();
        let names = protocols.iter().enumerate();
        let index = names.map(|(number, protocol)| (protocol.name.clone(), number)).collect();
        let reader = LineReader::new(&protocols);
        Self { protocols, revisions, index, reader, keeps_changes }
    }

    /// Attributes that the rules ask for and that are kept of no series.
    pub(crate) fn never_kept(&self) -> &[&'static str] {
        self.reader.never_kept()
    }

    /// Tries the rules on the lines of whole studies.
    ///
    /// # Errors
    /// When a line is not one that the store keeps.
    pub(crate) fn try_lines(&self, lines: &str) -> Result<Tried> {
        let mut tried = Tried::default();
        let mut studies: HashMap<StudyInstanceUid, Vec<Member>> = HashMap::new();
        let mut counts: Vec<[Amount; 3]> = vec![[Amount::default(); 3]; self.protocols.len()];
        for line in lines.lines() {
            let (facts, taken) = line.split_once('\t').context("a recorded line lacks a part")?;
            let recorded = self.reader.read(facts).context("facts of a series")?;
            let taken = match taken {
                "{}" => Taken::new(),
                taken => read_taken(taken).context("protocols that took a series")?,
            };
            tried.series += 1;
            tried.incomplete += u64::from(self.reader.lacks_something(&recorded));
            let study = recorded.study_instance_uid.clone();
            studies.entry(study).or_default().push(Member { recorded, taken });
        }
        for members in studies.into_values() {
            self.try_study(&members, &mut counts, &mut tried);
        }
        for (protocol, [added, removed, same]) in self.protocols.iter().zip(counts) {
            for (change, amount) in
                [(Change::Added, added), (Change::Removed, removed), (Change::Same, same)]
            {
                if amount.series > 0 {
                    tried.amounts.insert((protocol.name.clone(), change), amount);
                }
            }
        }
        Ok(tried)
    }

    fn try_study(&self, members: &[Member], counts: &mut [[Amount; 3]], tried: &mut Tried) {
        for (number, protocol) in self.protocols.iter().enumerate() {
            let mut now: Vec<bool> =
                members.iter().map(|m| protocol.condition.holds(&m.recorded.facts)).collect();
            if protocol.chooses() {
                let matching: Vec<usize> = (0..members.len()).filter(|&i| now[i]).collect();
                let candidates: Vec<Candidate<'_>> =
                    matching.iter().map(|&i| members[i].recorded.candidate()).collect();
                let chosen = pick(protocol, &candidates).map(|index| matching[index]);
                for (index, now) in now.iter_mut().enumerate() {
                    *now = chosen == Some(index);
                }
            }
            for (member, now) in members.iter().zip(now) {
                let before = member.taken.get(&protocol.name);
                let (slot, change) = match (before, now) {
                    (None, false) => continue,
                    (None, true) => (0, Change::Added),
                    (Some(_), false) => (1, Change::Removed),
                    (Some(before), true) if *before == self.revisions[number] => (2, Change::Same),
                    (Some(before), true) => {
                        self.note(member, &protocol.name, Change::Reworded(*before), tried);
                        continue;
                    }
                };
                let volume_l = volume_l(&member.recorded);
                counts[number][slot].series += 1;
                counts[number][slot].volume_l += volume_l;
                if self.keeps_changes && change != Change::Same {
                    tried.changes.push(series_change(member, &protocol.name, change));
                }
            }
        }
        for member in members {
            for name in member.taken.keys().filter(|name| !self.index.contains_key(*name)) {
                self.note(member, name, Change::Removed, tried);
            }
        }
    }

    fn note(&self, member: &Member, protocol: &str, change: Change, tried: &mut Tried) {
        let amount = tried.amounts.entry((protocol.to_owned(), change)).or_default();
        amount.series += 1;
        amount.volume_l += volume_l(&member.recorded);
        if self.keeps_changes {
            tried.changes.push(series_change(member, protocol, change));
        }
    }
}

fn volume_l(recorded: &RecordedSeries) -> f64 {
    recorded.facts.geometry.map_or(0.0, |geometry| geometry.volume_l)
}

fn series_change(member: &Member, protocol: &str, change: Change) -> SeriesChange {
    SeriesChange {
        study: member.recorded.study_instance_uid.to_string(),
        series: member.recorded.series_instance_uid.to_string(),
        protocol: protocol.to_owned(),
        change,
        volume_l: volume_l(&member.recorded),
    }
}
