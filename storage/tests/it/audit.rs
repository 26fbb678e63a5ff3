use dicom_types::Phi;
use prosector_storage::{
    AuditFilter, DeliveryState, EventFilter, EventKind, JobState, NextJob, Page, Recognised,
    WhyWhat,
};
use time::OffsetDateTime;

use crate::bench::{
    Bench, LONG, instance, instance_uid, instance_with_content, on_both, result_uid, series_uid,
    study_uid,
};

on_both! {
    jobs_are_listed_newest_first_and_page_by_page,
    jobs_are_filtered_by_each_field,
    studies_are_listed_with_their_counts,
    studies_are_filtered_by_each_field,
    instances_are_listed_and_filtered,
    a_filter_value_is_never_read_as_sql,
    events_are_exported_page_by_page,
    why_finds_a_study_by_every_name_it_has,
    why_tells_the_whole_story_in_order,
    why_by_accession_number_is_itself_recorded,
    counts_tell_what_is_waiting,
}

async fn jobs_are_listed_newest_first_and_page_by_page(bench: Bench) {
    let mut expected = Vec::new();
    for series in 0..7 {
        expected.push(bench.queued_job(series).await);
    }
    expected.reverse();

    let mut found = Vec::new();
    let mut page = Page::first(3);
    let mut pages = 0;
    loop {
        let listing = bench.store.list_jobs(&AuditFilter::default(), &page).await.unwrap();
        found.extend(listing.rows.iter().map(|job| job.job_id));
        pages += 1;
        let Some(next) = listing.next else { break };
        page.after = Some(next.to_string().parse().unwrap());
    }

    assert_eq!(found, expected);
    assert_eq!(pages, 3);
}

/// A study with one done job, sent by MODALITY; another with a queued job, sent by nobody in particular.
async fn two_studies(bench: &Bench) -> (OffsetDateTime, OffsetDateTime) {
    let id = bench.associate().await;
    let mut first = instance(1, 1);
    first.association_id = Some(id);
    bench.store.record_instances(&[first]).await.unwrap();
    let job = bench.settle(1, "ct").await.0;
    let lease = bench.store.lease_job(NextJob::Id(job), "worker", LONG).await.unwrap().unwrap();
    bench.store.finish_job(&lease, &crate::bench::done(&lease, &["pacs"])).await.unwrap();
    bench.queued_job(11).await;
    let page = Page::first(10);
    let studies = bench.store.list_studies(&AuditFilter::default(), &page).await.unwrap().rows;
    (studies[0].first_received_at, studies[1].first_received_at)
}

/// Filters that let only the first study of [`two_studies`] through.
fn filters_for_the_first(newer: OffsetDateTime) -> Vec<AuditFilter> {
    let any = AuditFilter::default;
    vec![
        AuditFilter { until: Some(newer), ..any() },
        AuditFilter { state: Some(JobState::Done), ..any() },
        AuditFilter { study_instance_uid: Some(study_uid(1)), ..any() },
        AuditFilter { series_instance_uid: Some(series_uid(1)), ..any() },
        AuditFilter { calling_ae_title: Some("MODALITY".parse().unwrap()), ..any() },
        AuditFilter { patient_id: Some(Phi::new("PATIENT-0".to_owned())), ..any() },
        AuditFilter { accession_number: Some(Phi::new("ACCESSION-0".to_owned())), ..any() },
    ]
}

async fn jobs_are_filtered_by_each_field(bench: Bench) {
    let (newer, _) = two_studies(&bench).await;

    for filter in filters_for_the_first(newer) {
        let rows = bench.store.list_jobs(&filter, &Page::first(10)).await.unwrap().rows;
        let found: Vec<_> = rows.iter().map(|job| job.series_instance_uid.clone()).collect();
        assert_eq!(found, [series_uid(1)], "{filter:?}");
    }
    let since = AuditFilter { since: Some(newer), ..AuditFilter::default() };
    let rows = bench.store.list_jobs(&since, &Page::first(10)).await.unwrap().rows;
    assert_eq!(rows[0].series_instance_uid, series_uid(11));
    assert_eq!(rows.len(), 1);
}

async fn studies_are_listed_with_their_counts(bench: Bench) {
    two_studies(&bench).await;
    bench.receive(2, &[1, 2]).await;

    let listing =
        bench.store.list_studies(&AuditFilter::default(), &Page::first(10)).await.unwrap();

    assert_eq!(listing.next, None);
    let study = &listing.rows[1];
    assert_eq!(study.study_instance_uid, study_uid(1));
    assert_eq!((study.series, study.unsettled_series, study.instances), (2, 1, 3));
    assert_eq!((study.jobs, study.open_jobs, study.bad_jobs), (1, 0, 0));
    let study = &listing.rows[0];
    assert_eq!((study.jobs, study.open_jobs), (1, 1));
    let first = bench.store.list_studies(&AuditFilter::default(), &Page::first(1)).await.unwrap();
    let second = Page { limit: 1, after: first.next };
    let second = bench.store.list_studies(&AuditFilter::default(), &second).await.unwrap();
    assert_eq!(second.rows[0].study_instance_uid, study_uid(1));
}

async fn studies_are_filtered_by_each_field(bench: Bench) {
    let (newer, _) = two_studies(&bench).await;

    for filter in filters_for_the_first(newer) {
        let rows = bench.store.list_studies(&filter, &Page::first(10)).await.unwrap().rows;
        let found: Vec<_> = rows.iter().map(|study| study.study_instance_uid.clone()).collect();
        assert_eq!(found, [study_uid(1)], "{filter:?}");
    }
}

async fn instances_are_listed_and_filtered(bench: Bench) {
    let (newer, _) = two_studies(&bench).await;

    for filter in filters_for_the_first(newer) {
        let rows = bench.store.list_instances(&filter, &Page::first(10)).await.unwrap().rows;
        let found: Vec<_> = rows.iter().map(|stored| stored.sop_instance_uid.clone()).collect();
        assert_eq!(found, [instance_uid(1, 1)], "{filter:?}");
    }
    let page = Page::first(2);
    let first = bench.store.list_instances(&AuditFilter::default(), &page).await.unwrap();
    let page = Page { limit: 10, after: first.next };
    let rest = bench.store.list_instances(&AuditFilter::default(), &page).await.unwrap();
    assert_eq!((first.rows.len(), rest.rows.len()), (2, 2));
}

async fn a_filter_value_is_never_read_as_sql(bench: Bench) {
    two_studies(&bench).await;
    let nasty = || Some(Phi::new("' or 1 = 1; drop table event; --".to_owned()));

    for filter in [
        AuditFilter { patient_id: nasty(), ..AuditFilter::default() },
        AuditFilter { accession_number: nasty(), ..AuditFilter::default() },
    ] {
        let page = Page::first(10);
        assert!(bench.store.list_studies(&filter, &page).await.unwrap().rows.is_empty());
        assert!(bench.store.list_jobs(&filter, &page).await.unwrap().rows.is_empty());
        assert!(bench.store.list_instances(&filter, &page).await.unwrap().rows.is_empty());
    }
    assert!(bench.store.why(&nasty().unwrap()).await.unwrap().studies.is_empty());
}

async fn events_are_exported_page_by_page(bench: Bench) {
    bench.done_job(1, &["pacs"]).await;
    let mut filter = EventFilter::default();
    let mut found = Vec::new();

    loop {
        let page = bench.store.events(&filter, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        filter.after_seq = last.seq;
        found.extend(page);
    }

    let seqs: Vec<_> = found.iter().map(|recorded| recorded.seq).collect();
    assert_eq!(seqs, (1..=found.len() as u64).collect::<Vec<_>>());
    let of_series = EventFilter {
        since: Some(found[0].recorded_at),
        until: Some(found[found.len() - 1].recorded_at + LONG),
        study_instance_uid: Some(study_uid(1)),
        series_instance_uid: Some(series_uid(1)),
        kind: Some(EventKind::JobDone),
        ..EventFilter::default()
    };
    assert_eq!(bench.store.events(&of_series, 10).await.unwrap().len(), 1);
}

async fn why_finds_a_study_by_every_name_it_has(bench: Bench) {
    let lease = bench.done_job(1, &["pacs"]).await;
    bench.queued_job(11).await;

    for (words, recognised) in [
        (study_uid(1).to_string(), Recognised::Study),
        (series_uid(1).to_string(), Recognised::Series),
        (instance_uid(1, 2).to_string(), Recognised::Instance),
        (result_uid(lease.job_id).to_string(), Recognised::Result),
        (lease.job_id.to_string(), Recognised::Job),
        ("ACCESSION-0".to_owned(), Recognised::AccessionNumber),
        (" PATIENT-0 ".to_owned(), Recognised::PatientId),
    ] {
        let why = bench.store.why(&Phi::new(words)).await.unwrap();
        assert!(why.recognised.contains(&recognised), "{recognised:?}: {:?}", why.recognised);
        assert_eq!(why.studies.len(), 1, "{recognised:?}");
        assert_eq!(why.studies[0].study_instance_uid, study_uid(1));
    }
    let unknown = bench.store.why(&Phi::new(String::new())).await.unwrap();
    assert!(unknown.recognised.is_empty() && unknown.studies.is_empty());
}

async fn why_tells_the_whole_story_in_order(bench: Bench) {
    let id = bench.associate().await;
    let mut first = instance(1, 1);
    first.association_id = Some(id);
    bench.store.record_instances(&[first.clone()]).await.unwrap();
    bench.store.close_lost_associations("listener-1").await.unwrap();
    bench.store.record_instances(&[first, instance_with_content(1, 1, "other")]).await.unwrap();
    let job = bench.settle(1, "ct").await.0;
    let lease = bench.store.lease_job(NextJob::Id(job), "worker", LONG).await.unwrap().unwrap();
    bench.store.finish_job(&lease, &crate::bench::done(&lease, &["pacs"])).await.unwrap();

    let why = bench.store.why(&Phi::new(study_uid(1).to_string())).await.unwrap();

    let story = &why.studies[0];
    let words: Vec<String> = story
        .entries
        .iter()
        .map(|entry| match &entry.what {
            WhyWhat::Event { kind, .. } => kind.to_string(),
            WhyWhat::Decision { outcome, .. } => outcome.to_string(),
            WhyWhat::Copy { kind } => kind.clone(),
        })
        .collect();
    for word in [
        "instances_received",
        "association_ended",
        "duplicate",
        "instance_conflict",
        "series_settled",
        "matched",
        "job_created",
        "job_leased",
        "job_done",
    ] {
        assert!(words.iter().any(|found| found == word), "{word} is not in {words:?}");
    }
    assert!(story.entries.is_sorted_by_key(|entry| entry.at));
    assert_eq!(story.jobs[0].state, JobState::Done);
    assert_eq!(story.open_deliveries[0].state, DeliveryState::Pending);
    assert!(story.series[0].is_settled);
}

async fn why_by_accession_number_is_itself_recorded(bench: Bench) {
    bench.queued_job(1).await;

    bench.store.why(&Phi::new("ACCESSION-0".to_owned())).await.unwrap();

    let filter = EventFilter { kind: Some(EventKind::IdentifiersRead), ..EventFilter::default() };
    let events = bench.store.events(&filter, 10).await.unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].event.study_instance_uid, Some(study_uid(1)));
}

async fn counts_tell_what_is_waiting(bench: Bench) {
    bench.done_job(1, &["pacs"]).await;
    bench.queued_job(2).await;
    bench.queued_job(3).await;
    bench.receive(4, &[1]).await;
    bench.associate().await;

    let counts = bench.store.counts().await.unwrap();

    assert_eq!(counts.jobs.len(), 1);
    assert_eq!((counts.jobs[0].state, counts.jobs[0].count), (JobState::Queued, 2));
    assert!(counts.jobs[0].oldest_age < LONG);
    assert_eq!(counts.deliveries.len(), 1);
    assert_eq!(
        (counts.deliveries[0].destination.as_str(), counts.deliveries[0].count),
        ("pacs", 1)
    );
    assert_eq!((counts.outbox, counts.unsettled_series, counts.open_associations), (2, 1, 1));
}
