//! What is odd about a result, for a person to look at.

use serde_json::json;

use crate::store::DatabaseError;
use crate::store::sql::{Row, Transaction, values};
use crate::words::words;

use super::JobId;

words! {
    /// What is odd about a target.
    FindingKind, ParseFindingKindError;
    /// Not there although its part of the body is.
    Empty = "empty",
    /// Goes on beyond the border of the volume.
    CutOff = "cut_off",
    /// In more parts than it has.
    Fragments = "fragments",
    /// On the other side of the body.
    Side = "side",
    /// Smaller or larger than the protocol expects.
    Volume = "volume",
}

/// One thing that is odd about one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The target's text prompt.
    pub prompt: String,
    /// What is odd.
    pub kind: FindingKind,
    /// The same for a person: numbers and words of ours.
    pub detail: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.prompt, self.detail)
    }
}

/// What a job found odd takes the place of what an earlier run did.
pub(super) async fn replace_findings(
    transaction: &mut Transaction,
    job_id: JobId,
    findings: &[Finding],
) -> Result<(), DatabaseError> {
    transaction
        .execute("delete from job_finding where job_id = $1", values![*job_id.as_uuid()])
        .await?;
    for (index, finding) in findings.iter().enumerate() {
        transaction
            .execute(
                "insert into job_finding (job_id, finding_number, prompt, kind, detail) \
                 values ($1, $2, $3, $4, $5)",
                values![
                    *job_id.as_uuid(),
                    index as u64 + 1,
                    &finding.prompt,
                    finding.kind.as_str(),
                    &finding.detail,
                ],
            )
            .await?;
    }
    Ok(())
}

/// For the ledger: which targets are odd, and how.
pub(super) fn for_ledger(findings: &[Finding]) -> serde_json::Value {
    findings.iter().map(|f| json!({ "prompt": f.prompt, "kind": f.kind.as_str() })).collect()
}

pub(crate) fn read_finding(row: &Row) -> Result<Finding, DatabaseError> {
    Ok(Finding { prompt: row.get("prompt")?, kind: row.parse("kind")?, detail: row.get("detail")? })
}
