//! The worker: takes jobs on lease and turns series into results.
//!
//! Two jobs are in hand at a time. While one computes, the next one is read and the last one is encoded, so that the
//! device, which belongs to one thread, does not wait for disks.

mod attempt;
mod device;
mod shadow;
mod shipping;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use prosector_storage::{
    AttemptLimit, JobFailure, Lane, LeaseError, LeasedJob, NextJob, Priority, ReasonCode, Spool,
    Store,
};
use time::OffsetDateTime;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::backoff::Backoff;
use crate::config::{Destination, Leases};
use crate::open_packs::OpenPacks;
use crate::queue::{Hint, Queue};

pub(crate) use device::Device;
use shadow::InHand;

/// Jobs in hand: one computing, one being read or written.
const JOBS_IN_HAND: usize = 2;
/// Jobs in hand beyond these, for stat jobs alone: nobody waits for what is in hand to be written.
const STAT_JOBS_IN_HAND: usize = 1;
/// How often a worker whose hands are full looks for a stat job.
const STAT_LOOK: Duration = Duration::from_millis(250);
/// Of so many jobs, one is the one that has waited longest.
const TURNS: u64 = 8;
/// How often the store is asked for work that no message announced.
const SWEEP: Duration = Duration::from_secs(5);
/// Waits before a job that a message told of is looked for again: its row may be held by who published it, and held rows
/// are passed over.
const LOOK_AGAIN: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(60)];
const RETRY: Backoff = Backoff { first: Duration::from_secs(5), longest: Duration::from_mins(10) };
/// Wait before a job is tried again where spool or store are to blame.
const OUTAGE: Backoff =
    Backoff { first: Duration::from_secs(10), longest: Duration::from_secs(10) };

/// The store did not answer, which is logged.
struct StoreAway;

/// Takes jobs until it is told to stop.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) store: Store,
    pub(crate) spool: Spool,
    pub(crate) queue: Queue,
    pub(crate) packs: Arc<OpenPacks>,
    pub(crate) device: Device,
    /// Where results go, some in forms of their own.
    pub(crate) destinations: Arc<[Destination]>,
    /// Name under which leases are taken.
    pub(crate) name: String,
    /// How long a job may go on once the worker is to stop.
    pub(crate) grace: Duration,
    /// Wait after which a job gets its turn, whatever its priority.
    pub(crate) ageing: Duration,
    /// How long jobs stay in hand without a sign of life, and how often they are tried.
    pub(crate) leases: Leases,
    /// What is counted while it works.
    pub(crate) tally: Tally,
}

/// What a worker counts.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Jobs of production taken so far, but for stat jobs: nobody loses a turn to them.
    turns: AtomicU64,
    /// Jobs of production in hand.
    in_hand: InHand,
    /// Whether the last job was found without a message: hours that open, say, are announced by none, and many jobs
    /// may have waited for them.
    found_unannounced: AtomicBool,
}

impl Worker {
    /// Works until `cancel`, then finishes what is in hand within the grace period and gives the rest back.
    ///
    /// # Errors
    /// When the device fails, which no job is to blame for: the supervisor starts the process anew.
    pub(crate) async fn run(self, cancel: CancellationToken) -> Result<()> {
        let worker = Arc::new(self);
        let hands = Arc::new(Semaphore::new(JOBS_IN_HAND));
        let stat_hands = Arc::new(Semaphore::new(STAT_JOBS_IN_HAND));
        let stop_now = CancellationToken::new();
        let mut jobs = JoinSet::new();
        jobs.spawn(Arc::clone(&worker).run_shadow_lane(cancel.clone()));
        loop {
            let hand = tokio::select! {
                () = cancel.cancelled() => break,
                hand = Arc::clone(&hands).acquire_owned() => Some(hand.context("the worker is closed")?),
                () = worker.stat_job_waits(&stat_hands) => None,
            };
            while let Some(ended) = jobs.try_join_next() {
                ended.context("a job's task broke off")??;
            }
            // Stopping breaks off waiting and never leasing: a lease that nobody works on would have to run out.
            let (leased, hand) = match hand {
                Some(hand) => {
                    let leased = match worker.job_without_hint().await {
                        Ok(None) => tokio::select! {
                            () = cancel.cancelled() => break,
                            hint = worker.hint() => worker.follow(hint).await,
                        },
                        leased => leased,
                    };
                    (leased, hand)
                }
                None => match Arc::clone(&stat_hands).try_acquire_owned() {
                    Ok(hand) => (worker.lease(NextJob::Stat).await, hand),
                    Err(_) => continue,
                },
            };
            match leased {
                Ok(Some(lease)) => {
                    let (worker, stop_now) = (Arc::clone(&worker), stop_now.clone());
                    let held = (worker.tally.in_hand.hold(), hand);
                    jobs.spawn(async move {
                        let ended = worker.work_on(&lease, stop_now).await;
                        drop(held);
                        ended
                    });
                }
                Ok(None) => {}
                Err(StoreAway) => tokio::select! {
                    () = cancel.cancelled() => break,
                    () = tokio::time::sleep(SWEEP) => {}
                },
            }
        }
        let grace = tokio::time::sleep(worker.grace);
        tokio::pin!(grace);
        loop {
            tokio::select! {
                ended = jobs.join_next() => match ended {
                    Some(ended) => ended.context("a job's task broke off")??,
                    None => return Ok(()),
                },
                () = &mut grace, if !stop_now.is_cancelled() => stop_now.cancel(),
            }
        }
    }

    /// Waits, while a hand for it is free, until there is a stat job.
    async fn stat_job_waits(&self, stat_hands: &Semaphore) {
        loop {
            tokio::time::sleep(STAT_LOOK).await;
            let is_free = stat_hands.available_permits() > 0;
            // A store that is away is noticed where jobs are taken.
            if is_free && self.store.stat_job_waits().await.unwrap_or(false) {
                return;
            }
        }
    }

    /// Takes a job on lease where more may wait than are announced: one ring of the bell may stand for many.
    async fn job_without_hint(&self) -> Result<Option<LeasedJob>, StoreAway> {
        if self.queue.rings_once() || self.tally.found_unannounced.load(Ordering::Relaxed) {
            return self.lease(self.turn()).await;
        }
        Ok(None)
    }

    /// Waits for a hint or for the next sweep. Safe to drop.
    async fn hint(&self) -> Hint {
        let hint = tokio::select! {
            hint = self.queue.next() => hint,
            () = tokio::time::sleep(SWEEP) => Ok(Hint::AnyJob),
        };
        match hint {
            Ok(hint) => hint,
            Err(error) => {
                tracing::warn!(
                    error = format!("{:#}", anyhow::Error::new(error)),
                    "queue away, looking into the store instead"
                );
                tokio::time::sleep(SWEEP).await;
                Hint::AnyJob
            }
        }
    }

    /// Takes a job on lease if there is one, and acknowledges the hint.
    ///
    /// A hint says that there is a job, and names one; which one is taken is for the store to say, where the most
    /// urgent is known whatever the order in which messages come.
    async fn follow(&self, hint: Hint) -> Result<Option<LeasedJob>, StoreAway> {
        let mut lease = self.lease(self.turn()).await;
        if matches!(hint, Hint::Job(_)) {
            for pause in LOOK_AGAIN {
                if !matches!(lease, Ok(None)) {
                    break;
                }
                tokio::time::sleep(pause).await;
                lease = self.lease(self.turn()).await;
            }
        }
        let is_unannounced = matches!((&hint, &lease), (Hint::AnyJob, Ok(Some(_))));
        self.tally.found_unannounced.store(is_unannounced, Ordering::Relaxed);
        if lease.is_ok()
            && let Err(error) = hint.acknowledge().await
        {
            tracing::debug!(
                error = format!("{:#}", anyhow::Error::new(error)),
                "message not acknowledged, it will come again"
            );
        }
        lease
    }

    /// Which job is next: mostly the most urgent, now and then the one that has waited longest.
    fn turn(&self) -> NextJob {
        if self.tally.turns.load(Ordering::Relaxed) % TURNS == TURNS - 1 {
            return NextJob::LongestWaiting(self.ageing);
        }
        NextJob::MostUrgent
    }

    /// Takes a job on lease, if there is one.
    async fn lease(&self, next: NextJob) -> Result<Option<LeasedJob>, StoreAway> {
        match self.store.lease_job(next, &self.name, self.leases.lasting).await {
            Ok(lease) => {
                let takes_a_turn = |lease: &LeasedJob| {
                    lease.lane == Lane::Production && lease.priority != Priority::Stat
                };
                if lease.as_ref().is_some_and(takes_a_turn) {
                    self.tally.turns.fetch_add(1, Ordering::Relaxed);
                }
                Ok(lease)
            }
            Err(error) => {
                tracing::error!(
                    error = format!("{:#}", anyhow::Error::new(error)),
                    "store away, no job taken"
                );
                Err(StoreAway)
            }
        }
    }

    async fn work_on(&self, lease: &LeasedJob, stop_now: CancellationToken) -> Result<()> {
        let span = tracing::info_span!(
            "job",
            job.id = %lease.job_id,
            study.uid = %lease.study_instance_uid,
            series.uid = %lease.series_instance_uid,
            protocol = lease.protocol_name,
            lane = %lease.lane,
            attempt = lease.attempt,
        );
        self.attempt_under_lease(lease, stop_now).instrument(span).await
    }

    /// Attempts the job while its lease is renewed; an attempt whose lease is lost is stopped.
    async fn attempt_under_lease(
        &self,
        lease: &LeasedJob,
        stop_now: CancellationToken,
    ) -> Result<()> {
        tracing::info!("job started");
        if lease.attempt == 1 && lease.lane == Lane::Production {
            let waited = OffsetDateTime::now_utc() - lease.created_at;
            metrics::histogram!("prosector_dispatch_latency_seconds")
                .record(waited.as_seconds_f64().max(0.0));
        }
        let abandon = stop_now.child_token();
        let attempt = attempt::run(self, lease, abandon.clone());
        tokio::pin!(attempt);
        let losing = self.keep(lease);
        tokio::pin!(losing);
        let mut is_lost = false;
        let ended = loop {
            tokio::select! {
                ended = &mut attempt => break ended,
                () = &mut losing, if !is_lost => {
                    is_lost = true;
                    abandon.cancel();
                }
            }
        };
        match ended {
            Ok(attempt::Ended::Recorded) => Ok(()),
            Ok(attempt::Ended::Abandoned) => {
                let why = match lease.lane {
                    Lane::Production => ReasonCode::WORKER_DRAINED,
                    Lane::Shadow => ReasonCode::YIELDED,
                };
                let given_back = self.store.give_back(lease, why).await;
                if let Err(error) = given_back {
                    tracing::info!(
                        error = format!("{:#}", anyhow::Error::new(error)),
                        "job left to whoever has it now"
                    );
                }
                Ok(())
            }
            Err(attempt::AttemptError::Job(failure)) => {
                self.record_failure(lease, failure).await;
                Ok(())
            }
            Err(attempt::AttemptError::Device(error)) => Err(error),
        }
    }

    /// Renews a lease until it is lost. Safe to drop.
    async fn keep(&self, lease: &LeasedJob) {
        loop {
            tokio::time::sleep(self.leases.heartbeat()).await;
            let Err(error) = self.store.renew_lease(lease, self.leases.lasting).await else {
                continue;
            };
            let is_lost = matches!(error, LeaseError::Lost { .. });
            let error = format!("{:#}", anyhow::Error::new(error));
            tracing::warn!(error, "lease not renewed");
            if is_lost {
                return;
            }
        }
    }

    async fn record_failure(&self, lease: &LeasedJob, failure: JobFailure) {
        if lease.lane == Lane::Production {
            metrics::counter!("prosector_job_failures_total", "reason" => failure.reason_code.to_string())
                .increment(1);
        }
        tracing::warn!(
            reason_code = %failure.reason_code,
            reason = failure.reason,
            "attempt failed"
        );
        match self.store.fail_job(lease, &failure, AttemptLimit(self.leases.attempts)).await {
            Ok(after) => tracing::info!(?after, "failure recorded"),
            // The lease lapses and the job comes again.
            Err(error) => tracing::error!(
                error = format!("{:#}", anyhow::Error::new(error)),
                "failure not recorded"
            ),
        }
    }
}
