//! Making sure that a destination has what it was sent, by asking for it: C-FIND or QIDO-RS, or by reading it back with
//! C-GET or WADO-RS and comparing digests. What is not proven stays `sent`, and its bytes stay in the spool.

use std::time::Duration;

use anyhow::Result;
use dicom_io::read_back::Comparison;
use dicom_io::scu::{self, SentInstance};
use dicom_io::stow;
use prosector_storage::{
    AwaitedDelivery, DeliveryState, DeliveryVerdict, ReasonCode, Spool, Store,
};

use super::commitment::{give_up_old, new_transaction_uid};
use crate::config::{Destination, DestinationKind, Proof};

/// Results asked about in one go.
const BATCH: u32 = 16;
/// Time after which what somebody began to ask about is asked about again.
const PATIENCE: Duration = Duration::from_mins(10);
/// Wait before what a destination does not have is sent again, or before it is asked again.
const AGAIN: Duration = Duration::from_secs(30);
/// What a PACS may add to an instance: attributes of its own.
const ROOM_BYTES: usize = 1 << 20;
const ABSENT: ReasonCode = ReasonCode::new("proof_absent");
const DIFFERENT: ReasonCode = ReasonCode::new("proof_different");
const UNAVAILABLE: ReasonCode = ReasonCode::new("proof_unavailable");
const SPOOL: ReasonCode = ReasonCode::new("spool_unavailable");

/// Asks `destination` for everything that it was sent and is due.
pub(super) async fn seek(
    store: &Store,
    spool: &Spool,
    destination: &Destination,
    proof: Proof,
) -> Result<()> {
    loop {
        let uid = new_transaction_uid();
        let awaited = store.await_commitment(&destination.name, &uid, BATCH, PATIENCE).await?;
        let awaited = give_up_old(store, destination, &uid, awaited).await?;
        if awaited.is_empty() {
            return Ok(());
        }
        for delivery in &awaited {
            let found = match proof {
                Proof::Find => find(destination, delivery).await,
                Proof::ReadBack => read_back(spool, destination, delivery).await,
            };
            let verdict = match found {
                Ok(verdict) => verdict,
                Err((reason_code, error)) => {
                    tracing::warn!(
                        error = format!("{error:#}"),
                        destination = destination.name,
                        "results not looked for"
                    );
                    let after = AGAIN.min(destination.retry.longest);
                    store.commitment_not_requested(&uid, &reason_code, after).await?;
                    return Ok(());
                }
            };
            let state = store.record_commitment(&uid, &delivery.sop_instance_uid, &verdict).await?;
            let outcome = match state {
                Some(DeliveryState::Delivered) => "delivered",
                Some(_) => "failed",
                None => continue,
            };
            metrics::counter!("prosector_deliveries_total", "outcome" => outcome).increment(1);
            tracing::info!(
                job.id = %delivery.job_id,
                sop_instance.uid = %delivery.sop_instance_uid,
                destination = destination.name,
                verdict = ?verdict,
                "result looked for"
            );
        }
    }
}

type Asked = Result<DeliveryVerdict, (ReasonCode, anyhow::Error)>;

fn unavailable(error: impl Into<anyhow::Error>) -> (ReasonCode, anyhow::Error) {
    (UNAVAILABLE, error.into())
}

async fn find(destination: &Destination, delivery: &AwaitedDelivery) -> Asked {
    let sent = instance(delivery);
    let is_there = match &destination.kind {
        DestinationKind::Dimse(peer) => {
            scu::has_instance(&super::peer(peer), &sent, &super::patience(peer))
                .await
                .map_err(unavailable)?
        }
        DestinationKind::Dicomweb(server) => {
            stow::has_instance(server, &sent).await.map_err(unavailable)?
        }
        DestinationKind::Folder(_) => true,
    };
    Ok(if is_there { DeliveryVerdict::Proven { proof: "found" } } else { absent(destination) })
}

async fn read_back(spool: &Spool, destination: &Destination, delivery: &AwaitedDelivery) -> Asked {
    let bytes = spool.read(&delivery.spool_key).await.map_err(|error| (SPOOL, error.into()))?;
    let sent = instance(delivery);
    let max_bytes = bytes.len() + ROOM_BYTES;
    let found = match &destination.kind {
        DestinationKind::Dimse(peer) => {
            scu::get_instance(&super::peer(peer), &sent, max_bytes, &super::patience(peer))
                .await
                .map_err(unavailable)?
        }
        DestinationKind::Dicomweb(server) => {
            stow::get_instance(server, &sent, max_bytes).await.map_err(unavailable)?
        }
        DestinationKind::Folder(_) => {
            return Ok(DeliveryVerdict::Proven { proof: "found" });
        }
    };
    let Some(found) = found else { return Ok(absent(destination)) };
    let comparing = tokio::task::spawn_blocking(move || found.compare(&bytes));
    Ok(match comparing.await.map_err(unavailable)? {
        Comparison::Same => DeliveryVerdict::Proven { proof: "read_back" },
        Comparison::Coerced => DeliveryVerdict::Proven { proof: "read_back_coerced" },
        Comparison::Different => DeliveryVerdict::Failed { reason_code: DIFFERENT },
    })
}

fn absent(destination: &Destination) -> DeliveryVerdict {
    DeliveryVerdict::SendAgain { reason_code: ABSENT, after: AGAIN.min(destination.retry.longest) }
}

fn instance(delivery: &AwaitedDelivery) -> SentInstance {
    SentInstance {
        study_instance_uid: delivery.study_instance_uid.clone(),
        series_instance_uid: delivery.series_instance_uid.clone(),
        sop_class_uid: delivery.sop_class_uid.clone(),
        sop_instance_uid: delivery.sop_instance_uid.clone(),
    }
}
