//! What does an entry of the ledger cost: by one process, and by several that append at once?
//!
//! Each transaction opens an association row; with an entry (a refused association) and without (an accepted one).
//! Every process has connections of its own. Both databases, where SQLite has one process.
//!
//! ```text
//! cargo bench -p prosector-storage --bench ledger
//! ```

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on stops")]
#![expect(clippy::print_stdout, reason = "the table is what it is for")]

#[path = "../tests/it/bench.rs"]
#[expect(dead_code, unused_imports, unused_macros, reason = "the conformance suite uses the rest")]
mod bench;

use std::time::{Duration, Instant};

use prosector_storage::{ReasonCode, Store};
use tokio::task::JoinSet;

use bench::{Bench, association};

const TRANSACTIONS: u32 = 200;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        println!("database  processes  entry  transactions/s  took ms: median  99 %");
        measure("sqlite", &Bench::sqlite().await, 1).await;
        let postgres = Bench::postgres().await;
        for processes in [1, 8] {
            measure("postgres", &postgres, processes).await;
        }
    });
}

async fn measure(database: &str, bench: &Bench, processes: u32) {
    for has_entry in [false, true] {
        let mut tasks = JoinSet::new();
        let begin = Instant::now();
        for process in 0..processes {
            let store = Store::connect(&bench.url, &format!("bench-{process}")).await.unwrap();
            tasks.spawn(append(store, TRANSACTIONS / processes, has_entry));
        }
        let mut took: Vec<Duration> = tasks.join_all().await.into_iter().flatten().collect();
        let rate = took.len() as f64 / begin.elapsed().as_secs_f64();
        took.sort();
        let ms = |part: usize| took[(took.len() - 1) * part / 100].as_secs_f64() * 1e3;
        println!(
            "{database:9} {processes:9}  {}    {rate:10.0}  {:15.1} {:5.1}",
            if has_entry { "yes" } else { "no " },
            ms(50),
            ms(99)
        );
    }
}

async fn append(store: Store, count: u32, has_entry: bool) -> Vec<Duration> {
    let mut took = Vec::new();
    for _ in 0..count {
        let begin = Instant::now();
        if has_entry {
            let reason = ReasonCode::new("called_ae_title_not_recognized");
            store.reject_association(&association("MODALITY"), reason).await.unwrap();
        } else {
            store.open_association(&association("MODALITY")).await.unwrap();
        }
        took.push(begin.elapsed());
    }
    took
}
