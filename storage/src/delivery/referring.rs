//! What refers to a result that another one replaces: a report speaks of the segmentation that its destination has.

use dicom_types::SopInstanceUid;
use uuid::Uuid;

use super::fallback::{Replacement, offer};
use super::{DeliveryState, LeasedDelivery, about};
use crate::provenance::{EventKind, ReasonCode};
use crate::store::DatabaseError;
use crate::store::sql::{Transaction, values};
use serde_json::json;

/// The result that it refers to was replaced.
const REFERENCE_REPLACED: ReasonCode = ReasonCode::new("reference_replaced");

/// A result that waits to be sent, and the one of its form that speaks of the replacement.
struct Swap {
    delivery_id: Uuid,
    old: SopInstanceUid,
    new: SopInstanceUid,
    fallbacks: String,
}

/// Puts in the place of what waits for the destination and refers to the leased result what refers to `replacement`.
/// Where the job has no such result, the old one goes out: its numbers are the same.
pub(super) async fn follow(
    transaction: &mut Transaction,
    lease: &LeasedDelivery,
    replacement: &Replacement,
) -> Result<(), DatabaseError> {
    let rows = transaction
        .rows(
            "select delivery.delivery_id, delivery.sop_instance_uid, delivery.fallbacks, \
                    other.sop_instance_uid as other_uid \
               from delivery \
               join result on result.sop_instance_uid = delivery.sop_instance_uid \
               join result as other on other.job_id = result.job_id and other.form = result.form \
              where delivery.job_id = $1 and delivery.destination = $2 and delivery.state = 'pending' \
                and result.refers_to = $3 and other.refers_to = $4",
            values![
                *lease.job_id.as_uuid(),
                &lease.destination,
                lease.sop_instance_uid.as_str(),
                replacement.sop_instance_uid.as_str(),
            ],
        )
        .await?;
    for row in &rows {
        let swap = Swap {
            delivery_id: row.get("delivery_id")?,
            old: row.parse("sop_instance_uid")?,
            new: row.parse("other_uid")?,
            fallbacks: row.get("fallbacks")?,
        };
        exchange(transaction, lease, &swap).await?;
    }
    Ok(())
}

async fn exchange(
    transaction: &mut Transaction,
    lease: &LeasedDelivery,
    swap: &Swap,
) -> Result<(), DatabaseError> {
    transaction
        .execute(
            "update delivery set state = 'cancelled', reason_code = $1, replaced_by = $2 where delivery_id = $3",
            values![REFERENCE_REPLACED.as_str(), swap.new.as_str(), swap.delivery_id],
        )
        .await?;
    let known = transaction
        .row(
            "select state from delivery where sop_instance_uid = $1 and destination = $2",
            values![swap.new.as_str(), &lease.destination],
        )
        .await?;
    let known = known.map(|row| row.parse::<DeliveryState>("state")).transpose()?;
    let is_under_way = known
        .is_some_and(|state| !matches!(state, DeliveryState::Failed | DeliveryState::Cancelled));
    if !is_under_way {
        offer(transaction, lease, &swap.new, &swap.fallbacks).await?;
    }
    let event = about(EventKind::DeliveryReplaced, lease)
        .of_instance(&swap.old)
        .because(REFERENCE_REPLACED)
        .with(json!({
            "state": DeliveryState::Cancelled.as_str(),
            "replaced_by": { "sop_instance_uid": swap.new.as_str() },
        }));
    transaction.record(event);
    Ok(())
}
