//! `ops/postgres/roles.sql`, tried with the roles that it makes.

use prosector_storage::{Event, EventKind, NextJob, Store};

use crate::bench::{Bench, LONG, done, study_uid};

async fn log_in(bench: &Bench, user: &str, role: &str) -> (Store, String) {
    let statement = format!(
        "do $$ begin if not exists (select 1 from pg_roles where rolname = '{user}') \
         then create role {user} login in role {role}; end if; end $$"
    );
    bench.raw(&statement).await.unwrap();
    let url = bench.url.replace("postgres@", &format!("{user}@"));
    (Store::connect(&url, user).await.unwrap(), url)
}

async fn refuses(url: &str, statement: &str) -> bool {
    use sqlx::Connection as _;
    let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
    let outcome = sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut connection).await;
    let code = outcome.err().and_then(|error| {
        error
            .as_database_error()
            .and_then(|refusal| refusal.code().map(std::borrow::Cow::into_owned))
    });
    code.as_deref() == Some("42501")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_role_can_do_its_work_and_no_more() {
    let bench = Bench::postgres().await;
    let roles = include_str!("../../../ops/postgres/roles.sql");
    bench.raw(roles).await.unwrap();
    bench.raw(roles).await.unwrap();
    let (writer, writer_url) = log_in(&bench, "test_writer", "prosector_writer").await;
    let (auditor, auditor_url) = log_in(&bench, "test_auditor", "prosector_auditor").await;
    writer.verify_schema().await.unwrap();
    let bench = Bench { store: writer, ..bench };

    let job = bench.queued_job(1).await;
    let entries = bench.store.take_outbox(10, LONG).await.unwrap();
    bench.store.mark_published(&entries).await.unwrap();
    let lease = bench.store.lease_job(NextJob::Id(job), "worker", LONG).await.unwrap().unwrap();
    bench.store.finish_job(&lease, &done(&lease, &["pacs"])).await.unwrap();
    assert_eq!(auditor.patient_identities(&study_uid(1)).await.unwrap().len(), 1);
    auditor.record(Event::new(EventKind::IdentifiersRead)).await.unwrap();
    assert_eq!(auditor.verify_ledger(None).await.unwrap().defect, None);

    for statement in [
        "update event set kind = 'job_empty'",
        "delete from event",
        "truncate event",
        "delete from instance",
        "drop table outbox",
        "create table mine (x int)",
        "delete from ledger_head",
        "update ledger_head set seq = 0",
        "alter table event disable trigger all",
        "drop trigger event_is_append_only on event",
    ] {
        assert!(refuses(&writer_url, statement).await, "writer: {statement}");
        assert!(refuses(&auditor_url, statement).await, "auditor: {statement}");
    }
    assert!(refuses(&auditor_url, "update job set state = 'cancelled'").await);
    assert!(refuses(&auditor_url, "insert into outbox select job_id, now(), now() from job").await);
}
