//! `prosector why`: everything that happened to a study, or why nothing did.

use std::fmt::Write as _;

use anyhow::Result;
use clap::Args;
use dicom_types::Phi;
use prosector_storage::{StudyStory, Why};

use super::table::Format;
use super::{Outcome, output};
use crate::config::Config;
use crate::views::{sentence, subject, time_text, why_object};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Accession number, patient id, job id, or UID of a study, series, instance or result
    #[arg(value_name = "ACCESSION|UID")]
    words: String,
    /// How it is printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) async fn run(arguments: &Arguments, config: &Config) -> Result<Outcome> {
    let store = super::connect(config).await?;
    let why = store.why(&Phi::new(arguments.words.clone())).await?;
    let text = match arguments.format {
        Format::Json => serde_json::to_string_pretty(&why_object(&why))? + "\n",
        Format::Table | Format::Csv => story(&why),
    };
    output::print(&text)?;
    Ok(if why.studies.is_empty() { Outcome::Failed } else { Outcome::Done })
}

fn story(why: &Why) -> String {
    let mut text = String::new();
    if why.studies.is_empty() {
        text.push_str("nothing is known under these words: nothing of it was received\n");
        for event in &why.recent_refusals {
            let reason = event.event.reason_code.as_ref().map(ToString::to_string);
            let detail = &event.event.detail;
            let peer = detail["calling_ae_title"].as_str().or(detail["peer_address"].as_str());
            let peer = peer.map(|peer| format!(" from {peer}")).unwrap_or_default();
            let _ = writeln!(
                text,
                "  refused lately: {} {} {}{peer}",
                time_text(event.recorded_at),
                event.event.kind,
                reason.unwrap_or_default()
            );
        }
    }
    for study in &why.studies {
        tell(study, &mut text);
    }
    text
}

fn tell(study: &StudyStory, text: &mut String) {
    let _ = writeln!(text, "study {}", study.study_instance_uid);
    for answer in study.answers() {
        let _ = writeln!(
            text,
            "  {}: {} [{}]{}",
            subject(&answer.about),
            answer.state,
            answer.reason_code,
            if answer.count > 1 { format!(" ({})", answer.count) } else { String::new() }
        );
    }
    text.push_str(" what happened\n");
    // Instances come by the hundred: lines that say the same are told once, with their number.
    for same in study.entries.chunk_by(|a, b| sentence(a) == sentence(b)) {
        let (Some(first), Some(last)) = (same.first(), same.last()) else { continue };
        let _ = write!(text, "  {}  {}", time_text(first.at), sentence(first));
        if same.len() > 1 {
            let _ = write!(text, ", {} times until {}", same.len(), time_text(last.at));
        }
        text.push('\n');
    }
    for series in &study.series {
        let state = if series.is_settled { "complete" } else { "still arriving" };
        let _ = writeln!(
            text,
            "  series {}: {} instances, {state}",
            series.series_instance_uid, series.instances
        );
    }
    for job in &study.jobs {
        let reason = job.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let _ = writeln!(
            text,
            "  job {} ({}): {}{reason}, {} of {} deliveries done",
            job.job_id, job.protocol_name, job.state, job.delivered, job.deliveries
        );
    }
    for delivery in &study.open_deliveries {
        let reason = delivery.reason_code.as_ref().map(|code| format!(": {code}"));
        let reason = reason.unwrap_or_default();
        let (form, destination) = (delivery.form, &delivery.destination);
        let _ = match delivery.replaced_by {
            Some(other) => {
                writeln!(text, "  {destination} takes no {form}{reason}, {other} takes its place")
            }
            None => {
                writeln!(text, "  delivery of {form} to {destination}: {}{reason}", delivery.state)
            }
        };
    }
}
