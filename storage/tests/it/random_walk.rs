//! Random walks through everything that can happen to jobs: whatever the order, the rows stay true.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use prosector_storage::{
    AfterDeliveryFailure, AuditFilter, DeliveryFailure, Failure, JobFailure, JobId, JobState,
    LeasedDelivery, LeasedJob, NextJob, Page, ReasonCode, Settled,
};

use crate::bench::{Bench, LONG, done, instance, limit};

#[derive(Debug, Clone)]
enum Step {
    Receive { series: u32, number: u32 },
    Settle { series: u32 },
    Lease { expires: bool },
    Renew { lease: usize },
    GiveBack { lease: usize },
    Finish { lease: usize },
    Fail { lease: usize, kind: usize },
    Lapse,
    Publish,
    Republish,
    Cancel { job: usize },
    Retry { job: usize },
    Release { job: usize },
    LeaseDelivery { expires: bool },
    Deliver { delivery: usize },
    FailDelivery { delivery: usize, give_up: bool },
}

fn step() -> impl Strategy<Value = Step> {
    let series = 0..3_u32;
    let place = || 0..64_usize;
    prop_oneof![
        3 => (series.clone(), 0..6_u32).prop_map(|(series, number)| Step::Receive { series, number }),
        4 => series.prop_map(|series| Step::Settle { series }),
        4 => prop::bool::weighted(0.3).prop_map(|expires| Step::Lease { expires }),
        1 => place().prop_map(|lease| Step::Renew { lease }),
        1 => place().prop_map(|lease| Step::GiveBack { lease }),
        3 => place().prop_map(|lease| Step::Finish { lease }),
        2 => (place(), 0..4_usize).prop_map(|(lease, kind)| Step::Fail { lease, kind }),
        2 => Just(Step::Lapse),
        1 => Just(Step::Publish),
        1 => Just(Step::Republish),
        1 => place().prop_map(|job| Step::Cancel { job }),
        1 => place().prop_map(|job| Step::Retry { job }),
        1 => place().prop_map(|job| Step::Release { job }),
        2 => prop::bool::weighted(0.3).prop_map(|expires| Step::LeaseDelivery { expires }),
        2 => place().prop_map(|delivery| Step::Deliver { delivery }),
        1 => (place(), any::<bool>())
            .prop_map(|(delivery, give_up)| Step::FailDelivery { delivery, give_up }),
    ]
}

#[derive(Default)]
struct Walk {
    leases: Vec<LeasedJob>,
    deliveries: Vec<LeasedDelivery>,
    jobs: Vec<JobId>,
    /// Results by job: nothing that was finished may ever be lost.
    finished: BTreeMap<JobId, u64>,
}

impl Walk {
    async fn take(&mut self, bench: &Bench, step: Step) {
        let store = &bench.store;
        let reason_code = ReasonCode::new("walk");
        match step {
            Step::Receive { series, number } => {
                store.record_instances(&[instance(series, number)]).await.unwrap();
            }
            Step::Settle { series } => self.settle(bench, series).await,
            Step::Lease { expires } => {
                let ttl = if expires { Duration::ZERO } else { LONG };
                let lease = store.lease_job(NextJob::MostUrgent, "worker", ttl).await.unwrap();
                self.leases.extend(lease);
            }
            Step::Renew { lease } => {
                if let Some(lease) = pick(&self.leases, lease) {
                    let _ = store.renew_lease(lease, LONG).await;
                }
            }
            Step::GiveBack { lease } => {
                if let Some(lease) = pick(&self.leases, lease) {
                    let _ = store.give_back(lease, reason_code).await;
                }
            }
            Step::Finish { lease } => {
                let Some(lease) = pick(&self.leases, lease).cloned() else { return };
                if store.finish_job(&lease, &done(&lease, &["pacs", "archive"])).await.is_ok() {
                    *self.finished.entry(lease.job_id).or_default() += 1;
                }
            }
            Step::Fail { lease, kind } => {
                let retry = Failure::Retry { after: Duration::ZERO };
                let wait = Failure::Wait { after: Duration::ZERO };
                let failure = [retry, Failure::Reject, Failure::Fail, wait][kind];
                let failure = JobFailure { failure, reason_code, reason: "walk".to_owned() };
                if let Some(lease) = pick(&self.leases, lease) {
                    let _ = store.fail_job(lease, &failure, limit(3)).await;
                }
            }
            Step::Lapse => drop(store.lapse(limit(3)).await.unwrap()),
            Step::Publish => {
                let entries = store.take_outbox(2, Duration::ZERO).await.unwrap();
                store.mark_published(&entries).await.unwrap();
            }
            Step::Republish => drop(store.republish(Duration::ZERO).await.unwrap()),
            Step::Cancel { job } => {
                if let Some(job) = pick(&self.jobs, job) {
                    let _ = store.cancel_job(*job).await;
                }
            }
            Step::Retry { job } => {
                if let Some(job) = pick(&self.jobs, job) {
                    let _ = store.retry_job(*job).await;
                }
            }
            Step::Release { job } => {
                if let Some(job) = pick(&self.jobs, job) {
                    let _ = store.release_job(*job).await;
                }
            }
            Step::LeaseDelivery { expires } => {
                let ttl = if expires { Duration::ZERO } else { LONG };
                let leased = store.lease_deliveries("pacs", 1, "sender", ttl).await.unwrap();
                self.deliveries.extend(leased);
            }
            Step::Deliver { delivery } => {
                if let Some(delivery) = pick(&self.deliveries, delivery) {
                    let _ = store.delivery_succeeded(delivery, 0).await;
                }
            }
            Step::FailDelivery { delivery, give_up } => {
                let then = if give_up {
                    AfterDeliveryFailure::GiveUp
                } else {
                    AfterDeliveryFailure::Retry { after: Duration::ZERO }
                };
                let failure = DeliveryFailure { status: None, reason_code, then };
                if let Some(delivery) = pick(&self.deliveries, delivery) {
                    let _ = store.delivery_failed(delivery, &failure).await;
                }
            }
        }
    }

    async fn settle(&mut self, bench: &Bench, series: u32) {
        let due = bench.store.series_to_settle(&crate::bench::at_once(), 10).await.unwrap();
        let uid = crate::bench::series_uid(series);
        if due.iter().all(|candidate| candidate.series_instance_uid != uid) {
            return;
        }
        let (_, settled): (_, Settled) = bench.settle(series, "ct").await;
        self.jobs.extend(settled.created);
    }
}

fn pick<T>(items: &[T], place: usize) -> Option<&T> {
    if items.is_empty() { None } else { items.get(place % items.len()) }
}

async fn check(bench: &Bench, walk: &Walk) {
    let page = Page::first(1000);
    let jobs = bench.store.list_jobs(&AuditFilter::default(), &page).await.unwrap().rows;
    assert_eq!(jobs.len(), walk.jobs.len(), "every job that was made is still there, once");
    let mut standing: BTreeMap<_, u32> = BTreeMap::new();
    for job in &jobs {
        assert_eq!(job.state.is_terminal(), job.finished_at.is_some());
        assert_eq!(job.state == JobState::Running, job.worker.is_some());
        if job.state != JobState::Superseded && job.state != JobState::Cancelled {
            *standing.entry(job.series_instance_uid.clone()).or_default() += 1;
        }
        let finished = walk.finished.contains_key(&job.job_id);
        let results = bench.store.show_job(job.job_id).await.unwrap().unwrap().results.len();
        assert_eq!(results, usize::from(finished), "a finished job has its result, once");
        assert!(job.state != JobState::Done || finished);
    }
    assert!(standing.values().all(|count| *count == 1), "one job stands for a series");
    // A queued job is known to the outbox or was published: nothing waits unheard.
    let unheard = bench
        .number(
            "select count(*) from job where state = 'queued' and published_at is null \
               and not exists (select 1 from outbox where outbox.job_id = job.job_id)",
        )
        .await;
    assert_eq!(unheard, 0);
    let stray = "select count(*) from outbox join job on job.job_id = outbox.job_id where job.state <> 'queued'";
    assert_eq!(bench.number(stray).await, 0, "only queued jobs are published");
    let verdict = bench.store.verify_ledger(None).await.unwrap();
    assert_eq!(verdict.defect, None);
}

fn walk_on(bench: impl Future<Output = Bench>, steps: Vec<Step>) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let bench = bench.await;
        let mut walk = Walk::default();
        for step in steps {
            walk.take(&bench, step).await;
        }
        check(&bench, &walk).await;
        bench.store.close().await;
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_walk_on_sqlite_keeps_the_rows_true(steps in prop::collection::vec(step(), 10..80)) {
        walk_on(Bench::sqlite(), steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    #[test]
    fn any_walk_on_postgres_keeps_the_rows_true(steps in prop::collection::vec(step(), 10..80)) {
        walk_on(Bench::postgres(), steps);
    }
}
