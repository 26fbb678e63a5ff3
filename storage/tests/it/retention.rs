use std::time::Duration;

use prosector_storage::{InstanceOutcome, Purged, RetentionPolicy, SpoolKey};

use crate::bench::{Bench, LONG, done, instance, on_both, result_uid, series_uid};

on_both! {
    bytes_go_when_nothing_needs_them_and_rows_stay,
    young_bytes_stay,
    bytes_of_open_work_stay,
    a_purged_instance_that_comes_again_is_there_again,
}

const NOW: RetentionPolicy = RetentionPolicy { instances: Duration::ZERO, results: Duration::ZERO };

async fn spooled(bench: &Bench, series: u32) -> SpoolKey {
    for number in 1..=3 {
        bench.spool.put(&instance(series, number).spool_key, b"bytes").await.unwrap();
    }
    let lease = bench.leased_job(series, "worker").await;
    let key = SpoolKey::for_result(lease.job_id, &result_uid(lease.job_id));
    bench.spool.put(&key, b"seg").await.unwrap();
    bench.store.finish_job(&lease, &done(&lease, &["pacs"])).await.unwrap();
    key
}

async fn deliver(bench: &Bench) {
    for leased in bench.store.lease_deliveries("pacs", 10, "sender", LONG).await.unwrap() {
        bench.store.delivery_succeeded(&leased, 0).await.unwrap();
    }
}

pub(crate) async fn bytes_go_when_nothing_needs_them_and_rows_stay(bench: Bench) {
    let result = spooled(&bench, 1).await;
    deliver(&bench).await;

    let purged = bench.store.purge(&bench.spool, &NOW, 100).await.unwrap();

    assert_eq!(purged, Purged { instances: 3, results: 1 });
    assert!(!bench.has_bytes(&result).await);
    let stored = bench.store.series_instances(&series_uid(1)).await.unwrap();
    assert_eq!(stored.len(), 3);
    for instance in stored {
        assert!(instance.purged_at.is_some());
        assert!(!bench.has_bytes(&instance.spool_key).await);
    }
    assert_eq!(bench.store.purge(&bench.spool, &NOW, 100).await.unwrap(), Purged::default());
}

async fn young_bytes_stay(bench: Bench) {
    spooled(&bench, 1).await;
    deliver(&bench).await;
    let later = RetentionPolicy { instances: LONG, results: LONG };

    assert_eq!(bench.store.purge(&bench.spool, &later, 100).await.unwrap(), Purged::default());
}

async fn bytes_of_open_work_stay(bench: Bench) {
    // Not delivered; still queued; not settled.
    spooled(&bench, 1).await;
    bench.queued_job(2).await;
    bench.receive(3, &[1]).await;

    assert_eq!(bench.store.purge(&bench.spool, &NOW, 100).await.unwrap(), Purged::default());
}

async fn a_purged_instance_that_comes_again_is_there_again(bench: Bench) {
    spooled(&bench, 1).await;
    deliver(&bench).await;
    bench.store.purge(&bench.spool, &NOW, 100).await.unwrap();

    let again = instance(1, 1);
    bench.spool.put(&again.spool_key, b"bytes").await.unwrap();
    let outcomes = bench.store.record_instances(&[again]).await.unwrap();

    assert!(matches!(outcomes[0], InstanceOutcome::Duplicate { .. }));
    let stored = bench.store.series_instances(&series_uid(1)).await.unwrap();
    assert_eq!(stored.iter().filter(|instance| instance.purged_at.is_none()).count(), 1);
}
