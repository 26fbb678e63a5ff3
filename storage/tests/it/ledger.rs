use std::time::Duration;

use prosector_storage::{
    Event, EventFilter, EventKind, LedgerDefect, RootKey, Sha256Digest, SignedRoot, Store,
};

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
    an_old_dump_is_named_against_a_root,
    an_entry_that_was_slipped_in_is_named,
    an_entry_with_nonsense_in_it_is_named,
    roots_are_signed_when_they_are_due,
    many_processes_append_at_once,
    the_hash_is_as_documented,
}

/// A ledger with a handful of entries and a signed root that left it, and its triggers out of the way, as the
/// database's superuser can have them.
async fn unprotected(bench: &Bench) -> SignedRoot {
    bench.done_job(1, &["pacs"]).await;
    bench.done_job(2, &["pacs"]).await;
    let root = sign(bench).await;
    disarm(bench).await;
    root
}

async fn disarm(bench: &Bench) {
    let statement = if bench.url.starts_with("sqlite") {
        "drop trigger event_is_never_updated; drop trigger event_is_never_deleted; \
         drop trigger ledger_head_only_advances"
    } else {
        "alter table event disable trigger user; alter table ledger_head disable trigger user"
    };
    bench.raw(statement).await.unwrap();
}

fn key(bench: &Bench) -> RootKey {
    let path = bench.folder.path().join("root.pem");
    RootKey::open(&path).or_else(|_| RootKey::create(&path)).unwrap()
}

async fn sign(bench: &Bench) -> SignedRoot {
    bench.store.sign_root(&key(bench), Duration::ZERO).await.unwrap().unwrap()
}

/// What both verifiers say, one written in Rust, one in Python: they have to agree.
async fn defect(bench: &Bench, root: Option<&SignedRoot>) -> Option<LedgerDefect> {
    let trusted = [key(bench).public_key()];
    let roots = root.map(|root| root.verify(&trusted).unwrap());
    let verdict = bench.store.verify_ledger(roots).await.unwrap();

    let mut arguments = match bench.url.strip_prefix("sqlite://") {
        Some(path) => vec!["--sqlite".to_owned(), path.to_owned()],
        None => vec!["--postgres".to_owned(), bench.url.clone()],
    };
    if let Some(root) = root {
        let path = bench.folder.path().join("roots.jsonl");
        std::fs::write(&path, root.to_json() + "\n").unwrap();
        arguments.extend(["--roots".to_owned(), path.display().to_string()]);
        arguments.extend(["--public-key".to_owned(), trusted[0].to_string()]);
    }
    let (is_sound, said) = tokio::task::spawn_blocking(move || {
        test_harness::python::verify_ledger(&arguments).unwrap()
    })
    .await
    .unwrap();
    let expected = match verdict.defect {
        Some(defect) => format!("{} entries are sound; {defect}", verdict.sound),
        None => format!("{} entries are sound", verdict.sound),
    };
    assert_eq!((is_sound, said), (verdict.defect.is_none(), expected));
    verdict.defect
}

async fn an_untouched_ledger_is_sound(bench: Bench) {
    let empty = bench.store.verify_ledger(None).await.unwrap();
    assert_eq!((empty.sound, empty.defect), (0, None));
    bench.done_job(1, &["pacs"]).await;
    let root = sign(&bench).await;
    bench.done_job(2, &["pacs"]).await;

    assert_eq!(defect(&bench, Some(&root)).await, None);

    let verdict = bench.store.verify_ledger(Some(root.root)).await.unwrap();
    assert!(bench.store.holds_root(root.root).await.unwrap());
    assert_eq!(verdict.sound as i64, bench.number("select count(*) from event").await);
}

async fn updates_and_deletions_are_refused(bench: Bench) {
    bench.done_job(1, &["pacs"]).await;

    for statement in [
        "update event set kind = 'job_empty' where seq = 1",
        "delete from event where seq = 1",
        "delete from ledger_head",
        "update ledger_head set seq = 1",
        "update ledger_head set hash = (select hash from event where seq = 1)",
    ] {
        assert!(bench.raw(statement).await.is_err(), "{statement}");
    }
    if bench.url.starts_with("postgres") {
        assert!(bench.raw("truncate event").await.is_err());
        assert!(bench.raw("truncate ledger_head").await.is_err());
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

    assert!(root.root.seq > 6);
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
    assert_eq!(defect(&bench, Some(&root)).await, Some(LedgerDefect::Missing { seq: 6 }));
}

async fn a_rewritten_ledger_is_named_against_a_root(bench: Bench) {
    let root = unprotected(&bench).await;
    cut_with_head(&bench).await;
    bench.done_job(3, &["pacs"]).await;
    bench.done_job(4, &["pacs"]).await;

    assert_eq!(defect(&bench, None).await, None);
    let expected = LedgerDefect::Replaced { seq: root.root.seq };
    assert_eq!(defect(&bench, Some(&root)).await, Some(expected));
}

/// A copy of the database as it stands, as a dump that somebody keeps.
async fn restored_dump(bench: &Bench) -> Bench {
    let folder = tempfile::TempDir::new().unwrap();
    std::fs::copy(bench.folder.path().join("root.pem"), folder.path().join("root.pem")).unwrap();
    let url = if bench.url.starts_with("sqlite") {
        let path = folder.path().join("dump.db");
        bench.raw(&format!("vacuum into '{}'", path.display())).await.unwrap();
        format!("sqlite://{}", path.display())
    } else {
        let url = bench.url.clone();
        tokio::task::spawn_blocking(move || {
            let dump = std::process::Command::new("pg_dump").arg(url).output().unwrap();
            assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
            let path = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(path.path(), dump.stdout).unwrap();
            let restored = test_harness::postgres::shared().create_database().unwrap();
            let done = std::process::Command::new("psql")
                .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f"])
                .arg(path.path())
                .arg(&restored)
                .output()
                .unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            restored
        })
        .await
        .unwrap()
    };
    let store = Store::connect(&url, "restored").await.unwrap();
    Bench { store, spool: bench.spool.clone(), url, folder }
}

async fn an_old_dump_is_named_against_a_root(bench: Bench) {
    bench.done_job(1, &["pacs"]).await;
    let old = sign(&bench).await;
    let dump = restored_dump(&bench).await;
    bench.done_job(2, &["pacs"]).await;
    let root = sign(&bench).await;

    let end = old.root.seq + 1;
    assert_eq!(defect(&dump, Some(&old)).await, None, "the root before the dump says nothing");
    let missing = LedgerDefect::Missing { seq: end + 1 };
    assert_eq!(defect(&dump, Some(&root)).await, Some(missing));
    assert!(!dump.store.holds_root(root.root).await.unwrap());

    // It lives on until it is longer than it was.
    dump.done_job(3, &["pacs"]).await;
    dump.done_job(4, &["pacs"]).await;
    let replaced = LedgerDefect::Replaced { seq: root.root.seq };
    assert_eq!(defect(&dump, None).await, None);
    assert_eq!(defect(&dump, Some(&root)).await, Some(replaced));
    assert!(!dump.store.holds_root(root.root).await.unwrap());
}

async fn an_entry_that_was_slipped_in_is_named(bench: Bench) {
    let root = unprotected(&bench).await;
    let end = bench.store.ledger_root().await.unwrap().seq;
    assert_eq!(root.root.seq + 1, end);
    let hash = if bench.url.starts_with("sqlite") {
        "zeroblob(32)"
    } else {
        "decode(repeat('00', 32), 'hex')"
    };
    bench
        .raw(&format!(
            "insert into event (seq, recorded_at, kind, actor, detail, previous_hash, hash) \
             select seq + 1, recorded_at, kind, actor, detail, hash, {hash} from event \
              where seq = (select max(seq) from event)"
        ))
        .await
        .unwrap();

    assert_eq!(defect(&bench, None).await, Some(LedgerDefect::Altered { seq: end + 1 }));
}

/// Whatever stands in the columns, it is named and exported, not stumbled over.
async fn an_entry_with_nonsense_in_it_is_named(bench: Bench) {
    unprotected(&bench).await;
    bench
        .raw("update event set kind = 'nonsense', detail = '{ not json' where seq = 3")
        .await
        .unwrap();
    if bench.url.starts_with("sqlite") {
        bench
            .raw("update event set recorded_at = 'today', job_id = 'x' where seq = 3")
            .await
            .unwrap();
    }

    assert_eq!(defect(&bench, None).await, Some(LedgerDefect::Altered { seq: 3 }));

    let path = bench.folder.path().join("export.jsonl");
    let entries = bench.store.export_ledger(i64::MIN, 1000).await.unwrap();
    let lines: Vec<String> = entries.into_iter().map(|entry| entry.line + "\n").collect();
    std::fs::write(&path, lines.concat()).unwrap();
    let arguments = ["--export".into(), path.into_os_string()];
    let (is_sound, said) = test_harness::python::verify_ledger(&arguments).unwrap();
    assert_eq!(
        (is_sound, said.as_str()),
        (false, "2 entries are sound; entry 3 is not what was sealed")
    );
}

async fn roots_are_signed_when_they_are_due(bench: Bench) {
    let key = key(&bench);
    let day = Duration::from_hours(24);
    assert_eq!(bench.store.sign_root(&key, day).await.unwrap(), None, "nothing to sign");
    bench.queued_job(1).await;

    let first = bench.store.sign_root(&key, day).await.unwrap().unwrap();
    assert_eq!(bench.store.sign_root(&key, day).await.unwrap(), None, "signed today");
    let second = sign(&bench).await;

    assert_eq!(second.root.seq, first.root.seq + 1, "the first root is an entry itself");
    let kept = bench.store.signed_roots(0).await.unwrap();
    assert_eq!(kept, [first.clone(), second.clone()]);
    assert_eq!(bench.store.signed_roots(first.root.seq).await.unwrap(), [second]);
    let filter = EventFilter { kind: Some(EventKind::RootSigned), ..EventFilter::default() };
    assert_eq!(bench.store.events(&filter, 10).await.unwrap().len(), 2);
}

async fn many_processes_append_at_once(bench: Bench) {
    let mut tasks = tokio::task::JoinSet::new();
    for process in 0..6 {
        let store = Store::connect(&bench.url, &format!("process-{process}")).await.unwrap();
        tasks.spawn(async move {
            for _ in 0..20 {
                store.record(Event::new(EventKind::ServiceStarted)).await.unwrap();
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }

    assert_eq!(bench.store.ledger_root().await.unwrap().seq, 120);
    assert_eq!(defect(&bench, None).await, None);
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
