//! Filters and pages, and how they become conditions of a statement.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use dicom_types::{AeTitle, Phi, SeriesInstanceUid, StudyInstanceUid};
use time::OffsetDateTime;

use crate::job::JobState;
use crate::store::instant::{from_text, to_text};
use crate::store::sql::{Value, values};

/// Which studies, jobs or instances are wanted; what is absent does not restrict.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Arrived or made at this time or later.
    pub since: Option<OffsetDateTime>,
    /// Arrived or made before this time.
    pub until: Option<OffsetDateTime>,
    /// With a job in this state.
    pub state: Option<JobState>,
    /// This study.
    pub study_instance_uid: Option<StudyInstanceUid>,
    /// This series.
    pub series_instance_uid: Option<SeriesInstanceUid>,
    /// Sent by this AE title.
    pub calling_ae_title: Option<AeTitle>,
    /// Of this patient. Needs the right to read `patient_identity`; record [`crate::EventKind::IdentifiersRead`].
    pub patient_id: Option<Phi<String>>,
    /// With this accession number. Needs the same right.
    pub accession_number: Option<Phi<String>>,
}

/// Where a page begins: behind the last row of the page before. Prints and parses as one word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    pub(super) at: OffsetDateTime,
    pub(super) key: String,
}

/// A word that is no cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a page cursor")]
pub struct ParseCursorError;

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", to_text(self.at), self.key)
    }
}

impl FromStr for Cursor {
    type Err = ParseCursorError;

    fn from_str(text: &str) -> Result<Self, ParseCursorError> {
        let (at, key) = text.split_once('_').ok_or(ParseCursorError)?;
        let at = from_text(at).ok_or(ParseCursorError)?;
        let is_key =
            key.bytes().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b'.' | b'-'));
        if !is_key || key.is_empty() || key.len() > 64 {
            return Err(ParseCursorError);
        }
        Ok(Self { at, key: key.to_owned() })
    }
}

/// Which part of a list is wanted, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Rows at most.
    pub limit: u32,
    /// Behind this place; absent for the first page.
    pub after: Option<Cursor>,
}

impl Page {
    /// The first `limit` rows.
    pub fn first(limit: u32) -> Self {
        Self { limit, after: None }
    }
}

/// A page of rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Listing<T> {
    /// The rows, newest first.
    pub rows: Vec<T>,
    /// Where the next page begins, where there is one.
    pub next: Option<Cursor>,
}

impl<T> Listing<T> {
    /// Cuts `rows`, of which one more than the page's limit was read, to the page.
    pub(super) fn cut(mut rows: Vec<T>, limit: u32, cursor: impl Fn(&T) -> Cursor) -> Self {
        let has_more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        let next = if has_more { rows.last().map(cursor) } else { None };
        Self { rows, next }
    }
}

/// Conditions joined by `and`, and the values that they bind. Pieces are fixed text; values are only ever bound.
pub(super) struct Conditions {
    pub(super) text: String,
    pub(super) bound: Vec<Value>,
}

impl Conditions {
    pub(super) fn new() -> Self {
        Self { text: String::from("1 = 1"), bound: Vec::new() }
    }

    /// Adds `before $n after`, where there is a value.
    pub(super) fn add(&mut self, before: &str, value: Option<impl Into<Value>>, after: &str) {
        if let Some(value) = value {
            self.bound.push(value.into());
            let number = self.bound.len();
            let _ = write!(self.text, " and {before} ${number}{after}");
        }
    }

    /// Adds the conditions of `filter` on rows that have a study, a series and a time. `series` and `study` name the
    /// columns with the UIDs, `at` the time.
    pub(super) fn add_filter(&mut self, filter: &AuditFilter, study: &str, series: &str, at: &str) {
        self.add(&format!("{at} >="), filter.since, "");
        self.add(&format!("{at} <"), filter.until, "");
        let uid = filter.study_instance_uid.as_ref().map(StudyInstanceUid::as_str);
        self.add(&format!("{study} ="), uid, "");
        let uid = filter.series_instance_uid.as_ref().map(SeriesInstanceUid::as_str);
        self.add(&format!("{series} ="), uid, "");
        self.add(
            &format!(
                "exists (select 1 from instance \
                   join association on association.association_id = instance.association_id \
                  where instance.series_instance_uid = {series} and association.calling_ae_title ="
            ),
            filter.calling_ae_title.as_ref().map(AeTitle::as_str),
            ")",
        );
        self.add_identity(filter, study);
    }

    pub(super) fn add_identity(&mut self, filter: &AuditFilter, study: &str) {
        let identified = |column| {
            format!("{study} in (select study_instance_uid from patient_identity where {column} =")
        };
        self.add(&identified("patient_id"), filter.patient_id.as_ref(), ")");
        self.add(&identified("accession_number"), filter.accession_number.as_ref(), ")");
    }

    /// Adds the page's beginning: behind its cursor in the order of time and key, both descending.
    pub(super) fn add_page(&mut self, page: &Page, at: &str, key: &str, key_value: Option<Value>) {
        let (Some(cursor), Some(key_value)) = (&page.after, key_value) else { return };
        self.bound.extend(values![cursor.at]);
        self.bound.push(key_value);
        let [time, last] = [self.bound.len() - 1, self.bound.len()];
        let _ = write!(self.text, " and ({at} < ${time} or ({at} = ${time} and {key} < ${last}))");
    }

    /// Adds one more value and returns its number.
    pub(super) fn bind(&mut self, value: impl Into<Value>) -> usize {
        self.bound.push(value.into());
        self.bound.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_prints_and_parses() {
        let text = "2026-01-31T08:15:00.000001Z_1.2.3";

        let cursor: Cursor = text.parse().unwrap();

        assert_eq!(cursor.to_string(), text);
        for text in ["", "x_1", "2026-01-31T08:15:00.000001Z_", "2026-01-31T08:15:00.000001Z_a b"] {
            assert_eq!(text.parse::<Cursor>(), Err(ParseCursorError), "{text}");
        }
    }

    #[test]
    fn a_filter_binds_its_values_and_never_splices_them() {
        let filter = AuditFilter {
            patient_id: Some(Phi::new("x' or '1' = '1".to_owned())),
            calling_ae_title: Some("MODALITY".parse().unwrap()),
            ..AuditFilter::default()
        };
        let mut conditions = Conditions::new();

        conditions.add_filter(&filter, "job.study", "job.series", "job.created_at");

        assert_eq!(conditions.bound.len(), 2);
        assert!(!conditions.text.contains("or '1'"));
        assert!(conditions.text.contains("association.calling_ae_title = $1)"));
        assert!(conditions.text.contains("patient_id = $2)"));
    }
}
