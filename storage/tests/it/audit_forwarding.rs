//! The ledger as the outbox of audit messages: nothing is passed over, nothing is told twice under two numbers.

use std::time::Duration;

use prosector_storage::{AuditBatch, Event, EventKind, Store};

use crate::bench::{Bench, LONG, instance, on_both, study_uid};

on_both! {
    messages_begin_where_forwarding_began_and_go_on_where_they_were_confirmed,
    a_batch_stays_the_same_until_it_is_confirmed_by_who_has_it,
    an_entry_comes_with_its_association_and_where_allowed_its_patient,
    other_kinds_are_passed_over_and_confirmed,
}

const KINDS: &[EventKind] = &[EventKind::ServiceStarted, EventKind::InstancesReceived];

async fn start(bench: &Bench, count: usize) {
    for _ in 0..count {
        bench.store.record(Event::new(EventKind::ServiceStarted)).await.unwrap();
    }
}

async fn take(store: &Store, limit: u32, claim: Duration) -> Option<AuditBatch> {
    store.take_audit_batch(KINDS, limit, claim, false).await.unwrap()
}

fn seqs(batch: &AuditBatch) -> Vec<u64> {
    batch.entries.iter().map(|entry| entry.recorded.seq).collect()
}

async fn messages_begin_where_forwarding_began_and_go_on_where_they_were_confirmed(bench: Bench) {
    let store = &bench.store;
    start(&bench, 2).await;
    assert_eq!(take(store, 10, LONG).await, None, "forwarding has not begun");
    store.begin_forwarding().await.unwrap();
    store.begin_forwarding().await.unwrap();
    assert_eq!(take(store, 10, LONG).await, None, "what was before is not told");
    start(&bench, 5).await;

    let first = take(store, 2, LONG).await.unwrap();
    store.confirm_audit_batch(&first, 2).await.unwrap();
    let second = take(store, 10, LONG).await.unwrap();
    store.confirm_audit_batch(&second, 3).await.unwrap();

    assert_eq!((seqs(&first), first.messages_before, first.behind), (vec![3, 4], 0, 3));
    assert_eq!((seqs(&second), second.messages_before, second.behind), (vec![5, 6, 7], 2, 0));
    assert_eq!(take(store, 10, LONG).await, None);
}

async fn a_batch_stays_the_same_until_it_is_confirmed_by_who_has_it(bench: Bench) {
    let (store, other) = (&bench.store, bench.store.acting_as("other"));
    store.begin_forwarding().await.unwrap();
    start(&bench, 3).await;
    let taken = take(store, 10, LONG).await.unwrap();
    start(&bench, 3).await;
    assert_eq!(take(&other, 10, LONG).await, None, "another process has it");

    let again = take(store, 10, Duration::ZERO).await.unwrap();
    let later = loop {
        if let Some(batch) = take(&other, 10, LONG).await {
            break batch;
        }
    };
    store.confirm_audit_batch(&again, 3).await.unwrap();
    assert_eq!(take(store, 10, LONG).await, None, "a confirmation that comes too late is nothing");
    other.confirm_audit_batch(&later, 3).await.unwrap();

    assert_eq!((seqs(&again), seqs(&later)), (seqs(&taken), seqs(&taken)));
    let rest = take(store, 10, LONG).await.unwrap();
    assert_eq!((seqs(&rest), rest.messages_before), (vec![4, 5, 6], 3));
}

async fn an_entry_comes_with_its_association_and_where_allowed_its_patient(bench: Bench) {
    bench.store.begin_forwarding().await.unwrap();
    let mut arriving = instance(1, 1);
    arriving.association_id = Some(bench.associate().await);
    bench.store.record_instances(&[arriving]).await.unwrap();

    let plain = bench.store.take_audit_batch(KINDS, 10, LONG, false).await.unwrap().unwrap();
    let identified = bench.store.take_audit_batch(KINDS, 10, LONG, true).await.unwrap().unwrap();

    let [entry] = plain.entries.as_slice() else { panic!("one entry") };
    assert_eq!(entry.association.as_ref().unwrap().calling_ae_title, "MODALITY");
    assert_eq!(entry.recorded.event.study_instance_uid, Some(study_uid(1)));
    assert_eq!(entry.recorded.event.detail["sop_classes"].as_object().unwrap().len(), 1);
    assert!(entry.identities.is_empty());
    let [identity] = identified.entries[0].identities.as_slice() else { panic!("one patient") };
    assert_eq!(identity.patient_id.expose(), "PATIENT-0");
    assert_eq!(identity.accession_number.expose(), "ACCESSION-0");
}

async fn other_kinds_are_passed_over_and_confirmed(bench: Bench) {
    bench.store.begin_forwarding().await.unwrap();
    bench.store.record(Event::new(EventKind::SelfTestPassed)).await.unwrap();

    let batch = take(&bench.store, 10, LONG).await.unwrap();
    bench.store.confirm_audit_batch(&batch, 0).await.unwrap();

    assert!(batch.entries.is_empty());
    assert_eq!(take(&bench.store, 10, LONG).await, None);
}
