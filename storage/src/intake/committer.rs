//! Group commit: many associations, one sync of the disk and one transaction.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::spool::{FinishedFile, Spool, SpoolError};
use crate::store::{DatabaseError, Store};

use super::{InstanceOutcome, NewInstance};

/// How large a group may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IntakeLimits {
    /// Instances in one commit.
    pub batch: usize,
    /// Instances that wait for the next commit before their associations have to wait.
    pub waiting: usize,
    /// How long a commit waits for company once it has its first instance.
    pub linger: Duration,
}

impl Default for IntakeLimits {
    /// 128 instances in a commit, as many waiting, no lingering: a commit gathers what came during the last one.
    fn default() -> Self {
        Self { batch: 128, waiting: 128, linger: Duration::ZERO }
    }
}

/// Why an instance is not acknowledged.
#[derive(Debug, Clone, thiserror::Error)]
pub enum IntakeError {
    /// The bytes could not be made durable.
    #[error("instance could not be made durable")]
    Spool(#[source] Arc<SpoolError>),
    /// The row could not be committed. The file may be in place; it is the same one when the sender tries again.
    #[error("instance could not be recorded")]
    Database(#[source] Arc<DatabaseError>),
    /// The listener is shutting down.
    #[error("intake has ended")]
    Ended,
}

struct Request {
    file: FinishedFile,
    instance: NewInstance,
    answer: oneshot::Sender<Result<InstanceOutcome, IntakeError>>,
}

/// The way in, for every association. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Intake {
    requests: mpsc::Sender<Request>,
}

/// The one that commits. Runs as a task of its own until every [`Intake`] is dropped.
#[derive(Debug)]
pub struct IntakeCommitter {
    store: Store,
    spool: Spool,
    limits: IntakeLimits,
    requests: mpsc::Receiver<Request>,
}

impl Intake {
    /// A way in and its committer, which someone has to run.
    pub fn new(store: Store, spool: Spool, limits: IntakeLimits) -> (Self, IntakeCommitter) {
        let (sender, receiver) = mpsc::channel(limits.waiting.max(1));
        let committer = IntakeCommitter { store, spool, limits, requests: receiver };
        (Self { requests: sender }, committer)
    }

    /// Makes an instance durable under `instance.spool_key` and records it. When this returns `Ok`, neither a crash
    /// nor a power cut loses it: answer success.
    ///
    /// Cancel safety: dropped while it waits, the instance may or may not become durable; its sender was told nothing.
    ///
    /// # Errors
    /// [`IntakeError`]; then answer a failure.
    pub async fn commit(
        &self,
        file: FinishedFile,
        instance: NewInstance,
    ) -> Result<InstanceOutcome, IntakeError> {
        let (answer, outcome) = oneshot::channel();
        let request = Request { file, instance, answer };
        self.requests.send(request).await.map_err(|_| IntakeError::Ended)?;
        outcome.await.unwrap_or(Err(IntakeError::Ended))
    }
}

impl IntakeCommitter {
    /// Commits group after group until every [`Intake`] is dropped.
    pub async fn run(mut self) {
        let limit = self.limits.batch.max(1);
        let mut batch = Vec::with_capacity(limit);
        loop {
            if self.requests.recv_many(&mut batch, limit).await == 0 {
                return;
            }
            if !self.limits.linger.is_zero() && batch.len() < limit {
                tokio::time::sleep(self.limits.linger).await;
                while batch.len() < limit {
                    let Ok(request) = self.requests.try_recv() else { break };
                    batch.push(request);
                }
            }
            self.commit(std::mem::take(&mut batch)).await;
        }
    }

    async fn commit(&self, batch: Vec<Request>) {
        let mut files = Vec::with_capacity(batch.len());
        let mut waiting = Vec::with_capacity(batch.len());
        for Request { file, instance, answer } in batch {
            files.push((file, instance.spool_key.clone()));
            waiting.push((instance, answer));
        }
        let durable = self.spool.commit_batch(files).await;
        let mut instances = Vec::with_capacity(waiting.len());
        let mut answers = Vec::with_capacity(waiting.len());
        for ((instance, answer), durable) in waiting.into_iter().zip(durable) {
            match durable {
                Ok(()) => {
                    instances.push(instance);
                    answers.push(answer);
                }
                Err(error) => {
                    let _ = answer.send(Err(IntakeError::Spool(Arc::new(error))));
                }
            }
        }
        let outcomes = self.record(&instances).await;
        for ((instance, answer), outcome) in instances.iter().zip(answers).zip(outcomes) {
            if let Ok(outcome) = &outcome {
                self.drop_needless_copy(instance, outcome).await;
            }
            // The association may be gone; the instance stays all the same.
            let _ = answer.send(outcome);
        }
    }

    /// Records the group; where the database refuses it for good, one by one, so that an instance that cannot be
    /// stored does not take its neighbours with it.
    async fn record(&self, instances: &[NewInstance]) -> Vec<Result<InstanceOutcome, IntakeError>> {
        let error = match self.store.record_instances(instances).await {
            Ok(outcomes) => return outcomes.into_iter().map(Ok).collect(),
            Err(error) => error,
        };
        if error.is_transient() || instances.len() == 1 {
            let error = IntakeError::Database(Arc::new(error));
            return instances.iter().map(|_| Err(error.clone())).collect();
        }
        let mut outcomes = Vec::with_capacity(instances.len());
        for instance in instances {
            let outcome = self.store.record_instances(std::slice::from_ref(instance)).await;
            outcomes.push(match outcome {
                Ok(mut outcomes) => outcomes.pop().ok_or(IntakeError::Ended),
                Err(error) => Err(IntakeError::Database(Arc::new(error))),
            });
        }
        outcomes
    }

    async fn drop_needless_copy(&self, instance: &NewInstance, outcome: &InstanceOutcome) {
        let is_needless = match outcome {
            InstanceOutcome::New | InstanceOutcome::Conflict { .. } => false,
            InstanceOutcome::Duplicate { kept_at } => *kept_at != instance.spool_key,
            InstanceOutcome::OwnResult => true,
        };
        if !is_needless {
            return;
        }
        if let Err(error) = self.spool.remove(&instance.spool_key).await {
            // Harmless: the file has no row and is set aside at the next start.
            tracing::debug!(sop_instance_uid = %instance.sop_instance_uid, %error, "copy not removed");
        }
    }
}
