//! Instances that come over STOW-RS: from Orthanc's plug-in, from dicomweb-client, and from clients that are wrong.

use std::time::Duration;

use prosector_model::phantom::Plane;
use serde_json::{Value, json};
use test_harness::orthanc::Orthanc;
use test_harness::prosector::Prosector;
use test_harness::python;

use crate::phantom::{Phantom, Scan};

const TOKENS: [&str; 2] = ["token-of-the-gateway", "token-of-the-viewer"];

fn tokens(folder: &std::path::Path) -> String {
    let token = |name: &str, role: &str, token: &str| {
        let digest = sha256(token);
        format!("[[token]]\nname = \"{name}\"\nrole = \"{role}\"\nsha256 = \"{digest}\"\n")
    };
    let users = token("GATEWAY", "operator", TOKENS[0]) + &token("VIEWER", "viewer", TOKENS[1]);
    let path = folder.join("users.toml");
    std::fs::write(&path, users).unwrap();
    format!("[api]\nusers_file = \"{}\"\n[completeness]\nquiet = \"1h\"\n", path.display())
}

/// SHA-256 as `sha256sum` has it.
fn sha256(text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, text).unwrap();
    let output = std::process::Command::new("sha256sum").arg(&path).output().unwrap();
    String::from_utf8_lossy(&output.stdout).split(' ').next().unwrap().to_owned()
}

fn kept(service: &Prosector, study: &str) -> Vec<Value> {
    let arguments = ["audit", "instances", "--study", study, "--limit", "10000"];
    service.json(&arguments).unwrap().as_array().unwrap().clone()
}

#[test]
fn clients_get_the_answers_of_the_standard_and_instances_are_kept_as_over_dimse() {
    let folder = tempfile::tempdir().unwrap();
    let service = Prosector::start_with(&tokens(folder.path()), &["api"], &[]).unwrap();
    let source = folder.path().join("study");
    let phantom = Phantom::write(&source, &Scan::ct(84, Plane::Axial));
    let count = phantom.instances;
    let root = format!("{}/dicom-web", service.url());

    let said = python::check(
        "stow_client.py",
        &[root.as_str(), source.to_str().unwrap(), TOKENS[0], TOKENS[1]],
    )
    .unwrap();

    let answers: Vec<Value> =
        said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let answer = |name: &str| answers.iter().find(|answer| answer["name"] == name).unwrap();
    for (name, status, stored, reasons) in [
        ("first time", 200, count, json!([])),
        ("second time", 200, count, json!([])),
        ("of its study", 200, 2, json!([])),
        ("some good", 202, 1, json!(["0122", "C122", "C000", "C000"])),
        ("none good", 409, 0, json!(["A900", "C000"])),
        ("other bytes under the same UID", 200, 1, json!([])),
        ("another study", 409, 0, json!(["A900"])),
        ("broken off", 409, 0, json!(["C000"])),
        ("no part", 400, 0, json!([])),
        ("no multipart", 400, 0, json!([])),
        ("an image", 415, 0, json!([])),
        ("metadata", 415, 0, json!([])),
        ("XML wanted", 406, 0, json!([])),
        ("no token", 401, 0, json!([])),
        ("weaker token", 403, 0, json!([])),
        ("no UID", 404, 0, json!([])),
    ] {
        let expected =
            json!({ "name": name, "status": status, "stored": stored, "reasons": reasons });
        assert_eq!(answer(name), &expected);
    }
    let rows = kept(&service, &phantom.study_instance_uid);
    assert_eq!(rows.len(), count, "{rows:?}");
    let spool = service.folder().join("var/spool");
    for row in &rows {
        assert!(spool.join(row["spool_key"].as_str().unwrap()).is_file());
    }
    assert_eq!(std::fs::read_dir(spool.join("incoming")).unwrap().count(), 0);
    let events = service.json(&["audit", "events", "--limit", "1000"]).unwrap();
    let kinds: Vec<&str> =
        events.as_array().unwrap().iter().filter_map(|event| event["kind"].as_str()).collect();
    assert!(kinds.contains(&"instance_conflict"), "{kinds:?}");
    assert!(!service.log().contains("token-of"), "a token is shown");
}

#[test]
fn a_service_without_room_asks_to_be_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("study");
    Phantom::write(&source, &Scan::ct(85, Plane::Axial));
    let mut service = Prosector::start("").unwrap();
    service.kill().unwrap();
    let site = service.folder().join("prosector.toml");
    std::fs::write(site, "[spool]\nreserve = \"1000 TiB\"\n").unwrap();
    // Without room the service is not ready, and answers.
    service.spawn_again().unwrap();
    test_harness::wait_until("the page", Duration::from_mins(1), || {
        Ok(service.get("/health/live").is_ok())
    })
    .unwrap();
    let file = std::fs::read(source.join("000.dcm")).unwrap();
    let body = [b"--b\r\n\r\n".as_slice(), &file, b"\r\n--b--\r\n"].concat();

    let answer = post(&format!("{}/dicom-web/studies", service.url()), &body);

    assert_eq!(answer.0, 503);
    assert!(answer.1.contains(&format!("{}", 0xA700)), "{}", answer.1);
}

/// Posts with curl; the status and the body of the answer.
fn post(url: &str, body: &[u8]) -> (u16, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("body");
    std::fs::write(&path, body).unwrap();
    let output = std::process::Command::new("curl")
        .args(["--silent", "--write-out", "\n%{http_code}", "--header"])
        .arg("Content-Type: multipart/related; type=\"application/dicom\"; boundary=b")
        .arg("--data-binary")
        .arg(format!("@{}", path.display()))
        .arg(url)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = said.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), body.to_owned())
}

#[test]
fn orthanc_sends_a_study_over_stow() {
    let pacs = Orthanc::start(&[]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let service = Prosector::start_with(&tokens(folder.path()), &["listen", "api"], &[]).unwrap();
    let source = folder.path().join("study");
    let phantom = Phantom::write(&source, &Scan::ct(86, Plane::Axial));
    for file in std::fs::read_dir(&source).unwrap() {
        pacs.store(&std::fs::read(file.unwrap().path()).unwrap()).unwrap();
    }
    let server = json!({
        "Url": format!("{}/dicom-web", service.url()),
        "HttpHeaders": { "Authorization": format!("Bearer {}", TOKENS[0]) },
    });
    pacs.put("dicom-web/servers/prosector", &server).unwrap();
    let studies = pacs.get("studies").unwrap();

    let sent = json!({ "Resources": studies, "Synchronous": true });
    pacs.post("dicom-web/servers/prosector/stow", &sent).unwrap();

    assert_eq!(kept(&service, &phantom.study_instance_uid).len(), phantom.instances);
    let associations = service.command(&["audit", "studies", "--ae", "GATEWAY"]).unwrap();
    assert!(associations.contains(&phantom.study_instance_uid), "{associations}");
}
