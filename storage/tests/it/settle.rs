use std::time::Duration;

use prosector_storage::{
    AssociationEnd, AssociationOutcome, Decision, DecisionOutcome, EventKind, JobState, NextJob,
    ReasonCode, SettleError, SettlePolicy,
};
use serde_json::json;

use crate::bench::{Bench, LONG, at_once, done, instance, matched, on_both, series_uid, study_uid};

on_both! {
    a_series_waits_for_silence,
    release_shortens_the_wait,
    an_open_association_waits_for_the_long_silence,
    settling_makes_job_outbox_decisions_and_events_together,
    settling_twice_is_refused,
    an_instance_in_between_is_noticed,
    the_same_job_is_not_made_twice,
    late_instances_supersede_a_queued_job,
    late_instances_supersede_a_done_job_and_its_deliveries,
    a_superseded_worker_cannot_finish,
    nothing_matched_is_recorded_with_its_reason,
    a_failed_settling_leaves_nothing,
    a_held_job_is_not_queued,
    a_protocol_is_kept_once,
}

async fn a_series_waits_for_silence(bench: Bench) {
    bench.receive(1, &[1, 5]).await;
    let patient = SettlePolicy { quiet: LONG, quiet_after_release: LONG };

    assert!(bench.store.series_to_settle(&patient, 10).await.unwrap().is_empty());
    let due = bench.store.series_to_settle(&at_once(), 10).await.unwrap();

    assert_eq!(due.len(), 1);
    assert_eq!(due[0].series_instance_uid, series_uid(1));
    assert_eq!(due[0].study_instance_uid, study_uid(1));
    assert_eq!(due[0].instance_count, 2);
    assert_eq!(due[0].instance_numbers, Some((1, 5)));
    assert_eq!(due[0].modality.as_deref(), Some("CT"));
    assert!(!due[0].settled_before && !due[0].association_open);
    let facts = due[0].header_facts.as_ref().unwrap().expose();
    assert_eq!(facts["BodyPartExamined"], "ABDOMEN");
}

async fn receive_over(bench: &Bench, number: u32) -> prosector_storage::AssociationId {
    let id = bench.associate().await;
    let mut instance = instance(1, number);
    instance.association_id = Some(id);
    bench.store.record_instances(&[instance]).await.unwrap();
    id
}

async fn release_shortens_the_wait(bench: Bench) {
    let id = receive_over(&bench, 1).await;
    let end = AssociationEnd {
        outcome: AssociationOutcome::Released,
        reason_code: None,
        refused_count: 0,
    };
    bench.store.close_association(id, &end).await.unwrap();
    let policy = SettlePolicy { quiet: LONG, quiet_after_release: Duration::ZERO };

    assert_eq!(bench.store.series_to_settle(&policy, 10).await.unwrap().len(), 1);
}

async fn an_open_association_waits_for_the_long_silence(bench: Bench) {
    receive_over(&bench, 1).await;
    let short = SettlePolicy { quiet: LONG, quiet_after_release: Duration::ZERO };
    let long = SettlePolicy { quiet: Duration::ZERO, quiet_after_release: Duration::ZERO };

    assert!(bench.store.series_to_settle(&short, 10).await.unwrap().is_empty());
    assert_eq!(bench.store.series_to_settle(&long, 10).await.unwrap().len(), 1);
}

async fn settling_makes_job_outbox_decisions_and_events_together(bench: Bench) {
    bench.receive(1, &[1, 2]).await;

    let (job, settled) = bench.settle(1, "ct").await;

    assert_eq!(settled.created, [job]);
    assert!(settled.known.is_empty() && settled.superseded.is_empty());
    assert!(bench.store.series_to_settle(&at_once(), 10).await.unwrap().is_empty());
    let detail = bench.store.show_job(job).await.unwrap().unwrap();
    assert_eq!(detail.summary.state, JobState::Queued);
    assert_eq!(detail.summary.protocol_name, "ct");
    assert_eq!(bench.store.job_instances(job).await.unwrap().len(), 2);
    assert_eq!(bench.store.counts().await.unwrap().outbox, 1);
    let series = bench.store.series_of_study(&study_uid(1)).await.unwrap();
    assert!(series[0].is_settled);
    assert_eq!(series[0].decisions[0].outcome, DecisionOutcome::Matched);
    let kinds: Vec<_> = detail.timeline.iter().map(|entry| entry.event.kind).collect();
    assert_eq!(kinds, [EventKind::JobCreated]);
    assert_eq!(bench.number("select count(*) from settlement").await, 1);
}

async fn settling_twice_is_refused(bench: Bench) {
    bench.receive(1, &[1]).await;
    let candidate = bench.candidate(1).await;
    bench.settle(1, "ct").await;

    let error =
        bench.store.settle_series(&candidate, &json!({}), &[], &[], None).await.unwrap_err();

    assert!(matches!(error, SettleError::Changed { .. }), "{error:?}");
}

async fn an_instance_in_between_is_noticed(bench: Bench) {
    bench.receive(1, &[1]).await;
    let candidate = bench.candidate(1).await;
    bench.receive(1, &[2]).await;

    let error =
        bench.store.settle_series(&candidate, &json!({}), &[], &[], None).await.unwrap_err();

    assert!(matches!(error, SettleError::Changed { .. }), "{error:?}");
    assert_eq!(bench.candidate(1).await.instance_count, 2);
}

async fn the_same_job_is_not_made_twice(bench: Bench) {
    let job = bench.queued_job(1).await;
    bench.receive(1, &[4]).await;
    let candidate = bench.candidate(1).await;
    // The protocol leaves the late instance out (another stack, say): the job's inputs are the same.
    let mut same = bench.new_job(1, "ct").await;
    same.job_id = job;

    let settled = bench
        .store
        .settle_series(&candidate, &json!({}), &[matched("ct")], &[same], None)
        .await
        .unwrap();

    assert!(settled.created.is_empty() && settled.superseded.is_empty());
    assert_eq!(settled.known, [job]);
    assert_eq!(bench.number("select count(*) from job").await, 1);
    assert_eq!(bench.store.job_instances(job).await.unwrap().len(), 3);
}

async fn late_instances_supersede_a_queued_job(bench: Bench) {
    let old = bench.queued_job(1).await;
    bench.receive(1, &[4]).await;
    assert!(bench.candidate(1).await.settled_before);

    let (new, settled) = bench.settle(1, "ct").await;

    assert_eq!(settled.created, [new]);
    assert_eq!(settled.superseded, [old]);
    let old = bench.store.show_job(old).await.unwrap().unwrap().summary;
    assert_eq!(old.state, JobState::Superseded);
    assert_eq!(old.superseded_by, Some(new));
    assert!(old.finished_at.is_some());
    let leased = bench.store.lease_job(NextJob::MostUrgent, "worker", LONG).await.unwrap();
    assert_eq!(leased.unwrap().job_id, new);
    assert!(bench.store.lease_job(NextJob::MostUrgent, "worker", LONG).await.unwrap().is_none());
}

async fn late_instances_supersede_a_done_job_and_its_deliveries(bench: Bench) {
    let old = bench.done_job(1, &["pacs"]).await.job_id;
    bench.receive(1, &[4]).await;

    let (_, settled) = bench.settle(1, "ct").await;

    assert_eq!(settled.superseded, [old]);
    assert!(bench.store.due_deliveries().await.unwrap().is_empty());
    let why = bench
        .store
        .events(&prosector_storage::EventFilter { job_id: Some(old), ..Default::default() }, 100)
        .await
        .unwrap();
    let last = &why.last().unwrap().event;
    assert_eq!(last.kind, EventKind::JobSuperseded);
    assert_eq!(last.reason_code, Some(ReasonCode::LATE_INSTANCES));
}

async fn a_superseded_worker_cannot_finish(bench: Bench) {
    let lease = bench.leased_job(1, "worker-1").await;
    bench.receive(1, &[4]).await;
    bench.settle(1, "ct").await;

    let finished = bench.store.finish_job(&lease, &done(&lease, &["pacs"])).await;

    assert!(matches!(finished, Err(prosector_storage::LeaseError::Lost { .. })), "{finished:?}");
    assert_eq!(bench.number("select count(*) from result").await, 0);
}

async fn nothing_matched_is_recorded_with_its_reason(bench: Bench) {
    bench.receive(1, &[1]).await;
    let candidate = bench.candidate(1).await;
    let decisions = [
        Decision {
            protocol_name: Some("mr".to_owned()),
            outcome: DecisionOutcome::NotMatched,
            reason_code: ReasonCode::new("modality_differs"),
            reason: "modality is CT, the protocol wants MR".to_owned(),
        },
        Decision {
            protocol_name: None,
            outcome: DecisionOutcome::Refused,
            reason_code: ReasonCode::new("too_few_slices"),
            reason: "1 slice".to_owned(),
        },
    ];

    bench.store.settle_series(&candidate, &json!({}), &decisions, &[], None).await.unwrap();

    let series = bench.store.series_of_study(&study_uid(1)).await.unwrap();
    let codes: Vec<_> =
        series[0].decisions.iter().map(|decision| decision.reason_code.as_str()).collect();
    assert_eq!(codes, ["modality_differs", "too_few_slices"]);
    let filter = prosector_storage::EventFilter {
        kind: Some(EventKind::NothingMatched),
        ..Default::default()
    };
    let events = bench.store.events(&filter, 10).await.unwrap();
    assert_eq!(events[0].event.reason_code, Some(ReasonCode::new("too_few_slices")));
}

async fn a_failed_settling_leaves_nothing(bench: Bench) {
    bench.receive(1, &[1]).await;
    let candidate = bench.candidate(1).await;
    let mut job = bench.new_job(1, "ct").await;
    job.protocol_revision = prosector_storage::Sha256Digest::of(b"never registered");

    let error = bench
        .store
        .settle_series(&candidate, &json!({}), &[matched("ct")], &[job], None)
        .await
        .unwrap_err();

    let SettleError::Database(error) = error else { panic!("{error:?}") };
    assert!(!error.is_transient());
    assert_eq!(bench.number("select count(*) from decision").await, 0);
    assert_eq!(bench.number("select count(*) from event where kind = 'series_settled'").await, 0);
    assert_eq!(bench.candidate(1).await, candidate);
}

async fn a_held_job_is_not_queued(bench: Bench) {
    bench.receive(1, &[1]).await;
    let candidate = bench.candidate(1).await;
    let mut job = bench.new_job(1, "ct").await;
    job.hold = Some(ReasonCode::new("incomplete_series"));

    bench
        .store
        .settle_series(&candidate, &json!({}), &[matched("ct")], std::slice::from_ref(&job), None)
        .await
        .unwrap();

    assert!(bench.store.lease_job(NextJob::MostUrgent, "worker", LONG).await.unwrap().is_none());
    let held = bench.store.show_job(job.job_id).await.unwrap().unwrap().summary;
    assert_eq!(held.state, JobState::Held);
    assert_eq!(held.reason_code, Some(ReasonCode::new("incomplete_series")));
    bench.store.release_job(job.job_id).await.unwrap();
    let leased = bench.store.lease_job(NextJob::MostUrgent, "worker", LONG).await.unwrap();
    assert_eq!(leased.unwrap().job_id, job.job_id);
}

async fn a_protocol_is_kept_once(bench: Bench) {
    let revision = crate::bench::protocol("ct");

    bench.store.register_protocol(&revision).await.unwrap();
    bench.store.register_protocol(&revision).await.unwrap();

    assert_eq!(bench.store.protocol_revision(&revision.sha256).await.unwrap(), Some(revision));
    assert_eq!(bench.number("select count(*) from event").await, 1);
}
