use std::collections::BTreeSet;
use std::time::Duration;

use dicom_types::Phi;
use prosector_storage::{
    ChosenSeries, JobState, NextJob, Priority, ReasonCode, RecallScope, RecallSubject,
    RoutingRecord, SettleError, Sha256Digest, Taken,
};
use serde_json::json;
use time::OffsetDateTime;

use crate::bench::{Bench, LONG, done, matched, on_both, series_uid, study_uid};

on_both! {
    a_choice_waits_until_every_series_of_the_study_has_settled,
    a_choice_makes_its_job_and_takes_the_place_of_an_earlier_one,
    a_series_that_is_chosen_again_gets_its_job_back,
    what_was_recalled_is_not_made_again_by_a_choice,
    an_instance_in_between_stops_a_choice,
    the_recorded_past_comes_back_study_by_study,
    the_longest_waiting_gets_its_turn_but_stat_comes_first,
}

fn record(series: u32, awaits_choice: bool) -> RoutingRecord {
    let taken = if awaits_choice {
        Taken::new()
    } else {
        Taken::from([("ct".to_owned(), Sha256Digest::of(b"ct"))])
    };
    let facts = json!({ "series": series_uid(series).as_str() }).to_string();
    RoutingRecord { facts: Phi::new(facts), taken, awaits_choice }
}

async fn settle(bench: &Bench, series: u32, awaits_choice: bool) {
    bench.receive(series, &[1, 2]).await;
    let candidate = bench.candidate(series).await;
    let record = record(series, awaits_choice);
    let decisions = [matched("best")];
    bench
        .store
        .settle_series(&candidate, &json!({}), &decisions, &[], Some(&record))
        .await
        .unwrap();
}

/// Chooses `winner` among the settled series of the first study.
async fn choose(bench: &Bench, winner: u32) -> Result<prosector_storage::Settled, SettleError> {
    let due = bench.store.studies_to_choose(Duration::ZERO, 10).await.unwrap();
    let [study] = due.as_slice() else { panic!("{due:?}") };
    let kept = bench.store.recorded_series(study.study_instance_uid.as_str()).await.unwrap();
    let mut chosen = Vec::new();
    for series in kept {
        let is_winner = series.series_instance_uid == series_uid(winner);
        let mut jobs = Vec::new();
        if is_winner {
            jobs.push(bench.new_job(winner, "best").await);
        }
        let taken = jobs.iter().map(|job| (job.protocol_name.clone(), job.protocol_revision));
        chosen.push(ChosenSeries {
            series_instance_uid: series.series_instance_uid,
            revision: series.revision,
            decisions: vec![matched("best")],
            taken: taken.collect(),
            jobs,
        });
    }
    bench.store.settle_study(study, &chosen).await
}

async fn state(bench: &Bench, job: prosector_storage::JobId) -> JobState {
    bench.store.show_job(job).await.unwrap().unwrap().summary.state
}

async fn a_choice_waits_until_every_series_of_the_study_has_settled(bench: Bench) {
    settle(&bench, 1, true).await;
    bench.receive(2, &[1]).await;

    assert!(bench.store.studies_to_choose(Duration::ZERO, 10).await.unwrap().is_empty());
    let candidate = bench.candidate(2).await;
    let nothing = bench.store.settle_series(&candidate, &json!({}), &[], &[], None).await;
    nothing.unwrap();

    assert_eq!(bench.store.studies_to_choose(Duration::ZERO, 10).await.unwrap().len(), 1);
    assert!(bench.store.studies_to_choose(LONG, 10).await.unwrap().is_empty());
    // What waits for its study has not been refused.
    assert_eq!(bench.number("select count(*) from event where kind = 'nothing_matched'").await, 1);
}

async fn a_choice_makes_its_job_and_takes_the_place_of_an_earlier_one(bench: Bench) {
    settle(&bench, 1, true).await;
    let first = choose(&bench, 1).await.unwrap();
    assert!(bench.store.studies_to_choose(Duration::ZERO, 10).await.unwrap().is_empty());

    settle(&bench, 2, true).await;
    let second = choose(&bench, 2).await.unwrap();

    assert_eq!((first.created.len(), second.created.len()), (1, 1));
    assert_eq!(second.superseded, first.created);
    assert_eq!(state(&bench, first.created[0]).await, JobState::Superseded);
    assert_eq!(state(&bench, second.created[0]).await, JobState::Queued);
    let kept = bench.store.recorded_series(study_uid(1).as_str()).await.unwrap();
    let taken: Vec<usize> = kept.iter().map(|series| series.taken.len()).collect();
    assert_eq!(taken, [0, 1]);
    assert_eq!(bench.number("select count(*) from outbox").await, 1);
    assert_eq!(bench.number("select count(*) from event where kind = 'series_chosen'").await, 2);
    assert_eq!(bench.store.verify_ledger(None).await.unwrap().defect, None);
}

async fn a_series_that_is_chosen_again_gets_its_job_back(bench: Bench) {
    settle(&bench, 1, true).await;
    let job = choose(&bench, 1).await.unwrap().created[0];
    settle(&bench, 2, true).await;
    let other = choose(&bench, 2).await.unwrap().created[0];
    settle(&bench, 3, true).await;

    let settled = choose(&bench, 1).await.unwrap();

    assert_eq!(settled.created, [job]);
    assert_eq!(settled.superseded, [other]);
    assert_eq!(state(&bench, job).await, JobState::Queued);
    let lease = bench.store.lease_job(NextJob::MostUrgent, "worker", LONG).await.unwrap();
    assert_eq!(lease.unwrap().job_id, job);
}

async fn what_was_recalled_is_not_made_again_by_a_choice(bench: Bench) {
    settle(&bench, 1, true).await;
    let job = choose(&bench, 1).await.unwrap().created[0];
    let lease = bench.store.lease_job(NextJob::Id(job), "worker", LONG).await.unwrap().unwrap();
    bench.store.finish_job(&lease, &done(&lease, &[])).await.unwrap();
    let scope = RecallScope { of: RecallSubject::Protocol("best".to_owned()), since: None };
    let code = ReasonCode::new("recalled_for_quality");
    let recall = bench.store.order_recall(&scope, &code).await.unwrap();
    for job in bench.store.recallable(&scope).await.unwrap() {
        bench.store.recall_results(recall, &code, &job, None).await.unwrap();
    }
    settle(&bench, 2, true).await;
    choose(&bench, 2).await.unwrap();
    settle(&bench, 3, true).await;

    let settled = choose(&bench, 1).await.unwrap();

    assert_eq!((settled.created, settled.known), (Vec::new(), vec![job]));
    assert_eq!(state(&bench, job).await, JobState::Superseded);
}

async fn an_instance_in_between_stops_a_choice(bench: Bench) {
    settle(&bench, 1, true).await;
    let due = bench.store.studies_to_choose(Duration::ZERO, 10).await.unwrap();
    bench.receive(1, &[3]).await;

    let error = bench.store.settle_study(&due[0], &[]).await.unwrap_err();

    assert!(matches!(error, SettleError::StudyChanged { .. }), "{error:?}");
}

async fn the_recorded_past_comes_back_study_by_study(bench: Bench) {
    for series in [1, 2, 11, 12, 21] {
        settle(&bench, series, false).await;
    }
    let mut found = BTreeSet::new();
    let mut pages = 0;
    let mut cursor = None;
    while let Some(page) =
        bench.store.recorded_page(OffsetDateTime::UNIX_EPOCH, cursor.as_ref(), 2).await.unwrap()
    {
        pages += 1;
        for line in page.lines.expose().lines() {
            let (facts, taken) = line.split_once('\t').unwrap();
            let facts: serde_json::Value = serde_json::from_str(facts).unwrap();
            assert_eq!(
                prosector_storage::read_taken(taken).unwrap(),
                Taken::from([("ct".to_owned(), Sha256Digest::of(b"ct"))])
            );
            found.insert(facts["series"].as_str().unwrap().to_owned());
        }
        cursor = Some(page.next);
    }

    assert_eq!(pages, 2);
    let all: BTreeSet<String> =
        [1, 2, 11, 12, 21].map(|series| series_uid(series).to_string()).into();
    assert_eq!(found, all);
    let later = OffsetDateTime::now_utc() + LONG;
    assert!(bench.store.recorded_page(later, None, 2).await.unwrap().is_none());
}

async fn the_longest_waiting_gets_its_turn_but_stat_comes_first(bench: Bench) {
    let priorities = [
        (1, Priority::Backfill),
        (2, Priority::Routine),
        (3, Priority::Urgent),
        (4, Priority::Stat),
    ];
    for (series, priority) in priorities {
        bench.receive(series, &[1]).await;
        bench.settle_with_priority(series, "ct", priority).await;
    }
    let lease = async |next| {
        let lease = bench.store.lease_job(next, "worker", LONG).await.unwrap();
        lease.map(|lease| lease.priority)
    };

    assert!(bench.store.stat_job_waits().await.unwrap());
    let aged = NextJob::LongestWaiting(Duration::ZERO);
    assert_eq!(lease(aged).await, Some(Priority::Stat));
    assert!(!bench.store.stat_job_waits().await.unwrap());
    assert_eq!(lease(NextJob::Stat).await, None);
    assert_eq!(lease(aged).await, Some(Priority::Backfill));
    assert_eq!(lease(NextJob::LongestWaiting(LONG)).await, Some(Priority::Urgent));
    assert_eq!(lease(NextJob::MostUrgent).await, Some(Priority::Routine));
    assert_eq!(lease(aged).await, None);
}
