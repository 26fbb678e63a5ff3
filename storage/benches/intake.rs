//! How many instances become durable in a second, and how long does one wait for its acknowledgement? How long does a
//! job take from its series to its worker's lease, and to its end?
//!
//! Instances of 512 KiB, into a temporary folder, sent by 1, 8 and 32 associations at once; then 200 jobs one after
//! another. Both databases.
//!
//! ```text
//! cargo bench -p prosector-storage --bench intake
//! ```

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on stops")]
#![expect(clippy::print_stdout, reason = "the table is what it is for")]

#[path = "../tests/it/bench.rs"]
#[expect(dead_code, unused_imports, unused_macros, reason = "the conformance suite uses the rest")]
mod bench;

use std::time::{Duration, Instant};

use prosector_storage::{Intake, IntakeLimits, NextJob};
use tokio::task::JoinSet;

use bench::{Bench, LONG, done, instance};

const INSTANCE_BYTES: usize = 512 * 1024;
const INSTANCES: u32 = 512;
const JOBS: u32 = 200;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        println!("database  associations  instances/s  MB/s  acknowledged after ms: median  99 %");
        for associations in [1, 8, 32] {
            receive("sqlite", &Bench::sqlite().await, associations).await;
            receive("postgres", &Bench::postgres().await, associations).await;
        }
        println!("database  settled to leased ms: median  99 %  leased to done ms: median  99 %");
        dispatch("sqlite", &Bench::sqlite().await).await;
        dispatch("postgres", &Bench::postgres().await).await;
    });
}

async fn receive(database: &str, bench: &Bench, associations: u32) {
    let (intake, committer) =
        Intake::new(bench.store.clone(), bench.spool.clone(), IntakeLimits::default());
    let mut tasks = JoinSet::new();
    let mut committers = JoinSet::new();
    committers.spawn(committer.run());
    let begin = Instant::now();
    for association in 0..associations {
        let (intake, spool) = (intake.clone(), bench.spool.clone());
        tasks.spawn(async move {
            let bytes = vec![association as u8; INSTANCE_BYTES];
            let mut waits = Vec::new();
            for number in 0..INSTANCES / associations {
                let mut writer = spool.create().await.unwrap();
                for piece in bytes.chunks(16 * 1024) {
                    writer.write(piece).await.unwrap();
                }
                let written = Instant::now();
                let file = writer.finish().await.unwrap();
                intake.commit(file, instance(association, number)).await.unwrap();
                waits.push(written.elapsed());
            }
            waits
        });
    }
    let mut waits = Vec::new();
    while let Some(joined) = tasks.join_next().await {
        waits.extend(joined.unwrap());
    }
    let seconds = begin.elapsed().as_secs_f64();
    let count = waits.len() as f64;
    let megabytes = count * INSTANCE_BYTES as f64 / 1e6 / seconds;
    let [median, late] = quantiles(waits);
    println!(
        "{database:8} {associations:13} {:12.0} {megabytes:5.0} {median:29.1} {late:5.1}",
        count / seconds
    );
}

async fn dispatch(database: &str, bench: &Bench) {
    let mut to_lease = Vec::new();
    let mut to_end = Vec::new();
    for series in 0..JOBS {
        bench.receive(series, &[1, 2, 3]).await;
        let candidate = bench.candidate(series).await;
        let job = bench.new_job(series, "ct").await;
        let evidence = serde_json::json!({});
        let settled = Instant::now();
        let jobs = std::slice::from_ref(&job);
        bench.store.settle_series(&candidate, &evidence, &[], jobs, None).await.unwrap();
        let next = NextJob::Id(job.job_id);
        let lease = bench.store.lease_job(next, "worker", LONG).await.unwrap().unwrap();
        to_lease.push(settled.elapsed());
        let leased = Instant::now();
        bench.store.finish_job(&lease, &done(&lease, &["pacs"])).await.unwrap();
        to_end.push(leased.elapsed());
    }
    let [median, late] = quantiles(to_lease);
    let [median_end, late_end] = quantiles(to_end);
    println!("{database:8} {median:30.1} {late:5.1} {median_end:26.1} {late_end:5.1}");
}

/// Median and 99th percentile in milliseconds.
fn quantiles(mut durations: Vec<Duration>) -> [f64; 2] {
    durations.sort_unstable();
    [50, 99].map(|percent| durations[(durations.len() - 1) * percent / 100].as_secs_f64() * 1e3)
}
