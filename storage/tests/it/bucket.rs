//! The spool in a bucket of a service that others wrote.

use std::path::Path;
use std::time::Duration;

use prosector_storage::{
    BucketCredentials, BucketOptions, FinishedFile, Intake, IntakeError, IntakeLimits, Spool,
    SpoolError, SpoolKey, SpoolOptions,
};
use tempfile::TempDir;
use test_harness::s3::{ACCESS_KEY_ID, S3, SECRET_ACCESS_KEY};

use crate::bench::{Bench, instance, series_uid};
use crate::retention;

const BUCKET: &str = "spool-of-tests";

fn options(server: &S3, staging: &Path) -> BucketOptions {
    BucketOptions {
        bucket: BUCKET.to_owned(),
        prefix: "site/a".to_owned(),
        endpoint: Some(server.endpoint()),
        region: None,
        credentials: BucketCredentials::Key {
            access_key_id: ACCESS_KEY_ID.to_owned(),
            secret_access_key: SECRET_ACCESS_KEY.to_owned(),
        },
        staging: staging.to_owned(),
        patience: Duration::from_secs(1),
    }
}

async fn open(options: &BucketOptions) -> Result<Spool, SpoolError> {
    Spool::open_bucket(options, SpoolOptions { reserve_bytes: 0 }).await
}

async fn server() -> S3 {
    let started = tokio::task::spawn_blocking(|| {
        let server = S3::start()?;
        server.create_bucket(BUCKET)?;
        anyhow::Ok(server)
    });
    started.await.unwrap().unwrap()
}

fn key(number: u32) -> SpoolKey {
    instance(1, number).spool_key
}

async fn finished(spool: &Spool, bytes: &[u8]) -> FinishedFile {
    let mut writer = spool.create().await.unwrap();
    writer.write(bytes).await.unwrap();
    writer.finish().await.unwrap()
}

fn entries(folder: &Path) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_small_and_large_come_back_as_they_were_put() {
    let (server, staging) = (server().await, TempDir::new().unwrap());
    let spool = open(&options(&server, staging.path())).await.unwrap();
    let large: Vec<u8> = (0..20_000_000_u32).map(|i| ((i * 7) >> 3) as u8).collect();
    let mut batch = Vec::new();
    for number in 1..=40 {
        let bytes = format!("instance {number}");
        batch.push((finished(&spool, bytes.as_bytes()).await, key(number)));
    }
    batch.push((finished(&spool, &large).await, key(41)));

    let outcomes = spool.commit_batch(batch).await;

    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(entries(&staging.path().join("incoming")), 0);
    spool.put(&key(42), b"result").await.unwrap();
    assert_eq!(spool.read(&key(42)).await.unwrap(), b"result");
    assert!(spool.read(&key(41)).await.unwrap() == large);
    let stored = server.objects(BUCKET).unwrap();
    assert_eq!(stored.len(), 42, "{stored:?}");
    assert!(stored.iter().all(|name| name.starts_with("site/a/instances/")), "{stored:?}");

    let keys: Vec<SpoolKey> = (38..=43).map(key).collect();
    let files = spool.fetch(keys).await.unwrap();

    assert_eq!(std::fs::read(&files.paths()[0]).unwrap(), b"instance 38");
    assert!(std::fs::read(&files.paths()[3]).unwrap() == large);
    assert!(!files.paths()[5].exists(), "there is no instance 43");
    drop(files);
    assert_eq!(entries(&staging.path().join("fetched")), 0);
    spool.remove(&key(1)).await.unwrap();
    spool.remove(&key(1)).await.unwrap();
    assert!(matches!(spool.read(&key(1)).await, Err(SpoolError::Missing { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_service_that_is_away_does_not_take_is_refused_and_has_no_row() {
    let (mut server, staging) = (server().await, TempDir::new().unwrap());
    let spool = open(&options(&server, staging.path())).await.unwrap();
    let bench = Bench::with_spool(spool.clone()).await;
    let (intake, committer) =
        Intake::new(bench.store.clone(), spool.clone(), IntakeLimits::default());
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(committer.run());
    server.kill().unwrap();

    let refused = intake.commit(finished(&spool, b"one").await, instance(1, 1)).await;

    assert!(matches!(refused, Err(IntakeError::Spool(_))), "{refused:?}");
    assert!(spool.ping().await.is_err());
    assert!(bench.store.series_instances(&series_uid(1)).await.unwrap().is_empty());
    assert_eq!(entries(&staging.path().join("incoming")), 0);
    tokio::task::block_in_place(|| server.start_again()).unwrap();
    intake.commit(finished(&spool, b"one").await, instance(1, 1)).await.unwrap();
    assert_eq!(bench.store.series_instances(&series_uid(1)).await.unwrap().len(), 1);
    assert!(bench.has_bytes(&key(1)).await);
    spool.ping().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retention_and_the_start_clear_the_bucket_as_they_clear_a_folder() {
    let (server, staging) = (server().await, TempDir::new().unwrap());
    let killed = staging.path().join("fetched/of-a-process-that-was-killed");
    std::fs::create_dir_all(&killed).unwrap();
    std::fs::write(killed.join("000000.dcm"), "copy").unwrap();
    let spool = open(&options(&server, staging.path())).await.unwrap();
    assert!(!killed.exists());
    let bench = Bench::with_spool(spool.clone()).await;
    spool.put(&instance(7, 1).spool_key, b"stranger").await.unwrap();
    let known = instance(8, 1);
    spool.put(&known.spool_key, b"known").await.unwrap();
    bench.store.record_instances(std::slice::from_ref(&known)).await.unwrap();
    std::fs::write(staging.path().join("incoming/crashed.part"), b"half").unwrap();

    let reconciled = spool.reconcile(&bench.store, Duration::ZERO).await.unwrap();

    assert_eq!(reconciled.set_aside, [instance(7, 1).spool_key]);
    assert_eq!((reconciled.removed, reconciled.sound), (1, 1));
    let aside = format!("site/a/set-aside/{}", instance(7, 1).spool_key);
    assert_eq!(server.object(BUCKET, &aside).unwrap(), b"stranger");
    spool.remove(&known.spool_key).await.unwrap();
    retention::bytes_go_when_nothing_needs_them_and_rows_stay(Bench::with_spool(spool).await).await;
    assert_eq!(server.objects(BUCKET).unwrap(), [aside]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_bucket_is_named_at_the_start_and_a_secret_never() {
    let (mut server, staging) = (server().await, TempDir::new().unwrap());
    let right = options(&server, staging.path());

    let bucket = "no-such-bucket".to_owned();
    let no_bucket = open(&BucketOptions { bucket, ..right.clone() }).await.unwrap_err();
    let credentials = BucketCredentials::Key {
        access_key_id: ACCESS_KEY_ID.to_owned(),
        secret_access_key: "n0t-the-secret".to_owned(),
    };
    let refused = open(&BucketOptions { credentials, ..right.clone() }).await.unwrap_err();
    server.kill().unwrap();
    let away = open(&right).await.unwrap_err();

    assert_eq!(no_bucket.to_string(), "there is no bucket no-such-bucket");
    assert_eq!(refused.to_string(), "bucket spool-of-tests refuses the credentials");
    assert_eq!(away.to_string(), "spool could not write to its bucket");
    for error in [&no_bucket, &refused, &away] {
        let text = format!("{error:?}");
        assert!(!text.contains("n0t-the-secret") && !text.contains(SECRET_ACCESS_KEY), "{text}");
    }
    assert!(!format!("{right:?}").contains(SECRET_ACCESS_KEY));
}
