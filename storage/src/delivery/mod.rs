//! Deliveries: one result to one destination each, so that a destination that is down delays only itself.

mod fallback;
mod referring;

use std::time::Duration;

use dicom_types::{SeriesInstanceUid, SopClassUid, SopInstanceUid, StudyInstanceUid};
use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::digest::Sha256Digest;
use crate::ids::id;
use crate::job::{JobId, ResultForm};
use crate::provenance::{Event, EventKind, ReasonCode};
use crate::spool::SpoolKey;
use crate::store::sql::{Row, Transaction, Value, locking, places, values};
use crate::store::{DatabaseError, Store};
use crate::words::words;

pub(crate) use fallback::fallbacks_text;

/// Namespace of delivery ids.
const NAMESPACE: Uuid = Uuid::from_u128(0x5d1e_04f2_8d0a_5f0e_b1a7_20c9_4e6c_d7f1);

id! {
    /// Identifier of a delivery, a UUID of version 5 over result and destination.
    DeliveryId
}

impl DeliveryId {
    /// The id of the delivery of a result to a destination.
    pub fn derive(sop_instance_uid: &SopInstanceUid, destination: &str) -> Self {
        let name = format!("{sop_instance_uid}\n{destination}");
        Self(Uuid::new_v5(&NAMESPACE, name.as_bytes()))
    }
}

words! {
    /// Where a delivery stands.
    DeliveryState, ParseDeliveryStateError;
    /// Waits to be sent, at once or from some time on.
    Pending = "pending",
    /// Being sent.
    Sending = "sending",
    /// Accepted by the destination, which was asked to commit to it and has not answered yet.
    Sent = "sent",
    /// Accepted by the destination, and committed to where it was asked to.
    Delivered = "delivered",
    /// Given up.
    Failed = "failed",
    /// Not wanted any more.
    Cancelled = "cancelled",
}

/// A delivery on lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeasedDelivery {
    /// The delivery.
    pub delivery_id: DeliveryId,
    /// The job that made the result.
    pub job_id: JobId,
    /// The study that the result belongs to.
    pub study_instance_uid: StudyInstanceUid,
    /// The series that was segmented.
    pub source_series_instance_uid: SeriesInstanceUid,
    /// The result.
    pub sop_instance_uid: SopInstanceUid,
    /// Its SOP Class.
    pub sop_class_uid: SopClassUid,
    /// Its form.
    pub form: ResultForm,
    /// Digest of its bytes.
    pub sha256: Sha256Digest,
    /// Their number.
    pub size_bytes: u64,
    /// Where its bytes are.
    pub spool_key: SpoolKey,
    /// Name of the destination.
    pub destination: String,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// Since when the result waits for this destination.
    pub created_at: OffsetDateTime,
    /// Name of the process that holds the lease.
    pub worker: String,
    /// Number of the lease.
    pub lease_number: u64,
}

/// A destination that something is due for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueDestination {
    /// Its name.
    pub destination: String,
    /// Deliveries due now.
    pub count: u64,
    /// Since when the oldest is due.
    pub due_since: OffsetDateTime,
}

/// Whether a delivery is worth another attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterDeliveryFailure {
    /// Not sooner than this from now.
    Retry {
        /// Backoff with jitter.
        after: Duration,
    },
    /// The destination does not take it in this form: the next one takes its place, and it is given up where there is
    /// none.
    OtherForm,
    /// The destination will never take it, or it was tried long enough.
    GiveUp,
}

/// Why a delivery did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryFailure {
    /// DIMSE status or HTTP status, where the destination answered.
    pub status: Option<u16>,
    /// Why, as a code.
    pub reason_code: ReasonCode,
    /// What happens next.
    pub then: AfterDeliveryFailure,
}

/// Why a delivery's outcome was not recorded.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// Another process has the delivery, or it was cancelled.
    #[error("lease on delivery {delivery} is lost")]
    Lost {
        /// The delivery.
        delivery: DeliveryId,
    },
    /// The database did not do it.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// Of a row of `delivery`: what a held job made waits for a person, and a result that refers to another waits until the
/// destination has that one, or does not get it.
macro_rules! may_go {
    () => {
        "not exists (select 1 from job \
                       join result on result.job_id = job.job_id \
                      where job.job_id = delivery.job_id and job.state = 'held' \
                        and result.sop_instance_uid = delivery.sop_instance_uid \
                        and result.form <> 'rejection_note') \
         and not exists (select 1 from result \
                       join delivery as first \
                         on first.sop_instance_uid = result.refers_to \
                      where result.sop_instance_uid = delivery.sop_instance_uid \
                        and first.destination = delivery.destination \
                        and first.state in ('pending', 'sending'))"
    };
}

impl Store {
    /// Destinations with deliveries that are due to be sent or to be asked about, the longest waiting first.
    ///
    /// # Errors
    /// Where the database cannot answer.
    pub async fn due_deliveries(&self) -> Result<Vec<DueDestination>, DatabaseError> {
        let now = self.pool.now().await?;
        let rows = self
            .pool
            .rows(
                concat!(
                    "select destination, count(*) as due, min(next_attempt_at) as due_since from delivery \
                      where (state = 'sent' or state = 'pending' and ",
                    may_go!(),
                    ") and next_attempt_at <= $1 \
                      group by destination \
                      order by due_since"
                ),
                values![now],
            )
            .await?;
        rows.iter()
            .map(|row| {
                Ok(DueDestination {
                    destination: row.get("destination")?,
                    count: row.get::<i64>("due")? as u64,
                    due_since: row.get("due_since")?,
                })
            })
            .collect()
    }

    /// Gives `worker` a lease of `ttl` on up to `limit` deliveries that are due for `destination`, the most urgent
    /// jobs' first, so that they can share an association. Each attempt is counted here. What refers to another result
    /// follows once that one has gone out.
    ///
    /// # Errors
    /// Where the database cannot do it.
    pub async fn lease_deliveries(
        &self,
        destination: &str,
        limit: u32,
        worker: &str,
        ttl: Duration,
    ) -> Result<Vec<LeasedDelivery>, DatabaseError> {
        let mut transaction = self.begin().await?;
        let now = transaction.now();
        let taken = transaction
            .rows(
                locking!(
                    concat!(
                        "with due as materialized ( \
                           select delivery_id from delivery \
                            where state = 'pending' and destination = $3 and next_attempt_at <= $4 and ",
                        may_go!(),
                        " order by (select priority from job where job.job_id = delivery.job_id), \
                                   next_attempt_at, delivery_id \
                          limit $5"
                    ),
                    ") \
                     update delivery set state = 'sending', attempt = attempt + 1, lease_number = lease_number + 1, \
                            lease_owner = $1, lease_expires_at = $2 \
                      where delivery_id in (select delivery_id from due) and state = 'pending' \
                     returning delivery_id"
                ),
                values![worker, now + ttl, destination, now, limit],
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
            "select delivery.delivery_id, delivery.job_id, series.study_instance_uid, \
                    job.series_instance_uid as source_series_instance_uid, delivery.sop_instance_uid, \
                    result.sop_class_uid, result.form, result.sha256, result.size_bytes, result.spool_key, \
                    delivery.destination, delivery.attempt, delivery.created_at, delivery.lease_owner, \
                    delivery.lease_number \
               from delivery \
               join result on result.sop_instance_uid = delivery.sop_instance_uid \
               join job on job.job_id = delivery.job_id \
               join series on series.series_instance_uid = job.series_instance_uid \
              where delivery.delivery_id in {} \
              order by job.priority, delivery.created_at, delivery.delivery_id",
            places(0, 1, ids.len())
        );
        let rows = transaction.rows(statement, ids).await?;
        transaction.commit().await?;
        rows.iter().map(read_lease).collect()
    }

    /// Prolongs the lease on a delivery to `ttl` from now.
    ///
    /// # Errors
    /// [`DeliveryError::Lost`] where another process has it.
    pub async fn renew_delivery(
        &self,
        lease: &LeasedDelivery,
        ttl: Duration,
    ) -> Result<(), DeliveryError> {
        let mut transaction = self.begin().await?;
        let until = transaction.now() + ttl;
        update_leased(&mut transaction, lease, "lease_expires_at = $4", values![until]).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Records that the destination has the result. `status` is what it answered.
    ///
    /// # Errors
    /// [`DeliveryError::Lost`] where another process has the delivery.
    pub async fn delivery_succeeded(
        &self,
        lease: &LeasedDelivery,
        status: u16,
    ) -> Result<(), DeliveryError> {
        let mut transaction = self.begin().await?;
        let now = transaction.now();
        let change = "state = 'delivered', delivered_at = $4, last_status = $5, reason_code = null, \
                      lease_owner = null, lease_expires_at = null";
        update_leased(&mut transaction, lease, change, values![now, u32::from(status)]).await?;
        let event = about(EventKind::ResultDelivered, lease);
        transaction.record(event.with(json!({
            "status": status, "attempt": lease.attempt, "form": lease.form.as_str(),
        })));
        transaction.commit().await?;
        Ok(())
    }

    /// Records that the destination does not have the result, and when to try again. A delivery of a job that was
    /// superseded meanwhile is not tried again.
    ///
    /// # Errors
    /// [`DeliveryError::Lost`] where another process has the delivery.
    pub async fn delivery_failed(
        &self,
        lease: &LeasedDelivery,
        failure: &DeliveryFailure,
    ) -> Result<DeliveryState, DeliveryError> {
        let mut transaction = self.begin().await?;
        let now = transaction.now();
        let job_is_over = is_unwanted(&mut transaction, lease).await?;
        let (state, next_attempt_at, other) = match failure.then {
            _ if job_is_over => (DeliveryState::Cancelled, now, None),
            AfterDeliveryFailure::Retry { after } => (DeliveryState::Pending, now + after, None),
            AfterDeliveryFailure::GiveUp => (DeliveryState::Failed, now, None),
            AfterDeliveryFailure::OtherForm => match fallback::take(&mut transaction, lease).await?
            {
                Some(other) => (DeliveryState::Cancelled, now, Some(other)),
                None => (DeliveryState::Failed, now, None),
            },
        };
        if let Some(other) = &other {
            referring::follow(&mut transaction, lease, other).await?;
        }
        let change = "state = $4, next_attempt_at = $5, last_status = $6, reason_code = $7, replaced_by = $8, \
                      lease_owner = null, lease_expires_at = null";
        let changed = values![
            state.as_str(),
            next_attempt_at,
            failure.status.map(i64::from),
            failure.reason_code.as_str(),
            other.as_ref().map(|other| other.sop_instance_uid.as_str()),
        ];
        update_leased(&mut transaction, lease, change, changed).await?;
        let kind = match state {
            DeliveryState::Pending => EventKind::DeliveryDelayed,
            _ if other.is_some() => EventKind::DeliveryReplaced,
            _ => EventKind::DeliveryFailed,
        };
        let mut detail = json!({
            "status": failure.status, "attempt": lease.attempt, "state": state.as_str(),
            "form": lease.form.as_str(),
        });
        if let Some(other) = &other {
            detail["replaced_by"] = json!({
                "form": other.form.as_str(), "sop_instance_uid": other.sop_instance_uid.as_str(),
            });
        }
        let event = about(kind, lease).because(failure.reason_code.clone()).with(detail);
        transaction.record(event);
        transaction.commit().await?;
        Ok(state)
    }
}

/// Changes a delivery, if this lease is still the one on it. `change` is the text behind `set`, whose values are counted
/// from `$4`.
pub(crate) async fn update_leased(
    transaction: &mut Transaction,
    lease: &LeasedDelivery,
    change: &'static str,
    changed: Vec<Value>,
) -> Result<(), DeliveryError> {
    let mut bound = values![*lease.delivery_id.as_uuid(), &lease.worker, lease.lease_number];
    bound.extend(changed);
    let statement = format!(
        "update delivery set {change} \
          where delivery_id = $1 and state = 'sending' and lease_owner = $2 and lease_number = $3"
    );
    if transaction.execute(statement, bound).await? != 1 {
        return Err(DeliveryError::Lost { delivery: lease.delivery_id });
    }
    Ok(())
}

/// Makes deliveries whose sender is gone due again; those of superseded or cancelled jobs and of recalled results end.
pub(crate) async fn lapse(transaction: &mut Transaction) -> Result<u64, DatabaseError> {
    let now = transaction.now();
    let lapsed = transaction
        .execute(
            "update delivery \
                set state = case when exists (select 1 from job \
                                               where job.job_id = delivery.job_id \
                                                 and job.state in ('superseded', 'cancelled')) \
                                  or exists (select 1 from recalled_result \
                                              where recalled_result.sop_instance_uid = delivery.sop_instance_uid) \
                                 then 'cancelled' else 'pending' end, \
                    next_attempt_at = $1, lease_owner = null, lease_expires_at = null \
              where state = 'sending' and lease_expires_at < $1",
            values![now],
        )
        .await?;
    Ok(lapsed)
}

/// Whether the job was superseded or cancelled, or the result recalled, while it was being sent.
async fn is_unwanted(
    transaction: &mut Transaction,
    lease: &LeasedDelivery,
) -> Result<bool, DatabaseError> {
    let row = transaction
        .row(
            "select 1 as one from job where job_id = $1 and state in ('superseded', 'cancelled') \
             union all \
             select 1 as one from recalled_result where sop_instance_uid = $2",
            values![*lease.job_id.as_uuid(), lease.sop_instance_uid.as_str()],
        )
        .await?;
    Ok(row.is_some())
}

pub(crate) fn about(kind: EventKind, lease: &LeasedDelivery) -> Event {
    Event::new(kind)
        .of_series(&lease.study_instance_uid, &lease.source_series_instance_uid)
        .of_instance(&lease.sop_instance_uid)
        .of_job(lease.job_id)
        .to_destination(&lease.destination)
}

pub(crate) fn read_lease(row: &Row) -> Result<LeasedDelivery, DatabaseError> {
    Ok(LeasedDelivery {
        delivery_id: row.get::<Uuid>("delivery_id")?.into(),
        job_id: row.get::<Uuid>("job_id")?.into(),
        study_instance_uid: row.parse("study_instance_uid")?,
        source_series_instance_uid: row.parse("source_series_instance_uid")?,
        sop_instance_uid: row.parse("sop_instance_uid")?,
        sop_class_uid: row.parse("sop_class_uid")?,
        form: row.parse("form")?,
        sha256: row.get("sha256")?,
        size_bytes: row.get::<i64>("size_bytes")? as u64,
        spool_key: row.parse("spool_key")?,
        destination: row.get("destination")?,
        created_at: row.get("created_at")?,
        attempt: row.get::<i64>("attempt")? as u32,
        worker: row.get("lease_owner")?,
        lease_number: row.get::<i64>("lease_number")? as u64,
    })
}
