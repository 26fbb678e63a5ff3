use std::path::Path;
use std::time::Duration;

use prosector_storage::{Sha256Digest, Space, Spool, SpoolError, SpoolKey, SpoolOptions};
use tempfile::TempDir;

use crate::bench::{Bench, instance};

fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

async fn spool_in(folder: &TempDir, reserve_bytes: u64) -> Spool {
    let url = format!("file://{}/deep/spool", folder.path().display());
    Spool::open(&url, SpoolOptions { reserve_bytes }).await.unwrap()
}

fn key(number: u32) -> SpoolKey {
    instance(1, number).spool_key
}

#[tokio::test]
async fn a_committed_file_has_the_bytes_that_were_written() {
    let folder = TempDir::new().unwrap();
    let spool = spool_in(&folder, 0).await;
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|i| (i * 7) as u8).collect();
    let mut writer = spool.create().await.unwrap();
    for piece in bytes.chunks(16_370) {
        writer.write(piece).await.unwrap();
    }
    assert_eq!(writer.size_bytes(), 1_000_000);
    let file = writer.finish().await.unwrap();

    let outcomes = spool.commit_batch(vec![(file, key(1))]).await;

    assert!(outcomes.iter().all(Result::is_ok));
    assert_eq!(spool.read(&key(1)).await.unwrap(), bytes);
    let local = spool.fetch(vec![key(1)]).await.unwrap();
    assert_eq!(local.paths(), [folder.path().join("deep/spool").join(key(1).as_str())]);
    assert_eq!(files(&folder.path().join("deep/spool")), [key(1).to_string()]);
}

#[tokio::test]
async fn a_batch_over_several_series_is_all_in_place() {
    let folder = TempDir::new().unwrap();
    let spool = spool_in(&folder, 0).await;
    let mut batch = Vec::new();
    for series in 0..30 {
        let mut writer = spool.create().await.unwrap();
        writer.write(format!("series {series}").as_bytes()).await.unwrap();
        batch.push((writer.finish().await.unwrap(), instance(series, 1).spool_key));
    }

    let outcomes = spool.commit_batch(batch).await;

    assert!(outcomes.iter().all(Result::is_ok));
    for series in 0..30 {
        let bytes = spool.read(&instance(series, 1).spool_key).await.unwrap();
        assert_eq!(bytes, format!("series {series}").as_bytes());
    }
}

#[tokio::test]
async fn one_file_that_cannot_be_placed_does_not_take_others_with_it() {
    let folder = TempDir::new().unwrap();
    let spool = spool_in(&folder, 0).await;
    // A file stands where a folder is needed.
    let root = folder.path().join("deep/spool");
    let study = key(1).as_str().split('/').nth(1).unwrap().to_owned();
    std::fs::write(root.join("instances").join(study), "in the way").unwrap();
    let mut batch = Vec::new();
    for key in [key(1), instance(20, 1).spool_key] {
        let mut writer = spool.create().await.unwrap();
        writer.write(b"x").await.unwrap();
        batch.push((writer.finish().await.unwrap(), key));
    }

    let outcomes = spool.commit_batch(batch).await;

    assert!(matches!(outcomes[0], Err(SpoolError::Io { .. })), "{outcomes:?}");
    assert!(outcomes[1].is_ok());
    assert!(files(&root.join("incoming")).is_empty());
}

#[tokio::test]
async fn a_dropped_writer_leaves_nothing() {
    let folder = TempDir::new().unwrap();
    let spool = spool_in(&folder, 0).await;
    let mut writer = spool.create().await.unwrap();
    writer.write(b"half").await.unwrap();

    drop(writer);

    assert!(files(folder.path()).is_empty());
}

#[tokio::test]
async fn below_the_reserve_nothing_new_is_received_but_results_are_kept() {
    let folder = TempDir::new().unwrap();
    let spool = spool_in(&folder, u64::MAX / 2).await;

    let refused = spool.create().await;

    let Err(error) = refused else { panic!("a writer was given out") };
    assert!(matches!(error, SpoolError::BelowReserve { .. }) && error.is_full());
    spool.put(&key(1), b"result").await.unwrap();
    assert_eq!(spool.read(&key(1)).await.unwrap(), b"result");
    let space = spool.space().unwrap();
    assert!(!space.admits(0) && space.total_bytes >= space.free_bytes);
}

#[test]
fn space_admits_what_fits_above_the_reserve() {
    let space = Space { free_bytes: 100, total_bytes: 1000, reserve_bytes: 60 };

    assert!(space.admits(40));
    assert!(!space.admits(41));
    assert!(!space.admits(u64::MAX));
}

#[tokio::test]
async fn put_replaces_and_remove_forgets() {
    let folder = TempDir::new().unwrap();
    let spool = spool_in(&folder, 0).await;
    spool.put(&key(1), b"first").await.unwrap();
    spool.put(&key(1), b"second").await.unwrap();
    assert_eq!(spool.read(&key(1)).await.unwrap(), b"second");

    spool.remove(&key(1)).await.unwrap();
    spool.remove(&key(1)).await.unwrap();

    let missing = spool.read(&key(1)).await;
    assert!(matches!(missing, Err(SpoolError::Missing { .. })), "{missing:?}");
    let left: Vec<_> =
        std::fs::read_dir(folder.path().join("deep/spool/instances")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    spool.put(&key(1), b"third").await.unwrap();
    assert_eq!(spool.read(&key(1)).await.unwrap(), b"third");
}

#[tokio::test]
async fn other_addresses_are_refused() {
    for url in ["s3://bucket", "/var/spool", "file://"] {
        let opened = Spool::open(url, SpoolOptions { reserve_bytes: 0 }).await;
        assert!(matches!(opened, Err(SpoolError::Address)), "{url}");
    }
}

#[tokio::test]
async fn the_start_removes_half_written_files_and_sets_strangers_aside() {
    let bench = Bench::sqlite().await;
    let known = instance(1, 1);
    bench.spool.put(&known.spool_key, b"known").await.unwrap();
    bench.store.record_instances(std::slice::from_ref(&known)).await.unwrap();
    let stranger = instance(1, 2).spool_key;
    bench.spool.put(&stranger, b"stranger").await.unwrap();
    let root = bench.folder.path().join("spool");
    std::fs::write(root.join("incoming/crashed.part"), b"half").unwrap();
    let mut alive = bench.spool.create().await.unwrap();
    alive.write(b"being written").await.unwrap();

    let reconciled = bench.spool.reconcile(&bench.store, Duration::ZERO).await.unwrap();

    assert_eq!(reconciled.removed, 1);
    assert_eq!(reconciled.set_aside, std::slice::from_ref(&stranger));
    assert_eq!(reconciled.sound, 1);
    assert_eq!(bench.spool.read(&known.spool_key).await.unwrap(), b"known");
    let aside = root.join("set-aside").join(stranger.as_str());
    assert_eq!(std::fs::read(aside).unwrap(), b"stranger");
    let file = alive.finish().await.unwrap();
    assert!(bench.spool.commit_batch(vec![(file, instance(2, 1).spool_key)]).await[0].is_ok());
}

#[tokio::test]
async fn a_young_file_without_a_row_is_left_alone() {
    let bench = Bench::sqlite().await;
    let young = instance(1, 1).spool_key;
    bench.spool.put(&young, b"young").await.unwrap();

    let reconciled = bench.spool.reconcile(&bench.store, Duration::from_mins(1)).await.unwrap();

    assert!(reconciled.set_aside.is_empty());
    assert_eq!(
        Sha256Digest::of(&bench.spool.read(&young).await.unwrap()),
        Sha256Digest::of(b"young")
    );
}
