//! The shadow lane, and the hours and limits of protocols.

use prosector_storage::{
    AuditFilter, EventFilter, EventKind, JobId, JobState, Lane, NewJob, NextJob, Page, Priority,
    ProtocolRule, ReasonCode, Sha256Digest, Store,
};
use time::OffsetDateTime;

use crate::bench::{Bench, LONG, done, matched, on_both, series_uid};

on_both! {
    a_shadow_job_begins_when_nothing_else_is_due_and_no_queue_hears_of_it,
    results_of_a_shadow_job_go_nowhere_whatever_its_worker_says,
    a_shadow_job_and_its_job_of_production_are_found_as_a_pair,
    jobs_begin_within_the_hours_of_their_protocol,
    eight_workers_never_pass_a_limit_together,
    a_daily_limit_counts_what_was_begun_and_not_what_was_begun_again,
}

/// A job of the shadow lane beside `job`, with another pack.
fn shadow_of(job: &NewJob, number: u128) -> NewJob {
    NewJob {
        job_id: JobId::from(uuid::Uuid::from_u128(number)),
        pack_digest: Sha256Digest::of(b"candidate"),
        priority: Priority::Backfill,
        lane: Lane::Shadow,
        ..job.clone()
    }
}

/// A job of production on a series with one of the shadow lane beside it.
async fn settle_both(bench: &Bench, series: u32) -> (JobId, JobId) {
    bench.receive(series, &[1, 2]).await;
    let candidate = bench.candidate(series).await;
    let job = bench.new_job(series, "ct").await;
    let shadow = shadow_of(&job, u128::MAX - u128::from(series));
    let jobs = [job, shadow];
    let evidence = serde_json::json!({});
    let settled = bench
        .store
        .settle_series(&candidate, &evidence, &[matched("ct")], &jobs, None)
        .await
        .unwrap();
    assert_eq!((settled.created.len(), settled.superseded.len()), (2, 0));
    (jobs[0].job_id, jobs[1].job_id)
}

async fn lease(bench: &Bench, next: NextJob) -> Option<prosector_storage::LeasedJob> {
    bench.store.lease_job(next, "worker", LONG).await.unwrap()
}

async fn a_shadow_job_begins_when_nothing_else_is_due_and_no_queue_hears_of_it(bench: Bench) {
    let (job, shadow) = settle_both(&bench, 1).await;

    let outbox = bench.store.take_outbox(10, LONG).await.unwrap();
    assert_eq!(outbox.iter().map(|entry| entry.job_id).collect::<Vec<_>>(), [job]);
    assert_eq!(lease(&bench, NextJob::Shadow).await, None);
    let shown = bench.store.show_job(shadow).await.unwrap().unwrap().summary;
    assert_eq!((shown.lane, shown.reason_code), (Lane::Shadow, Some(ReasonCode::IDLE_LANE)));

    assert_eq!(lease(&bench, NextJob::MostUrgent).await.unwrap().job_id, job);
    for next in [NextJob::MostUrgent, NextJob::LongestWaiting(LONG / 1000), NextJob::Stat] {
        assert_eq!(lease(&bench, next).await, None, "{next:?}");
    }
    // Its own worker has the job of production in hand; another one has nothing to do.
    assert_eq!(lease(&bench, NextJob::Shadow).await, None);
    assert!(bench.store.shadow_job_waits().await.unwrap());
    let idle = bench.store.lease_job(NextJob::Shadow, "idle worker", LONG);
    let leased = idle.await.unwrap().unwrap();
    assert_eq!((leased.job_id, leased.lane), (shadow, Lane::Shadow));
    assert!(!bench.store.shadow_job_waits().await.unwrap());

    bench.store.give_back(&leased, ReasonCode::YIELDED).await.unwrap();
    assert!(bench.store.take_outbox(10, LONG).await.unwrap().is_empty());
    assert_eq!(bench.store.republish(std::time::Duration::ZERO).await.unwrap(), 0);
    // A job of production that comes keeps it waiting again.
    bench.queued_job(2).await;
    let idle = bench.store.lease_job(NextJob::Shadow, "idle worker", LONG);
    assert_eq!(idle.await.unwrap(), None);
}

async fn results_of_a_shadow_job_go_nowhere_whatever_its_worker_says(bench: Bench) {
    let (_, shadow) = settle_both(&bench, 1).await;
    let production = bench.store.lease_job(NextJob::MostUrgent, "other worker", LONG).await;
    assert!(production.unwrap().is_some());
    let leased = lease(&bench, NextJob::Shadow).await.unwrap();

    bench.store.finish_job(&leased, &done(&leased, &["pacs", "archive"])).await.unwrap();

    let shown = bench.store.show_job(shadow).await.unwrap().unwrap();
    assert_eq!(shown.summary.state, JobState::Done);
    assert_eq!((shown.results.is_empty(), shown.deliveries.len()), (false, 0));
    assert_eq!(bench.number("select count(*) from delivery").await, 0);
    for destination in ["pacs", "archive"] {
        let due = bench.store.lease_deliveries(destination, 10, "sender", LONG).await.unwrap();
        assert!(due.is_empty());
    }
    let ended = EventFilter {
        kind: Some(EventKind::JobDone),
        job_id: Some(shadow),
        ..EventFilter::default()
    };
    let events = bench.store.events(&ended, 10).await.unwrap();
    assert_eq!(events[0].event.detail["results"][0]["destinations"], serde_json::json!([]));
}

async fn a_shadow_job_and_its_job_of_production_are_found_as_a_pair(bench: Bench) {
    let (job, shadow) = settle_both(&bench, 1).await;
    settle_both(&bench, 2).await;
    let begin = OffsetDateTime::UNIX_EPOCH;
    let production = lease(&bench, NextJob::Id(job)).await.unwrap();
    bench.store.finish_job(&production, &done(&production, &["pacs"])).await.unwrap();
    assert!(bench.store.shadow_pairs(None, begin).await.unwrap().is_empty());
    let candidate = lease(&bench, NextJob::Id(shadow)).await.unwrap();
    bench.store.finish_job(&candidate, &done(&candidate, &[])).await.unwrap();

    let pairs = bench.store.shadow_pairs(Some("ct"), begin).await.unwrap();

    assert_eq!(pairs.len(), 1);
    let pair = &pairs[0];
    assert_eq!((pair.production.job_id, pair.candidate.job_id), (job, shadow));
    assert_eq!(pair.series_instance_uid, series_uid(1));
    assert_eq!(pair.candidate.pack_digest, Sha256Digest::of(b"candidate"));
    assert!(pair.production.masks.is_some() && pair.candidate.masks.is_some());
    assert!(!pair.production.targets.is_empty());
    assert_eq!(bench.store.shadow_pairs(None, begin).await.unwrap(), pairs);
    assert!(bench.store.shadow_pairs(Some("other"), begin).await.unwrap().is_empty());
    let later = OffsetDateTime::now_utc() + LONG;
    assert!(bench.store.shadow_pairs(Some("ct"), later).await.unwrap().is_empty());
}

/// A rule without hours or limits.
fn rule() -> ProtocolRule {
    ProtocolRule { protocol_name: "ct".to_owned(), ..ProtocolRule::default() }
}

async fn reason_of(bench: &Bench, job: JobId) -> Option<String> {
    let shown = bench.store.show_job(job).await.unwrap().unwrap().summary;
    shown.reason_code.map(|code| code.to_string())
}

async fn jobs_begin_within_the_hours_of_their_protocol(bench: Bench) {
    let job = bench.queued_job(1).await;
    bench.receive(2, &[1]).await;
    let (other, _) = bench.settle(2, "mr").await;
    let now = OffsetDateTime::now_utc();
    let hours = |from: i64, until: i64| {
        let clock = |hours| {
            let time = (now + time::Duration::hours(hours)).time();
            format!("{:02}:{:02}", time.hour(), time.minute())
        };
        vec![format!("{}-{}", clock(from), clock(until)).parse().unwrap()]
    };
    let closed = ProtocolRule { hours: hours(2, 4), ..rule() };
    let open = ProtocolRule { hours: [hours(2, 4), hours(-2, 2)].concat(), ..rule() };

    bench.store.set_protocol_rules(std::slice::from_ref(&closed)).await.unwrap();

    assert_eq!(lease(&bench, NextJob::MostUrgent).await.unwrap().job_id, other);
    for next in [NextJob::MostUrgent, NextJob::LongestWaiting(LONG / 1000), NextJob::Id(job)] {
        assert_eq!(lease(&bench, next).await, None, "{next:?}");
    }
    assert_eq!(reason_of(&bench, job).await.as_deref(), Some("outside_hours"));
    let why = bench.store.why(&dicom_types::Phi::new(job.to_string())).await.unwrap();
    let answers = why.studies[0].answers();
    assert!(answers.iter().any(|a| a.reason_code.as_str() == "outside_hours"), "{answers:?}");
    let text = &why.studies[0].jobs.iter().find(|j| j.job_id == job).unwrap().reason;
    let window = format!("within {} UTC", closed.hours[0]);
    assert!(text.as_ref().unwrap().contains(&window), "{text:?}");

    bench.store.set_protocol_rules(&[open]).await.unwrap();
    assert_eq!(reason_of(&bench, job).await, None);
    assert_eq!(lease(&bench, NextJob::MostUrgent).await.unwrap().job_id, job);

    // Without its rule a protocol is free again.
    let third = bench.queued_job(3).await;
    bench.store.set_protocol_rules(&[closed]).await.unwrap();
    assert_eq!(lease(&bench, NextJob::MostUrgent).await, None);
    bench.store.set_protocol_rules(&[]).await.unwrap();
    assert_eq!(lease(&bench, NextJob::MostUrgent).await.unwrap().job_id, third);
}

async fn eight_workers_never_pass_a_limit_together(bench: Bench) {
    for series in 0..12 {
        bench.queued_job(series).await;
    }
    let limited = ProtocolRule { concurrent: Some(3), ..rule() };
    bench.store.set_protocol_rules(&[limited]).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for worker in 0..8 {
        let url = bench.url.clone();
        tasks.spawn(async move {
            let name = format!("worker-{worker}");
            let store = Store::connect(&url, &name).await.unwrap();
            store.lease_job(NextJob::MostUrgent, &name, LONG).await.unwrap()
        });
    }

    let leases: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();

    assert_eq!(leases.len(), 3);
    let (all, page) = (AuditFilter::default(), Page::first(100));
    let waits = bench.store.list_jobs(&all, &page).await.unwrap().rows;
    let waits: Vec<_> = waits.iter().filter(|job| job.state == JobState::Queued).collect();
    assert_eq!(waits.len(), 9);
    for job in waits {
        assert_eq!(job.reason_code.as_ref().unwrap().as_str(), "concurrent_limit_reached");
        assert_eq!(job.reason.as_deref(), Some("3 jobs of this protocol run, and 3 may"));
    }
    bench.store.finish_job(&leases[0], &done(&leases[0], &[])).await.unwrap();
    assert!(lease(&bench, NextJob::MostUrgent).await.is_some());
    assert_eq!(lease(&bench, NextJob::MostUrgent).await, None);
}

async fn a_daily_limit_counts_what_was_begun_and_not_what_was_begun_again(bench: Bench) {
    let mut jobs = Vec::new();
    for series in 0..3 {
        jobs.push(bench.queued_job(series).await);
    }
    let limited = ProtocolRule { per_day: Some(2), ..rule() };
    bench.store.set_protocol_rules(std::slice::from_ref(&limited)).await.unwrap();

    let first = lease(&bench, NextJob::MostUrgent).await.unwrap();
    bench.store.give_back(&first, ReasonCode::WORKER_DRAINED).await.unwrap();
    assert_eq!(lease(&bench, NextJob::MostUrgent).await.unwrap().job_id, first.job_id);
    assert_eq!(lease(&bench, NextJob::MostUrgent).await.unwrap().job_id, jobs[1]);
    assert_eq!(lease(&bench, NextJob::MostUrgent).await, None);
    assert_eq!(reason_of(&bench, jobs[2]).await.as_deref(), Some("daily_limit_reached"));

    // The same rule once more, as after a restart, does not forget what was begun; another day does.
    bench.store.set_protocol_rules(&[limited]).await.unwrap();
    assert_eq!(lease(&bench, NextJob::MostUrgent).await, None);
    bench.raw("update protocol_rule set day = day - 1").await.unwrap();
    assert_eq!(lease(&bench, NextJob::MostUrgent).await.unwrap().job_id, jobs[2]);
}
