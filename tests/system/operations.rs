//! What people and programs do with the service while it runs: look, order, test, be alarmed.

use std::path::Path;
use std::time::Duration;

use prosector_model::phantom::Plane;
use serde_json::{Value, json};
use test_harness::browser::dump_dom;
use test_harness::dcmtk::{Peer, dcmsend};
use test_harness::prosector::{AE_TITLE, Prosector};
use test_harness::{promtool, wait_until};

use crate::main_job::wait_for_decision;
use crate::pacs::assert_sound;
use crate::phantom::{Phantom, Scan};

/// A site whose results go to a folder, with more lines in front.
fn site(first: &str, modality: &str) -> String {
    format!(
        "{first}[completeness]\nquiet = \"500ms\"\n[[destination]]\nname = \"folder\"\nfolder = \"out\"\n\
         [[protocol]]\nname = \"everyday\"\nmatch = {{ modality = \"{modality}\" }}\nmodel = \"phantom\"\n\
         targets = [\"liver\"]\ndestinations = [\"folder\"]\n"
    )
}

fn send(service: &Prosector, folder: &Path, scan: &Scan) -> Phantom {
    let phantom = Phantom::write(folder, scan);
    dcmsend(Peer { ae_title: AE_TITLE, port: service.dicom_port() }, folder).unwrap();
    wait_for_decision(service, &phantom.series_instance_uid);
    phantom
}

fn job(service: &Prosector, id: &str) -> Value {
    serde_json::from_str(&service.get(&format!("/api/v1/jobs/{id}")).unwrap()).unwrap()
}

fn wait_for_state(service: &Prosector, id: &str, state: &str) -> Value {
    wait_until(&format!("job {state}"), Duration::from_mins(3), || {
        Ok(job(service, id)["state"] == state)
    })
    .unwrap();
    job(service, id)
}

#[test]
fn any_organ_is_ordered_on_a_stored_series_and_seen() {
    // No protocol takes the CT: what comes of it was ordered.
    let service = Prosector::start(&site("", "MR")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("study");
    let phantom = send(&service, &source, &Scan::ct(80, Plane::Coronal));

    let order = json!({
        "series_instance_uid": phantom.series_instance_uid,
        "targets": ["@phantom", "a thing that nobody has a code for"],
    });
    let ordered = service.post("/api/v1/jobs", &order).unwrap();
    let again = service.post("/api/v1/jobs", &order).unwrap();

    assert_eq!(ordered["job_id"], again["job_id"]);
    let id = ordered["job_id"].as_str().unwrap();
    let done = wait_for_state(&service, id, "done");
    let volume = |prompt: &str| {
        let targets = done["targets"].as_array().unwrap();
        let target = targets.iter().find(|target| target["prompt"] == prompt);
        target.unwrap()["volume_ml"].as_f64().unwrap()
    };
    assert!(volume("liver") > 100.0, "{done}");
    let masks = service.bytes(done["links"]["results"][0].as_str().unwrap()).unwrap();
    let file = folder.path().join("seg.dcm");
    std::fs::write(&file, masks).unwrap();
    phantom.assert_seen(&assert_sound(&file, &source));
    for picture in ["preview", "slice"] {
        let picture = service.bytes(done["links"][picture].as_str().unwrap()).unwrap();
        assert!(picture.starts_with(b"\x89PNG"), "no picture");
    }
    assert_every_page_shows(&service, &phantom, id);
}

/// What a person sees in a browser.
fn assert_every_page_shows(service: &Prosector, phantom: &Phantom, job: &str) {
    let series = &phantom.series_instance_uid;
    for (path, words) in [
        ("/".to_owned(), vec![phantom.study_instance_uid.as_str(), "done", "GiB free"]),
        (format!("/studies/{}", phantom.study_instance_uid), vec!["Order a job", "Modality"]),
        ("/jobs?state=done".to_owned(), vec![job, "on-request"]),
        (format!("/jobs/{job}"), vec!["slice.png?plane=axial", "left kidney", "job leased"]),
        (
            format!("/jobs/{job}?plane=sagittal&hide=1"),
            vec!["aria-checked=\"false\"", "sagittal slice"],
        ),
        ("/deliveries".to_owned(), vec!["None."]),
        (format!("/protocols?series={series}"), vec!["everyday", "not_matched"]),
        ("/audit".to_owned(), vec!["job created", "Accession number"]),
    ] {
        let page = dump_dom(&format!("{}{path}", service.url())).unwrap();
        for word in words {
            assert!(page.contains(word), "no {word} on {path}: {page}");
        }
    }
}

#[test]
fn a_self_test_passes_through_the_running_service() {
    let service = Prosector::start(&site("", "CT")).unwrap();

    let listener = format!("127.0.0.1:{}", service.dicom_port());
    let said = service.command(&["self-test", "--at", &listener]).unwrap();

    assert!(said.starts_with("passed"), "{said}");
    let metrics = service.get("/metrics").unwrap();
    assert!(metrics.contains("prosector_self_test_passed 1"), "{metrics}");
    // An alert sees a first refusal where the counter was there before it.
    for counter in [
        "prosector_instances_refused_total{status=\"out of resources (A700H)\"} 0",
        "prosector_associations_rejected_total{reason=\"called AE title not recognized\"} 0",
        "prosector_sign_ins_total{outcome=\"refused\"} 0",
    ] {
        assert!(metrics.contains(counter), "no {counter}: {metrics}");
    }
    assert!(service.get("/").unwrap().contains("Self-test passed"));
    let jobs = service.json(&["job", "list"]).unwrap();
    assert_eq!(jobs.as_array().map(Vec::len), Some(1), "{jobs}");
    assert_eq!(jobs[0]["protocol"], "self-test");
    assert_eq!(jobs[0]["deliveries"], 0);
}

#[test]
fn jobs_wait_for_a_person_after_a_failed_self_test() {
    let gate = "[self_test]\nat = \"03:00\"\nholds_jobs = true\n";
    let service = Prosector::start(&site(gate, "CT")).unwrap();
    let folder = tempfile::tempdir().unwrap();

    // Nobody listens where this one looks for the listener.
    let nowhere = test_harness::free_port().unwrap();
    let failed = service.command(&["self-test", "--at", &format!("127.0.0.1:{nowhere}")]);
    let phantom = send(&service, folder.path(), &Scan::ct(81, Plane::Axial));

    assert!(failed.unwrap_err().to_string().contains("self_test_not_received"));
    assert!(service.get("/metrics").unwrap().contains("prosector_self_test_passed 0"));
    let jobs = service.json(&["job", "list", "--series", &phantom.series_instance_uid]).unwrap();
    assert_eq!(
        (&jobs[0]["state"], &jobs[0]["reason_code"]),
        (&json!("held"), &json!("self_test_failed"))
    );
    let id = jobs[0]["job_id"].as_str().unwrap();
    service.post(&format!("/api/v1/jobs/{id}/release"), &json!({})).unwrap();
    wait_for_state(&service, id, "done");
}

#[test]
fn every_alert_fires_with_its_cause_and_has_a_page_for_whoever_is_called() {
    let ops = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ops");
    let rules = std::fs::read_to_string(ops.join("monitoring/alerts.yml")).unwrap();
    let tests = std::fs::read_to_string(ops.join("monitoring/alerts_test.yml")).unwrap();
    let alerts: Vec<&str> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();

    promtool::test_rules(&ops.join("monitoring/alerts_test.yml")).unwrap();

    assert!(alerts.len() > 10, "{alerts:?}");
    for alert in alerts {
        assert!(tests.contains(&format!("name: {alert} fires")), "no test of {alert}");
        let page = std::fs::read_to_string(ops.join(format!("runbooks/{alert}.md"))).unwrap();
        for part in ["## Symptom", "## Check", "## Fix"] {
            assert!(page.contains(part), "{alert}: no {part}");
        }
    }
}
