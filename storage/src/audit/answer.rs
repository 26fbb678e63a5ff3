//! The short answer to `why`: how each part of a study stands, each in one code.

use std::collections::BTreeMap;

use dicom_types::SeriesInstanceUid;

use crate::delivery::DeliveryState;
use crate::job::{DecisionOutcome, JobId, JobState, Lane};
use crate::provenance::{EventKind, ReasonCode};

use super::jobs::JobSummary;
use super::why::{OpenDelivery, StudyStory, WhyEntry, WhyWhat};
use super::{DecisionSummary, SeriesSummary};

/// How one part of a study stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What it is about.
    pub about: AnswerAbout,
    /// How it stands: the state of a job or delivery, or a word for it.
    pub state: String,
    /// Why, as a code: every situation has its own.
    pub reason_code: ReasonCode,
    /// How many instances or results it applies to.
    pub count: u64,
}

/// What an answer is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum AnswerAbout {
    /// A series.
    Series(SeriesInstanceUid),
    /// A protocol on a series that made no job of it.
    Protocol(SeriesInstanceUid, String),
    /// A job.
    Job(JobId),
    /// A job's results on their way to a destination.
    Delivery(JobId, String),
    /// Instances that came, of a series where it is known.
    Instances(Option<SeriesInstanceUid>),
}

const TOO_FEW_SLICES: ReasonCode = ReasonCode::new("too_few_slices");
const STILL_ARRIVING: ReasonCode = ReasonCode::new("still_arriving");
const INSTANCES_MISSING: ReasonCode = ReasonCode::new("instances_missing");
const WAITING_FOR_WORKER: ReasonCode = ReasonCode::new("waiting_for_worker");
const HELD: ReasonCode = ReasonCode::new("held");
const RUNNING: ReasonCode = ReasonCode::new("running");
const NOTHING_FOUND: ReasonCode = ReasonCode::new("nothing_found");
const NO_DESTINATION: ReasonCode = ReasonCode::new("no_destination");
const SHADOW_LANE: ReasonCode = ReasonCode::new("shadow_lane");
const DELIVERED: ReasonCode = ReasonCode::new("delivered");
const WAITING_FOR_DESTINATION: ReasonCode = ReasonCode::new("waiting_for_destination");
const UNKNOWN: ReasonCode = ReasonCode::new("unknown");

impl StudyStory {
    /// How each part of the study stands: series first, then jobs, then deliveries, then what came and was not taken.
    pub fn answers(&self) -> Vec<Answer> {
        let mut answers = Vec::new();
        for series in &self.series {
            about_series(self, series, &mut answers);
        }
        for job in &self.jobs {
            about_job(self, job, &mut answers);
        }
        for delivery in &self.open_deliveries {
            answers.push(about_delivery(delivery));
        }
        about_instances(&self.entries, &mut answers);
        answers
    }
}

fn about_series(story: &StudyStory, series: &SeriesSummary, answers: &mut Vec<Answer>) {
    let uid = &series.series_instance_uid;
    let about = AnswerAbout::Series(uid.clone());
    if !series.is_settled {
        answers.push(answer(about.clone(), "arriving", STILL_ARRIVING, series.instances));
    }
    if let Some(missing) = missing_instances(story, uid) {
        answers.push(answer(about.clone(), "incomplete", INSTANCES_MISSING, missing));
    }
    for (index, decision) in series.decisions.iter().enumerate() {
        // A choice among the series of the study takes the place of what was decided of the series by itself.
        let is_replaced = decision.protocol_name.is_some()
            && series.decisions[index + 1..]
                .iter()
                .any(|d| d.protocol_name == decision.protocol_name);
        if is_replaced || !is_told(decision) {
            continue;
        }
        let about = match &decision.protocol_name {
            Some(protocol) => AnswerAbout::Protocol(uid.clone(), protocol.clone()),
            None => about.clone(),
        };
        let answer = answer(about, decision.outcome.as_str(), decision.reason_code.clone(), 1);
        match answers
            .iter_mut()
            .find(|known| known.about == answer.about && known.reason_code == answer.reason_code)
        {
            Some(known) => known.count += 1,
            None => answers.push(answer),
        }
    }
}

/// A protocol that does not apply is the business of the one that does, or of the series as a whole, unless it is for
/// want of slices or because of another series: then somebody expects a result.
fn is_told(decision: &DecisionSummary) -> bool {
    match decision.outcome {
        DecisionOutcome::Matched => decision.reason_code == ReasonCode::CHOICE_WAITS,
        DecisionOutcome::NotMatched => {
            [TOO_FEW_SLICES, ReasonCode::OTHER_SERIES_CHOSEN].contains(&decision.reason_code)
        }
        DecisionOutcome::Refused => true,
    }
}

/// Instances that a series lacks as its last settlement found it: those that its numbers leave room for, or that the
/// PACS has more.
fn missing_instances(story: &StudyStory, series: &SeriesInstanceUid) -> Option<u64> {
    let settled = story.entries.iter().rev().find_map(|entry| match &entry.what {
        WhyWhat::Event { kind: EventKind::SeriesSettled, detail, .. }
            if entry.series_instance_uid.as_ref() == Some(series) =>
        {
            Some(detail)
        }
        _ => None,
    })?;
    let by = |evidence: &str| settled["evidence"][evidence]["missing"].as_u64();
    by("instance_numbers").max(by("pacs")).filter(|missing| *missing > 0)
}

fn about_job(story: &StudyStory, job: &JobSummary, answers: &mut Vec<Answer>) {
    let given = || job.reason_code.clone();
    let code = match job.state {
        JobState::Held => given().unwrap_or(HELD),
        JobState::Queued => given().unwrap_or(WAITING_FOR_WORKER),
        JobState::Running => RUNNING,
        JobState::Empty => NOTHING_FOUND,
        JobState::Superseded => given().unwrap_or(ReasonCode::LATE_INSTANCES),
        JobState::Cancelled => given().unwrap_or(ReasonCode::OPERATOR),
        JobState::Failed | JobState::Rejected | JobState::Quarantined => given().unwrap_or(UNKNOWN),
        JobState::Done => match recalled(story, job.job_id) {
            Some(code) => code,
            None if job.lane == Lane::Shadow => SHADOW_LANE,
            None if job.deliveries == 0 => NO_DESTINATION,
            None if job.delivered == job.deliveries => DELIVERED,
            // What is open is told of each delivery.
            None => return,
        },
    };
    answers.push(answer(AnswerAbout::Job(job.job_id), job.state.as_str(), code, 1));
}

fn recalled(story: &StudyStory, job_id: JobId) -> Option<ReasonCode> {
    let of_job = |entry: &&WhyEntry| {
        let is_recall =
            matches!(entry.what, WhyWhat::Event { kind: EventKind::ResultRecalled, .. });
        is_recall && entry.job_id == Some(job_id)
    };
    story.entries.iter().rev().find(of_job).and_then(|entry| entry.reason_code.clone())
}

fn about_delivery(delivery: &OpenDelivery) -> Answer {
    let code = delivery.reason_code.clone().unwrap_or(match delivery.state {
        DeliveryState::Cancelled => ReasonCode::OPERATOR,
        _ => WAITING_FOR_DESTINATION,
    });
    let about = AnswerAbout::Delivery(delivery.job_id, delivery.destination.clone());
    answer(about, delivery.state.as_str(), code, 1)
}

/// What came and did not become an instance of the study, counted by series and code.
fn about_instances(entries: &[WhyEntry], answers: &mut Vec<Answer>) {
    let mut counts: BTreeMap<(AnswerAbout, ReasonCode), (String, u64)> = BTreeMap::new();
    for entry in entries {
        let state = match &entry.what {
            WhyWhat::Copy { kind } => kind.as_str(),
            WhyWhat::Event { kind: EventKind::InstanceConflict, .. } => "conflict",
            WhyWhat::Event { kind: EventKind::OwnResultReturned, .. } => "own_result",
            WhyWhat::Event {
                kind: EventKind::InstanceRefused | EventKind::ContextsRefused,
                ..
            } => "refused",
            _ => continue,
        };
        let Some(code) = entry.reason_code.clone() else { continue };
        let about = AnswerAbout::Instances(entry.series_instance_uid.clone());
        counts.entry((about, code)).or_insert_with(|| (state.to_owned(), 0)).1 += 1;
    }
    for ((about, code), (state, count)) in counts {
        answers.push(answer(about, &state, code, count));
    }
}

fn answer(about: AnswerAbout, state: &str, reason_code: ReasonCode, count: u64) -> Answer {
    Answer { about, state: state.to_owned(), reason_code, count }
}
