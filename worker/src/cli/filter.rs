//! Filters that audit commands share.

use clap::Args;
use dicom_types::{AeTitle, Phi, SeriesInstanceUid, StudyInstanceUid};
use prosector_storage::{AuditFilter, Cursor, DatabaseError, JobState, Page, Store};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use super::UsageError;
use super::table::Format;

/// Which rows are wanted, how many, and how they are printed.
#[derive(Debug, Args)]
pub(super) struct Filter {
    /// Received or made at this time or later: 2026-05-01, 2026-05-01T12:00:00Z, or an age such as 7d, 12h, 30m
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<OffsetDateTime>,
    /// Received or made before this time
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<OffsetDateTime>,
    /// Patient ID; the question is recorded in the ledger
    #[arg(long, value_name = "ID")]
    patient_id: Option<String>,
    /// Accession number; the question is recorded in the ledger
    #[arg(long, value_name = "NUMBER")]
    accession: Option<String>,
    /// Study Instance UID
    #[arg(long, value_name = "UID")]
    study: Option<StudyInstanceUid>,
    /// Series Instance UID
    #[arg(long, value_name = "UID")]
    series: Option<SeriesInstanceUid>,
    /// AE title of the sender
    #[arg(long, value_name = "TITLE")]
    ae: Option<AeTitle>,
    /// With a job in this state
    #[arg(long, value_name = "STATE")]
    state: Option<JobState>,
    /// Rows at most
    #[arg(long, default_value_t = 100, value_name = "N")]
    limit: u32,
    /// Continue behind this place, which the page before named
    #[arg(long, value_name = "CURSOR")]
    after: Option<Cursor>,
    /// How the table is printed
    #[arg(long, value_enum, default_value_t)]
    pub(super) format: Format,
}

impl Filter {
    pub(super) fn audit(&self) -> AuditFilter {
        AuditFilter {
            since: self.since,
            until: self.until,
            state: self.state,
            study_instance_uid: self.study.clone(),
            series_instance_uid: self.series.clone(),
            calling_ae_title: self.ae.clone(),
            patient_id: self.patient_id.clone().map(Phi::new),
            accession_number: self.accession.clone().map(Phi::new),
        }
    }

    pub(super) fn page(&self) -> Page {
        Page { limit: self.limit, after: self.after.clone() }
    }

    pub(super) fn since(&self) -> Option<OffsetDateTime> {
        self.since
    }

    pub(super) fn until(&self) -> Option<OffsetDateTime> {
        self.until
    }

    pub(super) fn limit(&self) -> u32 {
        self.limit
    }

    /// Has the ledger record a question that names a patient, before it is answered.
    pub(super) async fn note(&self, store: &Store, question: &str) -> Result<(), DatabaseError> {
        if self.patient_id.is_none() && self.accession.is_none() {
            return Ok(());
        }
        store.note_identity_question(question, "cli", &self.audit()).await
    }

    /// Refuses what does not restrict the entries of the ledger, so that no answer is wider than its question.
    pub(super) fn check_for_events(&self) -> Result<(), UsageError> {
        for (is_given, name) in [
            (self.ae.is_some(), "--ae"),
            (self.state.is_some(), "--state"),
            (self.after.is_some(), "--after (use --after-seq)"),
        ] {
            if is_given {
                return Err(UsageError(format!("entries of the ledger have no {name}")));
            }
        }
        Ok(())
    }
}

/// Reads a point in time: RFC 3339, a date (midnight UTC), or how long ago it is.
pub(crate) fn parse_time(text: &str) -> Result<OffsetDateTime, String> {
    if let Ok(time) = OffsetDateTime::parse(text, &Rfc3339) {
        return Ok(time);
    }
    if let Ok(time) = OffsetDateTime::parse(&format!("{text}T00:00:00Z"), &Rfc3339) {
        return Ok(time);
    }
    let split = text.len().saturating_sub(1);
    let (number, unit) = text.split_at_checked(split).unwrap_or((text, ""));
    let age = number.parse::<i64>().ok().filter(|age| *age >= 0).and_then(|age| match unit {
        "d" => age.checked_mul(86_400),
        "h" => age.checked_mul(3_600),
        "m" => age.checked_mul(60),
        "s" => Some(age),
        _ => None,
    });
    age.and_then(|seconds| OffsetDateTime::now_utc().checked_sub(Duration::seconds(seconds)))
        .ok_or_else(|| "expected 2026-05-01, 2026-05-01T12:00:00Z, or an age such as 7d".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_dates_times_and_ages() {
        let midnight = parse_time("2026-05-01").unwrap();
        let noon = parse_time("2026-05-01T12:00:00Z").unwrap();
        let yesterday = OffsetDateTime::now_utc() - parse_time("1d").unwrap();

        assert_eq!(noon - midnight, Duration::hours(12));
        assert!((yesterday - Duration::days(1)).abs() < Duration::seconds(10));
        for text in ["", "d", "-1d", "yesterday", "2026-13-01", "99999999999999999d", "é"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }
}
