//! Results count as delivered once the destination is seen to have them.

use std::time::Duration;

use prosector_model::phantom::Plane;
use serde_json::Value;
use test_harness::dcmtk::{Peer, SelectiveStorescp, dcmsend};
use test_harness::orthanc::{Modality, Orthanc};
use test_harness::prosector::{AE_TITLE, Prosector};
use test_harness::{free_port, wait_until};

use crate::phantom::{Phantom, Scan};

const SEG: &str = "1.2.840.10008.5.1.4.1.1.66.4";
const RETRY: &str = "retry = { first = \"200ms\", longest = \"1s\" }\n";

fn deliveries(service: &Prosector) -> Vec<Value> {
    let jobs = service.json(&["job", "list"]).unwrap();
    let Some(job) = jobs[0]["job_id"].as_str() else { return Vec::new() };
    service.json(&["job", "show", job]).unwrap()["delivery"].as_array().unwrap().clone()
}

#[test]
fn a_result_is_delivered_once_it_is_found_or_read_back_the_same() {
    let us = Modality { name: "us", ae_title: AE_TITLE, port: free_port().unwrap() };
    let (first, second) = (
        Orthanc::start(std::slice::from_ref(&us)).unwrap(),
        Orthanc::start(std::slice::from_ref(&us)).unwrap(),
    );
    let deaf = SelectiveStorescp::start(&[SEG]).unwrap();
    let dimse = |name: &str, ae_title: &str, port: u16, proof: &str| {
        format!(
            "[[destination]]\nname = \"{name}\"\nae_title = \"{ae_title}\"\naddress = \"127.0.0.1:{port}\"\n\
             proof = \"{proof}\"\ncompress = [\"rle\", \"deflated\"]\n{RETRY}"
        )
    };
    let web = |name: &str, proof: &str| {
        let url = second.url();
        format!(
            "[[destination]]\nname = \"{name}\"\nurl = \"{url}/dicom-web\"\nproof = \"{proof}\"\n{RETRY}"
        )
    };
    let site = format!(
        "[completeness]\nquiet = \"1s\"\n[[protocol]]\nname = \"phantom\"\nmatch = {{ modality = \"CT\" }}\n\
         model = \"phantom\"\ntargets = [\"liver\", \"spleen\"]\n\
         destinations = [\"found\", \"read\", \"web-found\", \"web-read\", \"deaf\"]\n{}{}{}{}{}",
        dimse("found", "ORTHANC", first.dicom_port(), "find"),
        dimse("read", "ORTHANC", first.dicom_port(), "read_back"),
        web("web-found", "find"),
        web("web-read", "read_back"),
        dimse("deaf", SelectiveStorescp::AE_TITLE, deaf.port(), "find"),
    );
    let service = Prosector::start(&site).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("study");
    Phantom::write(&source, &Scan::ct(72, Plane::Axial));
    dcmsend(Peer { ae_title: AE_TITLE, port: service.dicom_port() }, &source).unwrap();

    wait_until("four proofs, and a peer that gives none", Duration::from_mins(2), || {
        let all = deliveries(&service);
        let proven = all.iter().filter(|d| d["state"] == "delivered").count();
        let unsure = all.iter().any(|d| d["reason_code"] == "proof_unavailable");
        Ok(proven == 4 && unsure)
    })
    .unwrap();

    let deaf_one = deliveries(&service).into_iter().find(|d| d["destination"] == "deaf").unwrap();
    assert_eq!(deaf_one["state"], "sent");
    let jobs = service.json(&["job", "list"]).unwrap();
    let shown = service.json(&["job", "show", jobs[0]["job_id"].as_str().unwrap()]).unwrap();
    let mut proofs: Vec<(String, String)> = shown["timeline"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["kind"] == "result_delivered")
        .map(|event| {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            (text(&event["destination"]), text(&event["detail"]["proof"]))
        })
        .collect();
    proofs.sort();
    let expected = [
        ("found", "found"),
        ("read", "read_back"),
        ("web-found", "found"),
        ("web-read", "read_back"),
    ];
    assert_eq!(proofs, expected.map(|(to, proof)| (to.to_owned(), proof.to_owned())));
    // The first server takes deflated data sets; the peer without C-FIND takes what DCMTK takes by default.
    for (pacs, syntax) in
        [(&first, &b"1.2.840.10008.1.2.1.99"[..]), (&second, b"1.2.840.10008.1.2.1\0")]
    {
        let instances = pacs.instances_of_modality("SEG").unwrap();
        assert_eq!(instances.len(), 1);
        let file = pacs.file(&instances[0]).unwrap();
        let meta = &file[..600];
        assert!(meta.windows(syntax.len()).any(|part| part == syntax));
    }
}
