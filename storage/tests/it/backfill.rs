use dicom_types::SeriesInstanceUid;
use prosector_storage::{BackfillState, Fetched, NextJob, PlannedSeries, Priority, ReasonCode};

use crate::bench::{Bench, LONG, at_once, done, on_both, series_uid, study_uid};

on_both! {
    a_planned_series_is_fetched_once_and_one_that_failed_again,
    a_series_that_was_here_is_looked_at_again_for_its_protocol_alone,
    what_is_under_way_is_counted_until_its_job_ends,
}

fn planned(number: u32) -> PlannedSeries {
    PlannedSeries {
        study_instance_uid: study_uid(number),
        series_instance_uid: series_uid(number),
        expected_instances: Some(3),
    }
}

async fn states(bench: &Bench) -> Vec<(SeriesInstanceUid, BackfillState, u64)> {
    let series = bench.store.backfill("pacs", "trial").await.unwrap();
    series
        .into_iter()
        .map(|series| (series.planned.series_instance_uid, series.state, series.received_instances))
        .collect()
}

async fn a_planned_series_is_fetched_once_and_one_that_failed_again(bench: Bench) {
    let both = [planned(1), planned(2)];
    assert_eq!(bench.store.plan_backfill("pacs", "trial", &both).await.unwrap(), 2);
    assert_eq!(bench.store.plan_backfill("pacs", "trial", &both).await.unwrap(), 0);
    // Until it is asked for, a series that comes is everybody's.
    assert!(bench.store.backfill_of(&series_uid(1)).await.unwrap().protocols.is_empty());

    bench.store.backfill_requested("trial", &series_uid(1)).await.unwrap();
    bench.receive(1, &[1, 2, 3]).await;
    bench.store.backfill_ended("trial", &series_uid(1), &Fetched::Received).await.unwrap();
    bench.store.backfill_requested("trial", &series_uid(2)).await.unwrap();
    let failed = Fetched::Failed(ReasonCode::new("retrieval_failed"));
    bench.store.backfill_ended("trial", &series_uid(2), &failed).await.unwrap();

    let expected =
        [(series_uid(1), BackfillState::Received, 3), (series_uid(2), BackfillState::Failed, 0)];
    assert_eq!(states(&bench).await, expected);
    let of = bench.store.backfill_of(&series_uid(1)).await.unwrap();
    assert!(of.protocols.contains("trial") && !of.was_here);
    assert_eq!(bench.store.plan_backfill("pacs", "trial", &both).await.unwrap(), 1);
    assert_eq!(states(&bench).await[1].1, BackfillState::Waiting);
    assert!(bench.store.backfill("archive", "trial").await.unwrap().is_empty());
}

async fn a_series_that_was_here_is_looked_at_again_for_its_protocol_alone(bench: Bench) {
    bench.receive(1, &[1, 2, 3]).await;
    bench.settle(1, "ct").await;
    bench.store.plan_backfill("pacs", "trial", &[planned(1)]).await.unwrap();
    bench.store.backfill_requested("trial", &series_uid(1)).await.unwrap();

    bench.store.backfill_ended("trial", &series_uid(1), &Fetched::Received).await.unwrap();

    assert!(bench.store.backfill_of(&series_uid(1)).await.unwrap().was_here);
    assert!(bench.candidate(1).await.settled_before);
    bench.settle(1, "trial").await;
    bench.store.backfill_ended("trial", &series_uid(1), &Fetched::Received).await.unwrap();
    let due = bench.store.series_to_settle(&at_once(), 10).await.unwrap();
    assert!(due.is_empty(), "it has its job: {due:?}");
}

async fn what_is_under_way_is_counted_until_its_job_ends(bench: Bench) {
    bench.store.plan_backfill("pacs", "trial", &[planned(1)]).await.unwrap();
    assert_eq!(bench.store.backfill_under_way().await.unwrap(), 0);

    bench.store.backfill_requested("trial", &series_uid(1)).await.unwrap();
    bench.receive(1, &[1]).await;
    assert_eq!(bench.store.backfill_under_way().await.unwrap(), 1);
    let (job, _) = bench.settle_with_priority(1, "trial", Priority::Backfill).await;
    let lease = bench.store.lease_job(NextJob::Id(job), "worker", LONG).await.unwrap().unwrap();
    assert_eq!(bench.store.backfill_under_way().await.unwrap(), 1);
    bench.store.finish_job(&lease, &done(&lease, &[])).await.unwrap();
    assert_eq!(bench.store.backfill_under_way().await.unwrap(), 0);
}
