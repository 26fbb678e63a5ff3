use prosector_storage::{DatabaseError, SchemaError, Store};

use crate::bench::{Bench, on_both};

on_both! {
    an_empty_database_is_behind,
    migrating_twice_changes_nothing,
    an_altered_migration_is_refused,
    a_newer_schema_is_accepted,
    the_database_answers,
}

/// A second database of the same kind, empty.
async fn empty_store(bench: &Bench) -> (Store, Option<Bench>) {
    if bench.url.starts_with("sqlite") {
        let url = format!("sqlite://{}/other/empty.db", bench.folder.path().display());
        (Store::connect(&url, "test").await.unwrap(), None)
    } else {
        bench.raw("drop schema public cascade; create schema public").await.unwrap();
        (Store::connect(&bench.url, "test").await.unwrap(), None)
    }
}

async fn an_empty_database_is_behind(bench: Bench) {
    let (store, _kept) = empty_store(&bench).await;

    let error = store.verify_schema().await.unwrap_err();

    assert!(matches!(error, SchemaError::Behind { found: 0, .. }), "{error:?}");
    assert!(error.to_string().contains("prosector migrate"));
}

async fn migrating_twice_changes_nothing(bench: Bench) {
    bench.store.migrate().await.unwrap();

    bench.store.verify_schema().await.unwrap();
}

async fn an_altered_migration_is_refused(bench: Bench) {
    let altered = if bench.url.starts_with("sqlite") { "x'00'" } else { "'\\x00'" };
    bench.raw(&format!("update _sqlx_migrations set checksum = {altered}")).await.unwrap();

    let error = bench.store.verify_schema().await.unwrap_err();

    assert!(matches!(error, SchemaError::Altered { version: 1 }), "{error:?}");
    assert!(matches!(bench.store.migrate().await, Err(DatabaseError::Migration { .. })));
}

async fn a_newer_schema_is_accepted(bench: Bench) {
    bench
        .raw(
            "insert into _sqlx_migrations (version, description, success, checksum, execution_time) \
             select 9999, 'later', success, checksum, execution_time from _sqlx_migrations where version = 1",
        )
        .await
        .unwrap();

    bench.store.verify_schema().await.unwrap();
}

async fn the_database_answers(bench: Bench) {
    bench.store.ping().await.unwrap();
}

#[tokio::test]
async fn other_addresses_are_refused() {
    for url in [
        "mysql://localhost/x",
        "sqlite://",
        "sqlite://x.db?mode=ro",
        "prosector.db",
        "postgres://:bad:port/x",
    ] {
        let error = Store::connect(url, "test").await.unwrap_err();
        assert!(matches!(error, DatabaseError::Address), "{url}: {error:?}");
    }
}

#[tokio::test]
async fn a_database_that_is_not_there_is_a_passing_trouble() {
    let port = test_harness::free_port().unwrap();

    let error =
        Store::connect(&format!("postgres://x@127.0.0.1:{port}/x"), "test").await.unwrap_err();

    assert!(error.is_transient(), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_works_again_after_the_server_crashed() {
    let mut server =
        tokio::task::spawn_blocking(|| test_harness::postgres::Postgres::start().unwrap())
            .await
            .unwrap();
    let store = Store::connect(&server.create_database().unwrap(), "test").await.unwrap();
    store.migrate().await.unwrap();
    store.record_instances(&[crate::bench::instance(1, 1)]).await.unwrap();

    server.kill().unwrap();
    let error = store.record_instances(&[crate::bench::instance(1, 2)]).await.unwrap_err();
    server.start_again().unwrap();

    assert!(error.is_transient(), "{error:?}");
    store.record_instances(&[crate::bench::instance(1, 2)]).await.unwrap();
    let stored = store.series_instances(&crate::bench::series_uid(1)).await.unwrap();
    assert_eq!(stored.len(), 2);
    assert_eq!(store.verify_ledger(None).await.unwrap().defect, None);
}
