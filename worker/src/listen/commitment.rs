//! Senders that want to be sure of what they sent: their requests, and our reports to them.

use std::collections::BTreeMap;
use std::time::Duration;

use dicom_io::dimse::{CommitmentReport, CommitmentRequest, FailureReason, ReferencedInstance};
use dicom_io::scp::AssociationInfo;
use dicom_io::scu::{self, ScuConfig};
use dicom_types::AeTitle;
use prosector_storage::{
    Commitment, CommitmentReference, CommitmentVerdict, NewCommitment, Reported, Store,
};
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::config::CommitmentAddress;

/// How often the store is asked which reports are due.
const LOOK: Duration = Duration::from_millis(500);
/// Reports taken at a time.
const BATCH: u32 = 8;
/// How long nobody else tries a report that was taken; longer than all timeouts of one association.
const CLAIM: Duration = Duration::from_mins(5);
/// Waits between attempts.
const BACKOFF: Backoff =
    Backoff { first: Duration::from_secs(5), longest: Duration::from_mins(10) };
/// Attempts before a report is given up: some ten hours.
const ATTEMPTS: u32 = 64;

/// Answers a request and keeps the report until it is taken; `is_called_back` tells whether it is due at once on an
/// association of ours, rather than on theirs.
pub(super) async fn answer(
    store: &Store,
    association: &AssociationInfo,
    request: CommitmentRequest,
    is_called_back: bool,
) -> Result<CommitmentReport, prosector_storage::DatabaseError> {
    let instances = request.instances.into_iter().map(|instance| CommitmentReference {
        sop_class_uid: instance.sop_class_uid,
        sop_instance_uid: instance.sop_instance_uid,
    });
    let new = NewCommitment {
        transaction_uid: request.transaction_uid,
        calling_ae_title: association.calling_ae_title.clone(),
        called_ae_title: association.called_ae_title.clone(),
        instances: instances.collect(),
        report_after: if is_called_back { Duration::ZERO } else { CLAIM },
    };
    Ok(report(&store.answer_commitment(&new).await?))
}

fn report(commitment: &Commitment) -> CommitmentReport {
    let mut report = CommitmentReport {
        transaction_uid: commitment.transaction_uid.clone(),
        committed: Vec::new(),
        failed: Vec::new(),
    };
    for (reference, verdict) in &commitment.verdicts {
        let instance = ReferencedInstance {
            sop_class_uid: reference.sop_class_uid.clone(),
            sop_instance_uid: reference.sop_instance_uid.clone(),
        };
        match verdict {
            CommitmentVerdict::Committed => report.committed.push(instance),
            CommitmentVerdict::NoSuchObject => {
                report.failed.push((instance, FailureReason::NO_SUCH_OBJECT));
            }
            CommitmentVerdict::ClassConflict => {
                report.failed.push((instance, FailureReason::CLASS_INSTANCE_CONFLICT));
            }
        }
    }
    report
}

/// Calls senders back with their reports.
#[derive(Debug)]
pub(crate) struct Reporter {
    pub(crate) store: Store,
    /// Where senders take reports, by AE title.
    pub(crate) addresses: BTreeMap<AeTitle, CommitmentAddress>,
}

impl Reporter {
    /// Reports until `cancel`; what goes wrong is logged and tried again.
    pub(crate) async fn run(self, cancel: CancellationToken) {
        while cancel.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
            let due = match self.store.due_commitments(BATCH, CLAIM).await {
                Ok(due) => due,
                Err(error) => {
                    let error = format!("{:#}", anyhow::Error::new(error));
                    tracing::error!(error, "cannot look for reports of storage commitment");
                    continue;
                }
            };
            for commitment in due {
                let outcome = self.call_back(&commitment).await;
                let Commitment { calling_ae_title, transaction_uid, .. } = &commitment;
                let recorded =
                    self.store.commitment_reported(calling_ae_title, transaction_uid, outcome);
                if let Err(error) = recorded.await {
                    let error = format!("{:#}", anyhow::Error::new(error));
                    tracing::error!(error, "report of storage commitment not recorded");
                }
            }
        }
    }

    async fn call_back(&self, commitment: &Commitment) -> Reported {
        let ae_title = &commitment.calling_ae_title;
        let Some(known) = self.addresses.get(ae_title) else {
            // It was offered over their own association, and they left without it.
            tracing::warn!(
                peer.ae_title = %ae_title,
                transaction.uid = %commitment.transaction_uid,
                "sender left without its report; name it in listener.commitment to call it back"
            );
            return Reported::GivenUp;
        };
        let sender = scu::Destination {
            ae_title: ae_title.clone(),
            address: known.address.clone(),
            calling_ae_title: commitment.called_ae_title.clone(),
            tls: known.tls.clone(),
        };
        let (report, config) = (report(commitment), ScuConfig::default());
        match scu::report_commitment(&sender, &report, &config).await {
            Ok(()) => {
                tracing::info!(
                    peer.ae_title = %ae_title,
                    transaction.uid = %commitment.transaction_uid,
                    "storage commitment reported"
                );
                Reported::Taken
            }
            Err(error) => {
                tracing::warn!(
                    error = format!("{:#}", anyhow::Error::new(error)),
                    peer.ae_title = %ae_title,
                    transaction.uid = %commitment.transaction_uid,
                    attempt = commitment.attempt,
                    "report of storage commitment not taken"
                );
                if commitment.attempt >= ATTEMPTS {
                    return Reported::GivenUp;
                }
                let what = (ae_title.as_str(), commitment.transaction_uid.as_str());
                Reported::Again { after: BACKOFF.after(commitment.attempt, what) }
            }
        }
    }
}
