//! The shadow lane: a candidate beside production that sends nothing, yields to everything, and is compared.

use std::path::{Path, PathBuf};
use std::time::Duration;

use prosector_model::phantom::Plane;
use serde_json::Value;
use test_harness::dcmtk::{Peer, Storescp, dcmsend};
use test_harness::prosector::{AE_TITLE, Prosector};
use test_harness::{python, wait_until};

use crate::phantom::{Phantom, Scan};

/// Another range of values: the masks differ a little.
const NARROWER: [&str; 2] = ["ct_clip_hu = [-250.0, 350.0]", "ct_clip_hu = [-230.0, 310.0]"];
/// A finer grid: many more windows for each scan.
const FINER: [&str; 2] = ["spacing_mm = [6.0, 5.0, 6.0]", "spacing_mm = [3.0, 3.0, 3.0]"];

/// The phantom pack with another line in its manifest, as a folder.
fn write_candidate(folder: &Path, [line, other]: [&str; 2]) {
    let built_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/phantom/pack");
    std::fs::create_dir_all(folder).unwrap();
    for entry in std::fs::read_dir(built_in).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
    }
    let manifest = folder.join("pack.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    let changed = text.replace(line, other);
    assert_ne!(text, changed);
    std::fs::write(manifest, changed).unwrap();
}

fn site(pacs: u16, packs: &Path) -> String {
    format!(
        "[completeness]\nquiet = \"500ms\"\n[model]\npacks = \"{}\"\n\
         [[destination]]\nname = \"pacs\"\nae_title = \"PACS\"\naddress = \"127.0.0.1:{pacs}\"\n\
         [[protocol]]\nname = \"ct\"\nmatch = {{ modality = \"CT\" }}\nmodel = \"phantom\"\nshadow = \"candidate\"\n\
         targets = [\"@phantom\"]\nforms = [\"rtstruct\"]\ndestinations = [\"pacs\"]\n",
        packs.display()
    )
}

fn jobs(service: &Prosector, lane: &str) -> Vec<Value> {
    let jobs = service.json(&["job", "list", "--limit", "1000"]).unwrap();
    jobs.as_array().unwrap().iter().filter(|job| job["lane"] == lane).cloned().collect()
}

fn are_done(jobs: &[Value], count: usize) -> bool {
    jobs.len() == count && jobs.iter().all(|job| job["state"] == "done")
}

#[test]
fn a_candidate_runs_beside_production_sends_nothing_and_is_compared() {
    let folder = tempfile::tempdir().unwrap();
    let received = folder.path().join("received");
    std::fs::create_dir(&received).unwrap();
    let pacs = Storescp::start(&received, &["--aetitle", "PACS"]).unwrap();
    let packs = folder.path().join("models");
    write_candidate(&packs.join("candidate"), NARROWER);
    let service = Prosector::start(&site(pacs.port(), &packs)).unwrap();
    let peer = Peer { ae_title: AE_TITLE, port: service.dicom_port() };
    let phantoms: Vec<(PathBuf, Phantom)> = (0..2)
        .map(|number| {
            let source = folder.path().join(number.to_string());
            let phantom = Phantom::write(&source, &Scan::ct(400 + number, Plane::Axial));
            dcmsend(peer, &source).unwrap();
            (source, phantom)
        })
        .collect();

    wait_until("both lanes to be done", Duration::from_mins(4), || {
        Ok(["production", "shadow"].iter().all(|lane| are_done(&jobs(&service, lane), 2)))
    })
    .unwrap();
    wait_until("the deliveries", Duration::from_mins(1), || {
        Ok(jobs(&service, "production").iter().all(|job| job["delivered"] == 1))
    })
    .unwrap();

    // Nothing of a candidate leaves, now or when somebody asks for it once more.
    let shadows = jobs(&service, "shadow");
    for shadow in &shadows {
        assert_eq!((&shadow["deliveries"], &shadow["delivered"]), (&0.into(), &0.into()));
    }
    service.command(&["job", "retry", shadows[0]["job_id"].as_str().unwrap()]).unwrap();
    wait_until("the candidate once more", Duration::from_mins(2), || {
        Ok(are_done(&jobs(&service, "shadow"), 2))
    })
    .unwrap();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(std::fs::read_dir(&received).unwrap().count(), 2, "one structure set each");
    let why = service.command(&["why", &phantoms[0].1.study_instance_uid]).unwrap();
    assert!(why.contains("[shadow_lane]"), "{why}");
    assert_eq!(
        service
            .json(&["audit", "events", "--limit", "10000"])
            .unwrap()
            .as_array()
            .unwrap()
            .iter()
            .filter(|event| event["kind"] == "result_delivered")
            .count(),
        2
    );

    assert_report_is_what_others_see(&service, &phantoms);
}

/// The report's Dice and volumes against highdicom's reading of the same files.
fn assert_report_is_what_others_see(service: &Prosector, phantoms: &[(PathBuf, Phantom)]) {
    let sums = service.json(&["protocol", "report"]).unwrap();
    let single = service.json(&["protocol", "report", "--protocol", "ct", "--series"]).unwrap();
    let single = single.as_array().unwrap();
    assert_eq!(single.len(), 2 * 8);
    let mut means: std::collections::BTreeMap<String, f64> = std::collections::BTreeMap::new();
    for (source, phantom) in phantoms {
        let file = |lane: &str| {
            let jobs = jobs(service, lane);
            let of_series =
                |job: &&Value| job["series_instance_uid"] == phantom.series_instance_uid.as_str();
            let id = jobs.iter().find(of_series).unwrap()["job_id"].as_str().unwrap().to_owned();
            let shown = service.json(&["job", "show", &id]).unwrap();
            let results = shown["results"].as_array().unwrap();
            let seg = results.iter().find(|result| result["form"] == "seg").unwrap();
            let name = format!("{}.dcm", seg["sop_instance_uid"].as_str().unwrap());
            service.folder().join("var/spool/results").join(&id).join(name)
        };
        let arguments = [file("production"), file("shadow"), source.clone()];
        let seen = python::check("compare_segs.py", &arguments).unwrap();
        let seen: Value = serde_json::from_str(&seen).unwrap();
        for (label, expected) in seen.as_object().unwrap() {
            let row = single.iter().find(|row| {
                row["target"] == label.as_str()
                    && row["series"] == phantom.series_instance_uid.as_str()
            });
            let row = row.unwrap_or_else(|| panic!("no {label}"));
            let dice = expected["dice"].as_f64().unwrap();
            assert!((row["dice"].as_f64().unwrap() - dice).abs() < 1e-4, "{row} {expected}");
            let ratio =
                expected["voxels"][1].as_f64().unwrap() / expected["voxels"][0].as_f64().unwrap();
            let change = row["change_percent"].as_f64().unwrap();
            assert!((change - 100.0 * (ratio - 1.0)).abs() < 0.02, "{row} {expected}");
            *means.entry(label.clone()).or_default() += dice / 2.0;
        }
    }
    let sums = sums.as_array().unwrap();
    assert_eq!(sums.len(), means.len());
    for row in sums {
        let mean = means[row["target"].as_str().unwrap()];
        assert!((row["dice_mean"].as_f64().unwrap() - mean).abs() < 2e-4, "{row} {mean}");
        assert_eq!(row["series"], 2);
        assert_ne!(row["pack"], row["candidate"]);
    }
    let differs = sums.iter().any(|row| row["dice_mean"].as_f64().unwrap() < 0.9999);
    assert!(differs, "the candidate is no other network: {sums:?}");
}

#[test]
fn a_candidate_yields_to_every_job_of_production() {
    let folder = tempfile::tempdir().unwrap();
    let received = folder.path().join("received");
    std::fs::create_dir(&received).unwrap();
    let pacs = Storescp::start(&received, &["--aetitle", "PACS"]).unwrap();
    let packs = folder.path().join("models");
    write_candidate(&packs.join("candidate"), FINER);
    let service = Prosector::start(&site(pacs.port(), &packs)).unwrap();
    let peer = Peer { ae_title: AE_TITLE, port: service.dicom_port() };
    let write = |number: u64| {
        let source = folder.path().join(number.to_string());
        Phantom::write(&source, &Scan::ct(410 + number, Plane::Axial));
        source
    };

    // The next study comes once a candidate has begun, as often as it takes for one to be caught at work.
    let mut sent = 0;
    let events = || service.json(&["audit", "events", "--limit", "10000"]).unwrap();
    let yielded = |events: &Value| {
        let mut events = events.as_array().unwrap().iter();
        events.any(|event| event["kind"] == "job_given_back" && event["reason_code"] == "yielded")
    };
    while !yielded(&events()) && sent < 6 {
        let source = write(sent);
        let is_running = || jobs(&service, "shadow").iter().any(|job| job["state"] == "running");
        if sent > 0 {
            wait_until("a candidate at work", Duration::from_mins(1), || {
                Ok(is_running() || are_done(&jobs(&service, "shadow"), sent as usize))
            })
            .unwrap();
        }
        dcmsend(peer, &source).unwrap();
        sent += 1;
        wait_until("production", Duration::from_mins(2), || {
            Ok(are_done(&jobs(&service, "production"), sent as usize))
        })
        .unwrap();
    }
    wait_until("the candidates", Duration::from_mins(3), || {
        Ok(are_done(&jobs(&service, "shadow"), sent as usize))
    })
    .unwrap();

    let mut events = events().as_array().unwrap().clone();
    events.sort_by_key(|event| event["seq"].as_u64());
    assert!(yielded(&events.clone().into()), "no candidate was interrupted in {sent} studies");
    // No candidate is taken while a job of production is queued or in hand.
    let shadows: Vec<Value> =
        jobs(&service, "shadow").iter().map(|job| job["job_id"].clone()).collect();
    let mut open = 0;
    for event in &events {
        let is_shadow = shadows.contains(&event["job_id"]);
        match event["kind"].as_str().unwrap() {
            "job_created" if !is_shadow => open += 1,
            "job_done" if !is_shadow => open -= 1,
            "job_leased" if is_shadow => assert_eq!(open, 0, "{event}"),
            _ => {}
        }
    }
    assert_eq!(open, 0);
}
