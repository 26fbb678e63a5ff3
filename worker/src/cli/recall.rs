//! `prosector recall`: takes back the results of a faulty pack or protocol.

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use dicom_io::rejection_note::{self, RejectedInstance, RejectionNoteContent, RejectionReason};
use dicom_io::seg::SegIdentity;
use prosector_storage::{
    LocalFiles, NewDelivery, NewResult, ReasonCode, RecallScope, RecallSubject, RecallableJob,
    RecallableResult, ResultForm, Sha256Digest, Spool, SpoolKey, Store,
};
use serde_json::json;
use time::OffsetDateTime;

use super::filter::parse_time;
use super::table::{Format, Table};
use super::{Outcome, output};
use crate::config::Config;
use crate::serve::open_spool;

/// Series Number of a rejection note: behind images and results.
const SERIES_NUMBER: u32 = 9990;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    of: Subject,
    /// Results made at this time or later: 2026-05-01, 2026-05-01T12:00:00Z, or an age such as 7d
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<OffsetDateTime>,
    /// Only list what would be recalled
    #[arg(long)]
    dry_run: bool,
    /// Why: the title of the rejection notes
    #[arg(long, value_enum, default_value_t)]
    reason: Reason,
    /// How the table is printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Subject {
    /// Digest of the model pack, 64 hexadecimal digits as `model inspect` and `job list` show it
    #[arg(long, value_name = "DIGEST")]
    pack: Option<Sha256Digest>,
    /// Name of the protocol
    #[arg(long, value_name = "NAME")]
    protocol: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Reason {
    /// Rejected for Quality Reasons (113001, DCM)
    #[default]
    Quality,
    /// Rejected for Patient Safety Reasons (113037, DCM)
    Safety,
    /// Data Retention Policy Expired (113039, DCM)
    Retention,
}

impl Reason {
    fn title(self) -> RejectionReason {
        match self {
            Self::Quality => RejectionReason::Quality,
            Self::Safety => RejectionReason::PatientSafety,
            Self::Retention => RejectionReason::RetentionExpired,
        }
    }

    fn code(self) -> ReasonCode {
        match self {
            Self::Quality => ReasonCode::new("recalled_for_quality"),
            Self::Safety => ReasonCode::new("recalled_for_patient_safety"),
            Self::Retention => ReasonCode::new("recalled_by_retention"),
        }
    }
}

pub(super) async fn run(arguments: &Arguments, config: &Config) -> Result<Outcome> {
    let store = super::connect(config).await?;
    let of = match (&arguments.of.pack, &arguments.of.protocol) {
        (Some(digest), _) => RecallSubject::Pack(*digest),
        (None, name) => RecallSubject::Protocol(name.clone().unwrap_or_default()),
    };
    let scope = RecallScope { of, since: arguments.since };
    let jobs = store.recallable(&scope).await?;
    let mut table = Table::new(COLUMNS);
    if arguments.dry_run || jobs.is_empty() {
        for job in &jobs {
            push(&mut table, job, |result| plan(job, result));
        }
        output::print(&table.render(arguments.format)?)?;
        return Ok(Outcome::Done);
    }
    let spool = open_spool(config).await?;
    let code = arguments.reason.code();
    let recall_id = store.order_recall(&scope, &code).await?;
    let mut is_whole = true;
    for job in &jobs {
        let note = match note(&store, &spool, job, arguments.reason).await {
            Ok(note) => note,
            Err(error) => {
                tracing::error!(job.id = %job.job_id, error = format!("{error:#}"), "no rejection note");
                is_whole = false;
                None
            }
        };
        store.recall_results(recall_id, &code, job, note.as_ref()).await?;
        tracing::info!(job.id = %job.job_id, results = job.results.len(), reason_code = %code, "results recalled");
        push(&mut table, job, |result| done(result, note.as_ref()));
    }
    output::print(&table.render(arguments.format)?)?;
    Ok(if is_whole { Outcome::Done } else { Outcome::Failed })
}

const COLUMNS: &[&str] = &[
    "job_id",
    "study_instance_uid",
    "protocol",
    "pack_digest",
    "sop_instance_uid",
    "form",
    "sent_to",
    "waits_for",
    "action",
];

fn push(table: &mut Table, job: &RecallableJob, action: impl Fn(&RecallableResult) -> String) {
    for result in &job.results {
        table.push(vec![
            json!(job.job_id.to_string()),
            json!(job.study_instance_uid.as_str()),
            json!(job.protocol_name),
            json!(job.pack_digest.to_string()),
            json!(result.sop_instance_uid.as_str()),
            json!(result.form.as_str()),
            json!(result.sent_to),
            json!(result.waits_for),
            json!(action(result)),
        ]);
    }
}

fn plan(job: &RecallableJob, result: &RecallableResult) -> String {
    if job.destinations().is_empty() {
        return "would not be sent".to_owned();
    }
    format!("would be retracted from {}", result.sent_to.join(", "))
}

fn done(result: &RecallableResult, note: Option<&NewResult>) -> String {
    match note {
        Some(note) => format!("retracted by {}", note.sop_instance_uid),
        None if result.sent_to.is_empty() => "not sent any more".to_owned(),
        None => "marked only".to_owned(),
    }
}

/// A note that retracts the results of `job` that have been sent, durable in the spool; none where nothing was sent.
async fn note(
    store: &Store,
    spool: &Spool,
    job: &RecallableJob,
    reason: Reason,
) -> Result<Option<NewResult>> {
    let sent: Vec<RejectedInstance> = job
        .results
        .iter()
        .filter(|result| !result.sent_to.is_empty())
        .map(|result| RejectedInstance {
            series_instance_uid: result.series_instance_uid.clone(),
            sop_instance_uid: result.sop_instance_uid.clone(),
            sop_class_uid: result.sop_class_uid.clone(),
        })
        .collect();
    if sent.is_empty() {
        return Ok(None);
    }
    let source = source(store, spool, job).await?;
    let identity = SegIdentity {
        job_id: job.job_id.into(),
        created: OffsetDateTime::now_utc(),
        series_number: SERIES_NUMBER,
    };
    let description = format!(
        "Result of protocol {} with model pack {} recalled.",
        job.protocol_name, job.pack_digest
    );
    let study = job.study_instance_uid.clone();
    let note = tokio::task::spawn_blocking(move || {
        let content = RejectionNoteContent {
            study_instance_uid: &study,
            rejected: &sent,
            reason: reason.title(),
            description: &description,
            identity: &identity,
            software_version: env!("CARGO_PKG_VERSION"),
            device_serial_number: "prosector",
        };
        let source = source.paths().first().context("no file to take patient and study from")?;
        Ok::<_, anyhow::Error>(rejection_note::build(source, &content)?)
    })
    .await??;
    let spool_key = SpoolKey::for_result(job.job_id, &note.sop_instance_uid);
    spool.put(&spool_key, &note.bytes).await?;
    let to = |destination| NewDelivery { destination, fallbacks: Vec::new() };
    let deliveries = job.destinations().into_iter().map(to).collect();
    Ok(Some(NewResult {
        sha256: Sha256Digest::of(&note.bytes),
        size_bytes: note.bytes.len() as u64,
        sop_instance_uid: note.sop_instance_uid,
        series_instance_uid: note.series_instance_uid,
        sop_class_uid: note.sop_class_uid,
        form: ResultForm::RejectionNote,
        refers_to: None,
        spool_key,
        deliveries,
    }))
}

/// A file that patient and study can be taken from: a result, or an instance that it was made from.
async fn source(store: &Store, spool: &Spool, job: &RecallableJob) -> Result<LocalFiles> {
    if let Some(key) = job.results.iter().find_map(|result| result.spool_key.as_ref()) {
        return Ok(spool.fetch(vec![key.clone()]).await?);
    }
    let instances = store.job_instances(job.job_id).await?;
    let instance = instances.iter().find(|instance| instance.purged_at.is_none());
    let instance = instance.context("neither a result nor an instance is in the spool any more")?;
    Ok(spool.fetch(vec![instance.spool_key.clone()]).await?)
}
