//! What intake promises: success means durable, and whatever else means that the sender has to try again.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use prosector_storage::{
    InstanceOutcome, Intake, IntakeError, IntakeLimits, NewInstance, Sha256Digest, Spool, SpoolKey,
    SpoolOptions, Store,
};

use crate::bench::{
    Bench, instance, instance_with_content, on_both, result_uid, series_uid, study_uid,
};

on_both! {
    an_acknowledged_instance_is_in_place_and_recorded,
    many_associations_share_commits,
    a_crash_before_the_commit_leaves_nothing_acknowledged,
    a_crash_between_file_and_row_is_healed_by_sending_again,
    an_instance_that_cannot_be_stored_does_not_take_its_neighbours,
    a_needless_copy_is_removed,
    what_was_acknowledged_survives_kill_9,
}

async fn write(spool: &Spool, instance: &NewInstance) -> prosector_storage::FinishedFile {
    let mut writer = spool.create().await.unwrap();
    writer.write(instance.sop_instance_uid.as_str().as_bytes()).await.unwrap();
    writer.finish().await.unwrap()
}

fn is_in_place(bench: &Bench, key: &SpoolKey) -> bool {
    bench.folder.path().join("spool").join(key.as_str()).is_file()
}

async fn an_acknowledged_instance_is_in_place_and_recorded(bench: Bench) {
    let (intake, committer) =
        Intake::new(bench.store.clone(), bench.spool.clone(), IntakeLimits::default());
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(committer.run());
    let instance = instance(1, 1);

    let outcome =
        intake.commit(write(&bench.spool, &instance).await, instance.clone()).await.unwrap();

    assert_eq!(outcome, InstanceOutcome::New);
    let bytes = bench.spool.read(&instance.spool_key).await.unwrap();
    assert_eq!(bytes, instance.sop_instance_uid.as_str().as_bytes());
    assert_eq!(bench.store.series_instances(&series_uid(1)).await.unwrap().len(), 1);
    drop(intake);
    tasks.join_next().await.unwrap().unwrap();
}

async fn many_associations_share_commits(bench: Bench) {
    let limits = IntakeLimits { batch: 64, waiting: 64, linger: Duration::from_millis(20) };
    let (intake, committer) = Intake::new(bench.store.clone(), bench.spool.clone(), limits);
    let mut committers = tokio::task::JoinSet::new();
    committers.spawn(committer.run());
    let mut tasks = tokio::task::JoinSet::new();
    for series in 0..16 {
        let (intake, spool) = (intake.clone(), bench.spool.clone());
        tasks.spawn(async move {
            for number in 0..5 {
                let instance = instance(series, number);
                let file = write(&spool, &instance).await;
                assert_eq!(intake.commit(file, instance).await.unwrap(), InstanceOutcome::New);
            }
        });
    }

    while let Some(joined) = tasks.join_next().await {
        joined.unwrap();
    }
    drop(intake);
    committers.join_next().await.unwrap().unwrap();

    assert_eq!(bench.number("select count(*) from instance").await, 80);
    // One event for each series in each commit: far fewer transactions than instances.
    let commits = bench.number("select count(distinct recorded_at) from event").await;
    assert!(commits <= 20, "{commits} commits for 80 instances");
    let reconciled = bench.spool.reconcile(&bench.store, Duration::ZERO).await.unwrap();
    assert_eq!((reconciled.sound, reconciled.set_aside.len()), (80, 0));
}

async fn a_crash_before_the_commit_leaves_nothing_acknowledged(bench: Bench) {
    let (intake, committer) =
        Intake::new(bench.store.clone(), bench.spool.clone(), IntakeLimits::default());
    let instance = instance(1, 1);
    let file = write(&bench.spool, &instance).await;
    let mut tasks = tokio::task::JoinSet::new();
    let key = instance.spool_key.clone();
    tasks.spawn(async move { intake.commit(file, instance).await });
    tokio::task::yield_now().await;

    drop(committer);

    let outcome = tasks.join_next().await.unwrap().unwrap();
    assert!(matches!(outcome, Err(IntakeError::Ended)), "{outcome:?}");
    assert!(!is_in_place(&bench, &key));
    assert_eq!(bench.number("select count(*) from instance").await, 0);
}

async fn a_crash_between_file_and_row_is_healed_by_sending_again(bench: Bench) {
    let instance = instance(1, 1);
    let file = write(&bench.spool, &instance).await;
    // The process dies here: the file is in place, its row is not there, nobody was told.
    assert!(bench.spool.commit_batch(vec![(file, instance.spool_key.clone())]).await[0].is_ok());
    let (intake, committer) =
        Intake::new(bench.store.clone(), bench.spool.clone(), IntakeLimits::default());
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(committer.run());

    let file = write(&bench.spool, &instance).await;
    let outcome = intake.commit(file, instance.clone()).await.unwrap();

    assert_eq!(outcome, InstanceOutcome::New);
    let reconciled = bench.spool.reconcile(&bench.store, Duration::ZERO).await.unwrap();
    assert_eq!((reconciled.sound, reconciled.set_aside.len()), (1, 0));
}

async fn an_instance_that_cannot_be_stored_does_not_take_its_neighbours(bench: Bench) {
    let limits = IntakeLimits { batch: 8, waiting: 8, linger: Duration::from_millis(200) };
    let (intake, committer) = Intake::new(bench.store.clone(), bench.spool.clone(), limits);
    let mut committers = tokio::task::JoinSet::new();
    committers.spawn(committer.run());
    let good = instance(1, 1);
    let mut bad = instance(2, 1);
    // No association has this id: the foreign key refuses the row.
    bad.association_id = Some("00000000-0000-4000-8000-000000000000".parse().unwrap());
    let (good_file, bad_file) = (write(&bench.spool, &good).await, write(&bench.spool, &bad).await);

    let (good, bad) = tokio::join!(intake.commit(good_file, good), intake.commit(bad_file, bad));

    assert_eq!(good.unwrap(), InstanceOutcome::New);
    assert!(matches!(bad, Err(IntakeError::Database(_))), "{bad:?}");
    assert_eq!(bench.number("select count(*) from instance").await, 1);
}

async fn a_needless_copy_is_removed(bench: Bench) {
    let lease = bench.done_job(1, &["pacs"]).await;
    let (intake, committer) =
        Intake::new(bench.store.clone(), bench.spool.clone(), IntakeLimits::default());
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(committer.run());
    let mut returned = instance(7, 1);
    returned.sop_instance_uid = result_uid(lease.job_id);
    returned.study_instance_uid = study_uid(1);
    let conflict = instance_with_content(1, 1, "other pixels");

    let own = intake.commit(write(&bench.spool, &returned).await, returned.clone()).await.unwrap();
    let other =
        intake.commit(write(&bench.spool, &conflict).await, conflict.clone()).await.unwrap();

    assert_eq!(own, InstanceOutcome::OwnResult);
    assert!(!is_in_place(&bench, &returned.spool_key));
    assert!(matches!(other, InstanceOutcome::Conflict { .. }));
    assert!(is_in_place(&bench, &conflict.spool_key));
}

/// Variable with the addresses of store and spool and the number of the round, for the process that is killed.
const RECEIVER: &str = "PROSECTOR_STORAGE_TEST_RECEIVER";

/// Not a test: the process that [`what_was_acknowledged_survives_kill_9`] starts and kills. Eight associations receive
/// without end; each line that it prints is an acknowledgement. Anywhere else it has nothing to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receives_until_it_is_killed() {
    let Ok(parameters) = std::env::var(RECEIVER) else { return };
    let [store_url, spool_url, round] = parameters.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{RECEIVER} is not complete")
    };
    let round: u32 = round.parse().unwrap();
    let store = Store::connect(store_url, "receiver").await.unwrap();
    let spool = Spool::open(spool_url, SpoolOptions { reserve_bytes: 0 }).await.unwrap();
    let (intake, committer) = Intake::new(store, spool.clone(), IntakeLimits::default());
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(committer.run());
    for association in 0..8 {
        let (intake, spool) = (intake.clone(), spool.clone());
        tasks.spawn(async move {
            for number in 0.. {
                let mut instance = instance(100 * round + association, number);
                let bytes = instance.sop_instance_uid.as_str().repeat(2000).into_bytes();
                instance.sha256 = Sha256Digest::of(&bytes);
                let mut writer = spool.create().await.unwrap();
                writer.write(&bytes).await.unwrap();
                let file = writer.finish().await.unwrap();
                let line = format!("{} {}\n", instance.spool_key, instance.sha256);
                intake.commit(file, instance).await.unwrap();
                std::io::stdout().write_all(line.as_bytes()).unwrap();
            }
        });
    }
    while tasks.join_next().await.is_some() {}
}

fn start_receiver(bench: &Bench, round: u32) -> Child {
    let spool_url = format!("file://{}/spool", bench.folder.path().display());
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "durability::receives_until_it_is_killed", "--nocapture"])
        .env(RECEIVER, format!("{} {spool_url} {round}", bench.url))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

async fn what_was_acknowledged_survives_kill_9(bench: Bench) {
    let mut acknowledged: Vec<(SpoolKey, Sha256Digest)> = Vec::new();
    for round in 1..=4 {
        let mut receiver = start_receiver(&bench, round);
        let mut lines = BufReader::new(receiver.stdout.take().unwrap()).lines();
        // Another number of acknowledgements each time, so that the blow falls into another step.
        let wanted = acknowledged.len() + 7 * round as usize + 3;
        let mut is_killed = false;
        while let Some(Ok(line)) = lines.next() {
            let Some((key, sha256)) = line.split_once(' ') else { continue };
            if let (Ok(key), Ok(sha256)) = (key.parse(), sha256.parse()) {
                acknowledged.push((key, sha256));
            }
            if acknowledged.len() >= wanted && !is_killed {
                receiver.kill().unwrap();
                is_killed = true;
            }
        }
        receiver.wait().unwrap();
        assert!(is_killed, "the receiver ended by itself");
    }

    let reconciled = bench.spool.reconcile(&bench.store, Duration::ZERO).await.unwrap();

    for (key, sha256) in &acknowledged {
        assert_eq!(Sha256Digest::of(&bench.spool.read(key).await.unwrap()), *sha256, "{key}");
    }
    let recorded = bench.number("select count(*) from instance").await as u64;
    assert!(recorded >= acknowledged.len() as u64);
    assert_eq!(reconciled.sound, recorded, "every row has its file");
    assert_eq!(bench.store.verify_ledger(None).await.unwrap().defect, None);
}
