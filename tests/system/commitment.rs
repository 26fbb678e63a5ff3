//! Storage commitment, both ways: senders learn what is safe here, and a result counts as delivered when its
//! destination has committed to it.

use std::path::Path;
use std::time::Duration;

use prosector_model::phantom::Plane;
use serde_json::{Value, json};
use test_harness::certificates::Authority;
use test_harness::dcmtk::{Peer, dcmsend};
use test_harness::orthanc::{Modality, Orthanc};
use test_harness::prosector::{AE_TITLE, Prosector};
use test_harness::{free_port, python, wait_until};

use crate::pacs::PHANTOM_PROTOCOL;
use crate::phantom::{Phantom, Scan};

const CT: &str = "1.2.840.10008.5.1.4.1.1.2";

fn instance_uids(folder: &Path) -> Vec<String> {
    let files = std::fs::read_dir(folder).unwrap();
    let headers = files.map(|file| dicom_io::header::read_file(&file.unwrap().path()).unwrap());
    headers.map(|header| header.sop_instance_uid.to_string()).collect()
}

#[test]
fn orthanc_and_pynetdicom_learn_which_instances_are_safe() {
    let orthanc_port = free_port().unwrap();
    let site = format!(
        "[completeness]\nquiet = \"1h\"\n[listener.commitment]\nORTHANC = \"127.0.0.1:{orthanc_port}\"\n"
    );
    let service = Prosector::start(&site).unwrap();
    let port = service.dicom_port();
    let modality = Modality { name: "prosector", ae_title: AE_TITLE, port };
    let orthanc = Orthanc::start_on(orthanc_port, &[modality]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    Phantom::write(folder.path(), &Scan::ct(62, Plane::Axial));
    dcmsend(Peer { ae_title: AE_TITLE, port }, folder.path()).unwrap();
    let uids = instance_uids(folder.path());

    // Orthanc is called back; pynetdicom gets its report over its own association.
    let mut asked: Vec<Value> = uids.iter().map(|uid| json!([CT, uid])).collect();
    asked.push(json!([CT, "2.25.404"]));
    let path = "modalities/prosector/storage-commitment";
    let transaction = orthanc.post(path, &json!({ "DicomInstances": asked })).unwrap();
    let path = format!("storage-commitment/{}", transaction["ID"].as_str().unwrap());
    let mut report = Value::Null;
    wait_until("Orthanc to have its report", Duration::from_secs(30), || {
        report = orthanc.get(&path)?;
        Ok(report["Status"] != "Pending")
    })
    .unwrap();
    let port = port.to_string();
    let mut arguments = vec!["request".to_owned(), port];
    arguments.extend(uids.iter().map(|uid| format!("{CT}:{uid}")));
    arguments.push("1.2.840.10008.5.1.4.1.1.4:2.25.405".to_owned());
    let direct: Value =
        serde_json::from_str(&python::check("commitment.py", &arguments).unwrap()).unwrap();

    assert_eq!(report["Status"], "Failure", "{report}");
    assert_eq!(report["Success"].as_array().map(Vec::len), Some(uids.len()), "{report}");
    assert_eq!(report["Failures"][0]["SOPInstanceUID"], "2.25.404", "{report}");
    assert_eq!(report["Failures"][0]["FailureReason"], 0x0112, "{report}");
    assert_eq!(direct["event_type"], 2);
    assert_eq!(direct["committed"].as_array().map(Vec::len), Some(uids.len()));
    assert_eq!(direct["failed"], json!({ "2.25.405": 0x0112 }));
    let answered = service.json(&["audit", "events"]).unwrap();
    let answered = answered.as_array().unwrap().iter();
    assert_eq!(answered.filter(|event| event["kind"] == "commitment_answered").count(), 2);
}

fn destination(port: u16) -> String {
    format!(
        "[[destination]]\nname = \"pacs\"\nae_title = \"ORTHANC\"\naddress = \"127.0.0.1:{port}\"\n\
         commitment = true\nretry = {{ first = \"200ms\", longest = \"1s\" }}\n"
    )
}

/// The delivery of the only job, once it is in one of `states`.
fn delivery(service: &Prosector, states: &[&str]) -> Value {
    let mut shown = Value::Null;
    wait_until(&format!("a delivery that is {states:?}"), Duration::from_mins(2), || {
        let jobs = service.json(&["job", "list"])?;
        let Some(id) = jobs[0]["job_id"].as_str() else { return Ok(false) };
        shown = service.json(&["job", "show", id])?;
        let state = &shown["delivery"][0]["state"];
        Ok(states.iter().any(|wanted| state == wanted))
    })
    .unwrap_or_else(|error| panic!("{error:#}: {shown:#}"));
    shown
}

fn kinds(job: &Value) -> Vec<&str> {
    let timeline = job["timeline"].as_array().unwrap().iter();
    timeline.filter_map(|event| event["kind"].as_str()).collect()
}

#[test]
fn a_result_is_delivered_once_orthanc_has_committed_to_it() {
    let orthanc_port = free_port().unwrap();
    let service =
        Prosector::start(&format!("{PHANTOM_PROTOCOL}{}", destination(orthanc_port))).unwrap();
    let port = service.dicom_port();
    let folder = tempfile::tempdir().unwrap();
    Phantom::write(folder.path(), &Scan::ct(63, Plane::Axial));
    dcmsend(Peer { ae_title: AE_TITLE, port }, folder.path()).unwrap();

    // Orthanc reports over an association of its own, to the address that it has for us.
    let modality = Modality { name: "prosector", ae_title: AE_TITLE, port };
    let orthanc = Orthanc::start_on(orthanc_port, &[modality]).unwrap();
    let job = delivery(&service, &["delivered", "failed"]);

    assert_eq!(job["delivery"][0]["state"], "delivered", "{job:#}");
    assert_eq!(orthanc.instances_of_modality("SEG").unwrap().len(), 1);
    let kinds = kinds(&job);
    assert!(kinds.ends_with(&["result_sent", "result_delivered"]), "{kinds:?}");
}

#[test]
fn a_result_that_a_pacs_does_not_commit_to_fails_with_the_reason_it_gave() {
    let pacs_port = free_port().unwrap();
    let site = format!("{PHANTOM_PROTOCOL}{}", destination(pacs_port));
    let service = Prosector::start(&site).unwrap();
    let port = service.dicom_port();
    let (ours, theirs) = (port.to_string(), pacs_port.to_string());
    let _pacs = python::serve("commitment.py", &["serve", &theirs, &ours, "0x0122"]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    Phantom::write(folder.path(), &Scan::ct(64, Plane::Axial));

    dcmsend(Peer { ae_title: AE_TITLE, port }, folder.path()).unwrap();
    let job = delivery(&service, &["delivered", "failed"]);

    assert_eq!(job["delivery"][0]["state"], "failed", "{job:#}");
    assert_eq!(job["delivery"][0]["reason_code"], "commitment_class_not_supported");
    let kinds = kinds(&job);
    assert!(kinds.ends_with(&["result_sent", "delivery_failed"]), "{kinds:?}");
}

#[test]
fn a_sender_is_called_back_over_tls_with_our_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let hospital = Authority::create(folder.path(), "hospital").unwrap();
    let (theirs, ours) =
        (hospital.issue("MODALITY").unwrap(), hospital.issue("PROSECTOR").unwrap());
    let their_port = free_port().unwrap();
    let site = format!(
        "[completeness]\nquiet = \"1h\"\n[listener]\n\
         commitment_tls = {{ ca = {:?}, certificate = {:?}, key = {:?} }}\n\
         [listener.commitment]\nMODALITY = \"tls://127.0.0.1:{their_port}\"\n",
        hospital.certificate(),
        ours.certificate,
        ours.key
    );
    let service = Prosector::start(&site).unwrap();
    let source = folder.path().join("study");
    Phantom::write(&source, &Scan::ct(67, Plane::Axial));
    dcmsend(Peer { ae_title: AE_TITLE, port: service.dicom_port() }, &source).unwrap();
    let uids = instance_uids(&source);

    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let mut arguments = vec![
        "called".to_owned(),
        service.dicom_port().to_string(),
        their_port.to_string(),
        text(&theirs.certificate),
        text(&theirs.key),
        text(&hospital.certificate()),
    ];
    arguments.extend(uids.iter().map(|uid| format!("{CT}:{uid}")));
    let report: Value =
        serde_json::from_str(&python::check("commitment.py", &arguments).unwrap()).unwrap();

    assert_eq!(report["committed"].as_array().map(Vec::len), Some(uids.len()), "{report}");
    assert_eq!(report["failed"], json!({}));
}
