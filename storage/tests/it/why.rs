//! Each situation in which somebody asks why has a reason code of its own.

use std::collections::BTreeSet;
use std::time::Duration;

use dicom_types::Phi;
use prosector_storage::{
    AfterDeliveryFailure, ChosenSeries, Decision, DecisionOutcome, DeliveryFailure, Event,
    EventKind, Failure, InstanceOutcome, JobFailure, JobOutcome, NextJob, ReasonCode, RecallScope,
    RecallSubject, RoutingRecord, Taken, TargetMeasurement,
};
use serde_json::json;

use crate::bench::{
    Bench, LONG, association, instance, instance_uid, instance_with_content, limit, matched,
    on_both, result_uid, series_uid, study_uid,
};

on_both! {
    an_association_under_a_wrong_title,
    a_connection_without_the_tls_that_is_asked_for,
    a_sender_whose_transfer_syntaxes_are_refused,
    a_sender_of_whose_sop_classes_one_is_refused,
    an_instance_that_the_disk_reserve_refused,
    a_series_that_still_arrives,
    a_series_that_is_no_volume,
    a_series_that_no_protocol_takes,
    a_series_with_too_few_slices,
    a_protocol_whose_model_is_not_there,
    a_series_with_gaps_in_its_numbers,
    an_instance_that_came_twice,
    an_instance_that_came_with_other_bytes,
    a_result_of_ours_that_came_back,
    a_series_that_waits_for_its_study,
    a_series_whose_study_has_a_better_one,
    a_job_that_waits_for_a_worker,
    a_job_that_a_person_has_to_release,
    a_job_that_runs,
    a_job_whose_model_refused,
    a_job_whose_input_is_bad,
    a_job_in_quarantine,
    a_job_that_late_instances_superseded,
    a_job_that_a_person_cancelled,
    a_job_that_found_nothing,
    a_result_that_waits_for_its_destination,
    a_destination_that_is_away,
    a_destination_that_refused,
    a_result_that_arrived,
    a_result_that_was_recalled,
}

/// States and codes of the answers to `words`.
async fn codes(bench: &Bench, words: &str) -> BTreeSet<(String, String)> {
    let why = bench.store.why(&Phi::new(words.to_owned())).await.unwrap();
    assert_eq!(why.studies.len(), 1, "{words}");
    let answers = why.studies[0].answers();
    answers.iter().map(|a| (a.state.clone(), a.reason_code.to_string())).collect()
}

/// By study, by accession number and by patient id, `expected` is the whole answer.
async fn answers(bench: &Bench, expected: &[(&str, &str)]) {
    let expected: BTreeSet<_> =
        expected.iter().map(|(state, code)| ((*state).to_owned(), (*code).to_owned())).collect();
    for words in [study_uid(1).as_str(), "ACCESSION-0", "PATIENT-0"] {
        assert_eq!(codes(bench, words).await, expected, "{words}");
    }
}

async fn settle_with(bench: &Bench, evidence: serde_json::Value, decisions: &[Decision]) {
    let candidate = bench.candidate(1).await;
    bench.store.settle_series(&candidate, &evidence, decisions, &[], None).await.unwrap();
}

fn refused(protocol: Option<&str>, code: &'static str) -> Decision {
    Decision {
        protocol_name: protocol.map(str::to_owned),
        outcome: DecisionOutcome::Refused,
        reason_code: ReasonCode::new(code),
        reason: "said for a person".to_owned(),
    }
}

async fn an_association_under_a_wrong_title(bench: Bench) {
    let code = ReasonCode::new("called_ae_title_not_recognized");
    bench.store.reject_association(&association("MODALITY"), code.clone()).await.unwrap();

    let why = bench.store.why(&Phi::new("ACCESSION-0".to_owned())).await.unwrap();

    assert!(why.studies.is_empty() && why.recognised.is_empty());
    assert_eq!(why.recent_refusals[0].event.reason_code, Some(code));
    assert_eq!(why.recent_refusals[0].event.detail["calling_ae_title"], "MODALITY");
}

async fn a_connection_without_the_tls_that_is_asked_for(bench: Bench) {
    let code = ReasonCode::new("certificate_of_unknown_authority");
    let event = Event::new(EventKind::ConnectionRefused).because(code.clone());
    bench.store.record(event.with(json!({ "peer_address": "10.0.0.7" }))).await.unwrap();

    let why = bench.store.why(&Phi::new("ACCESSION-0".to_owned())).await.unwrap();

    assert_eq!(why.recent_refusals[0].event.reason_code, Some(code));
    assert_eq!(why.recent_refusals[0].event.detail["peer_address"], "10.0.0.7");
}

fn refused_syntaxes() -> Event {
    let code = ReasonCode::new("transfer_syntaxes_not_supported");
    Event::new(EventKind::ContextsRefused).because(code).with(json!({
        "calling_ae_title": "MODALITY", "sop_classes": [{ "sop_class_uid": "1.2.840.10008.5.1.4.1.1.2" }],
    }))
}

async fn a_sender_whose_transfer_syntaxes_are_refused(bench: Bench) {
    let association = bench.associate().await;
    let event = refused_syntaxes().of_association(Some(association));
    bench.store.record(event.clone()).await.unwrap();

    let why = bench.store.why(&Phi::new("ACCESSION-0".to_owned())).await.unwrap();

    assert_eq!(why.recent_refusals.len(), 1);
    assert_eq!(why.recent_refusals[0].event, event);
}

async fn a_sender_of_whose_sop_classes_one_is_refused(bench: Bench) {
    let association = bench.associate().await;
    bench.store.record(refused_syntaxes().of_association(Some(association))).await.unwrap();
    let mut taken = instance(1, 1);
    taken.association_id = Some(association);
    bench.store.record_instances(&[taken]).await.unwrap();

    answers(
        &bench,
        &[("arriving", "still_arriving"), ("refused", "transfer_syntaxes_not_supported")],
    )
    .await;
}

async fn an_instance_that_the_disk_reserve_refused(bench: Bench) {
    let code = ReasonCode::new("disk_reserve");
    for number in 1..=3 {
        let event = Event::new(EventKind::InstanceRefused).because(code.clone());
        bench.store.record(event.of_instance(&instance_uid(1, number))).await.unwrap();
    }

    let why = bench.store.why(&Phi::new(instance_uid(1, 2).to_string())).await.unwrap();

    assert_eq!(why.recent_refusals.len(), 1, "of the instance that was asked for");
    assert_eq!(why.recent_refusals[0].event.reason_code, Some(code));
    assert!(why.recognised.contains(&prosector_storage::Recognised::Instance));
}

async fn a_series_that_still_arrives(bench: Bench) {
    bench.receive(1, &[1, 2]).await;

    answers(&bench, &[("arriving", "still_arriving")]).await;
}

async fn a_series_that_is_no_volume(bench: Bench) {
    bench.receive(1, &[1, 2]).await;
    let no_volume = refused(None, "not_a_volume");
    settle_with(&bench, json!({}), &[no_volume.clone(), no_volume]).await;

    answers(&bench, &[("refused", "not_a_volume")]).await;
}

async fn a_series_that_no_protocol_takes(bench: Bench) {
    bench.receive(1, &[1, 2]).await;
    let not_matched = Decision {
        outcome: DecisionOutcome::NotMatched,
        ..refused(Some("ct"), "condition_not_met")
    };
    settle_with(&bench, json!({}), &[not_matched, refused(None, "no_protocol")]).await;

    answers(&bench, &[("refused", "no_protocol")]).await;
}

async fn a_series_with_too_few_slices(bench: Bench) {
    bench.receive(1, &[1, 2]).await;
    let too_few =
        Decision { outcome: DecisionOutcome::NotMatched, ..refused(Some("ct"), "too_few_slices") };
    settle_with(&bench, json!({}), &[too_few, refused(None, "no_protocol")]).await;

    answers(&bench, &[("not_matched", "too_few_slices"), ("refused", "no_protocol")]).await;
}

async fn a_protocol_whose_model_is_not_there(bench: Bench) {
    bench.receive(1, &[1, 2]).await;
    settle_with(&bench, json!({}), &[refused(Some("ct"), "model_unavailable")]).await;

    answers(&bench, &[("refused", "model_unavailable")]).await;
}

async fn a_series_with_gaps_in_its_numbers(bench: Bench) {
    bench.receive(1, &[1, 5]).await;
    let evidence = json!({ "instance_numbers": { "lowest": 1, "highest": 5, "missing": 3 } });
    settle_with(&bench, evidence, &[refused(None, "not_a_volume")]).await;

    answers(&bench, &[("incomplete", "instances_missing"), ("refused", "not_a_volume")]).await;
}

async fn an_instance_that_came_twice(bench: Bench) {
    bench.receive(1, &[1]).await;
    bench.store.record_instances(&[instance(1, 1)]).await.unwrap();

    answers(&bench, &[("arriving", "still_arriving"), ("duplicate", "duplicate_instance")]).await;
}

async fn an_instance_that_came_with_other_bytes(bench: Bench) {
    bench.receive(1, &[1]).await;
    bench.store.record_instances(&[instance_with_content(1, 1, "other")]).await.unwrap();

    answers(&bench, &[("arriving", "still_arriving"), ("conflict", "conflicting_digest")]).await;
}

async fn a_result_of_ours_that_came_back(bench: Bench) {
    let lease = bench.done_job(1, &[]).await;
    let mut ours = instance(1, 9);
    ours.sop_instance_uid = result_uid(lease.job_id);
    let outcomes = bench.store.record_instances(&[ours]).await.unwrap();
    assert_eq!(outcomes, [InstanceOutcome::OwnResult]);

    answers(&bench, &[("done", "no_destination"), ("own_result", "own_result")]).await;
}

fn decided(outcome: DecisionOutcome, code: ReasonCode) -> Decision {
    Decision { outcome, reason_code: code, ..refused(Some("best"), "unused") }
}

/// Settles a series that a protocol may choose.
async fn settle_candidate(bench: &Bench, series: u32) {
    bench.receive(series, &[1, 2]).await;
    let candidate = bench.candidate(series).await;
    let waits = decided(DecisionOutcome::Matched, ReasonCode::CHOICE_WAITS);
    let record = RoutingRecord {
        facts: Phi::new("{}".to_owned()),
        taken: Taken::new(),
        awaits_choice: true,
    };
    let settled =
        bench.store.settle_series(&candidate, &json!({}), &[waits], &[], Some(&record)).await;
    settled.unwrap();
}

/// Chooses one of the candidates of the first study.
async fn choose(bench: &Bench, winner: u32) {
    let due = bench.store.studies_to_choose(Duration::ZERO, 10).await.unwrap();
    let kept = bench.store.recorded_series(study_uid(1).as_str()).await.unwrap();
    let mut chosen = Vec::new();
    for series in kept {
        let is_winner = series.series_instance_uid == series_uid(winner);
        let (decision, jobs) = if is_winner {
            let job = bench.new_job(winner, "best").await;
            (decided(DecisionOutcome::Matched, ReasonCode::SERIES_CHOSEN), vec![job])
        } else {
            (decided(DecisionOutcome::NotMatched, ReasonCode::OTHER_SERIES_CHOSEN), Vec::new())
        };
        chosen.push(ChosenSeries {
            series_instance_uid: series.series_instance_uid,
            revision: series.revision,
            decisions: vec![decision],
            taken: Taken::new(),
            jobs,
        });
    }
    bench.store.settle_study(&due[0], &chosen).await.unwrap();
}

async fn a_series_that_waits_for_its_study(bench: Bench) {
    settle_candidate(&bench, 1).await;

    answers(&bench, &[("matched", "choice_waits_for_study")]).await;
}

async fn a_series_whose_study_has_a_better_one(bench: Bench) {
    settle_candidate(&bench, 1).await;
    choose(&bench, 1).await;
    answers(&bench, &[("queued", "waiting_for_worker")]).await;

    settle_candidate(&bench, 2).await;
    choose(&bench, 2).await;

    let expected = [
        ("not_matched", "other_series_chosen"),
        ("superseded", "series_chosen"),
        ("queued", "waiting_for_worker"),
    ];
    answers(&bench, &expected).await;
}

async fn a_job_that_waits_for_a_worker(bench: Bench) {
    bench.queued_job(1).await;

    answers(&bench, &[("queued", "waiting_for_worker")]).await;
}

async fn a_job_that_a_person_has_to_release(bench: Bench) {
    bench.receive(1, &[1, 2, 3]).await;
    let candidate = bench.candidate(1).await;
    let mut job = bench.new_job(1, "ct").await;
    job.hold = Some(ReasonCode::new("implausible_volume"));
    bench
        .store
        .settle_series(&candidate, &json!({}), &[matched("ct")], &[job], None)
        .await
        .unwrap();

    answers(&bench, &[("held", "implausible_volume")]).await;
}

async fn a_job_that_runs(bench: Bench) {
    bench.leased_job(1, "worker").await;

    answers(&bench, &[("running", "running")]).await;
}

/// A job that failed once in this way, with `attempts` allowed.
async fn failed(bench: &Bench, failure: Failure, code: &'static str, attempts: u32) {
    let lease = bench.leased_job(1, "worker").await;
    let failure = JobFailure {
        failure,
        reason_code: ReasonCode::new(code),
        reason: "said for a person".to_owned(),
    };
    bench.store.fail_job(&lease, &failure, limit(attempts)).await.unwrap();
}

async fn a_job_whose_model_refused(bench: Bench) {
    failed(&bench, Failure::Fail, "model_refused", 3).await;

    answers(&bench, &[("failed", "model_refused")]).await;
}

async fn a_job_whose_input_is_bad(bench: Bench) {
    failed(&bench, Failure::Reject, "pixel_data_unreadable", 3).await;

    answers(&bench, &[("rejected", "pixel_data_unreadable")]).await;
}

async fn a_job_in_quarantine(bench: Bench) {
    failed(&bench, Failure::Retry { after: Duration::ZERO }, "spool_unavailable", 1).await;

    answers(&bench, &[("quarantined", "spool_unavailable")]).await;
}

async fn a_job_that_late_instances_superseded(bench: Bench) {
    bench.queued_job(1).await;
    bench.receive(1, &[4]).await;
    bench.settle(1, "ct").await;

    let expected = [("superseded", "late_instances"), ("queued", "waiting_for_worker")];
    answers(&bench, &expected).await;
}

async fn a_job_that_a_person_cancelled(bench: Bench) {
    let job = bench.queued_job(1).await;
    bench.store.cancel_job(job).await.unwrap();

    answers(&bench, &[("cancelled", "operator")]).await;
}

async fn a_job_that_found_nothing(bench: Bench) {
    let lease = bench.leased_job(1, "worker").await;
    let targets = vec![TargetMeasurement {
        prompt: "liver".to_owned(),
        segment_number: None,
        voxel_count: 0,
        volume_ml: 0.0,
    }];
    let outcome = JobOutcome::Empty { targets, findings: Vec::new(), detail: json!({}) };
    bench.store.finish_job(&lease, &outcome).await.unwrap();

    answers(&bench, &[("empty", "nothing_found")]).await;
}

async fn a_result_that_waits_for_its_destination(bench: Bench) {
    bench.done_job(1, &["pacs"]).await;

    answers(&bench, &[("pending", "waiting_for_destination")]).await;
}

/// A result that its destination did not take.
async fn not_taken(bench: &Bench, code: &'static str, then: AfterDeliveryFailure) {
    bench.done_job(1, &["pacs"]).await;
    let sending = bench.store.lease_deliveries("pacs", 10, "sender", LONG).await.unwrap();
    let failure = DeliveryFailure { status: None, reason_code: ReasonCode::new(code), then };
    bench.store.delivery_failed(&sending[0], &failure).await.unwrap();
}

async fn a_destination_that_is_away(bench: Bench) {
    let retry = AfterDeliveryFailure::Retry { after: LONG };
    not_taken(&bench, "destination_unreachable", retry).await;

    answers(&bench, &[("pending", "destination_unreachable")]).await;
}

async fn a_destination_that_refused(bench: Bench) {
    not_taken(&bench, "destination_refused", AfterDeliveryFailure::GiveUp).await;

    answers(&bench, &[("failed", "destination_refused")]).await;
}

async fn delivered(bench: &Bench) {
    bench.queued_job(1).await;
    let lease = bench.store.lease_job(NextJob::MostUrgent, "worker", LONG).await.unwrap().unwrap();
    let done = crate::bench::done(&lease, &["pacs"]);
    bench.store.finish_job(&lease, &done).await.unwrap();
    for sending in bench.store.lease_deliveries("pacs", 10, "sender", LONG).await.unwrap() {
        bench.store.delivery_succeeded(&sending, 0).await.unwrap();
    }
}

async fn a_result_that_arrived(bench: Bench) {
    delivered(&bench).await;

    answers(&bench, &[("done", "delivered")]).await;
}

async fn a_result_that_was_recalled(bench: Bench) {
    delivered(&bench).await;
    let scope = RecallScope { of: RecallSubject::Protocol("ct".to_owned()), since: None };
    let code = ReasonCode::new("recalled_for_patient_safety");
    let id = bench.store.order_recall(&scope, &code).await.unwrap();
    for job in bench.store.recallable(&scope).await.unwrap() {
        bench.store.recall_results(id, &code, &job, None).await.unwrap();
    }

    answers(&bench, &[("done", "recalled_for_patient_safety")]).await;
}
