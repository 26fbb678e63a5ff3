//! Asking destinations to commit to what they were sent, and taking their reports.
//!
//! A report comes over the association that asked, or over one that the destination opens to the listener: either way
//! it ends in [`take_report`].

use std::time::Duration;

use anyhow::Result;
use dicom_io::dimse::{CommitmentReport, CommitmentRequest, FailureReason, ReferencedInstance};
use dicom_io::scu;
use dicom_types::TransactionUid;
use prosector_storage::{AwaitedDelivery, DeliveryState, DeliveryVerdict, ReasonCode, Store};
use time::OffsetDateTime;

use crate::config::{Destination, DimseDestination};

/// Results asked about in one request.
const BATCH: u32 = 100;
/// How long we keep an association open for the report; later ones come to the listener.
const SAME_ASSOCIATION: Duration = Duration::from_secs(5);
/// Wait before what a destination does not have is sent again, or before it is asked again.
const AGAIN: Duration = Duration::from_secs(30);
const TIMED_OUT: ReasonCode = ReasonCode::new("commitment_timed_out");
const NOT_REQUESTED: ReasonCode = ReasonCode::new("commitment_not_requested");

/// Asks `destination` about everything that it was sent and is due, request after request.
pub(super) async fn request(
    store: &Store,
    destination: &Destination,
    peer: &DimseDestination,
) -> Result<()> {
    loop {
        let transaction_uid = new_transaction_uid();
        let patience = peer.commitment_timeout;
        let awaited =
            store.await_commitment(&destination.name, &transaction_uid, BATCH, patience).await?;
        let awaited = give_up_old(store, destination, &transaction_uid, awaited).await?;
        if awaited.is_empty() {
            return Ok(());
        }
        let request = CommitmentRequest {
            transaction_uid: transaction_uid.clone(),
            instances: awaited.iter().map(reference).collect(),
        };
        let config = super::patience(peer);
        let asked =
            scu::request_commitment(&super::peer(peer), &request, &config, SAME_ASSOCIATION).await;
        match asked {
            Ok(Some(report)) => take_report(store, &report).await?,
            Ok(None) => tracing::info!(
                destination = destination.name,
                transaction.uid = %transaction_uid,
                instances = awaited.len(),
                "storage commitment requested"
            ),
            Err(error) => {
                tracing::warn!(
                    error = format!("{:#}", anyhow::Error::new(error)),
                    destination = destination.name,
                    "storage commitment not requested"
                );
                let after = AGAIN.min(destination.retry.longest);
                store.commitment_not_requested(&transaction_uid, &NOT_REQUESTED, after).await?;
                return Ok(());
            }
        }
    }
}

/// Ends what was asked about for as long as the destination's results are tried, and returns the rest.
pub(super) async fn give_up_old(
    store: &Store,
    destination: &Destination,
    transaction_uid: &TransactionUid,
    awaited: Vec<AwaitedDelivery>,
) -> Result<Vec<AwaitedDelivery>> {
    let now = OffsetDateTime::now_utc();
    let is_old =
        |delivery: &AwaitedDelivery| now - delivery.created_at >= destination.retry.give_up;
    let (old, rest): (Vec<_>, Vec<_>) = awaited.into_iter().partition(is_old);
    let verdict = DeliveryVerdict::Failed { reason_code: TIMED_OUT };
    for delivery in old {
        metrics::counter!("prosector_deliveries_total", "outcome" => "failed").increment(1);
        tracing::warn!(
            job.id = %delivery.job_id,
            sop_instance.uid = %delivery.sop_instance_uid,
            destination = destination.name,
            "result was never committed to, or never found"
        );
        store.record_commitment(transaction_uid, &delivery.sop_instance_uid, &verdict).await?;
    }
    Ok(rest)
}

/// Records what a destination reports. Reports about nothing that is waited for change nothing.
///
/// # Errors
/// When the store does not take it: then the destination should report again.
pub(crate) async fn take_report(store: &Store, report: &CommitmentReport) -> Result<()> {
    let committed = report.committed.iter().map(|instance| (instance, DeliveryVerdict::Committed));
    let failed = report.failed.iter().map(|(instance, reason)| (instance, verdict(*reason)));
    for (instance, verdict) in committed.chain(failed) {
        let (transaction, uid) = (&report.transaction_uid, &instance.sop_instance_uid);
        let state = store.record_commitment(transaction, uid, &verdict).await?;
        let outcome = match state {
            Some(DeliveryState::Delivered) => "delivered",
            Some(_) => "failed",
            None => {
                tracing::warn!(
                    transaction.uid = %transaction,
                    sop_instance.uid = %uid,
                    "report of storage commitment that nobody waits for"
                );
                continue;
            }
        };
        metrics::counter!("prosector_deliveries_total", "outcome" => outcome).increment(1);
        tracing::info!(
            transaction.uid = %transaction,
            sop_instance.uid = %uid,
            outcome,
            "storage commitment reported"
        );
    }
    Ok(())
}

/// What a destination does not have, or has no room for, is sent again; other reasons do not pass.
fn verdict(reason: FailureReason) -> DeliveryVerdict {
    let code = format!("commitment_{}", reason.as_str().replace(' ', "_"));
    let reason_code = code.parse().unwrap_or(ReasonCode::new("commitment_failed"));
    match reason {
        FailureReason::PROCESSING_FAILURE
        | FailureReason::NO_SUCH_OBJECT
        | FailureReason::DUPLICATE_TRANSACTION
        | FailureReason::RESOURCE_LIMITATION => {
            DeliveryVerdict::SendAgain { reason_code, after: AGAIN }
        }
        _ => DeliveryVerdict::Failed { reason_code },
    }
}

fn reference(delivery: &AwaitedDelivery) -> ReferencedInstance {
    ReferencedInstance {
        sop_class_uid: delivery.sop_class_uid.clone(),
        sop_instance_uid: delivery.sop_instance_uid.clone(),
    }
}

pub(super) fn new_transaction_uid() -> TransactionUid {
    // PS3.5 B.2: a UUID as a decimal number.
    let uid = format!("2.25.{}", uuid::Uuid::new_v4().as_u128());
    uid.parse().expect("digits and dots, at most 44 of them")
}
