//! kill -9 at any moment: nothing acknowledged is lost, every result arrives once.

use std::path::Path;
use std::time::Duration;

use prosector_model::phantom::Plane;
use test_harness::dcmtk::{Peer, dcmsend};
use test_harness::orthanc::Orthanc;
use test_harness::prosector::{AE_TITLE, Prosector};

use crate::pacs::{PHANTOM_PROTOCOL, destination, segmentations};
use crate::phantom::{Phantom, Scan};

/// When the service is killed, counted from the end of sending: while instances settle, while the job computes, while
/// the result is delivered.
const MOMENTS_MS: [u64; 4] = [50, 1100, 1600, 2600];

#[test]
fn killed_at_any_moment_the_service_loses_nothing_and_sends_once() {
    let pacs = Orthanc::start(&[]).unwrap();
    let mut service =
        Prosector::start(&format!("{PHANTOM_PROTOCOL}{}", destination(&pacs))).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut instances = 0;

    for (round, moment) in MOMENTS_MS.into_iter().enumerate() {
        let source = folder.path().join(round.to_string());
        let phantom = Phantom::write(&source, &Scan::ct(20 + round as u64, Plane::Coronal));
        instances += phantom.instances;
        let peer = Peer { ae_title: AE_TITLE, port: service.dicom_port() };
        dcmsend(peer, &source).unwrap();
        std::thread::sleep(Duration::from_millis(moment));
        service.kill().unwrap();
        service.start_again().unwrap();
    }

    let received = folder.path().join("received");
    std::fs::create_dir(&received).unwrap();
    segmentations(&pacs, MOMENTS_MS.len(), &received);
    test_harness::wait_until("every delivery to be recorded", Duration::from_mins(2), || {
        let jobs = service.json(&["job", "list"])?;
        let jobs = jobs.as_array().cloned().unwrap_or_default();
        Ok(jobs.len() == MOMENTS_MS.len()
            && jobs.iter().all(|job| job["state"] == "done" && job["delivered"] == 1))
    })
    .unwrap();
    let kept = service.json(&["audit", "instances", "--limit", "10000"]).unwrap();
    assert_eq!(kept.as_array().unwrap().len(), instances);
    for instance in kept.as_array().unwrap() {
        let key = instance["spool_key"].as_str().unwrap();
        assert!(service.folder().join("var/spool").join(key).is_file(), "{key}");
    }
    assert!(service.command(&["audit", "verify"]).unwrap().contains("entries are sound"));
}

#[test]
fn killed_while_instances_arrive_the_service_keeps_what_it_acknowledged() {
    let site = "[completeness]\nquiet = \"1s\"\n";
    let mut service = Prosector::start(site).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("study");
    Phantom::write(&source, &Scan::ct(40, Plane::Sagittal));
    let peer_port = service.dicom_port();
    let sender = std::thread::spawn(move || {
        // The connection breaks half-way: what was acknowledged until then is in the sender's report.
        let port = peer_port.to_string();
        let source = source.to_string_lossy().into_owned();
        let arguments =
            ["-v", "-aec", AE_TITLE, "+sd", "+r", "127.0.0.1", port.as_str(), source.as_str()];
        test_harness::dcmtk::run("storescu", "dcmtk", &arguments).unwrap()
    });
    std::thread::sleep(Duration::from_millis(250));
    service.kill().unwrap();
    let output = sender.join().unwrap();
    let report = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    let acknowledged = report.matches("Received Store Response (Success)").count();
    println!("{acknowledged} instances were acknowledged before the kill");

    service.start_again().unwrap();

    let kept = service.json(&["audit", "instances", "--limit", "10000"]).unwrap();
    let kept = kept.as_array().unwrap().len();
    assert!(kept >= acknowledged, "{kept} kept, {acknowledged} acknowledged");
}

#[test]
fn bytes_leave_the_spool_after_delivery_and_not_before() {
    let pacs_port = test_harness::free_port().unwrap();
    let service = Prosector::start(&format!(
        "{PHANTOM_PROTOCOL}[spool.retention]\ninstances = \"1s\"\nresults = \"1s\"\n\
         [[destination]]\nname = \"pacs\"\nae_title = \"ORTHANC\"\naddress = \"127.0.0.1:{pacs_port}\"\n\
         retry = {{ first = \"200ms\", longest = \"1s\" }}\n"
    ))
    .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("study");
    let phantom = Phantom::write(&source, &Scan::ct(60, Plane::Axial));
    let spool = service.folder().join("var/spool");

    dcmsend(Peer { ae_title: AE_TITLE, port: service.dicom_port() }, &source).unwrap();
    test_harness::wait_until("a result", Duration::from_mins(2), || {
        let jobs = service.json(&["job", "list"])?;
        Ok(jobs[0]["state"] == "done")
    })
    .unwrap();
    // Several looks of the service at its spool.
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(objects(&spool), phantom.instances + 1, "the PACS has nothing yet");

    let pacs = Orthanc::start_on(pacs_port, &[]).unwrap();
    let received = folder.path().join("received");
    std::fs::create_dir(&received).unwrap();
    segmentations(&pacs, 1, &received);
    test_harness::wait_until("an empty spool", Duration::from_mins(1), || Ok(objects(&spool) == 0))
        .unwrap();
    let kept = service.json(&["audit", "instances", "--limit", "10000"]).unwrap();
    assert_eq!(kept.as_array().unwrap().len(), phantom.instances, "rows stay");
    assert!(service.command(&["audit", "verify"]).unwrap().contains("entries are sound"));
}

/// Number of DICOM files below a folder.
fn objects(folder: &Path) -> usize {
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            count += objects(&path);
        } else if std::fs::read(&path).is_ok_and(|bytes| bytes.get(128..132) == Some(b"DICM")) {
            count += 1;
        }
    }
    count
}
