//! The views for people with a database client.

use crate::bench::{Bench, on_both};

on_both! {
    views_show_studies_jobs_deliveries_and_events,
    views_hold_no_patient_attribute,
}

async fn views_show_studies_jobs_deliveries_and_events(bench: Bench) {
    bench.done_job(1, &["pacs"]).await;
    bench.queued_job(2).await;

    for (statement, count) in [
        (
            "select count(*) from audit_studies where series_count = 2 and instance_count = 6 \
               and job_count = 2 and open_job_count = 1 and unsettled_series_count = 0",
            1,
        ),
        (
            "select count(*) from audit_jobs where state = 'done' and priority = 'routine' and modality = 'CT' \
               and length(pack_digest) = 64 and study_instance_uid = '1.2.3.0'",
            1,
        ),
        (
            "select count(*) from audit_deliveries where destination = 'pacs' and state = 'pending' \
               and form = 'seg' and length(sha256) = 64",
            1,
        ),
        ("select count(*) from audit_events where kind = 'job_created' and length(hash) = 64", 2),
    ] {
        assert_eq!(bench.number(statement).await, count, "{statement}");
    }
}

async fn views_hold_no_patient_attribute(bench: Bench) {
    let statement = if bench.url.starts_with("sqlite") {
        "select count(*) from sqlite_master where type = 'view' \
            and (sql like '%patient%' or sql like '%header_fact%' or sql like '%accession%')"
    } else {
        "select count(*) from pg_views where schemaname = 'public' \
            and (definition like '%patient%' or definition like '%header_fact%' or definition like '%accession%')"
    };

    assert_eq!(bench.number(statement).await, 0);
}
