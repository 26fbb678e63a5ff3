//! What is odd about a result stands in the job and in the report, and is held where the protocol says so.

use std::time::Duration;

use prosector_model::phantom::Plane;
use serde_json::Value;
use test_harness::dcmtk::{Peer, SelectiveStorescp, dcmsend};
use test_harness::prosector::{AE_TITLE, Prosector};
use test_harness::wait_until;

use crate::phantom::{Phantom, Scan};

const SEG: &str = "1.2.840.10008.5.1.4.1.1.66.4";
const SR: &str = "1.2.840.10008.5.1.4.1.1.88.34";

/// Waits until the one job is in `state` and shows it.
fn job_in_state(service: &Prosector, state: &str) -> Value {
    let mut shown = Value::Null;
    wait_until(&format!("the job to be {state}"), Duration::from_mins(3), || {
        let jobs = service.json(&["job", "list"])?;
        let Some(job) = jobs[0]["job_id"].as_str() else { return Ok(false) };
        shown = service.json(&["job", "show", job])?;
        Ok(shown["state"] == state)
    })
    .unwrap();
    shown
}

#[test]
fn an_odd_result_is_held_with_its_reason_and_sent_once_released() {
    let pacs = SelectiveStorescp::start(&[SEG, SR]).unwrap();
    let site = format!(
        "[completeness]\nquiet = \"1s\"\n[[protocol]]\nname = \"phantom\"\nmatch = {{ modality = \"CT\" }}\n\
         model = \"phantom\"\ntargets = [\"liver\", \"left kidney\"]\nforms = [\"seg\", \"sr\"]\n\
         destinations = [\"pacs\"]\n[protocol.plausibility]\nhold = [\"volume\"]\n\
         volume_ml = {{ liver = [1, 2] }}\n\
         [[destination]]\nname = \"pacs\"\nae_title = \"{}\"\naddress = \"127.0.0.1:{}\"\n",
        SelectiveStorescp::AE_TITLE,
        pacs.port()
    );
    let service = Prosector::start(&site).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("study");
    Phantom::write(&source, &Scan::ct(71, Plane::Axial));
    dcmsend(Peer { ae_title: AE_TITLE, port: service.dicom_port() }, &source).unwrap();

    let held = job_in_state(&service, "held");

    assert_eq!(held["reason_code"], "implausible_volume");
    let findings = held["findings"].as_array().unwrap();
    let odd = findings.iter().find(|f| f["finding"] == "volume").unwrap();
    assert_eq!(odd["prompt"], "liver");
    let detail = odd["detail"].as_str().unwrap();
    assert!(detail.ends_with("mL, expected 1 to 2 mL"), "{detail}");
    let volume = held["targets"][0]["volume_ml"].as_f64().unwrap();
    assert!(detail.starts_with(&format!("{volume:.1} mL")), "{detail} for {volume}");
    assert!(held["delivery"].as_array().unwrap().iter().all(|d| d["state"] == "pending"));
    // Longer than the deliverer takes to look twice.
    std::thread::sleep(Duration::from_secs(2));
    assert!(pacs.received().unwrap().is_empty());
    let why = service.command(&["why", held["study_instance_uid"].as_str().unwrap()]).unwrap();
    assert!(why.contains("implausible_volume"), "{why}");

    service.command(&["job", "release", held["job_id"].as_str().unwrap()]).unwrap();

    let mut received = Vec::new();
    wait_until("the results to arrive", Duration::from_secs(30), || {
        received = pacs.received()?;
        Ok(received.len() == 2)
    })
    .unwrap();
    let done = job_in_state(&service, "done");
    assert_eq!(done["findings"], held["findings"]);
    assert_eq!(done["results"], held["results"], "released, not made anew");
    let report = received
        .iter()
        .find(|path| dicom_io::header::read_file(path).unwrap().sop_class_uid.as_str() == SR);
    let bytes = std::fs::read(report.unwrap()).unwrap();
    let remark = format!("liver: {detail}");
    assert!(bytes.windows(remark.len()).any(|part| part == remark.as_bytes()), "{remark}");
    assert!(service.command(&["audit", "verify"]).unwrap().contains("entries are sound"));
}
