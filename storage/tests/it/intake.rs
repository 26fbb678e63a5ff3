use dicom_types::Phi;
use prosector_storage::{
    AssociationEnd, AssociationOutcome, AuditFilter, EventFilter, EventKind, InstanceOutcome, Page,
    ReasonCode,
};

use crate::bench::{
    Bench, association, at_once, instance, instance_uid, instance_with_content, on_both,
    result_uid, series_uid, study_uid,
};

on_both! {
    new_instances_are_recorded_in_the_order_of_the_batch,
    the_same_bytes_again_are_a_duplicate,
    other_bytes_under_the_same_uid_are_a_conflict_and_kept_apart,
    a_series_in_a_second_study_is_a_conflict,
    a_result_of_ours_that_comes_back_starts_nothing,
    one_uid_twice_in_a_batch_is_new_once,
    duplicates_do_not_unsettle_a_series,
    patient_identifiers_are_in_one_table_alone,
    a_second_patient_in_a_study_is_recorded,
    nul_characters_of_a_peer_do_no_harm,
    an_association_is_counted_and_closed_once,
    associations_of_a_lost_listener_are_closed,
    a_rejected_association_is_recorded_with_its_reason,
    an_error_of_the_database_repeats_no_value,
    batches_from_many_associations_at_once_are_all_recorded,
}

async fn new_instances_are_recorded_in_the_order_of_the_batch(bench: Bench) {
    let batch = [instance(1, 2), instance(2, 1), instance(1, 1)];

    let outcomes = bench.store.record_instances(&batch).await.unwrap();

    assert_eq!(outcomes, vec![InstanceOutcome::New; 3]);
    let stored = bench.store.series_instances(&series_uid(1)).await.unwrap();
    let uids: Vec<_> = stored.iter().map(|stored| stored.sop_instance_uid.clone()).collect();
    assert_eq!(uids, [instance_uid(1, 1), instance_uid(1, 2)]);
    assert_eq!(stored[0].sha256, batch[2].sha256);
    assert_eq!(stored[0].spool_key, batch[2].spool_key);
    assert_eq!(stored[0].instance_number, Some(1));
    assert!(bench.store.record_instances(&[]).await.unwrap().is_empty());
}

async fn the_same_bytes_again_are_a_duplicate(bench: Bench) {
    bench.receive(1, &[1]).await;

    let outcomes = bench.store.record_instances(&[instance(1, 1)]).await.unwrap();

    let kept_at = instance(1, 1).spool_key;
    assert_eq!(outcomes, [InstanceOutcome::Duplicate { kept_at }]);
    assert_eq!(bench.candidate(1).await.instance_count, 1);
}

async fn other_bytes_under_the_same_uid_are_a_conflict_and_kept_apart(bench: Bench) {
    bench.receive(1, &[1]).await;
    let other = instance_with_content(1, 1, "other pixels");

    let outcomes = bench.store.record_instances(std::slice::from_ref(&other)).await.unwrap();

    let reason_code = ReasonCode::CONFLICTING_DIGEST;
    assert_eq!(outcomes, [InstanceOutcome::Conflict { reason_code: reason_code.clone() }]);
    let stored = bench.store.series_instances(&series_uid(1)).await.unwrap();
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0].sha256, instance(1, 1).sha256);
    assert_eq!(
        bench
            .number("select count(*) from instance_copy where kind = 'conflict' and spool_key is not null")
            .await,
        1
    );
    let filter = EventFilter { kind: Some(EventKind::InstanceConflict), ..EventFilter::default() };
    let events = bench.store.events(&filter, 10).await.unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].event.reason_code, Some(reason_code));
    assert_eq!(events[0].event.sop_instance_uid, Some(instance_uid(1, 1)));
}

async fn a_series_in_a_second_study_is_a_conflict(bench: Bench) {
    bench.receive(1, &[1]).await;
    let mut stray = instance(1, 2);
    stray.study_instance_uid = study_uid(90);
    stray.identity = instance(90, 1).identity;

    let outcomes = bench.store.record_instances(&[stray]).await.unwrap();

    let reason_code = ReasonCode::CONFLICTING_PARENT;
    assert_eq!(outcomes, [InstanceOutcome::Conflict { reason_code }]);
    assert_eq!(bench.candidate(1).await.instance_count, 1);
}

async fn a_result_of_ours_that_comes_back_starts_nothing(bench: Bench) {
    let lease = bench.done_job(1, &["pacs"]).await;
    let mut returned = instance(7, 1);
    returned.sop_instance_uid = result_uid(lease.job_id);
    returned.study_instance_uid = study_uid(1);

    let outcomes = bench.store.record_instances(&[returned, instance(8, 1)]).await.unwrap();

    assert_eq!(outcomes, [InstanceOutcome::OwnResult, InstanceOutcome::New]);
    let due = bench.store.series_to_settle(&at_once(), 10).await.unwrap();
    let due: Vec<_> = due.into_iter().map(|candidate| candidate.series_instance_uid).collect();
    assert_eq!(due, [series_uid(8)]);
}

async fn one_uid_twice_in_a_batch_is_new_once(bench: Bench) {
    let batch = [instance(1, 1), instance(1, 1), instance_with_content(1, 1, "other pixels")];

    let outcomes = bench.store.record_instances(&batch).await.unwrap();

    assert_eq!(outcomes[0], InstanceOutcome::New);
    assert!(matches!(outcomes[1], InstanceOutcome::Duplicate { .. }));
    assert!(matches!(outcomes[2], InstanceOutcome::Conflict { .. }));
    assert_eq!(bench.candidate(1).await.instance_count, 1);
}

async fn duplicates_do_not_unsettle_a_series(bench: Bench) {
    bench.queued_job(1).await;

    bench.store.record_instances(&[instance(1, 1)]).await.unwrap();

    assert!(bench.store.series_to_settle(&at_once(), 10).await.unwrap().is_empty());
}

async fn patient_identifiers_are_in_one_table_alone(bench: Bench) {
    let lease = bench.done_job(1, &["pacs"]).await;
    bench.store.record_instances(&[instance_with_content(1, 1, "conflict")]).await.unwrap();
    bench.store.show_job(lease.job_id).await.unwrap().unwrap();

    let identities = bench.store.patient_identities(&study_uid(1)).await.unwrap();

    assert_eq!(identities, [instance(1, 1).identity]);
    assert!(!format!("{identities:?}").contains("PATIENT"));
    for statement in [
        "select count(*) from event where detail like '%PATIENT%' or detail like '%ACCESSION%' or detail like '%ABDOMEN%'",
        "select count(*) from job where reason like '%PATIENT%' or protocol_name like '%PATIENT%'",
        "select count(*) from instance where spool_key like '%PATIENT%' or spool_key like '%ACCESSION%'",
    ] {
        assert_eq!(bench.number(statement).await, 0, "{statement}");
    }
}

async fn a_second_patient_in_a_study_is_recorded(bench: Bench) {
    bench.receive(1, &[1]).await;
    let mut other = instance(1, 2);
    other.identity.patient_id = Phi::new("PATIENT-X".to_owned());

    bench.store.record_instances(&[other]).await.unwrap();

    let filter = EventFilter { kind: Some(EventKind::IdentityDiffers), ..EventFilter::default() };
    let events = bench.store.events(&filter, 10).await.unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].event.study_instance_uid, Some(study_uid(1)));
    assert_eq!(bench.store.patient_identities(&study_uid(1)).await.unwrap().len(), 2);
}

async fn nul_characters_of_a_peer_do_no_harm(bench: Bench) {
    let mut nasty = instance(1, 1);
    nasty.identity.patient_id = Phi::new("A\0B".to_owned());
    nasty.modality = Some("C\0T".to_owned());
    nasty.header_facts = Some(Phi::new(serde_json::json!({ "a\0": ["b\0", { "c": "\0" }] })));
    let mut endless = instance(2, 1);
    endless.modality = Some("M".repeat(1000));

    let outcomes = bench.store.record_instances(&[nasty, endless]).await.unwrap();

    assert_eq!(outcomes, vec![InstanceOutcome::New; 2]);
    assert_eq!(bench.candidate(1).await.modality.as_deref(), Some("CT"));
    assert_eq!(bench.candidate(2).await.modality, None);
    let facts = bench.candidate(1).await.header_facts.unwrap().into_exposed();
    assert_eq!(facts, serde_json::json!({ "a": ["b", { "c": "" }] }));
}

async fn an_association_is_counted_and_closed_once(bench: Bench) {
    let id = bench.associate().await;
    let batch: Vec<_> = (1..=3)
        .map(|number| {
            let mut instance = instance(1, number);
            instance.association_id = Some(id);
            instance
        })
        .collect();
    bench.store.record_instances(&batch).await.unwrap();
    assert!(bench.candidate(1).await.association_open);
    let sender = bench.store.series_sender(&series_uid(1)).await.unwrap().unwrap();
    assert_eq!(sender.calling_ae_title.as_str(), "MODALITY");
    assert_eq!(sender.called_ae_title.as_str(), "PROSECTOR");
    let end = AssociationEnd {
        outcome: AssociationOutcome::Released,
        reason_code: None,
        refused_count: 1,
    };

    bench.store.close_association(id, &end).await.unwrap();
    bench.store.close_association(id, &end).await.unwrap();

    assert!(!bench.candidate(1).await.association_open);
    let filter = EventFilter { kind: Some(EventKind::AssociationEnded), ..EventFilter::default() };
    let events = bench.store.events(&filter, 10).await.unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].event.detail["instances"], 3);
    assert_eq!(events[0].event.detail["size_bytes"], 3000);
    assert_eq!(events[0].event.detail["calling_ae_title"], "MODALITY");
}

async fn associations_of_a_lost_listener_are_closed(bench: Bench) {
    bench.associate().await;
    let mut elsewhere = association("MODALITY");
    "listener-2".clone_into(&mut elsewhere.listener);
    bench.store.open_association(&elsewhere).await.unwrap();

    assert_eq!(bench.store.close_lost_associations("listener-1").await.unwrap(), 1);
    assert_eq!(bench.store.close_lost_associations("listener-1").await.unwrap(), 0);

    assert_eq!(bench.store.counts().await.unwrap().open_associations, 1);
}

async fn a_rejected_association_is_recorded_with_its_reason(bench: Bench) {
    let reason = ReasonCode::new("calling_ae_not_recognised");

    bench.store.reject_association(&association("STRANGER"), reason.clone()).await.unwrap();

    let why = bench.store.why(&Phi::new("1.2.3.4.5".to_owned())).await.unwrap();
    assert!(why.studies.is_empty());
    assert_eq!(why.recent_refusals.len(), 1);
    assert_eq!(why.recent_refusals[0].event.reason_code, Some(reason));
}

async fn batches_from_many_associations_at_once_are_all_recorded(bench: Bench) {
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..8_u32 {
        let store = bench.store.clone();
        tasks.spawn(async move {
            for round in 0..5 {
                // Every task sends to the same series of several studies, in another order.
                let mut batch: Vec<_> =
                    [1, 11, 21].map(|series| instance(series, task * 10 + round)).into();
                batch.rotate_left((task % 3) as usize);
                store.record_instances(&batch).await.unwrap();
            }
        });
    }
    while let Some(joined) = tasks.join_next().await {
        joined.unwrap();
    }

    let listing =
        bench.store.list_studies(&AuditFilter::default(), &Page::first(10)).await.unwrap();
    let counts: Vec<_> = listing.rows.iter().map(|study| study.instances).collect();
    assert_eq!(counts, [40, 40, 40]);
    assert_eq!(bench.store.verify_ledger(None).await.unwrap().defect, None);
}

async fn an_error_of_the_database_repeats_no_value(bench: Bench) {
    bench.raw("drop table patient_identity").await.unwrap();
    let without_table = bench.store.record_instances(&[instance(1, 1)]).await.unwrap_err();
    let mut stray = instance(1, 2);
    stray.association_id = Some("00000000-0000-4000-8000-0000000abcde".parse().unwrap());
    let recreated = "create table patient_identity (study_instance_uid text, patient_id text, \
                     accession_number text, recorded_at timestamptz, \
                     primary key (study_instance_uid, patient_id, accession_number), \
                     check (patient_id <> 'PATIENT-0'))";
    bench.raw(recreated).await.unwrap();
    let refused = bench.store.record_instances(&[stray]).await.unwrap_err();

    for error in [without_table, refused] {
        let text = format!("{error:?} {error}");
        assert!(!error.is_transient(), "{text}");
        for value in ["PATIENT", "ACCESSION", "abcde"] {
            assert!(!text.contains(value), "{text}");
        }
    }
}
