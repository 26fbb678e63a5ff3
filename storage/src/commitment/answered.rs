//! Requests of senders: answered from what is durable, reported until they take the report.

use std::collections::HashMap;
use std::time::Duration;

use dicom_types::{AeTitle, SopInstanceUid, TransactionUid};
use serde_json::{Value, json};

use super::CommitmentReference;
use crate::provenance::{Event, EventKind};
use crate::store::sql::{Row, Transaction, locking, places, shape, values};
use crate::store::{DatabaseError, Store};

/// Instances looked up by one statement.
const CHUNK: usize = 500;

/// A request for commitment.
#[derive(Debug, Clone)]
pub struct NewCommitment {
    /// The sender's name for the request.
    pub transaction_uid: TransactionUid,
    /// Who asks.
    pub calling_ae_title: AeTitle,
    /// Whom they asked, and who reports to them.
    pub called_ae_title: AeTitle,
    /// What they want to be sure of.
    pub instances: Vec<CommitmentReference>,
    /// When the report is due on an association of ours: later where it is tried on theirs first.
    pub report_after: Duration,
}

/// A request and what is known of its instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commitment {
    /// The sender's name for the request.
    pub transaction_uid: TransactionUid,
    /// Who asked.
    pub calling_ae_title: AeTitle,
    /// Whom they asked.
    pub called_ae_title: AeTitle,
    /// What each instance is answered.
    pub verdicts: Vec<(CommitmentReference, CommitmentVerdict)>,
    /// Times that the report was tried on an association of ours, this one included.
    pub attempt: u32,
}

/// Whether an instance is safe here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CommitmentVerdict {
    /// Its bytes are durable and its row is committed.
    Committed,
    /// It is not here, or not any more.
    NoSuchObject,
    /// It is here as another SOP class.
    ClassConflict,
}

impl CommitmentVerdict {
    fn as_str(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::NoSuchObject => "no_such_object",
            Self::ClassConflict => "class_conflict",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        [Self::Committed, Self::NoSuchObject, Self::ClassConflict]
            .into_iter()
            .find(|verdict| verdict.as_str() == word)
    }
}

impl Store {
    /// Answers a request from what is durable now, and keeps the report until it was taken. The same request again is
    /// answered anew.
    ///
    /// # Errors
    /// Where the database cannot do it.
    pub async fn answer_commitment(
        &self,
        request: &NewCommitment,
    ) -> Result<Commitment, DatabaseError> {
        let mut transaction = self.begin().await?;
        let now = transaction.now();
        let mut verdicts = Vec::with_capacity(request.instances.len());
        for chunk in request.instances.chunks(CHUNK) {
            let known = known_classes(&mut transaction, chunk).await?;
            verdicts.extend(chunk.iter().map(|reference| {
                let verdict = match known.get(&reference.sop_instance_uid) {
                    None => CommitmentVerdict::NoSuchObject,
                    Some(class) if class == reference.sop_class_uid.as_str() => {
                        CommitmentVerdict::Committed
                    }
                    Some(_) => CommitmentVerdict::ClassConflict,
                };
                (reference.clone(), verdict)
            }));
        }
        transaction
            .execute(
                "insert into commitment (transaction_uid, calling_ae_title, called_ae_title, report, state, \
                                         requested_at, next_attempt_at) \
                 values ($1, $2, $3, $4, 'pending', $5, $6) \
                 on conflict (calling_ae_title, transaction_uid) do update \
                    set called_ae_title = $3, report = $4, state = 'pending', attempt = 0, requested_at = $5, \
                        next_attempt_at = $6, reported_at = null",
                values![
                    request.transaction_uid.as_str(),
                    request.calling_ae_title.as_str(),
                    request.called_ae_title.as_str(),
                    to_json(&verdicts).to_string(),
                    now,
                    now + request.report_after,
                ],
            )
            .await?;
        let safe =
            |(_, verdict): &&(_, CommitmentVerdict)| *verdict == CommitmentVerdict::Committed;
        let committed = verdicts.iter().filter(safe).count();
        transaction.record(Event::new(EventKind::CommitmentAnswered).with(json!({
            "calling_ae_title": request.calling_ae_title.as_str(),
            "transaction_uid": request.transaction_uid.as_str(),
            "committed": committed, "failed": verdicts.len() - committed,
        })));
        transaction.commit().await?;
        Ok(Commitment {
            transaction_uid: request.transaction_uid.clone(),
            calling_ae_title: request.calling_ae_title.clone(),
            called_ae_title: request.called_ae_title.clone(),
            verdicts,
            attempt: 0,
        })
    }

    /// Takes up to `limit` reports that are due on an association of ours; nobody else gets them within `claim`.
    ///
    /// # Errors
    /// Where the database cannot do it.
    pub async fn due_commitments(
        &self,
        limit: u32,
        claim: Duration,
    ) -> Result<Vec<Commitment>, DatabaseError> {
        let mut transaction = self.begin().await?;
        let now = transaction.now();
        let rows = transaction
            .rows(
                locking!(
                    "with due as materialized ( \
                       select calling_ae_title, transaction_uid from commitment \
                        where state = 'pending' and next_attempt_at <= $1 \
                        order by next_attempt_at limit $3",
                    ") \
                     update commitment set attempt = attempt + 1, next_attempt_at = $2 \
                      where state = 'pending' and (calling_ae_title, transaction_uid) in (select * from due) \
                     returning transaction_uid, calling_ae_title, called_ae_title, report, attempt"
                ),
                values![now, now + claim, limit],
            )
            .await?;
        transaction.commit().await?;
        rows.iter().map(read).collect()
    }

    /// Records that the sender took the report, that it is due again `retry_after` from now, or that nobody tries any
    /// more.
    ///
    /// # Errors
    /// Where the database cannot do it.
    pub async fn commitment_reported(
        &self,
        calling_ae_title: &AeTitle,
        transaction_uid: &TransactionUid,
        outcome: Reported,
    ) -> Result<(), DatabaseError> {
        let mut transaction = self.begin().await?;
        let now = transaction.now();
        let (state, reported_at, next) = match outcome {
            Reported::Taken => ("reported", Some(now), now),
            Reported::Again { after } => ("pending", None, now + after),
            Reported::GivenUp => ("failed", None, now),
        };
        transaction
            .execute(
                "update commitment set state = $1, reported_at = $2, next_attempt_at = $3 \
                  where calling_ae_title = $4 and transaction_uid = $5 and state = 'pending'",
                values![
                    state,
                    reported_at,
                    next,
                    calling_ae_title.as_str(),
                    transaction_uid.as_str(),
                ],
            )
            .await?;
        transaction.commit().await
    }
}

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reported {
    /// The sender took it.
    Taken,
    /// It did not, and is tried again.
    Again {
        /// Not sooner than this from now.
        after: Duration,
    },
    /// It did not, for long enough.
    GivenUp,
}

/// SOP classes of those instances and results that are here, bytes and all.
async fn known_classes(
    transaction: &mut Transaction,
    instances: &[CommitmentReference],
) -> Result<HashMap<SopInstanceUid, String>, DatabaseError> {
    let mut known = HashMap::new();
    for table in ["instance", "result"] {
        let mut uids = Vec::with_capacity(instances.len());
        for reference in instances {
            uids.extend(values![reference.sop_instance_uid.as_str()]);
        }
        let statement = format!(
            "select sop_instance_uid, sop_class_uid from {table} \
              where purged_at is null and sop_instance_uid in {}",
            places(0, 1, uids.len())
        );
        for row in transaction.rows(statement, uids).await? {
            known.insert(row.parse("sop_instance_uid")?, row.get("sop_class_uid")?);
        }
    }
    Ok(known)
}

fn to_json(verdicts: &[(CommitmentReference, CommitmentVerdict)]) -> Value {
    let item = |(reference, verdict): &(CommitmentReference, CommitmentVerdict)| {
        json!([
            reference.sop_class_uid.as_str(),
            reference.sop_instance_uid.as_str(),
            verdict.as_str(),
        ])
    };
    verdicts.iter().map(item).collect()
}

fn read(row: &Row) -> Result<Commitment, DatabaseError> {
    let report: Vec<[String; 3]> =
        serde_json::from_str(&row.get::<String>("report")?).map_err(|_| shape("report"))?;
    let verdicts = report.iter().map(|[class, instance, verdict]| {
        let reference = CommitmentReference {
            sop_class_uid: class.parse().ok()?,
            sop_instance_uid: instance.parse().ok()?,
        };
        Some((reference, CommitmentVerdict::from_word(verdict)?))
    });
    Ok(Commitment {
        transaction_uid: row.parse("transaction_uid")?,
        calling_ae_title: row.parse("calling_ae_title")?,
        called_ae_title: row.parse("called_ae_title")?,
        verdicts: verdicts.collect::<Option<_>>().ok_or_else(|| shape("report"))?,
        attempt: row.get::<i64>("attempt")? as u32,
    })
}
