use std::time::Duration;

use prosector_storage::{NextJob, Priority};

use crate::bench::{Bench, LONG, on_both};

on_both! {
    a_claimed_job_is_published_once,
    a_claim_that_ends_comes_again,
    the_most_urgent_is_published_first,
    a_later_entry_survives_the_confirmation_of_an_earlier_one,
    jobs_that_a_broker_lost_are_published_again,
}

async fn a_claimed_job_is_published_once(bench: Bench) {
    let job = bench.queued_job(1).await;

    let entries = bench.store.take_outbox(10, LONG).await.unwrap();

    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].job_id, job);
    assert!(bench.store.take_outbox(10, LONG).await.unwrap().is_empty());
    bench.store.mark_published(&entries).await.unwrap();
    assert_eq!(bench.store.counts().await.unwrap().outbox, 0);
    bench.store.mark_published(&[]).await.unwrap();
}

async fn a_claim_that_ends_comes_again(bench: Bench) {
    let job = bench.queued_job(1).await;
    bench.store.take_outbox(10, Duration::ZERO).await.unwrap();

    let again = loop {
        let entries = bench.store.take_outbox(10, LONG).await.unwrap();
        if !entries.is_empty() {
            break entries;
        }
    };

    assert_eq!(again[0].job_id, job);
}

async fn the_most_urgent_is_published_first(bench: Bench) {
    for (series, priority) in [(1, Priority::Backfill), (2, Priority::Stat), (3, Priority::Routine)]
    {
        bench.receive(series, &[1]).await;
        bench.settle_with_priority(series, "ct", priority).await;
    }

    let entries = bench.store.take_outbox(10, LONG).await.unwrap();

    let priorities: Vec<_> = entries.iter().map(|entry| entry.priority).collect();
    assert_eq!(priorities, [Priority::Stat, Priority::Routine, Priority::Backfill]);
}

async fn a_later_entry_survives_the_confirmation_of_an_earlier_one(bench: Bench) {
    let job = bench.queued_job(1).await;
    let entries = bench.store.take_outbox(10, LONG).await.unwrap();
    let lease = bench.store.lease_job(NextJob::Id(job), "worker", LONG).await.unwrap().unwrap();
    let why = prosector_storage::ReasonCode::WORKER_DRAINED;
    bench.store.give_back(&lease, why).await.unwrap();

    bench.store.mark_published(&entries).await.unwrap();

    assert_eq!(bench.store.take_outbox(10, LONG).await.unwrap().len(), 1);
}

async fn jobs_that_a_broker_lost_are_published_again(bench: Bench) {
    let lost = bench.queued_job(1).await;
    bench.leased_job(2, "worker").await;
    let entries = bench.store.take_outbox(10, LONG).await.unwrap();
    bench.store.mark_published(&entries).await.unwrap();
    assert_eq!(bench.store.republish(LONG).await.unwrap(), 0);

    let count = loop {
        let count = bench.store.republish(Duration::ZERO).await.unwrap();
        if count > 0 {
            break count;
        }
    };

    assert_eq!(count, 1);
    assert_eq!(bench.store.take_outbox(10, LONG).await.unwrap()[0].job_id, lost);
}
