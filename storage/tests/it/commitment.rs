use std::time::Duration;

use dicom_types::TransactionUid;
use prosector_storage::{
    CommitmentReference, CommitmentVerdict, DeliveryState, DeliveryVerdict, EventKind,
    NewCommitment, ReasonCode, Reported,
};

use crate::bench::{Bench, LONG, instance_uid, on_both, result_uid};

on_both! {
    a_sender_is_told_which_of_its_instances_are_safe,
    a_report_is_due_until_it_was_taken,
    the_same_request_again_is_answered_anew,
    a_sent_result_counts_as_delivered_once_it_is_committed_to,
    a_result_that_is_not_committed_to_is_sent_again_or_fails_with_the_reason,
    a_report_under_another_transaction_changes_nothing,
    a_destination_is_asked_again_when_no_report_came,
}

const CT: &str = "1.2.840.10008.5.1.4.1.1.2";

fn transaction(number: u32) -> TransactionUid {
    format!("2.25.{number}").parse().unwrap()
}

fn reference(sop_class_uid: &str, sop_instance_uid: &str) -> CommitmentReference {
    CommitmentReference {
        sop_class_uid: sop_class_uid.parse().unwrap(),
        sop_instance_uid: sop_instance_uid.parse().unwrap(),
    }
}

fn request(instances: Vec<CommitmentReference>) -> NewCommitment {
    NewCommitment {
        transaction_uid: transaction(1),
        calling_ae_title: "CT1".parse().unwrap(),
        called_ae_title: "PROSECTOR".parse().unwrap(),
        instances,
        report_after: Duration::ZERO,
    }
}

async fn a_sender_is_told_which_of_its_instances_are_safe(bench: Bench) {
    bench.receive(1, &[1, 2]).await;
    let (first, second) = (instance_uid(1, 1).to_string(), instance_uid(1, 2).to_string());

    let asked = request(vec![
        reference(CT, &first),
        reference("1.2.840.10008.5.1.4.1.1.4", &second),
        reference(CT, "2.25.404"),
    ]);
    let answered = bench.store.answer_commitment(&asked).await.unwrap();

    let verdicts: Vec<_> = answered.verdicts.iter().map(|(_, verdict)| *verdict).collect();
    let expected = [
        CommitmentVerdict::Committed,
        CommitmentVerdict::ClassConflict,
        CommitmentVerdict::NoSuchObject,
    ];
    assert_eq!(verdicts, expected);
}

async fn a_report_is_due_until_it_was_taken(bench: Bench) {
    bench.receive(1, &[1]).await;
    let asked = request(vec![reference(CT, instance_uid(1, 1).as_str())]);
    let answered = bench.store.answer_commitment(&asked).await.unwrap();

    let due = bench.store.due_commitments(5, LONG).await.unwrap();
    assert_eq!(due.len(), 1);
    assert_eq!((&due[0].verdicts, due[0].attempt), (&answered.verdicts, 1));
    assert!(bench.store.due_commitments(5, LONG).await.unwrap().is_empty(), "claimed");

    let (title, uid) = (&asked.calling_ae_title, &asked.transaction_uid);
    let again = Reported::Again { after: Duration::ZERO };
    bench.store.commitment_reported(title, uid, again).await.unwrap();
    assert_eq!(bench.store.due_commitments(5, Duration::ZERO).await.unwrap()[0].attempt, 2);
    bench.store.commitment_reported(title, uid, Reported::Taken).await.unwrap();
    assert!(bench.store.due_commitments(5, LONG).await.unwrap().is_empty());
}

async fn the_same_request_again_is_answered_anew(bench: Bench) {
    let asked = request(vec![reference(CT, instance_uid(1, 1).as_str())]);
    let before = bench.store.answer_commitment(&asked).await.unwrap();
    let (title, uid) = (&asked.calling_ae_title, &asked.transaction_uid);
    bench.store.commitment_reported(title, uid, Reported::Taken).await.unwrap();

    bench.receive(1, &[1]).await;
    let after = bench.store.answer_commitment(&asked).await.unwrap();

    assert_eq!(before.verdicts[0].1, CommitmentVerdict::NoSuchObject);
    assert_eq!(after.verdicts[0].1, CommitmentVerdict::Committed);
    assert_eq!(bench.store.due_commitments(5, LONG).await.unwrap().len(), 1);
}

/// A result that was sent to `pacs`, and the transaction under which it is asked about.
async fn sent(bench: &Bench, patience: Duration) -> prosector_storage::JobId {
    let job = bench.done_job(1, &["pacs"]).await;
    let leased = bench.store.lease_deliveries("pacs", 5, "sender", LONG).await.unwrap();
    bench.store.delivery_sent(&leased[0], 0).await.unwrap();
    let awaited = bench.store.await_commitment("pacs", &transaction(1), 5, patience).await.unwrap();
    assert_eq!(awaited[0].sop_instance_uid, result_uid(job.job_id));
    job.job_id
}

async fn state(bench: &Bench, job: prosector_storage::JobId) -> (DeliveryState, Option<String>) {
    let detail = bench.store.show_job(job).await.unwrap().unwrap();
    let delivery = &detail.deliveries[0];
    (delivery.state, delivery.reason_code.as_ref().map(ToString::to_string))
}

async fn a_sent_result_counts_as_delivered_once_it_is_committed_to(bench: Bench) {
    let job = sent(&bench, LONG).await;
    assert_eq!(state(&bench, job).await, (DeliveryState::Sent, None));
    assert!(bench.store.due_deliveries().await.unwrap().is_empty());

    let verdict = DeliveryVerdict::Committed;
    let recorded =
        bench.store.record_commitment(&transaction(1), &result_uid(job), &verdict).await.unwrap();

    assert_eq!(recorded, Some(DeliveryState::Delivered));
    assert_eq!(state(&bench, job).await, (DeliveryState::Delivered, None));
    let detail = bench.store.show_job(job).await.unwrap().unwrap();
    let kinds: Vec<_> = detail.timeline.iter().map(|entry| entry.event.kind).collect();
    assert_eq!(kinds[kinds.len() - 2..], [EventKind::ResultSent, EventKind::ResultDelivered]);
}

async fn a_result_that_is_not_committed_to_is_sent_again_or_fails_with_the_reason(bench: Bench) {
    let job = sent(&bench, LONG).await;
    let reason_code = ReasonCode::new("commitment_no_such_object");

    let again = DeliveryVerdict::SendAgain { reason_code, after: Duration::ZERO };
    bench.store.record_commitment(&transaction(1), &result_uid(job), &again).await.unwrap();
    let reason = Some("commitment_no_such_object".to_owned());
    assert_eq!(state(&bench, job).await, (DeliveryState::Pending, reason));

    let leased = bench.store.lease_deliveries("pacs", 5, "sender", LONG).await.unwrap();
    bench.store.delivery_sent(&leased[0], 0).await.unwrap();
    bench.store.await_commitment("pacs", &transaction(2), 5, LONG).await.unwrap();
    let reason_code = ReasonCode::new("commitment_class_not_supported");
    let failed = DeliveryVerdict::Failed { reason_code };
    bench.store.record_commitment(&transaction(2), &result_uid(job), &failed).await.unwrap();
    let reason = Some("commitment_class_not_supported".to_owned());
    assert_eq!(state(&bench, job).await, (DeliveryState::Failed, reason));
}

async fn a_report_under_another_transaction_changes_nothing(bench: Bench) {
    let job = sent(&bench, LONG).await;

    let verdict = DeliveryVerdict::Committed;
    let recorded =
        bench.store.record_commitment(&transaction(9), &result_uid(job), &verdict).await.unwrap();

    assert_eq!(recorded, None);
    assert_eq!(state(&bench, job).await, (DeliveryState::Sent, None));
}

async fn a_destination_is_asked_again_when_no_report_came(bench: Bench) {
    sent(&bench, Duration::ZERO).await;

    assert_eq!(bench.store.due_deliveries().await.unwrap()[0].destination, "pacs");
    let again = bench.store.await_commitment("pacs", &transaction(2), 5, LONG).await.unwrap();

    assert_eq!(again.len(), 1);
    let late = &again[0].sop_instance_uid;
    let verdict = DeliveryVerdict::Committed;
    let old = bench.store.record_commitment(&transaction(1), late, &verdict).await.unwrap();
    assert_eq!(old, None);
    let new = bench.store.record_commitment(&transaction(2), late, &verdict).await.unwrap();
    assert_eq!(new, Some(DeliveryState::Delivered));
}
