//! The next form of a result, where a destination does not take the one that it was offered.

use dicom_types::SopInstanceUid;

use super::{DeliveryId, LeasedDelivery};
use crate::job::ResultForm;
use crate::store::DatabaseError;
use crate::store::sql::{Transaction, shape, values};

/// The result that takes another one's place.
pub(super) struct Replacement {
    pub(super) sop_instance_uid: SopInstanceUid,
    pub(super) form: ResultForm,
}

/// How fallbacks are kept in the column of that name.
pub(crate) fn fallbacks_text(fallbacks: &[SopInstanceUid]) -> String {
    let uids: Vec<&str> = fallbacks.iter().map(SopInstanceUid::as_str).collect();
    uids.join(" ")
}

/// Finds the first fallback of a delivery that the destination has not refused as well, and sees to it that it is
/// delivered. One that is on its way, or has arrived, on its own account is left as it is.
pub(super) async fn take(
    transaction: &mut Transaction,
    lease: &LeasedDelivery,
) -> Result<Option<Replacement>, DatabaseError> {
    let row = transaction
        .row(
            "select fallbacks from delivery where delivery_id = $1",
            values![*lease.delivery_id.as_uuid()],
        )
        .await?;
    let text: String = row.map_or_else(|| Ok(String::new()), |row| row.get("fallbacks"))?;
    let uids: Vec<&str> = text.split_whitespace().collect();
    for (index, uid) in uids.iter().enumerate() {
        let sop_instance_uid: SopInstanceUid = uid.parse().map_err(|_| shape("fallbacks"))?;
        let Some(result) = transaction
            .row("select form from result where sop_instance_uid = $1", values![*uid])
            .await?
        else {
            continue;
        };
        let form = result.parse("form")?;
        let known = transaction
            .row(
                "select state, replaced_by from delivery where sop_instance_uid = $1 and destination = $2",
                values![*uid, &lease.destination],
            )
            .await?;
        if let Some(known) = known {
            let state: super::DeliveryState = known.parse("state")?;
            let is_replaced = known.get::<Option<String>>("replaced_by")?.is_some();
            match state {
                super::DeliveryState::Failed => continue,
                super::DeliveryState::Cancelled if !is_replaced => {}
                _ => return Ok(Some(Replacement { sop_instance_uid, form })),
            }
        }
        let rest = uids[index + 1..].join(" ");
        offer(transaction, lease, &sop_instance_uid, &rest).await?;
        return Ok(Some(Replacement { sop_instance_uid, form }));
    }
    Ok(None)
}

/// Has a result sent to the destination of `lease`, with these fallbacks.
pub(super) async fn offer(
    transaction: &mut Transaction,
    lease: &LeasedDelivery,
    sop_instance_uid: &SopInstanceUid,
    fallbacks: &str,
) -> Result<(), DatabaseError> {
    let now = transaction.now();
    let id = DeliveryId::derive(sop_instance_uid, &lease.destination);
    transaction
        .execute(
            "insert into delivery (delivery_id, sop_instance_uid, job_id, destination, state, next_attempt_at, \
             created_at, fallbacks) values ($1, $2, $3, $4, 'pending', $5, $5, $6) \
             on conflict (sop_instance_uid, destination) do update \
                set state = 'pending', attempt = 0, next_attempt_at = excluded.next_attempt_at, \
                    reason_code = null, replaced_by = null, fallbacks = excluded.fallbacks",
            values![
                *id.as_uuid(),
                sop_instance_uid.as_str(),
                *lease.job_id.as_uuid(),
                &lease.destination,
                now,
                fallbacks,
            ],
        )
        .await?;
    Ok(())
}
