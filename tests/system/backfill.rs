//! Query and retrieve: series of the past fetched for one protocol, and a PACS asked whether a series is whole.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use prosector_model::phantom::Plane;
use serde_json::Value;
use test_harness::dcmqrscp::Dcmqrscp;
use test_harness::dcmtk::{Peer, dcmsend};
use test_harness::orthanc::{Modality, Orthanc};
use test_harness::prosector::{AE_TITLE, Prosector, binary};
use test_harness::{free_port, wait_until};

use crate::phantom::{Phantom, Scan};

/// Two protocols that take every CT; results stay here.
const PROTOCOLS: &str = "\
[completeness]
quiet = \"1s\"
[[protocol]]
name = \"everything\"
match = { modality = \"CT\" }
model = \"phantom\"
targets = [\"liver\"]
destinations = []
[[protocol]]
name = \"trial\"
match = { modality = \"CT\" }
model = \"phantom\"
targets = [\"spleen\"]
destinations = []
";

fn pacs(ae_title: &str, port: u16) -> String {
    format!(
        "[[destination]]\nname = \"pacs\"\nae_title = \"{ae_title}\"\naddress = \"127.0.0.1:{port}\"\n"
    )
}

/// Writes series of studies of their own, and gives them to `peer`.
fn fill(peer: Peer<'_>, folder: &Path, seeds: &[u64]) -> Vec<Phantom> {
    let write = |seed: &u64| {
        let source = folder.join(seed.to_string());
        let phantom = Phantom::write(&source, &Scan::ct(*seed, Plane::Axial));
        dcmsend(peer, &source).unwrap();
        phantom
    };
    seeds.iter().map(write).collect()
}

const BACKFILL: [&str; 7] =
    ["backfill", "--from", "pacs", "--since", "2025-12-31", "--protocol", "trial"];

fn backfill(service: &Prosector) -> Vec<Value> {
    service.json(&BACKFILL).unwrap().as_array().unwrap().clone()
}

fn jobs_done(service: &Prosector, count: usize) -> Vec<Value> {
    wait_until(&format!("{count} jobs"), Duration::from_mins(2), || {
        let jobs = service.json(&["job", "list"])?;
        let jobs = jobs.as_array().cloned().unwrap_or_default();
        Ok(jobs.len() >= count && jobs.iter().all(|job| job["state"] == "done"))
    })
    .unwrap();
    service.json(&["job", "list"]).unwrap().as_array().unwrap().clone()
}

#[test]
fn a_killed_backfill_goes_on_and_every_series_of_orthanc_comes_once() {
    let orthanc_port = free_port().unwrap();
    let site = format!("{PROTOCOLS}{}", pacs("ORTHANC", orthanc_port));
    let service = Prosector::start(&site).unwrap();
    let prosector = Modality { name: "prosector", ae_title: AE_TITLE, port: service.dicom_port() };
    let orthanc = Orthanc::start_on(orthanc_port, &[prosector]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let peer = Peer { ae_title: "ORTHANC", port: orthanc.dicom_port() };
    let phantoms = fill(peer, folder.path(), &[90, 91, 92]);
    let planned = service.json(&[&BACKFILL[..], &["--dry-run"]].concat()).unwrap();
    assert_eq!(planned.as_array().unwrap().len(), 3, "{planned}");

    let mut first = Command::new(binary().unwrap())
        .current_dir(service.folder())
        .args(["--config", "prosector.toml"])
        .args(BACKFILL)
        .args(["--pause", "60"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("the first series", Duration::from_secs(30), || {
        let studies = service.json(&["audit", "studies"])?;
        Ok(studies.as_array().is_some_and(|studies| !studies.is_empty()))
    })
    .unwrap();
    first.kill().unwrap();
    first.wait().unwrap();
    let rows = backfill(&service);

    assert_eq!(rows.len(), 3);
    for row in &rows {
        assert_eq!(row["state"], "received", "{row}");
        assert_eq!(row["expected_instances"], row["received_instances"], "{row}");
    }
    let jobs = jobs_done(&service, 3);
    assert_eq!(jobs.len(), 3, "{jobs:?}");
    for job in &jobs {
        assert_eq!(job["protocol"], "trial", "{job}");
        assert_eq!(job["priority"], "backfill", "{job}");
    }
    // Once more: nothing is fetched again, and what comes by itself is everybody's.
    assert_eq!(backfill(&service), rows);
    assert_eq!(jobs_done(&service, 3).len(), 3);
    fill(Peer { ae_title: AE_TITLE, port: service.dicom_port() }, folder.path(), &[93]);
    assert_eq!(jobs_done(&service, 5).len(), 5);
    let kept = service.json(&["audit", "instances", "--limit", "10000"]).unwrap();
    let expected: usize = phantoms.iter().map(|phantom| phantom.instances).sum();
    assert!(kept.as_array().unwrap().len() > expected);
    assert!(service.command(&["audit", "verify"]).unwrap().contains("entries are sound"));
}

#[test]
fn dcmqrscp_sends_what_is_asked_for_and_a_series_that_is_here_gets_its_turn() {
    let (archive_port_of_service, folder) = (free_port().unwrap(), tempfile::tempdir().unwrap());
    let environment =
        [("PROSECTOR__LISTENER__BIND", format!("127.0.0.1:{archive_port_of_service}"))];
    let environment: Vec<(&str, &str)> =
        environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let peer = Peer { ae_title: AE_TITLE, port: archive_port_of_service };
    let archive = Dcmqrscp::start(peer).unwrap();
    let only_everything = PROTOCOLS.split("[[protocol]]\nname = \"trial\"").next().unwrap();
    let site = format!("{only_everything}{}", pacs(Dcmqrscp::AE_TITLE, archive.port()));
    let mut service = Prosector::start_with(&site, &[], &environment).unwrap();
    let archived = Peer { ae_title: Dcmqrscp::AE_TITLE, port: archive.port() };
    fill(archived, folder.path(), &[94]);
    let here = fill(archived, folder.path(), &[95]);
    fill(peer, folder.path(), &[95]);
    jobs_done(&service, 1);
    let site = format!("{PROTOCOLS}{}", pacs(Dcmqrscp::AE_TITLE, archive.port()));
    std::fs::write(service.folder().join("prosector.toml"), site).unwrap();
    service.kill().unwrap();
    service.start_again().unwrap();

    let rows = backfill(&service);

    assert_eq!(rows.len(), 2, "{rows:?} {}", archive.log());
    assert!(rows.iter().all(|row| row["state"] == "received"), "{rows:?}");
    let jobs = jobs_done(&service, 3);
    let of_trial: Vec<&Value> = jobs.iter().filter(|job| job["protocol"] == "trial").collect();
    assert_eq!(of_trial.len(), 2, "{jobs:?}");
    assert!(of_trial.iter().all(|job| job["priority"] == "backfill"), "{jobs:?}");
    let everything = jobs.iter().find(|job| job["protocol"] == "everything").unwrap();
    assert_eq!(everything["series_instance_uid"], here[0].series_instance_uid.as_str());
}

#[test]
fn a_series_waits_for_what_the_pacs_has_of_it_and_not_for_ever() {
    let orthanc = Orthanc::start(&[]).unwrap();
    let site = format!(
        "[completeness]\nquiet = \"1s\"\nquery = \"pacs\"\nquery_patience = \"8s\"\n{}",
        pacs("ORTHANC", orthanc.dicom_port())
    );
    // Orthanc answers C-FIND to those whom it knows.
    let service = Prosector::start(&site).unwrap();
    orthanc
        .put(
            "modalities/prosector",
            &serde_json::json!([AE_TITLE, "127.0.0.1", service.dicom_port()]),
        )
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let archived = Peer { ae_title: "ORTHANC", port: orthanc.dicom_port() };
    let phantoms = fill(archived, folder.path(), &[96, 97]);
    let peer = Peer { ae_title: AE_TITLE, port: service.dicom_port() };
    let late = folder.path().join("late");
    std::fs::create_dir(&late).unwrap();
    for seed in ["96", "97"] {
        for slice in ["003", "004"] {
            let name = format!("{slice}.dcm");
            let to = late.join(format!("{seed}-{name}"));
            std::fs::rename(folder.path().join(seed).join(name), to).unwrap();
        }
        dcmsend(peer, &folder.path().join(seed)).unwrap();
    }
    std::thread::sleep(Duration::from_secs(3));
    let settled = || {
        let events = service.json(&["audit", "events", "--kind", "series_settled"]).unwrap();
        events.as_array().unwrap().clone()
    };
    assert_eq!(settled(), Vec::<Value>::new(), "the PACS has more");

    // The rest of the first one comes late, that of the second one never.
    std::fs::remove_file(late.join("97-003.dcm")).unwrap();
    std::fs::remove_file(late.join("97-004.dcm")).unwrap();
    dcmsend(peer, &late).unwrap();

    wait_until("both series to settle", Duration::from_secs(40), || Ok(settled().len() == 2))
        .unwrap();
    for (phantom, missing) in phantoms.iter().zip([0, 2]) {
        let settled = settled();
        let series = phantom.series_instance_uid.as_str();
        let event = settled.iter().find(|event| event["series_instance_uid"] == series).unwrap();
        let detail: Value = match &event["detail"] {
            Value::String(text) => serde_json::from_str(text).unwrap(),
            detail => detail.clone(),
        };
        let evidence = &detail["evidence"]["pacs"];
        assert_eq!(evidence["source"], "pacs", "{event}");
        assert_eq!(evidence["instances"], phantom.instances, "{event}");
        assert_eq!(evidence["missing"], missing, "{event}");
    }
}
