//! The page as people use it: every action clicked and typed in Debian's Chromium, every page looked at by axe.

use std::path::{Path, PathBuf};

use prosector_model::phantom::Plane;
use serde_json::{Value, json};
use test_harness::dcmtk::{Peer, dcmsend};
use test_harness::prosector::{AE_TITLE, Prosector, users_file};
use test_harness::{free_port, python};

use crate::main_job::wait_for_decision;
use crate::phantom::{Phantom, Scan};

const PASSWORD: &str = "correct horse battery";

/// Everybody signs in; jobs are held after a failed self-test; nobody listens where results go.
fn site(users: &Path, nowhere: u16) -> String {
    format!(
        "[api]\nusers_file = \"{}\"\n[self_test]\nat = \"03:00\"\nholds_jobs = true\n\
         [completeness]\nquiet = \"500ms\"\n\
         [[destination]]\nname = \"archive\"\nae_title = \"ARCHIVE\"\naddress = \"127.0.0.1:{nowhere}\"\n\
         retry = {{ first = \"100ms\", longest = \"200ms\", give_up = \"1s\" }}\n\
         [[protocol]]\nname = \"everyday\"\nmatch = {{ modality = \"CT\" }}\nmodel = \"phantom\"\n\
         targets = [\"liver\", \"left kidney\"]\ndestinations = [\"archive\"]\n",
        users.display()
    )
}

/// Where `PROSECTOR_TEST_PICTURES` names a folder, the screenshots stay there for people to look at.
fn pictures(folder: &Path) -> PathBuf {
    std::env::var_os("PROSECTOR_TEST_PICTURES").map_or_else(|| folder.to_owned(), PathBuf::from)
}

#[test]
fn every_action_of_the_page_works_in_a_browser_by_mouse_and_by_keyboard() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users.toml");
    let roles = ["viewer", "operator", "auditor", "admin"];
    std::fs::write(&users, users_file(&roles, PASSWORD).unwrap()).unwrap();
    let nowhere = free_port().unwrap();
    let service = Prosector::start(&site(&users, nowhere)).unwrap();
    service.command(&["self-test", "--at", &format!("127.0.0.1:{nowhere}")]).unwrap_err();

    let studies: Vec<Value> = [90, 91].map(|seed| held_study(&service, folder.path(), seed)).into();

    let facts = json!({ "password": PASSWORD, "studies": studies }).to_string();
    let pictures = pictures(folder.path());
    let arguments = [service.url(), facts, pictures.display().to_string()];
    let said = python::check("browse.py", &arguments).unwrap();
    println!("{said}");
    let why = service.command(&["audit", "verify"]).unwrap();
    assert!(why.contains("entries are sound"), "{why}");
    // Released, cancelled and tried again, and ordered twice.
    let jobs = service.json(&["job", "list", "--state", "done"]).unwrap();
    assert_eq!(jobs.as_array().map(Vec::len), Some(4), "{jobs}");
}

/// A study whose job waits for a person, as the script wants to know it.
fn held_study(service: &Prosector, folder: &Path, seed: u64) -> Value {
    let source = folder.join(seed.to_string());
    let (patient_id, accession) = (format!("PATIENT{seed}"), format!("ACCESSION{seed}"));
    let scan = Scan::ct(seed, Plane::Axial);
    let phantom = Phantom::write_as(&source, &scan, "Phantom^Torso", &patient_id, &accession);
    dcmsend(Peer { ae_title: AE_TITLE, port: service.dicom_port() }, &source).unwrap();
    wait_for_decision(service, &phantom.series_instance_uid);
    let series = &phantom.series_instance_uid;
    let jobs = service.json(&["job", "list", "--series", series]).unwrap();
    assert_eq!(jobs[0]["state"], "held", "{jobs}");
    json!({
        "uid": phantom.study_instance_uid,
        "series": phantom.series_instance_uid,
        "patient_id": patient_id,
        "accession": accession,
        "job": jobs[0]["job_id"],
    })
}
