//! Which job is next: the stat study, the study that has waited long, then everything else.

use std::path::Path;
use std::time::Duration;

use prosector_model::phantom::{Acquisition, Contrast, Plane};
use serde_json::Value;
use test_harness::dcmtk::{Peer, dcmsend};
use test_harness::prosector::{AE_TITLE, Prosector};
use test_harness::{postgres, rabbitmq, wait_until};

use crate::phantom::{Phantom, Scan};

/// Of so many jobs, one goes to the job that has waited longest beyond `queue.ageing`.
const TURNS: usize = 8;
/// Routine jobs in the queue: more than one turn.
const ROUTINE: u64 = 12;

#[test]
fn a_stat_study_overtakes_and_an_old_one_gets_its_turn_with_postgresql_and_rabbitmq() {
    let database = postgres::shared().create_database().unwrap();
    let broker = rabbitmq::shared().create_vhost().unwrap();
    overtakes_and_ages(&database, &broker);
}

#[test]
fn a_stat_study_overtakes_and_an_old_one_gets_its_turn_with_the_embedded_default() {
    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite://{}/prosector.db", folder.path().display());
    overtakes_and_ages(&database, "embedded:");
}

/// MR is urgent to the second, coronal scans are old ones, the rest is routine.
fn site(folder: &Path) -> String {
    let protocol = |name: &str, condition: &str, priority: &str| {
        format!(
            "[[protocol]]\nname = \"{name}\"\nmatch = {{ {condition} }}\npriority = \"{priority}\"\n\
             model = \"phantom\"\ntargets = [\"liver\"]\ndestinations = [\"folder\"]\n"
        )
    };
    format!(
        "[completeness]\nquiet = \"300ms\"\n[queue]\nageing = \"1s\"\n[spool]\nurl = \"file://{0}/spool\"\n\
         [[destination]]\nname = \"folder\"\nfolder = \"{0}/out\"\n{1}{2}{3}",
        folder.display(),
        protocol("stat", "modality = \"MR\"", "stat"),
        protocol("old", "modality = \"CT\", plane = \"coronal\"", "backfill"),
        protocol("routine", "modality = \"CT\", plane = \"axial\"", "routine"),
    )
}

fn overtakes_and_ages(database: &str, broker: &str) {
    let folder = tempfile::tempdir().unwrap();
    let site = site(folder.path());
    let environment = [("PROSECTOR__STORE__URL", database), ("PROSECTOR__QUEUE__URL", broker)];
    Prosector::once(&site, &["migrate"], &environment).unwrap();
    let listener = Prosector::start_with(&site, &["listen", "api"], &environment).unwrap();
    let send = |seed: u64, contrast, plane| {
        let acquisition = Acquisition::new(plane).with_spacing_mm([16.0, 8.0, 8.0]);
        let source = folder.path().join(seed.to_string());
        let phantom = Phantom::write(&source, &Scan { seed, contrast, acquisition });
        dcmsend(Peer { ae_title: AE_TITLE, port: listener.dicom_port() }, &source).unwrap();
        phantom.series_instance_uid
    };
    let jobs = |state: &str| {
        let jobs = listener.json(&["job", "list", "--limit", "1000", "--state", state]).unwrap();
        jobs.as_array().unwrap().len() as u64
    };
    let wait_for = |state: &'static str, count: u64| {
        wait_until(&format!("{count} jobs {state}"), Duration::from_mins(4), || {
            Ok(jobs(state) >= count)
        })
        .unwrap();
    };

    // The queue is full before anybody works on it, the old study in front by its age alone.
    let old = send(300, Contrast::Ct, Plane::Coronal);
    wait_for("queued", 1);
    for number in 1..=ROUTINE {
        send(300 + number, Contrast::Ct, Plane::Axial);
    }
    wait_for("queued", 1 + ROUTINE);
    std::thread::sleep(Duration::from_secs(1));
    let _worker = Prosector::start_with(&site, &["work", "api"], &environment).unwrap();
    wait_until("a job that is done", Duration::from_mins(2), || {
        Ok(jobs("done") + jobs("empty") > 0)
    })
    .unwrap();
    let stat = send(399, Contrast::Mr, Plane::Axial);
    wait_until("the end of all jobs", Duration::from_mins(4), || {
        Ok(jobs("done") + jobs("empty") == ROUTINE + 2)
    })
    .unwrap();

    let events = listener.json(&["audit", "events", "--limit", "10000"]).unwrap();
    let mut events: Vec<Value> = events.as_array().unwrap().clone();
    events.sort_by_key(|event| event["seq"].as_u64());
    let of_kind = |kind: &str| -> Vec<(u64, String)> {
        let events = events.iter().filter(|event| event["kind"] == kind);
        let series = |event: &Value| event["series_instance_uid"].as_str().unwrap().to_owned();
        events.map(|event| (event["seq"].as_u64().unwrap(), series(event))).collect()
    };
    let seq = |kind: &str, series: &str| {
        of_kind(kind).iter().find(|(_, of)| of == series).unwrap_or_else(|| panic!("no {kind}")).0
    };
    let created = seq("job_created", &stat);
    let taken = seq("job_leased", &stat);
    // One hand may have been reaching for its next job when the stat study came.
    let leased = of_kind("job_leased");
    let before: Vec<_> = leased.iter().filter(|(seq, _)| (created..taken).contains(seq)).collect();
    assert!(before.len() <= 1, "{before:?} went before the stat study");
    let overtaken = leased.iter().filter(|(seq, _)| *seq > taken).count();
    assert!(overtaken >= 2, "the queue was not full: {overtaken} jobs were overtaken");
    let place = leased.iter().position(|(_, series)| *series == old).unwrap();
    assert!(place <= TURNS, "the old study was taken as number {}", place + 1);
    assert!(place > 0, "the old study was not behind a full queue");
}
