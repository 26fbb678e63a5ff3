//! Deliveries: those that need something, and the last ones that did not.

use time::OffsetDateTime;
use uuid::Uuid;

use crate::delivery::DeliveryState;
use crate::job::JobId;
use crate::provenance::ReasonCode;
use crate::store::sql::{Row, values};
use crate::store::{DatabaseError, Store};

/// A delivery with the job that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryRow {
    /// The job.
    pub job_id: JobId,
    /// Name of the destination.
    pub destination: String,
    /// Where it stands.
    pub state: DeliveryState,
    /// Attempts so far.
    pub attempt: u32,
    /// Last DIMSE or HTTP status.
    pub last_status: Option<u16>,
    /// Why it is not delivered.
    pub reason_code: Option<ReasonCode>,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// Not to be tried before.
    pub next_attempt_at: OffsetDateTime,
    /// When the destination accepted it.
    pub delivered_at: Option<OffsetDateTime>,
}

impl Store {
    /// Deliveries in `state`, newest first.
    ///
    /// # Errors
    /// Where the database cannot answer.
    pub async fn list_deliveries(
        &self,
        state: DeliveryState,
        limit: u32,
    ) -> Result<Vec<DeliveryRow>, DatabaseError> {
        let rows = self
            .pool
            .rows(
                "select job_id, destination, state, attempt, last_status, reason_code, created_at, next_attempt_at, \
                        delivered_at \
                   from delivery where state = $1 \
                  order by created_at desc \
                  limit $2",
                values![state.as_str(), limit],
            )
            .await?;
        rows.iter().map(delivery).collect()
    }
}

fn delivery(row: &Row) -> Result<DeliveryRow, DatabaseError> {
    Ok(DeliveryRow {
        job_id: row.get::<Uuid>("job_id")?.into(),
        destination: row.get("destination")?,
        state: row.parse("state")?,
        attempt: row.get::<i64>("attempt")? as u32,
        last_status: row.get::<Option<i64>>("last_status")?.map(|status| status as u16),
        reason_code: row.parse_optional("reason_code")?,
        created_at: row.get("created_at")?,
        next_attempt_at: row.get("next_attempt_at")?,
        delivered_at: row.get("delivered_at")?,
    })
}
