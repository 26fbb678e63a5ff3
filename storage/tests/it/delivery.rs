use std::time::Duration;

use dicom_types::SopInstanceUid;
use prosector_storage::{
    AfterDeliveryFailure, DeliveryError, DeliveryFailure, DeliveryState, EventFilter, EventKind,
    Finding, FindingKind, Hold, JobId, JobOutcome, JobState, LeasedDelivery, LeasedJob,
    NewDelivery, NextJob, OperatorError, ReasonCode, ResultForm, Retried,
};

use crate::bench::{Bench, LONG, done, limit, on_both, other_result};

on_both! {
    a_leased_delivery_has_all_that_sending_needs,
    a_destination_delays_only_itself,
    a_delivered_result_is_recorded_with_its_status,
    a_delayed_delivery_is_not_due_before_its_time,
    a_delivery_given_up_is_tried_again_on_request,
    a_sender_that_died_is_replaced,
    a_delivery_of_a_superseded_job_is_not_repeated,
    one_association_takes_several_results,
    a_refused_form_is_replaced_by_the_next_one,
    a_form_that_arrives_anyway_replaces_without_being_sent_twice,
    a_form_that_was_refused_as_well_replaces_nothing,
    a_retry_sends_what_failed_and_nothing_that_was_replaced,
    what_is_odd_is_held_until_a_person_releases_it,
    what_is_held_may_be_cancelled,
    a_report_goes_out_behind_its_segmentation,
    a_report_speaks_of_the_segmentation_that_arrived,
}

/// Why a job is held.
const IMPLAUSIBLE: ReasonCode = ReasonCode::new("implausible_volume");

fn failure(then: AfterDeliveryFailure) -> DeliveryFailure {
    DeliveryFailure { status: Some(0xA700), reason_code: ReasonCode::new("pacs_refused"), then }
}

async fn a_leased_delivery_has_all_that_sending_needs(bench: Bench) {
    let job = bench.done_job(1, &["pacs"]).await;

    let leased = bench.store.lease_deliveries("pacs", 5, "sender", LONG).await.unwrap();

    assert_eq!(leased.len(), 1);
    let delivery = &leased[0];
    assert_eq!(delivery.job_id, job.job_id);
    assert_eq!(delivery.study_instance_uid, job.study_instance_uid);
    assert_eq!(delivery.source_series_instance_uid, job.series_instance_uid);
    assert_eq!(delivery.sop_instance_uid, crate::bench::result_uid(job.job_id));
    assert_eq!((delivery.attempt, delivery.size_bytes), (1, 3));
    assert!(bench.store.lease_deliveries("pacs", 5, "other", LONG).await.unwrap().is_empty());
    bench.store.renew_delivery(delivery, LONG).await.unwrap();
}

async fn a_destination_delays_only_itself(bench: Bench) {
    bench.done_job(1, &["down", "up"]).await;

    let down = bench.store.lease_deliveries("down", 5, "sender", LONG).await.unwrap();
    let retry = failure(AfterDeliveryFailure::Retry { after: LONG });
    bench.store.delivery_failed(&down[0], &retry).await.unwrap();

    let due = bench.store.due_deliveries().await.unwrap();
    assert_eq!(due.len(), 1);
    assert_eq!((due[0].destination.as_str(), due[0].count), ("up", 1));
    assert_eq!(bench.store.lease_deliveries("up", 5, "sender", LONG).await.unwrap().len(), 1);
}

async fn a_delivered_result_is_recorded_with_its_status(bench: Bench) {
    let job = bench.done_job(1, &["pacs"]).await;
    let leased = bench.store.lease_deliveries("pacs", 5, "sender", LONG).await.unwrap();

    bench.store.delivery_succeeded(&leased[0], 0xB000).await.unwrap();

    let detail = bench.store.show_job(job.job_id).await.unwrap().unwrap();
    assert_eq!(detail.deliveries[0].state, DeliveryState::Delivered);
    assert_eq!(detail.deliveries[0].last_status, Some(0xB000));
    assert!(detail.deliveries[0].delivered_at.is_some());
    assert_eq!(detail.summary.delivered, 1);
    let last = &detail.timeline.last().unwrap().event;
    assert_eq!(last.kind, EventKind::ResultDelivered);
    assert_eq!(last.destination.as_deref(), Some("pacs"));
    let again = bench.store.delivery_succeeded(&leased[0], 0).await;
    assert!(matches!(again, Err(DeliveryError::Lost { .. })), "{again:?}");
}

async fn a_delayed_delivery_is_not_due_before_its_time(bench: Bench) {
    bench.done_job(1, &["pacs"]).await;
    let leased = bench.store.lease_deliveries("pacs", 5, "sender", LONG).await.unwrap();

    let retry = failure(AfterDeliveryFailure::Retry { after: LONG });
    let state = bench.store.delivery_failed(&leased[0], &retry).await.unwrap();

    assert_eq!(state, DeliveryState::Pending);
    assert!(bench.store.due_deliveries().await.unwrap().is_empty());
    assert!(bench.store.lease_deliveries("pacs", 5, "sender", LONG).await.unwrap().is_empty());
    let filter = EventFilter { kind: Some(EventKind::DeliveryDelayed), ..EventFilter::default() };
    let events = bench.store.events(&filter, 10).await.unwrap();
    assert_eq!(events[0].event.reason_code, Some(ReasonCode::new("pacs_refused")));
    assert_eq!(events[0].event.detail["status"], 0xA700);
}

async fn a_delivery_given_up_is_tried_again_on_request(bench: Bench) {
    let job = bench.done_job(1, &["pacs", "archive"]).await;
    let leased = bench.store.lease_deliveries("pacs", 5, "sender", LONG).await.unwrap();
    let give_up = failure(AfterDeliveryFailure::GiveUp);
    let state = bench.store.delivery_failed(&leased[0], &give_up).await.unwrap();
    assert_eq!(state, DeliveryState::Failed);

    let retried = bench.store.retry_job(job.job_id).await.unwrap();

    assert_eq!(retried, Retried::Deliveries { count: 1 });
    let again = bench.store.lease_deliveries("pacs", 5, "sender", LONG).await.unwrap();
    assert_eq!(again[0].attempt, 1);
}

async fn a_sender_that_died_is_replaced(bench: Bench) {
    bench.done_job(1, &["pacs"]).await;
    let lost = bench.store.lease_deliveries("pacs", 5, "sender", Duration::ZERO).await.unwrap();

    while bench.store.lapse(limit(3)).await.unwrap().deliveries == 0 {}

    let again = bench.store.lease_deliveries("pacs", 5, "sender", LONG).await.unwrap();
    assert_eq!(again[0].attempt, 2);
    let woken = bench.store.delivery_succeeded(&lost[0], 0).await;
    assert!(matches!(woken, Err(DeliveryError::Lost { .. })), "{woken:?}");
}

async fn a_delivery_of_a_superseded_job_is_not_repeated(bench: Bench) {
    bench.done_job(1, &["pacs"]).await;
    let leased = bench.store.lease_deliveries("pacs", 5, "sender", LONG).await.unwrap();
    bench.receive(1, &[4]).await;
    bench.settle(1, "ct").await;

    let retry = failure(AfterDeliveryFailure::Retry { after: Duration::ZERO });
    let state = bench.store.delivery_failed(&leased[0], &retry).await.unwrap();

    assert_eq!(state, DeliveryState::Cancelled);
    assert!(bench.store.due_deliveries().await.unwrap().is_empty());
}

async fn one_association_takes_several_results(bench: Bench) {
    for series in 1..=5 {
        bench.done_job(series, &["pacs"]).await;
    }

    let first = bench.store.lease_deliveries("pacs", 3, "sender", LONG).await.unwrap();
    let rest = bench.store.lease_deliveries("pacs", 3, "sender", LONG).await.unwrap();

    assert_eq!((first.len(), rest.len()), (3, 2));
}

/// A job whose segmentation may be replaced by `fallbacks`, those in `wanted` being sent anyway.
async fn job_with_forms(
    bench: &Bench,
    lease: &LeasedJob,
    fallbacks: &[ResultForm],
    wanted: &[ResultForm],
) -> JobId {
    let JobOutcome::Done { targets, findings, hold, mut results, detail } = done(lease, &["pacs"])
    else {
        unreachable!("a done job is done");
    };
    let others: Vec<_> = fallbacks.iter().map(|form| other_result(lease.job_id, *form)).collect();
    let uids: Vec<_> = others.iter().map(|other| other.sop_instance_uid.clone()).collect();
    results[0].deliveries[0].fallbacks = uids;
    for mut other in others {
        if wanted.contains(&other.form) {
            let to = NewDelivery { destination: "pacs".to_owned(), fallbacks: Vec::new() };
            other.deliveries.push(to);
        }
        results.push(other);
    }
    let outcome = JobOutcome::Done { targets, findings, hold, results, detail };
    bench.store.finish_job(lease, &outcome).await.unwrap();
    lease.job_id
}

async fn leased(bench: &Bench) -> Vec<LeasedDelivery> {
    bench.store.lease_deliveries("pacs", 9, "sender", LONG).await.unwrap()
}

/// Form, state and replacement of each delivery, in the order of the forms' names.
async fn standing(
    bench: &Bench,
    job: JobId,
) -> Vec<(ResultForm, DeliveryState, Option<ResultForm>)> {
    let detail = bench.store.show_job(job).await.unwrap().unwrap();
    detail.deliveries.iter().map(|d| (d.form, d.state, d.replaced_by)).collect()
}

async fn a_refused_form_is_replaced_by_the_next_one(bench: Bench) {
    let lease = bench.leased_job(1, "worker").await;
    let forms = [ResultForm::Labelmap, ResultForm::Picture];
    let job = job_with_forms(&bench, &lease, &forms, &[]).await;

    for form in [ResultForm::Seg, ResultForm::Labelmap] {
        let sent = leased(&bench).await;
        assert_eq!(sent.iter().map(|d| d.form).collect::<Vec<_>>(), [form]);
        let refused = failure(AfterDeliveryFailure::OtherForm);
        let state = bench.store.delivery_failed(&sent[0], &refused).await.unwrap();
        assert_eq!(state, DeliveryState::Cancelled);
    }
    let sent = leased(&bench).await;
    bench.store.delivery_succeeded(&sent[0], 0).await.unwrap();

    assert_eq!(
        standing(&bench, job).await,
        [
            (ResultForm::Labelmap, DeliveryState::Cancelled, Some(ResultForm::Picture)),
            (ResultForm::Picture, DeliveryState::Delivered, None),
            (ResultForm::Seg, DeliveryState::Cancelled, Some(ResultForm::Labelmap)),
        ]
    );
    let summary = bench.store.show_job(job).await.unwrap().unwrap().summary;
    assert_eq!((summary.delivered, summary.deliveries), (1, 1));
    let replaced =
        EventFilter { kind: Some(EventKind::DeliveryReplaced), ..EventFilter::default() };
    let events = bench.store.events(&replaced, 10).await.unwrap();
    let by = |event: &serde_json::Value| event["replaced_by"]["form"].clone();
    let by: Vec<_> = events.iter().map(|event| by(&event.event.detail)).collect();
    assert_eq!(by.len(), 2);
    assert!(by.contains(&"labelmap".into()) && by.contains(&"picture".into()), "{by:?}");
    let view =
        "select count(*) from audit_deliveries where form = 'seg' and replaced_by = 'labelmap'";
    assert_eq!(bench.number(view).await, 1);
}

async fn a_form_that_arrives_anyway_replaces_without_being_sent_twice(bench: Bench) {
    let lease = bench.leased_job(1, "worker").await;
    let job = job_with_forms(&bench, &lease, &[ResultForm::Sr], &[ResultForm::Sr]).await;
    let sent = leased(&bench).await;
    assert_eq!(sent.len(), 2);
    for delivery in &sent {
        if delivery.form == ResultForm::Sr {
            bench.store.delivery_succeeded(delivery, 0).await.unwrap();
        }
    }

    let seg = sent.iter().find(|delivery| delivery.form == ResultForm::Seg).unwrap();
    let refused = failure(AfterDeliveryFailure::OtherForm);
    bench.store.delivery_failed(seg, &refused).await.unwrap();

    assert!(leased(&bench).await.is_empty());
    assert_eq!(
        standing(&bench, job).await,
        [
            (ResultForm::Seg, DeliveryState::Cancelled, Some(ResultForm::Sr)),
            (ResultForm::Sr, DeliveryState::Delivered, None),
        ]
    );
}

async fn a_form_that_was_refused_as_well_replaces_nothing(bench: Bench) {
    let lease = bench.leased_job(1, "worker").await;
    let job = job_with_forms(&bench, &lease, &[ResultForm::Sr], &[ResultForm::Sr]).await;
    let mut sent = leased(&bench).await;
    sent.sort_by_key(|delivery| delivery.form == ResultForm::Seg);

    for delivery in &sent {
        let refused = failure(AfterDeliveryFailure::OtherForm);
        let state = bench.store.delivery_failed(delivery, &refused).await.unwrap();
        assert_eq!(state, DeliveryState::Failed);
    }

    assert!(leased(&bench).await.is_empty());
    assert_eq!(
        standing(&bench, job).await,
        [
            (ResultForm::Seg, DeliveryState::Failed, None),
            (ResultForm::Sr, DeliveryState::Failed, None),
        ]
    );
}

async fn a_retry_sends_what_failed_and_nothing_that_was_replaced(bench: Bench) {
    let lease = bench.leased_job(1, "worker").await;
    let job = job_with_forms(&bench, &lease, &[ResultForm::Labelmap], &[]).await;
    for _ in 0..2 {
        let sent = leased(&bench).await;
        let refused = failure(AfterDeliveryFailure::OtherForm);
        bench.store.delivery_failed(&sent[0], &refused).await.unwrap();
    }
    assert_eq!(
        standing(&bench, job).await,
        [
            (ResultForm::Labelmap, DeliveryState::Failed, None),
            (ResultForm::Seg, DeliveryState::Cancelled, Some(ResultForm::Labelmap)),
        ]
    );

    assert_eq!(bench.store.retry_job(job).await.unwrap(), Retried::Deliveries { count: 1 });

    let forms: Vec<_> = leased(&bench).await.iter().map(|d| d.form).collect();
    assert_eq!(forms, [ResultForm::Labelmap]);
    assert!(bench.store.lease_job(NextJob::Id(job), "worker", LONG).await.unwrap().is_none());
}

/// A job with two segmentations and a report of each, the label map and its report being wanted.
async fn job_with_reports(bench: &Bench, lease: &LeasedJob) -> [SopInstanceUid; 2] {
    let JobOutcome::Done { targets, findings, hold, mut results, detail } = done(lease, &[]) else {
        unreachable!("a done job is done");
    };
    let to = |fallbacks| NewDelivery { destination: "pacs".to_owned(), fallbacks };
    let seg = results[0].sop_instance_uid.clone();
    let mut labelmap = other_result(lease.job_id, ResultForm::Labelmap);
    labelmap.deliveries.push(to(vec![seg.clone()]));
    let mut of_seg = other_result(lease.job_id, ResultForm::Sr);
    of_seg.refers_to = Some(seg);
    let mut of_labelmap = other_result(lease.job_id, ResultForm::Picture);
    of_labelmap.form = ResultForm::Sr;
    of_labelmap.refers_to = Some(labelmap.sop_instance_uid.clone());
    of_labelmap.deliveries.push(to(Vec::new()));
    let reports = [&of_seg, &of_labelmap].map(|report| report.sop_instance_uid.clone());
    results.extend([labelmap, of_seg, of_labelmap]);
    let outcome = JobOutcome::Done { targets, findings, hold, results, detail };
    bench.store.finish_job(lease, &outcome).await.unwrap();
    reports
}

async fn a_report_goes_out_behind_its_segmentation(bench: Bench) {
    let lease = bench.leased_job(1, "worker").await;
    let [_, of_labelmap] = job_with_reports(&bench, &lease).await;

    let sent = leased(&bench).await;
    assert_eq!(sent.iter().map(|d| d.form).collect::<Vec<_>>(), [ResultForm::Labelmap]);
    assert!(bench.store.due_deliveries().await.unwrap().is_empty());
    bench.store.delivery_succeeded(&sent[0], 0).await.unwrap();

    let sent = leased(&bench).await;
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].sop_instance_uid, of_labelmap);
}

async fn a_report_speaks_of_the_segmentation_that_arrived(bench: Bench) {
    let lease = bench.leased_job(1, "worker").await;
    let [of_seg, _] = job_with_reports(&bench, &lease).await;
    let refused = failure(AfterDeliveryFailure::OtherForm);
    let labelmap = leased(&bench).await;
    bench.store.delivery_failed(&labelmap[0], &refused).await.unwrap();

    let seg = leased(&bench).await;
    assert_eq!(seg.iter().map(|d| d.form).collect::<Vec<_>>(), [ResultForm::Seg]);
    bench.store.delivery_succeeded(&seg[0], 0).await.unwrap();
    let report = leased(&bench).await;
    assert_eq!(report.len(), 1);
    assert_eq!(report[0].sop_instance_uid, of_seg);
    bench.store.delivery_succeeded(&report[0], 0).await.unwrap();

    let detail = bench.store.show_job(lease.job_id).await.unwrap().unwrap();
    assert_eq!((detail.summary.delivered, detail.summary.deliveries), (2, 2));
    let replaced = detail.deliveries.iter().filter(|d| d.replaced_by.is_some());
    assert_eq!(replaced.count(), 2);
}

/// A job whose result is held for a liver that is too small.
async fn held_job(bench: &Bench) -> JobId {
    let lease = bench.leased_job(1, "worker").await;
    let JobOutcome::Done { targets, results, detail, .. } = done(&lease, &["pacs"]) else {
        unreachable!("a done job is done");
    };
    let finding = Finding {
        prompt: "liver".to_owned(),
        kind: FindingKind::Volume,
        detail: "1.5 mL, expected 800 to 2500 mL".to_owned(),
    };
    let hold = Hold { reason_code: IMPLAUSIBLE, reason: finding.to_string() };
    let (findings, hold) = (vec![finding], Some(hold));
    let outcome = JobOutcome::Done { targets, findings, hold, results, detail };
    bench.store.finish_job(&lease, &outcome).await.unwrap();
    lease.job_id
}

async fn what_is_odd_is_held_until_a_person_releases_it(bench: Bench) {
    let job = held_job(&bench).await;

    assert!(leased(&bench).await.is_empty());
    assert!(bench.store.due_deliveries().await.unwrap().is_empty());
    let detail = bench.store.show_job(job).await.unwrap().unwrap();
    assert_eq!(detail.summary.state, JobState::Held);
    assert_eq!(detail.summary.reason_code, Some(IMPLAUSIBLE));
    assert_eq!(detail.summary.reason.as_deref(), Some("liver: 1.5 mL, expected 800 to 2500 mL"));
    assert_eq!(detail.findings[0].kind, FindingKind::Volume);
    let last = &detail.timeline.last().unwrap().event;
    assert_eq!((last.kind, last.reason_code.clone()), (EventKind::JobHeld, Some(IMPLAUSIBLE)));

    bench.store.release_job(job).await.unwrap();

    let detail = bench.store.show_job(job).await.unwrap().unwrap();
    assert_eq!((detail.summary.state, detail.summary.reason_code), (JobState::Done, None));
    assert!(detail.summary.finished_at.is_some());
    assert_eq!(detail.findings.len(), 1);
    assert!(bench.store.lease_job(NextJob::Id(job), "worker", LONG).await.unwrap().is_none());
    let sent = leased(&bench).await;
    bench.store.delivery_succeeded(&sent[0], 0).await.unwrap();
    let again = bench.store.release_job(job).await;
    assert!(matches!(again, Err(OperatorError::State { state: JobState::Done, .. })), "{again:?}");
}

async fn what_is_held_may_be_cancelled(bench: Bench) {
    let job = held_job(&bench).await;

    bench.store.cancel_job(job).await.unwrap();

    assert!(leased(&bench).await.is_empty());
    let detail = bench.store.show_job(job).await.unwrap().unwrap();
    assert_eq!(detail.summary.state, JobState::Cancelled);
    assert_eq!(detail.deliveries[0].state, DeliveryState::Cancelled);
}
