//! Which of several series of a study a protocol takes: a pure function of their facts, whatever the order in which
//! they came.

use std::cmp::Ordering;

use dicom_types::SeriesInstanceUid;

use super::derived::{self, Kernel, Phase};
use super::facts::Plane;
use super::{Condition, SeriesFacts};
use crate::protocol::Protocol;

/// Which of the series that match a protocol takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Choose {
    /// Every one, as soon as it is complete.
    #[default]
    All,
    /// The one acquired first, once the study is complete.
    First,
    /// The one that suits segmentation best, once the study is complete.
    Best,
}

impl Choose {
    /// Every word as it is written.
    pub(crate) const WORDS: [(&'static str, Self); 3] =
        [("all", Self::All), ("first", Self::First), ("best", Self::Best)];
}

/// Attributes that a choice is made by, beside those of the conditions.
pub(super) const DECISIVE: &[&str] =
    &["AcquisitionDate", "ImageType", "SeriesDate", "SeriesNumber", "SliceThickness"];

/// Points for each preference of the protocol that holds: more than everything else together.
const PREFERENCE: i32 = 200;

/// How well a series suits, with the reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Score {
    /// More is better.
    pub(crate) points: i32,
    /// What the points are for; nothing of the header but numbers of the image and words of ours.
    pub(crate) reasons: Vec<String>,
}

impl Score {
    fn add(&mut self, points: i32, what: &str) {
        self.points += points;
        self.reasons.push(format!("{what} {points:+}"));
    }

    /// The score in one line.
    pub(crate) fn text(&self) -> String {
        format!("score {}: {}", self.points, self.reasons.join(", "))
    }
}

/// Scores a series for `protocol`.
pub(crate) fn score(protocol: &Protocol, facts: &SeriesFacts) -> Score {
    let mut score = Score { points: 0, reasons: Vec::new() };
    for (number, preference) in protocol.prefer.iter().enumerate() {
        if preference.holds(facts) {
            score.add(PREFERENCE, &format!("preference {}", number + 1));
        }
    }
    if let Some(geometry) = &facts.geometry {
        let thickness =
            facts.number("SliceThickness").unwrap_or(0.0).max(geometry.slice_spacing_mm);
        // 1 mm and less are worth all points, 6 mm and more none.
        let thin = (6.0 - thickness.clamp(1.0, 6.0)) * 6.0;
        score.add(whole(thin), &format!("slices of {} mm", tenths(thickness)));
        let wanted = if protocol.is_sagittal() { Plane::Sagittal } else { Plane::Axial };
        let plane = match geometry.plane {
            plane if plane == wanted => 20,
            Plane::Oblique => 5,
            _ => 0,
        };
        score.add(plane, geometry.plane.as_str());
        let covered = geometry.coverage_mm.min(600.0) / 30.0;
        score.add(whole(covered), &format!("coverage of {} mm", whole(geometry.coverage_mm)));
    }
    if facts.first("Modality") == Some("CT") {
        match derived::kernel(facts) {
            Some(Kernel::Soft) => score.add(20, "soft kernel"),
            Some(Kernel::Medium) => score.add(10, "medium kernel"),
            Some(Kernel::Sharp) => score.add(0, "sharp kernel"),
            None => score.add(8, "unknown kernel"),
        }
        match derived::phase(facts) {
            Phase::Venous => score.add(12, "venous phase"),
            Phase::Arterial => score.add(9, "arterial phase"),
            Phase::Unknown => score.add(8, "contrast"),
            Phase::Delayed => score.add(6, "delayed phase"),
            Phase::Native => score.add(4, "native"),
        }
    }
    match facts.first("ImageType") {
        Some("DERIVED") => score.add(-15, "derived image"),
        Some("ORIGINAL") => score.add(5, "original image"),
        _ => {}
    }
    score
}

/// A series that matches a protocol.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate<'a> {
    /// Its identity, the last measure between equals.
    pub(crate) series_instance_uid: &'a SeriesInstanceUid,
    /// What is known of it.
    pub(crate) facts: &'a SeriesFacts,
}

/// Index of the series that `protocol` takes, in a list of those that match it; none of an empty list, and none where
/// it takes all.
pub(crate) fn pick(protocol: &Protocol, candidates: &[Candidate<'_>]) -> Option<usize> {
    let order = |a: &Candidate<'_>, b: &Candidate<'_>| match protocol.choose {
        Choose::All | Choose::First => Ordering::Equal,
        Choose::Best => score(protocol, b.facts).points.cmp(&score(protocol, a.facts).points),
    };
    if !protocol.chooses() {
        return None;
    }
    let chosen = candidates.iter().enumerate().min_by(|(_, a), (_, b)| {
        order(a, b).then_with(|| acquired(a).partial_cmp(&acquired(b)).unwrap_or(Ordering::Equal))
    });
    chosen.map(|(index, _)| index)
}

/// What a choice made of each candidate: whether it is taken, and why.
pub(crate) fn choose(protocol: &Protocol, candidates: &[Candidate<'_>]) -> Vec<(bool, String)> {
    let Some(chosen) = pick(protocol, candidates) else { return Vec::new() };
    let best = candidates[chosen].series_instance_uid;
    let others = candidates.len() - 1;
    candidates
        .iter()
        .enumerate()
        .map(|(index, candidate)| {
            let about = match protocol.choose {
                Choose::Best => score(protocol, candidate.facts).text(),
                Choose::All | Choose::First => {
                    "by time of acquisition and series number".to_owned()
                }
            };
            if index == chosen {
                (true, format!("chosen before {others} others of the study; {about}"))
            } else {
                (false, format!("series {best} is chosen; {about}"))
            }
        })
        .collect()
}

/// Attributes that the choice and the preferences of `protocol` look at.
pub(crate) fn attributes(protocol: &Protocol) -> Vec<dicom_io::Attribute> {
    if !protocol.chooses() {
        return Vec::new();
    }
    let keywords = DECISIVE
        .iter()
        .chain(derived::OF_CONTRAST)
        .chain(derived::OF_KERNEL)
        .chain(derived::OF_TIME)
        .chain(&["Modality"]);
    let own = keywords.filter_map(|keyword| dicom_io::Attribute::by_keyword(keyword));
    own.chain(protocol.prefer.iter().flat_map(Condition::attributes)).collect()
}

/// The order of acquisition: what has no time comes last; the series' number and identity decide between equals.
fn acquired<'a>(candidate: &Candidate<'a>) -> (bool, &'a str, &'a str, f64, &'a str) {
    let facts = candidate.facts;
    let date = facts.first("AcquisitionDate").or_else(|| facts.first("SeriesDate"));
    let time = derived::time_of_day(facts);
    (
        time.is_none(),
        date.unwrap_or_default(),
        time.unwrap_or_default(),
        facts.number("SeriesNumber").filter(|n| n.is_finite()).unwrap_or(f64::MAX),
        candidate.series_instance_uid.as_str(),
    )
}

fn whole(value: f64) -> i32 {
    value.round() as i32
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
