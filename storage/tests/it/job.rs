use std::collections::HashSet;
use std::time::Duration;

use prosector_storage::{
    AfterFailure, EventFilter, EventKind, Failure, JobFailure, JobOutcome, JobState, LeaseError,
    NextJob, OperatorError, Priority, ReasonCode, Retried, Store, TargetMeasurement,
};

use crate::bench::{Bench, LONG, done, limit, on_both};

on_both! {
    a_leased_job_is_nobody_elses,
    the_most_urgent_and_then_the_oldest_comes_first,
    eight_workers_never_get_the_same_job,
    a_lease_is_renewed_by_its_holder_alone,
    a_job_given_back_is_due_at_once_and_its_attempt_does_not_count,
    a_lapsed_lease_is_queued_and_published_again,
    a_woken_worker_cannot_finish_what_another_took_over,
    a_job_that_keeps_losing_its_worker_is_quarantined,
    a_done_job_keeps_measurements_results_and_deliveries,
    an_empty_job_has_measurements_and_no_result,
    a_delayed_job_is_not_due_before_its_time,
    a_job_out_of_attempts_is_quarantined,
    a_job_that_waits_for_spool_or_store_uses_up_no_attempt,
    a_rejected_job_ends_with_its_reason,
    a_cancelled_job_is_taken_from_its_worker,
    a_quarantined_job_is_released_with_fresh_attempts,
    a_done_job_is_run_again_on_request_and_sent_again,
    what_makes_no_sense_is_refused_with_the_state,
}

async fn a_leased_job_is_nobody_elses(bench: Bench) {
    let job = bench.queued_job(1).await;

    let lease = bench.store.lease_job(NextJob::Id(job), "worker-1", LONG).await.unwrap().unwrap();

    assert_eq!((lease.attempt, lease.lease_number), (1, 1));
    assert_eq!(lease.worker, "worker-1");
    assert!(bench.store.lease_job(NextJob::Id(job), "worker-2", LONG).await.unwrap().is_none());
    assert!(bench.store.lease_job(NextJob::MostUrgent, "worker-2", LONG).await.unwrap().is_none());
    let shown = bench.store.show_job(job).await.unwrap().unwrap().summary;
    assert_eq!(shown.state, JobState::Running);
    assert_eq!(shown.worker.as_deref(), Some("worker-1"));
    assert_eq!(shown.created_at, lease.created_at);
}

async fn the_most_urgent_and_then_the_oldest_comes_first(bench: Bench) {
    let mut expected = Vec::new();
    for (series, priority) in [
        (1, Priority::Backfill),
        (2, Priority::Routine),
        (3, Priority::Stat),
        (4, Priority::Routine),
        (5, Priority::Urgent),
    ] {
        bench.receive(series, &[1]).await;
        expected.push(bench.settle_with_priority(series, "ct", priority).await.0);
    }

    let mut found = Vec::new();
    while let Some(lease) =
        bench.store.lease_job(NextJob::MostUrgent, "worker", LONG).await.unwrap()
    {
        found.push(lease.job_id);
    }

    let order = [2, 4, 1, 3, 0].map(|place| expected[place]);
    assert_eq!(found, order);
}

async fn eight_workers_never_get_the_same_job(bench: Bench) {
    for series in 0..40 {
        bench.queued_job(series).await;
    }
    let mut tasks = tokio::task::JoinSet::new();
    for worker in 0..8 {
        let url = bench.url.clone();
        tasks.spawn(async move {
            let mut jobs = Vec::new();
            let name = format!("worker-{worker}");
            // Connections of its own, as a process of its own would have.
            let store = Store::connect(&url, &name).await.unwrap();
            while let Some(lease) = store.lease_job(NextJob::MostUrgent, &name, LONG).await.unwrap()
            {
                store.finish_job(&lease, &done(&lease, &["pacs"])).await.unwrap();
                jobs.push(lease.job_id);
            }
            jobs
        });
    }

    let mut jobs = Vec::new();
    while let Some(found) = tasks.join_next().await {
        jobs.extend(found.unwrap());
    }

    assert_eq!(jobs.iter().collect::<HashSet<_>>().len(), jobs.len());
    // A worker that found every due job in another's hands has stopped; with a lease of an hour none is left over.
    assert_eq!(jobs.len(), 40);
    assert_eq!(bench.store.verify_ledger(None).await.unwrap().defect, None);
}

async fn a_lease_is_renewed_by_its_holder_alone(bench: Bench) {
    let lease = bench.leased_job(1, "worker-1").await;

    let expires_at = bench.store.renew_lease(&lease, 2 * LONG).await.unwrap();

    assert!(expires_at > lease.lease_expires_at);
    let mut stranger = lease.clone();
    "worker-2".clone_into(&mut stranger.worker);
    let mut earlier = lease.clone();
    earlier.lease_number -= 1;
    for other in [stranger, earlier] {
        let renewed = bench.store.renew_lease(&other, LONG).await;
        assert!(matches!(renewed, Err(LeaseError::Lost { .. })), "{renewed:?}");
    }
}

async fn a_job_given_back_is_due_at_once_and_its_attempt_does_not_count(bench: Bench) {
    let lease = bench.leased_job(1, "worker-1").await;

    bench.store.give_back(&lease, ReasonCode::WORKER_DRAINED).await.unwrap();

    let again = bench.store.lease_job(NextJob::MostUrgent, "worker-2", LONG).await.unwrap();
    assert_eq!(again.unwrap().attempt, 1);
    let again = bench.store.give_back(&lease, ReasonCode::WORKER_DRAINED).await;
    assert!(matches!(again, Err(LeaseError::Lost { .. })), "{again:?}");
}

/// Takes the leases back that ran out, as soon as the database's clock has moved on.
async fn lapse(bench: &Bench, attempts: u32) -> prosector_storage::Lapsed {
    loop {
        let lapsed = bench.store.lapse(limit(attempts)).await.unwrap();
        if lapsed != prosector_storage::Lapsed::default() {
            return lapsed;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn a_lapsed_lease_is_queued_and_published_again(bench: Bench) {
    let job = bench.queued_job(1).await;
    let soon = Duration::ZERO;
    bench.store.lease_job(NextJob::Id(job), "worker-1", soon).await.unwrap().unwrap();
    assert_eq!(bench.store.counts().await.unwrap().outbox, 0);

    let lapsed = lapse(&bench, 3).await;

    assert_eq!(lapsed.requeued, [job]);
    assert!(lapsed.quarantined.is_empty());
    let published = bench.store.take_outbox(10, LONG).await.unwrap();
    assert_eq!(published[0].job_id, job);
    let again = bench.store.lease_job(NextJob::Id(job), "worker-2", LONG).await.unwrap().unwrap();
    assert_eq!((again.attempt, again.lease_number), (2, 2));
}

async fn a_woken_worker_cannot_finish_what_another_took_over(bench: Bench) {
    let job = bench.queued_job(1).await;
    let asleep =
        bench.store.lease_job(NextJob::Id(job), "worker", Duration::ZERO).await.unwrap().unwrap();
    lapse(&bench, 3).await;
    // Even under the same name: a worker that was restarted is another one.
    let taken = bench.store.lease_job(NextJob::Id(job), "worker", LONG).await.unwrap().unwrap();

    let finished = bench.store.finish_job(&asleep, &done(&asleep, &["pacs"])).await;

    assert!(matches!(finished, Err(LeaseError::Lost { .. })), "{finished:?}");
    bench.store.finish_job(&taken, &done(&taken, &["pacs"])).await.unwrap();
    assert_eq!(bench.number("select count(*) from result").await, 1);
}

async fn a_job_that_keeps_losing_its_worker_is_quarantined(bench: Bench) {
    let job = bench.queued_job(1).await;
    for _ in 0..2 {
        let lease =
            bench.store.lease_job(NextJob::Id(job), "worker", Duration::ZERO).await.unwrap();
        assert!(lease.is_some());
        lapse(&bench, 2).await;
    }

    let detail = bench.store.show_job(job).await.unwrap().unwrap();

    assert_eq!(detail.summary.state, JobState::Quarantined);
    assert_eq!(detail.summary.reason_code, Some(ReasonCode::LEASE_LAPSED));
    let last = detail.timeline.last().unwrap();
    assert_eq!(last.event.kind, EventKind::JobQuarantined);
}

async fn a_done_job_keeps_measurements_results_and_deliveries(bench: Bench) {
    let lease = bench.done_job(1, &["pacs", "archive"]).await;

    let detail = bench.store.show_job(lease.job_id).await.unwrap().unwrap();

    assert_eq!(detail.summary.state, JobState::Done);
    assert_eq!((detail.summary.deliveries, detail.summary.delivered), (2, 0));
    assert_eq!(detail.targets.len(), 1);
    assert_eq!(detail.targets[0].prompt, "liver");
    assert_eq!(detail.targets[0].voxel_count, 1500);
    assert!((detail.targets[0].volume_ml - 1.5).abs() < 1e-12);
    assert_eq!(detail.results.len(), 1);
    assert_eq!(detail.results[0].size_bytes, 3);
    let destinations: Vec<_> =
        detail.deliveries.iter().map(|delivery| delivery.destination.as_str()).collect();
    assert_eq!(destinations, ["archive", "pacs"]);
    let kinds: Vec<_> = detail.timeline.iter().map(|entry| entry.event.kind).collect();
    assert_eq!(kinds, [EventKind::JobCreated, EventKind::JobLeased, EventKind::JobDone]);
    assert_eq!(detail.timeline[2].event.detail["work"]["infer_ms"], 12);
    assert_eq!(detail.timeline[2].actor, "test");
}

async fn an_empty_job_has_measurements_and_no_result(bench: Bench) {
    let lease = bench.leased_job(1, "worker").await;
    let targets = vec![TargetMeasurement {
        prompt: "spleen".to_owned(),
        segment_number: None,
        voxel_count: 0,
        volume_ml: 0.0,
    }];

    let outcome = JobOutcome::Empty {
        targets: targets.clone(),
        findings: Vec::new(),
        detail: serde_json::Value::Null,
    };
    bench.store.finish_job(&lease, &outcome).await.unwrap();

    let detail = bench.store.show_job(lease.job_id).await.unwrap().unwrap();
    assert_eq!(detail.summary.state, JobState::Empty);
    assert_eq!(detail.targets, targets);
    assert!(detail.results.is_empty() && detail.deliveries.is_empty());
}

fn failure(failure: Failure) -> JobFailure {
    JobFailure {
        failure,
        reason_code: ReasonCode::new("gap_between_slices"),
        reason: "gap of 5.00 mm after instance 1.2.3".to_owned(),
    }
}

async fn a_delayed_job_is_not_due_before_its_time(bench: Bench) {
    let lease = bench.leased_job(1, "worker").await;

    let after = bench
        .store
        .fail_job(&lease, &failure(Failure::Retry { after: LONG }), limit(3))
        .await
        .unwrap();

    let AfterFailure::Delayed { until } = after else { panic!("{after:?}") };
    let shown = bench.store.show_job(lease.job_id).await.unwrap().unwrap().summary;
    assert_eq!(shown.state, JobState::Queued);
    assert_eq!(shown.next_attempt_at, until);
    assert_eq!(shown.reason_code, Some(ReasonCode::new("gap_between_slices")));
    for next in [NextJob::MostUrgent, NextJob::Id(lease.job_id)] {
        assert!(bench.store.lease_job(next, "worker", LONG).await.unwrap().is_none());
    }
    assert!(bench.store.take_outbox(10, LONG).await.unwrap().is_empty());
    let again = bench.store.fail_job(&lease, &failure(Failure::Reject), limit(3)).await;
    assert!(matches!(again, Err(LeaseError::Lost { .. })), "{again:?}");
}

async fn a_job_out_of_attempts_is_quarantined(bench: Bench) {
    let job = bench.queued_job(1).await;
    let mut ends = Vec::new();
    for _ in 0..3 {
        let lease = bench.store.lease_job(NextJob::Id(job), "worker", LONG).await.unwrap().unwrap();
        let retry = failure(Failure::Retry { after: Duration::ZERO });
        ends.push(bench.store.fail_job(&lease, &retry, limit(3)).await.unwrap());
    }

    assert!(matches!(ends[0], AfterFailure::Delayed { .. }));
    assert!(matches!(ends[1], AfterFailure::Delayed { .. }));
    assert_eq!(ends[2], AfterFailure::Ended(JobState::Quarantined));
    let shown = bench.store.show_job(job).await.unwrap().unwrap().summary;
    assert_eq!(shown.reason.as_deref(), Some("gap of 5.00 mm after instance 1.2.3"));
}

async fn a_job_that_waits_for_spool_or_store_uses_up_no_attempt(bench: Bench) {
    let job = bench.queued_job(1).await;
    for lease_number in 1..5 {
        let lease = bench.store.lease_job(NextJob::Id(job), "worker", LONG).await.unwrap().unwrap();
        assert_eq!((lease.attempt, lease.lease_number), (1, lease_number));
        let wait = failure(Failure::Wait { after: Duration::ZERO });

        let after = bench.store.fail_job(&lease, &wait, limit(1)).await.unwrap();

        assert!(matches!(after, AfterFailure::Delayed { .. }), "{after:?}");
    }

    let shown = bench.store.show_job(job).await.unwrap().unwrap().summary;
    assert_eq!((shown.state, shown.attempt), (JobState::Queued, 0));
}

async fn a_rejected_job_ends_with_its_reason(bench: Bench) {
    for (series, kind, state) in
        [(1, Failure::Reject, JobState::Rejected), (2, Failure::Fail, JobState::Failed)]
    {
        let lease = bench.leased_job(series, "worker").await;

        let after = bench.store.fail_job(&lease, &failure(kind), limit(3)).await.unwrap();

        assert_eq!(after, AfterFailure::Ended(state));
        let shown = bench.store.show_job(lease.job_id).await.unwrap().unwrap().summary;
        assert_eq!(shown.state, state);
        assert_eq!(shown.reason_code, Some(ReasonCode::new("gap_between_slices")));
        assert!(shown.finished_at.is_some() && shown.worker.is_none());
    }
}

async fn a_cancelled_job_is_taken_from_its_worker(bench: Bench) {
    let lease = bench.leased_job(1, "worker").await;

    bench.store.cancel_job(lease.job_id).await.unwrap();

    let renewed = bench.store.renew_lease(&lease, LONG).await;
    assert!(matches!(renewed, Err(LeaseError::Lost { .. })), "{renewed:?}");
    let shown = bench.store.show_job(lease.job_id).await.unwrap().unwrap();
    assert_eq!(shown.summary.state, JobState::Cancelled);
    let last = &shown.timeline.last().unwrap().event;
    assert_eq!(last.kind, EventKind::JobCancelled);
    assert_eq!(last.reason_code, Some(ReasonCode::OPERATOR));
}

async fn a_quarantined_job_is_released_with_fresh_attempts(bench: Bench) {
    let lease = bench.leased_job(1, "worker").await;
    let retry = failure(Failure::Retry { after: LONG });
    bench.store.fail_job(&lease, &retry, limit(1)).await.unwrap();

    bench.store.release_job(lease.job_id).await.unwrap();

    let again = bench.store.lease_job(NextJob::MostUrgent, "worker", LONG).await.unwrap().unwrap();
    assert_eq!((again.job_id, again.attempt), (lease.job_id, 1));
    assert_eq!(again.created_at, lease.created_at);
}

async fn a_done_job_is_run_again_on_request_and_sent_again(bench: Bench) {
    let lease = bench.done_job(1, &["pacs"]).await;
    let sent = bench.store.lease_deliveries("pacs", 1, "sender", LONG).await.unwrap();
    bench.store.delivery_succeeded(&sent[0], 0).await.unwrap();

    assert_eq!(bench.store.retry_job(lease.job_id).await.unwrap(), Retried::Job);
    let again = bench.store.lease_job(NextJob::MostUrgent, "worker", LONG).await.unwrap().unwrap();
    bench.store.finish_job(&again, &done(&again, &["pacs"])).await.unwrap();

    assert_eq!(bench.number("select count(*) from result").await, 1);
    assert_eq!(bench.store.due_deliveries().await.unwrap()[0].count, 1);
}

async fn what_makes_no_sense_is_refused_with_the_state(bench: Bench) {
    let lease = bench.done_job(1, &["pacs"]).await;
    let unknown = prosector_storage::JobId::from(*lease.job_id.as_uuid());

    let cancelled = bench.store.cancel_job(lease.job_id).await.unwrap_err();
    let released = bench.store.release_job(unknown).await.unwrap_err();
    bench.queued_job(2).await;
    let queued = bench.store.lease_job(NextJob::MostUrgent, "w", LONG).await.unwrap().unwrap();
    let retried = bench.store.retry_job(queued.job_id).await.unwrap_err();
    let nobody = "00000000-0000-0000-0000-000000000000".parse().unwrap();
    let missing = bench.store.cancel_job(nobody).await.unwrap_err();

    assert!(matches!(cancelled, OperatorError::State { state: JobState::Done, .. }));
    assert!(matches!(released, OperatorError::State { state: JobState::Done, .. }));
    assert!(matches!(retried, OperatorError::State { state: JobState::Running, .. }));
    assert!(matches!(missing, OperatorError::Unknown { .. }));
    let filter = EventFilter { kind: Some(EventKind::JobCancelled), ..EventFilter::default() };
    assert!(bench.store.events(&filter, 10).await.unwrap().is_empty());
}
