use std::time::Duration;

use prosector_storage::{
    AfterDeliveryFailure, DeliveryFailure, DeliveryState, EventFilter, EventKind, JobId, LeasedJob,
    NewDelivery, NewResult, OperatorError, ReasonCode, RecallScope, RecallSubject, RecallableJob,
    ResultForm, Sha256Digest, SpoolKey,
};

use crate::bench::{Bench, LONG, on_both, result_uid, study_uid};

on_both! {
    results_are_found_by_pack_protocol_and_time,
    a_recalled_result_is_retracted_where_it_was_sent_and_stopped_where_it_was_not,
    a_transfer_under_way_is_retracted_and_not_repeated,
    what_was_recalled_is_neither_sent_nor_made_nor_recalled_again,
}

const REASON: ReasonCode = ReasonCode::new("recalled_for_quality");

fn pack(content: &[u8]) -> RecallScope {
    RecallScope { of: RecallSubject::Pack(Sha256Digest::of(content)), since: None }
}

async fn deliver(bench: &Bench, destination: &str) {
    for leased in bench.store.lease_deliveries(destination, 10, "sender", LONG).await.unwrap() {
        bench.store.delivery_succeeded(&leased, 0).await.unwrap();
    }
}

fn note(job: &RecallableJob) -> NewResult {
    let sop_instance_uid = format!("{}.9", result_uid(job.job_id))[2..].parse().unwrap();
    NewResult {
        series_instance_uid: "2.25.99".parse().unwrap(),
        sop_class_uid: "1.2.840.10008.5.1.4.1.1.88.59".parse().unwrap(),
        form: ResultForm::RejectionNote,
        refers_to: None,
        sha256: Sha256Digest::of(b"note"),
        size_bytes: 4,
        spool_key: SpoolKey::for_result(job.job_id, &sop_instance_uid),
        sop_instance_uid,
        deliveries: job
            .destinations()
            .into_iter()
            .map(|destination| NewDelivery { destination, fallbacks: Vec::new() })
            .collect(),
    }
}

async fn states(bench: &Bench, job: JobId) -> Vec<(String, DeliveryState)> {
    let detail = bench.store.show_job(job).await.unwrap().unwrap();
    detail.deliveries.into_iter().map(|to| (to.destination, to.state)).collect()
}

async fn results_are_found_by_pack_protocol_and_time(bench: Bench) {
    let first = bench.done_job(1, &["pacs"]).await;
    let second = bench.done_job(2, &["pacs", "archive"]).await;
    bench.queued_job(3).await;
    let made = bench.store.show_job(second.job_id).await.unwrap().unwrap().timeline;
    let done = made.iter().find(|event| event.event.kind == EventKind::JobDone).unwrap();

    let found = bench.store.recallable(&pack(b"pack")).await.unwrap();
    let ids: Vec<JobId> = found.iter().map(|job| job.job_id).collect();
    assert_eq!(ids, [first.job_id, second.job_id]);
    assert_eq!(found[1].results.len(), 1);
    assert_eq!(found[1].results[0].waits_for, ["archive", "pacs"]);
    assert!(found[1].results[0].sent_to.is_empty() && found[1].destinations().is_empty());

    assert!(bench.store.recallable(&pack(b"other")).await.unwrap().is_empty());
    let protocol =
        |name: &str, since| RecallScope { of: RecallSubject::Protocol(name.to_owned()), since };
    let of_protocol = bench.store.recallable(&protocol("ct", None)).await.unwrap();
    assert_eq!(of_protocol.len(), 2);
    assert!(bench.store.recallable(&protocol("mr", None)).await.unwrap().is_empty());
    let later = done.recorded_at + Duration::from_mins(1);
    assert!(bench.store.recallable(&protocol("ct", Some(later))).await.unwrap().is_empty());
}

/// The one job that can be recalled, recalled with a note.
async fn recall(bench: &Bench) -> RecallableJob {
    let scope = pack(b"pack");
    let job = bench.store.recallable(&scope).await.unwrap().pop().unwrap();
    let id = bench.store.order_recall(&scope, &REASON).await.unwrap();
    let note = (!job.destinations().is_empty()).then(|| note(&job));
    let recalled = bench.store.recall_results(id, &REASON, &job, note.as_ref()).await.unwrap();
    assert_eq!(recalled, 1);
    job
}

async fn a_recalled_result_is_retracted_where_it_was_sent_and_stopped_where_it_was_not(
    bench: Bench,
) {
    let lease = bench.done_job(1, &["pacs", "archive"]).await;
    deliver(&bench, "pacs").await;

    let job = recall(&bench).await;

    assert_eq!(job.destinations(), ["pacs"]);
    let note_uid = note(&job).sop_instance_uid;
    let due = bench.store.lease_deliveries("pacs", 10, "sender", LONG).await.unwrap();
    assert_eq!(due.len(), 1);
    assert_eq!((&due[0].sop_instance_uid, due[0].form), (&note_uid, ResultForm::RejectionNote));
    bench.store.delivery_succeeded(&due[0], 0).await.unwrap();
    assert!(bench.store.lease_deliveries("archive", 10, "sender", LONG).await.unwrap().is_empty());
    let mut found = states(&bench, lease.job_id).await;
    found.sort();
    let expected = [
        ("archive".to_owned(), DeliveryState::Cancelled),
        ("pacs".to_owned(), DeliveryState::Delivered),
        ("pacs".to_owned(), DeliveryState::Delivered),
    ];
    assert_eq!(found, expected);
    let filter = EventFilter { job_id: Some(lease.job_id), ..EventFilter::default() };
    let events = bench.store.events(&filter, 100).await.unwrap();
    let recalled = events.iter().find(|e| e.event.kind == EventKind::ResultRecalled).unwrap();
    assert_eq!(recalled.event.study_instance_uid, Some(study_uid(1)));
    assert_eq!(recalled.event.sop_instance_uid, Some(result_uid(lease.job_id)));
    assert_eq!(recalled.event.detail["rejection_note"], note_uid.as_str());
    let shown = "select count(*) from audit_recalls where note_count = 1 and delivered_note_count = 1 \
                    and length(pack_digest) = 64 and reason_code = 'recalled_for_quality'";
    assert_eq!(bench.number(shown).await, 1);
}

async fn a_transfer_under_way_is_retracted_and_not_repeated(bench: Bench) {
    let lease = bench.done_job(1, &["pacs"]).await;
    let sending = bench.store.lease_deliveries("pacs", 10, "sender", LONG).await.unwrap();

    let job = recall(&bench).await;

    assert_eq!(job.destinations(), ["pacs"]);
    let failure = DeliveryFailure {
        status: None,
        reason_code: ReasonCode::new("destination_unreachable"),
        then: AfterDeliveryFailure::Retry { after: Duration::ZERO },
    };
    let state = bench.store.delivery_failed(&sending[0], &failure).await.unwrap();
    assert_eq!(state, DeliveryState::Cancelled);
    assert!(!states(&bench, lease.job_id).await.is_empty());
}

async fn what_was_recalled_is_neither_sent_nor_made_nor_recalled_again(bench: Bench) {
    let lease: LeasedJob = bench.done_job(1, &["pacs"]).await;
    let job = recall(&bench).await;

    assert!(bench.store.recallable(&pack(b"pack")).await.unwrap().is_empty());
    let refused = bench.store.retry_job(lease.job_id).await.unwrap_err();
    assert!(matches!(refused, OperatorError::Recalled { job } if job == lease.job_id));
    assert!(bench.store.lease_deliveries("pacs", 10, "sender", LONG).await.unwrap().is_empty());
    let id = bench.store.order_recall(&pack(b"pack"), &REASON).await.unwrap();
    assert_eq!(bench.store.recall_results(id, &REASON, &job, None).await.unwrap(), 0);
    assert_eq!(bench.store.verify_ledger(None).await.unwrap().defect, None);
}
