use prosector_storage::{EventFilter, LedgerDefect, LedgerRoot, Sha256Digest};

use crate::bench::{Bench, on_both};

on_both! {
    an_untouched_ledger_is_sound,
    updates_and_deletions_are_refused,
    an_altered_entry_is_named,
    an_entry_moved_in_time_is_named,
    a_deleted_entry_is_named,
    exchanged_entries_are_named,
    a_cut_tail_is_named_while_the_head_stays,
    a_tail_cut_with_its_head_is_named_against_a_root,
    a_rewritten_ledger_is_named_against_a_root,
    the_hash_is_as_documented,
}

/// A ledger with a handful of entries, and its triggers dropped.
async fn unprotected(bench: &Bench) -> LedgerRoot {
    bench.done_job(1, &["pacs"]).await;
    bench.done_job(2, &["pacs"]).await;
    let statement = if bench.url.starts_with("sqlite") {
        "drop trigger event_is_never_updated; drop trigger event_is_never_deleted"
    } else {
        "drop trigger event_is_append_only on event"
    };
    bench.raw(statement).await.unwrap();
    bench.store.ledger_root().await.unwrap()
}

async fn defect(bench: &Bench, root: Option<LedgerRoot>) -> Option<LedgerDefect> {
    bench.store.verify_ledger(root).await.unwrap().defect
}

async fn an_untouched_ledger_is_sound(bench: Bench) {
    let empty = bench.store.verify_ledger(None).await.unwrap();
    assert_eq!((empty.sound, empty.defect), (0, None));
    bench.done_job(1, &["pacs"]).await;
    let root = bench.store.ledger_root().await.unwrap();
    bench.done_job(2, &["pacs"]).await;

    let verdict = bench.store.verify_ledger(Some(root)).await.unwrap();

    assert_eq!(verdict.defect, None);
    assert_eq!(verdict.sound as i64, bench.number("select count(*) from event").await);
}

async fn updates_and_deletions_are_refused(bench: Bench) {
    bench.done_job(1, &["pacs"]).await;

    for statement in [
        "update event set kind = 'job_empty' where seq = 1",
        "delete from event where seq = 1",
        "delete from ledger_head",
    ] {
        assert!(bench.raw(statement).await.is_err(), "{statement}");
    }
    if bench.url.starts_with("postgres") {
        assert!(bench.raw("truncate event").await.is_err());
    }

    assert_eq!(defect(&bench, None).await, None);
}

async fn an_altered_entry_is_named(bench: Bench) {
    unprotected(&bench).await;
    bench.raw("update event set reason_code = 'operator' where seq = 3").await.unwrap();

    assert_eq!(defect(&bench, None).await, Some(LedgerDefect::Altered { seq: 3 }));
}

async fn an_entry_moved_in_time_is_named(bench: Bench) {
    unprotected(&bench).await;
    let earlier = if bench.url.starts_with("sqlite") {
        "update event set recorded_at = '2020-01-01T00:00:00.000000Z' where seq = 2"
    } else {
        "update event set recorded_at = recorded_at - interval '1 day' where seq = 2"
    };
    bench.raw(earlier).await.unwrap();

    assert_eq!(defect(&bench, None).await, Some(LedgerDefect::Altered { seq: 2 }));
}

async fn a_deleted_entry_is_named(bench: Bench) {
    unprotected(&bench).await;
    bench.raw("delete from event where seq = 4").await.unwrap();

    assert_eq!(defect(&bench, None).await, Some(LedgerDefect::Missing { seq: 4 }));
}

async fn exchanged_entries_are_named(bench: Bench) {
    unprotected(&bench).await;
    bench
        .raw(
            "update event set seq = 1000 where seq = 2; update event set seq = 2 where seq = 3; \
             update event set seq = 3 where seq = 1000",
        )
        .await
        .unwrap();

    assert_eq!(defect(&bench, None).await, Some(LedgerDefect::Unlinked { seq: 2 }));
}

async fn a_cut_tail_is_named_while_the_head_stays(bench: Bench) {
    let root = unprotected(&bench).await;
    bench.raw("delete from event where seq > 5").await.unwrap();

    assert!(root.seq > 6);
    assert_eq!(defect(&bench, None).await, Some(LedgerDefect::Missing { seq: 6 }));
}

async fn cut_with_head(bench: &Bench) {
    bench
        .raw(
            "update ledger_head set seq = 5, hash = (select hash from event where seq = 5); \
             delete from event where seq > 5",
        )
        .await
        .unwrap();
}

/// Without a root from outside nothing tells a ledger that was cut from one that was shorter.
async fn a_tail_cut_with_its_head_is_named_against_a_root(bench: Bench) {
    let root = unprotected(&bench).await;
    cut_with_head(&bench).await;

    assert_eq!(defect(&bench, None).await, None);
    assert_eq!(defect(&bench, Some(root)).await, Some(LedgerDefect::Missing { seq: 6 }));
}

async fn a_rewritten_ledger_is_named_against_a_root(bench: Bench) {
    let root = unprotected(&bench).await;
    cut_with_head(&bench).await;
    bench.done_job(3, &["pacs"]).await;
    bench.done_job(4, &["pacs"]).await;

    assert_eq!(defect(&bench, None).await, None);
    let expected = LedgerDefect::Replaced { seq: root.seq };
    assert_eq!(defect(&bench, Some(root)).await, Some(expected));
}

async fn the_hash_is_as_documented(bench: Bench) {
    bench.queued_job(1).await;

    for recorded in bench.store.events(&EventFilter::default(), 100).await.unwrap() {
        let at = recorded.recorded_at;
        let time = format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z",
            at.year(),
            u8::from(at.month()),
            at.day(),
            at.hour(),
            at.minute(),
            at.second(),
            at.microsecond()
        );
        let event = &recorded.event;
        let fields = [
            Some(recorded.seq.to_string()),
            Some(time),
            Some(event.kind.to_string()),
            event.reason_code.as_ref().map(ToString::to_string),
            Some(recorded.actor.clone()),
            event.study_instance_uid.as_ref().map(ToString::to_string),
            event.series_instance_uid.as_ref().map(ToString::to_string),
            event.sop_instance_uid.as_ref().map(ToString::to_string),
            event.job_id.map(|id| id.to_string()),
            event.association_id.map(|id| id.to_string()),
            event.destination.clone(),
            Some(event.detail.to_string()),
        ];
        let mut sealed = recorded.previous_hash.as_bytes().to_vec();
        for field in fields {
            let text = field.map_or("-,".to_owned(), |text| format!("{}:{text},", text.len()));
            sealed.extend(text.as_bytes());
        }
        assert_eq!(recorded.hash, Sha256Digest::of(&sealed));
    }
}
