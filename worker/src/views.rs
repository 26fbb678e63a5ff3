//! What lists show of studies, jobs and events: the same columns on the terminal, in REST answers and on the page.

use std::fmt::Write as _;

use prosector_storage::{
    Answer, AnswerAbout, DeliveryRow, DeliverySummary, Finding, JobDetail, JobSummary, ReasonCode,
    RecordedEvent, SeriesSummary, StoredInstance, StudySummary, TargetMeasurement, Why, WhyEntry,
    WhyWhat,
};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A kind of row: its columns, and their values for one thing.
pub(crate) trait View {
    /// Names of the columns.
    const COLUMNS: &'static [&'static str];

    /// One value for each column.
    fn values(&self) -> Vec<Value>;

    /// The row as an object.
    fn object(&self) -> Value {
        let names = Self::COLUMNS.iter().map(ToString::to_string);
        Value::Object(names.zip(self.values()).collect::<Map<_, _>>())
    }
}

/// A time as RFC 3339 in UTC, to the second.
pub(crate) fn time_text(time: OffsetDateTime) -> String {
    let whole = time.replace_nanosecond(0).unwrap_or(time);
    whole.format(&Rfc3339).unwrap_or_default()
}

fn time(time: OffsetDateTime) -> Value {
    time_text(time).into()
}

fn optional_time(value: Option<OffsetDateTime>) -> Value {
    value.map_or(Value::Null, time)
}

impl View for StudySummary {
    const COLUMNS: &'static [&'static str] = &[
        "study_instance_uid",
        "first_received_at",
        "last_received_at",
        "series",
        "unsettled_series",
        "instances",
        "jobs",
        "open_jobs",
        "bad_jobs",
    ];

    fn values(&self) -> Vec<Value> {
        vec![
            json!(self.study_instance_uid.as_str()),
            time(self.first_received_at),
            time(self.last_received_at),
            json!(self.series),
            json!(self.unsettled_series),
            json!(self.instances),
            json!(self.jobs),
            json!(self.open_jobs),
            json!(self.bad_jobs),
        ]
    }
}

impl View for SeriesSummary {
    const COLUMNS: &'static [&'static str] = &[
        "series_instance_uid",
        "modality",
        "instances",
        "last_received_at",
        "settled_at",
        "outcome",
        "reason_code",
        "reason",
    ];

    fn values(&self) -> Vec<Value> {
        let matched = self
            .decisions
            .iter()
            .find(|decision| decision.outcome == prosector_storage::DecisionOutcome::Matched);
        let of_series = || self.decisions.iter().find(|decision| decision.protocol_name.is_none());
        let decision = matched.or_else(of_series).or(self.decisions.last());
        vec![
            json!(self.series_instance_uid.as_str()),
            json!(self.modality),
            json!(self.instances),
            time(self.last_received_at),
            optional_time(self.settled_at.filter(|_| self.is_settled)),
            decision.map_or(Value::Null, |decision| json!(decision.outcome.as_str())),
            decision.map_or(Value::Null, |decision| json!(decision.reason_code.as_str())),
            decision.map_or(Value::Null, |decision| json!(decision.reason)),
        ]
    }
}

impl View for StoredInstance {
    const COLUMNS: &'static [&'static str] = &[
        "sop_instance_uid",
        "series_instance_uid",
        "sop_class_uid",
        "transfer_syntax_uid",
        "instance_number",
        "sha256",
        "size_bytes",
        "spool_key",
        "received_at",
        "purged_at",
    ];

    fn values(&self) -> Vec<Value> {
        vec![
            json!(self.sop_instance_uid.as_str()),
            json!(self.series_instance_uid.as_str()),
            json!(self.sop_class_uid.as_str()),
            json!(self.transfer_syntax_uid.as_str()),
            json!(self.instance_number),
            json!(self.sha256.to_string()),
            json!(self.size_bytes),
            json!(self.spool_key.as_str()),
            time(self.received_at),
            optional_time(self.purged_at),
        ]
    }
}

impl View for JobSummary {
    const COLUMNS: &'static [&'static str] = &[
        "job_id",
        "series_instance_uid",
        "study_instance_uid",
        "modality",
        "protocol",
        "protocol_revision",
        "pack_digest",
        "priority",
        "state",
        "reason_code",
        "reason",
        "attempt",
        "created_at",
        "started_at",
        "finished_at",
        "deliveries",
        "delivered",
        "lane",
    ];

    fn values(&self) -> Vec<Value> {
        vec![
            json!(self.job_id.to_string()),
            json!(self.series_instance_uid.as_str()),
            json!(self.study_instance_uid.as_str()),
            json!(self.modality),
            json!(self.protocol_name),
            json!(self.protocol_revision.to_string()),
            json!(self.pack_digest.to_string()),
            json!(self.priority.as_str()),
            json!(self.state.as_str()),
            json!(self.reason_code.as_ref().map(ToString::to_string)),
            json!(self.reason),
            json!(self.attempt),
            time(self.created_at),
            optional_time(self.started_at),
            optional_time(self.finished_at),
            json!(self.deliveries),
            json!(self.delivered),
            json!(self.lane.as_str()),
        ]
    }
}

impl View for TargetMeasurement {
    const COLUMNS: &'static [&'static str] =
        &["prompt", "segment_number", "voxel_count", "volume_ml"];

    fn values(&self) -> Vec<Value> {
        vec![
            json!(self.prompt),
            json!(self.segment_number),
            json!(self.voxel_count),
            json!(self.volume_ml),
        ]
    }
}

impl View for Finding {
    const COLUMNS: &'static [&'static str] = &["prompt", "finding", "detail"];

    fn values(&self) -> Vec<Value> {
        vec![json!(self.prompt), json!(self.kind.as_str()), json!(self.detail)]
    }
}

impl View for DeliverySummary {
    const COLUMNS: &'static [&'static str] = &[
        "destination",
        "form",
        "sop_instance_uid",
        "state",
        "replaced_by",
        "attempt",
        "last_status",
        "reason_code",
        "next_attempt_at",
        "delivered_at",
    ];

    fn values(&self) -> Vec<Value> {
        vec![
            json!(self.destination),
            json!(self.form.as_str()),
            json!(self.sop_instance_uid.as_str()),
            json!(self.state.as_str()),
            json!(self.replaced_by.map(prosector_storage::ResultForm::as_str)),
            json!(self.attempt),
            json!(self.last_status.map(|status| format!("{status:04X}H"))),
            json!(self.reason_code.as_ref().map(ToString::to_string)),
            time(self.next_attempt_at),
            optional_time(self.delivered_at),
        ]
    }
}

impl View for DeliveryRow {
    const COLUMNS: &'static [&'static str] = &[
        "job_id",
        "destination",
        "state",
        "attempt",
        "last_status",
        "reason_code",
        "created_at",
        "next_attempt_at",
        "delivered_at",
    ];

    fn values(&self) -> Vec<Value> {
        vec![
            json!(self.job_id.to_string()),
            json!(self.destination),
            json!(self.state.as_str()),
            json!(self.attempt),
            json!(self.last_status.map(|status| format!("{status:04X}H"))),
            json!(self.reason_code.as_ref().map(ToString::to_string)),
            time(self.created_at),
            time(self.next_attempt_at),
            optional_time(self.delivered_at),
        ]
    }
}

impl View for RecordedEvent {
    const COLUMNS: &'static [&'static str] = &[
        "seq",
        "recorded_at",
        "kind",
        "reason_code",
        "actor",
        "study_instance_uid",
        "series_instance_uid",
        "sop_instance_uid",
        "job_id",
        "destination",
        "detail",
        "previous_hash",
        "hash",
    ];

    fn values(&self) -> Vec<Value> {
        let event = &self.event;
        vec![
            json!(self.seq),
            json!(self.recorded_at.format(&Rfc3339).unwrap_or_default()),
            json!(event.kind.as_str()),
            json!(event.reason_code.as_ref().map(ToString::to_string)),
            json!(self.actor),
            json!(event.study_instance_uid.as_ref().map(ToString::to_string)),
            json!(event.series_instance_uid.as_ref().map(ToString::to_string)),
            json!(event.sop_instance_uid.as_ref().map(ToString::to_string)),
            json!(event.job_id.map(|id| id.to_string())),
            json!(event.destination),
            event.detail.clone(),
            json!(self.previous_hash.to_string()),
            json!(self.hash.to_string()),
        ]
    }
}

/// A job with all that belongs to it.
pub(crate) fn job_detail(job: &JobDetail) -> Value {
    let results: Vec<Value> = job
        .results
        .iter()
        .map(|result| {
            json!({
                "sop_instance_uid": result.sop_instance_uid.as_str(),
                "series_instance_uid": result.series_instance_uid.as_str(),
                "form": result.form.as_str(),
                "sha256": result.sha256.to_string(),
                "size_bytes": result.size_bytes,
            })
        })
        .collect();
    let mut detail = job.summary.object();
    detail["targets"] = job.targets.iter().map(View::object).collect();
    detail["findings"] = job.findings.iter().map(View::object).collect();
    detail["results"] = results.into();
    detail["delivery"] = job.deliveries.iter().map(View::object).collect();
    detail["timeline"] = job.timeline.iter().map(View::object).collect();
    detail
}

/// One thing that happened, as a sentence.
pub(crate) fn sentence(entry: &WhyEntry) -> String {
    let mut words = match &entry.what {
        WhyWhat::Event { kind, .. } => kind.to_string(),
        WhyWhat::Decision { protocol_name, outcome, reason } => {
            let is_a_part = entry.reason_code == Some(ReasonCode::PART_LEFT_OUT);
            let series = if is_a_part { "a part of the series" } else { "the series" };
            let about = protocol_name.as_deref().unwrap_or(series);
            format!("{about}: {outcome}, {reason}")
        }
        WhyWhat::Copy { kind } => format!("received again: {kind}"),
    };
    if let Some(reason_code) = &entry.reason_code {
        let _ = write!(words, " [{reason_code}]");
    }
    if let Some(job) = entry.job_id {
        let _ = write!(words, " job {job}");
    }
    if let Some(destination) = &entry.destination {
        let _ = write!(words, " to {destination}");
    }
    words
}

/// The answer to a question, as an object.
pub(crate) fn why_object(why: &Why) -> Value {
    let studies: Vec<Value> = why
        .studies
        .iter()
        .map(|study| {
            let entries: Vec<Value> = study.entries.iter().map(entry_object).collect();
            let series: Vec<Value> = study.series.iter().map(View::object).collect();
            let jobs: Vec<Value> = study.jobs.iter().map(View::object).collect();
            json!({
                "study_instance_uid": study.study_instance_uid.as_str(),
                "answers": study.answers().iter().map(answer_object).collect::<Vec<_>>(),
                "entries": entries,
                "series": series,
                "jobs": jobs,
            })
        })
        .collect();
    let refusals: Vec<Value> = why.recent_refusals.iter().map(View::object).collect();
    json!({ "studies": studies, "recent_refusals": refusals })
}

fn entry_object(entry: &WhyEntry) -> Value {
    json!({
        "at": time_text(entry.at),
        "what": sentence(entry),
        "reason_code": entry.reason_code.as_ref().map(ToString::to_string),
        "series_instance_uid": entry.series_instance_uid.as_ref().map(ToString::to_string),
        "sop_instance_uid": entry.sop_instance_uid.as_ref().map(ToString::to_string),
        "job_id": entry.job_id.map(|id| id.to_string()),
        "destination": entry.destination,
    })
}

/// What a short answer is about, for a person.
pub(crate) fn subject(about: &AnswerAbout) -> String {
    match about {
        AnswerAbout::Series(uid) => format!("series {uid}"),
        AnswerAbout::Protocol(uid, protocol) => format!("series {uid} and protocol {protocol}"),
        AnswerAbout::Job(id) => format!("job {id}"),
        AnswerAbout::Delivery(id, destination) => format!("delivery of job {id} to {destination}"),
        AnswerAbout::Instances(Some(uid)) => format!("instances of series {uid}"),
        AnswerAbout::Instances(None) => "instances".to_owned(),
    }
}

fn answer_object(answer: &Answer) -> Value {
    json!({
        "about": subject(&answer.about),
        "state": answer.state,
        "reason_code": answer.reason_code.as_str(),
        "count": answer.count,
    })
}
