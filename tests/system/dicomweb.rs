//! Results over DICOMweb: to Orthanc's plug-in, and to a server that asks for a certificate and a token.

use std::time::Duration;

use prosector_model::phantom::Plane;
use test_harness::certificates::Authority;
use test_harness::dcmtk::{Peer, dcmsend};
use test_harness::orthanc::Orthanc;
use test_harness::prosector::{AE_TITLE, Prosector};
use test_harness::{free_port, python, wait_until};

use crate::pacs::{PHANTOM_PROTOCOL, assert_sound, segmentations};
use crate::phantom::{Phantom, Scan};

#[test]
fn a_result_reaches_orthanc_over_stow() {
    let pacs = Orthanc::start(&[]).unwrap();
    let site = format!(
        "{PHANTOM_PROTOCOL}[[destination]]\nname = \"pacs\"\nurl = \"{}/dicom-web/\"\n\
         retry = {{ first = \"200ms\", longest = \"1s\" }}\n",
        pacs.url()
    );
    let service = Prosector::start(&site).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("study");
    let received = folder.path().join("received");
    std::fs::create_dir(&received).unwrap();
    let phantom = Phantom::write(&source, &Scan::ct(65, Plane::Axial));
    assert!(service.command(&["echo", "pacs"]).unwrap().contains("answers"));

    dcmsend(Peer { ae_title: AE_TITLE, port: service.dicom_port() }, &source).unwrap();

    let files = segmentations(&pacs, 1, &received);
    phantom.assert_seen(&assert_sound(&files[0], &source));
    wait_until("the delivery", Duration::from_secs(10), || {
        let jobs = service.json(&["job", "list"])?;
        Ok(jobs[0]["delivered"] == 1)
    })
    .unwrap();
}

#[test]
fn a_server_is_shown_our_certificate_and_a_token_that_may_be_renewed() {
    let folder = tempfile::tempdir().unwrap();
    let hospital = Authority::create(folder.path(), "hospital").unwrap();
    let (theirs, ours) = (hospital.issue("PACS").unwrap(), hospital.issue("PROSECTOR").unwrap());
    let received = folder.path().join("received");
    std::fs::create_dir(&received).unwrap();
    let port = free_port().unwrap();
    let text = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let arguments = [
        port.to_string(),
        "t0ken.of-today".to_owned(),
        text(&received),
        text(&theirs.certificate),
        text(&theirs.key),
        text(&hospital.certificate()),
    ];
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let server = python::serve("stow_server.py", &arguments).unwrap();
    wait_until("the server", Duration::from_secs(20), || Ok(server.log().contains("listening")))
        .unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "t0ken.of-yesterday\n").unwrap();
    let site = format!(
        "{PHANTOM_PROTOCOL}[[destination]]\nname = \"pacs\"\nurl = \"https://127.0.0.1:{port}/dicom-web\"\n\
         token_file = {:?}\ntls = {{ ca = {:?}, certificate = {:?}, key = {:?} }}\n\
         retry = {{ first = \"200ms\", longest = \"1s\" }}\n",
        token,
        hospital.certificate(),
        ours.certificate,
        ours.key
    );
    let service = Prosector::start(&site).unwrap();
    let source = folder.path().join("study");
    Phantom::write(&source, &Scan::ct(66, Plane::Axial));

    dcmsend(Peer { ae_title: AE_TITLE, port: service.dicom_port() }, &source).unwrap();
    wait_until("the refusal of the old token", Duration::from_mins(2), || {
        Ok(service.log().contains("destination_unauthorized"))
    })
    .unwrap();
    std::fs::write(&token, "t0ken.of-today\n").unwrap();
    wait_until("the result", Duration::from_secs(20), || {
        Ok(std::fs::read_dir(&received)?.count() == 1)
    })
    .unwrap();

    assert!(service.command(&["echo", "pacs"]).unwrap().contains("answers"));
    let (log, shown) = (service.log(), service.command(&["config", "show"]).unwrap());
    assert!(!log.contains("t0ken") && !shown.contains("t0ken"), "the token is shown");
}
