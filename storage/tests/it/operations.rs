use std::time::Duration;

use prosector_storage::{
    DeliveryState, Event, EventFilter, EventKind, JobState, Ordered, ReasonCode,
};
use time::OffsetDateTime;

use crate::bench::{Bench, LONG, on_both, series_uid};

on_both! {
    an_ordered_job_is_made_once_and_takes_no_other_jobs_place,
    nothing_is_ordered_on_a_series_that_never_came,
    deliveries_are_listed_by_state_newest_first,
    the_last_events_of_a_kind_come_newest_first,
    the_ledger_names_who_acts,
}

async fn an_ordered_job_is_made_once_and_takes_no_other_jobs_place(bench: Bench) {
    let routed = bench.queued_job(1).await;
    let order = bench.new_job(1, "on-request").await;

    let first = bench.store.order_job(&series_uid(1), &order).await.unwrap();
    let second = bench.store.order_job(&series_uid(1), &order).await.unwrap();

    assert_eq!((first, second), (Ordered::Created, Ordered::Known));
    for job in [routed, order.job_id] {
        let shown = bench.store.show_job(job).await.unwrap().unwrap().summary;
        assert_eq!(shown.state, JobState::Queued);
    }
    let outbox = bench.store.take_outbox(10, LONG).await.unwrap();
    assert!(outbox.iter().any(|entry| entry.job_id == order.job_id));
    let filter = EventFilter {
        kind: Some(EventKind::JobCreated),
        job_id: Some(order.job_id),
        ..EventFilter::default()
    };
    assert_eq!(bench.store.events(&filter, 10).await.unwrap().len(), 1);
}

async fn nothing_is_ordered_on_a_series_that_never_came(bench: Bench) {
    bench.queued_job(1).await;
    let order = bench.new_job(1, "on-request").await;

    let ordered = bench.store.order_job(&series_uid(7), &order).await.unwrap();

    assert_eq!(ordered, Ordered::UnknownSeries);
    assert!(bench.store.show_job(order.job_id).await.unwrap().is_none());
}

async fn deliveries_are_listed_by_state_newest_first(bench: Bench) {
    bench.done_job(1, &["pacs"]).await;
    bench.done_job(2, &["pacs"]).await;
    let leased = bench.store.lease_deliveries("pacs", 1, "sender", LONG).await.unwrap();
    bench.store.delivery_succeeded(&leased[0], 0).await.unwrap();
    let newest = bench.done_job(3, &["pacs"]).await;

    let pending = bench.store.list_deliveries(DeliveryState::Pending, 10).await.unwrap();
    let delivered = bench.store.list_deliveries(DeliveryState::Delivered, 10).await.unwrap();

    assert_eq!((pending.len(), delivered.len()), (2, 1));
    assert_eq!((delivered[0].job_id, delivered[0].last_status), (leased[0].job_id, Some(0)));
    assert!(delivered[0].delivered_at.is_some());
    assert_eq!(pending[0].job_id, newest.job_id);
    assert!(pending[0].created_at > pending[1].created_at);
    let one = bench.store.list_deliveries(DeliveryState::Pending, 1).await.unwrap();
    assert_eq!(one, pending[..1]);
}

async fn the_last_events_of_a_kind_come_newest_first(bench: Bench) {
    for kind in [EventKind::SelfTestFailed, EventKind::ServiceStarted, EventKind::SelfTestPassed] {
        let event = Event::new(kind).because(ReasonCode::new("test"));
        bench.store.record(event).await.unwrap();
    }
    let kinds = [EventKind::SelfTestPassed, EventKind::SelfTestFailed];
    let now = OffsetDateTime::now_utc();
    let hour = Duration::from_hours(1);

    let last = bench.store.last_events(&kinds, now - hour, 10).await.unwrap();
    let future = bench.store.last_events(&kinds, now + hour, 10).await.unwrap();

    let found: Vec<_> = last.iter().map(|entry| entry.event.kind).collect();
    assert_eq!(found, kinds);
    assert!(future.is_empty());
    assert_eq!(bench.store.last_events(&kinds, now - hour, 1).await.unwrap(), last[..1]);
}

async fn the_ledger_names_who_acts(bench: Bench) {
    let job = bench.queued_job(1).await;

    bench.store.acting_as("ada by api@host").cancel_job(job).await.unwrap();

    let filter = EventFilter { kind: Some(EventKind::JobCancelled), ..EventFilter::default() };
    let events = bench.store.events(&filter, 10).await.unwrap();
    assert_eq!(events[0].actor, "ada by api@host");
}
