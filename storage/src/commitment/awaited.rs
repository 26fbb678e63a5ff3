//! Results that destinations have and have not committed to yet.

use std::time::Duration;

use dicom_types::{
    SeriesInstanceUid, SopClassUid, SopInstanceUid, StudyInstanceUid, TransactionUid,
};
use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::delivery::{
    DeliveryError, DeliveryId, DeliveryState, LeasedDelivery, about, update_leased,
};
use crate::job::JobId;
use crate::provenance::{Event, EventKind, ReasonCode};
use crate::spool::SpoolKey;
use crate::store::sql::{locking, places, values};
use crate::store::{DatabaseError, Store};

/// A result that a destination is to be asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwaitedDelivery {
    /// The delivery.
    pub delivery_id: DeliveryId,
    /// The job that made the result.
    pub job_id: JobId,
    /// The study that the result belongs to.
    pub study_instance_uid: StudyInstanceUid,
    /// Series of the result.
    pub series_instance_uid: SeriesInstanceUid,
    /// The result.
    pub sop_instance_uid: SopInstanceUid,
    /// Its SOP class.
    pub sop_class_uid: SopClassUid,
    /// Where its bytes are.
    pub spool_key: SpoolKey,
    /// Since when the result waits for this destination.
    pub created_at: OffsetDateTime,
}

/// What becomes of a result that a destination was asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeliveryVerdict {
    /// The destination has committed to it.
    Committed,
    /// The destination has it: it was asked for.
    Proven {
        /// In which way, a word for the ledger.
        proof: &'static str,
    },
    /// It does not have it: it is sent again.
    SendAgain {
        /// Why, as a code.
        reason_code: ReasonCode,
        /// Not sooner than this from now.
        after: Duration,
    },
    /// It will never commit to it.
    Failed {
        /// Why, as a code.
        reason_code: ReasonCode,
    },
}

impl Store {
    /// Records that the destination has the result and is to be asked to commit to it. `status` is what it answered.
    ///
    /// # Errors
    /// [`DeliveryError::Lost`] where another process has the delivery.
    pub async fn delivery_sent(
        &self,
        lease: &LeasedDelivery,
        status: u16,
    ) -> Result<(), DeliveryError> {
        let mut transaction = self.begin().await?;
        let now = transaction.now();
        let change = "state = 'sent', sent_at = $4, next_attempt_at = $4, last_status = $5, reason_code = null, \
                      transaction_uid = null, lease_owner = null, lease_expires_at = null";
        update_leased(&mut transaction, lease, change, values![now, u32::from(status)]).await?;
        let event = about(EventKind::ResultSent, lease);
        transaction.record(event.with(json!({ "status": status, "attempt": lease.attempt })));
        transaction.commit().await?;
        Ok(())
    }

    /// Takes up to `limit` results that `destination` is to be asked about, under a transaction UID. Where no report
    /// comes within `patience`, they are due again under another.
    ///
    /// # Errors
    /// Where the database cannot do it.
    pub async fn await_commitment(
        &self,
        destination: &str,
        transaction_uid: &TransactionUid,
        limit: u32,
        patience: Duration,
    ) -> Result<Vec<AwaitedDelivery>, DatabaseError> {
        let mut transaction = self.begin().await?;
        let now = transaction.now();
        let taken = transaction
            .rows(
                locking!(
                    "with due as materialized ( \
                       select delivery_id from delivery \
                        where state = 'sent' and destination = $1 and next_attempt_at <= $2 \
                        order by next_attempt_at, delivery_id limit $3",
                    ") \
                     update delivery set transaction_uid = $4, next_attempt_at = $5 \
                      where delivery_id in (select delivery_id from due) and state = 'sent' \
                     returning delivery_id"
                ),
                values![destination, now, limit, transaction_uid.as_str(), now + patience],
            )
            .await?;
        if taken.is_empty() {
            return Ok(Vec::new());
        }
        let mut ids = Vec::with_capacity(taken.len());
        for row in &taken {
            ids.extend(values![row.get::<Uuid>("delivery_id")?]);
        }
        let statement = format!(
            "select delivery.delivery_id, delivery.job_id, delivery.sop_instance_uid, result.sop_class_uid, \
                    result.series_instance_uid, result.spool_key, series.study_instance_uid, delivery.created_at \
               from delivery \
               join result on result.sop_instance_uid = delivery.sop_instance_uid \
               join job on job.job_id = delivery.job_id \
               join series on series.series_instance_uid = job.series_instance_uid \
              where delivery.delivery_id in {}",
            places(0, 1, ids.len())
        );
        let rows = transaction.rows(statement, ids).await?;
        transaction.commit().await?;
        rows.iter()
            .map(|row| {
                Ok(AwaitedDelivery {
                    delivery_id: row.get::<Uuid>("delivery_id")?.into(),
                    job_id: row.get::<Uuid>("job_id")?.into(),
                    sop_instance_uid: row.parse("sop_instance_uid")?,
                    study_instance_uid: row.parse("study_instance_uid")?,
                    series_instance_uid: row.parse("series_instance_uid")?,
                    sop_class_uid: row.parse("sop_class_uid")?,
                    spool_key: row.parse("spool_key")?,
                    created_at: row.get("created_at")?,
                })
            })
            .collect()
    }

    /// Records what a destination reported of one result under a transaction that is under way. Says what state the
    /// delivery is in now; nothing where no delivery waits for this report.
    ///
    /// # Errors
    /// Where the database cannot do it.
    pub async fn record_commitment(
        &self,
        transaction_uid: &TransactionUid,
        sop_instance_uid: &SopInstanceUid,
        verdict: &DeliveryVerdict,
    ) -> Result<Option<DeliveryState>, DatabaseError> {
        let mut transaction = self.begin().await?;
        let now = transaction.now();
        let (state, kind, delivered_at, reason, next) = match verdict {
            DeliveryVerdict::Committed | DeliveryVerdict::Proven { .. } => {
                (DeliveryState::Delivered, EventKind::ResultDelivered, Some(now), None, now)
            }
            DeliveryVerdict::SendAgain { reason_code, after } => {
                let (state, kind) = (DeliveryState::Pending, EventKind::DeliveryDelayed);
                (state, kind, None, Some(reason_code), now + *after)
            }
            DeliveryVerdict::Failed { reason_code } => {
                let (state, kind) = (DeliveryState::Failed, EventKind::DeliveryFailed);
                (state, kind, None, Some(reason_code), now)
            }
        };
        let updated = transaction
            .row(
                "update delivery set state = $1, delivered_at = $2, reason_code = $3, next_attempt_at = $4 \
                  where transaction_uid = $5 and sop_instance_uid = $6 and state = 'sent' \
                 returning job_id, destination, attempt",
                values![
                    state.as_str(),
                    delivered_at,
                    reason.map(ReasonCode::as_str),
                    next,
                    transaction_uid.as_str(),
                    sop_instance_uid.as_str(),
                ],
            )
            .await?;
        let Some(row) = updated else { return Ok(None) };
        let job_id = row.get::<Uuid>("job_id")?;
        let origin = transaction
            .row(
                "select series.study_instance_uid, series.series_instance_uid from job \
                   join series on series.series_instance_uid = job.series_instance_uid \
                  where job.job_id = $1",
                values![job_id],
            )
            .await?;
        let attempt = row.get::<i64>("attempt")?;
        let detail = match verdict {
            DeliveryVerdict::Proven { proof } => json!({ "proof": proof, "attempt": attempt }),
            _ => json!({
                "committed": state == DeliveryState::Delivered,
                "transaction_uid": transaction_uid.as_str(), "attempt": attempt,
            }),
        };
        let mut event = Event::new(kind)
            .of_instance(sop_instance_uid)
            .of_job(job_id.into())
            .to_destination(&row.get::<String>("destination")?)
            .with(detail);
        if let Some(origin) = origin {
            let study = origin.parse("study_instance_uid")?;
            event = event.of_series(&study, &origin.parse("series_instance_uid")?);
        }
        event.reason_code = reason.cloned();
        transaction.record(event);
        transaction.commit().await?;
        Ok(Some(state))
    }

    /// Lets the results of a request that did not get through be asked about again, `after` from now.
    ///
    /// # Errors
    /// Where the database cannot do it.
    pub async fn commitment_not_requested(
        &self,
        transaction_uid: &TransactionUid,
        reason_code: &ReasonCode,
        after: Duration,
    ) -> Result<(), DatabaseError> {
        let mut transaction = self.begin().await?;
        let now = transaction.now();
        transaction
            .execute(
                "update delivery set next_attempt_at = $1, reason_code = $2 \
                  where transaction_uid = $3 and state = 'sent'",
                values![now + after, reason_code.as_str(), transaction_uid.as_str()],
            )
            .await?;
        transaction.commit().await
    }
}
