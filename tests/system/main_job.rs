//! The main job: a study sent by a modality comes back as organs in the PACS.

use prosector_model::phantom::{Acquisition, Contrast, Plane};
use serde_json::Value;
use test_harness::browser::dump_dom;
use test_harness::dcmtk::{Peer, dcmsend, echoscu};
use test_harness::orthanc::Orthanc;
use test_harness::prosector::{AE_TITLE, Prosector, run_in};

use crate::pacs::{PHANTOM_PROTOCOL, assert_sound_with_truth, destination, segmentations};
use crate::phantom::{Phantom, Scan, TARGETS, dice_seen};

/// Lowest mean Dice that each target of the phantom's set may have, as a PACS receives it.
const DICE_FLOOR: f64 = 0.90;

#[test]
fn phantoms_in_every_plane_come_back_as_organs_in_orthanc() {
    let pacs = Orthanc::start(&[]).unwrap();
    let service = Prosector::start(&format!("{PHANTOM_PROTOCOL}{}", destination(&pacs))).unwrap();
    let peer = Peer { ae_title: AE_TITLE, port: service.dicom_port() };
    let folder = tempfile::tempdir().unwrap();
    let oblique = Acquisition::new(Plane::Axial)
        .with_spacing_mm([5.0, 3.0, 3.0])
        .with_tilt([1.0, 0.5, 0.0], 20.0);
    let oblique = |seed| Scan { acquisition: oblique.clone(), ..Scan::ct(seed, Plane::Axial) };
    let mr = |scan| Scan { contrast: Contrast::Mr, ..scan };
    let scans = [
        Scan::ct(1, Plane::Axial),
        mr(Scan::ct(2, Plane::Coronal)),
        Scan::ct(3, Plane::Sagittal),
        oblique(4),
        mr(Scan::ct(11, Plane::Axial)),
        Scan::ct(12, Plane::Coronal),
        mr(Scan::ct(13, Plane::Sagittal)),
        mr(oblique(14)),
    ];
    echoscu(peer).unwrap();

    let phantoms: Vec<Phantom> = scans
        .iter()
        .map(|scan| {
            let source = folder.path().join(scan.seed.to_string());
            let phantom = Phantom::write(&source, scan);
            dcmsend(peer, &source).unwrap();
            phantom
        })
        .collect();

    let received = folder.path().join("received");
    std::fs::create_dir(&received).unwrap();
    let files = segmentations(&pacs, scans.len(), &received);
    let mut sums = [0.0; TARGETS.len()];
    for (scan, phantom) in scans.iter().zip(&phantoms) {
        let source = folder.path().join(scan.seed.to_string());
        let own = files.iter().find(|file| study_of(file) == phantom.study_instance_uid);
        let own = own.expect("one segmentation in the phantom's own study");
        let truth = folder.path().join(format!("truth-{}", scan.seed));
        phantom.write_truth(&truth);
        let seen = assert_sound_with_truth(own, &source, &truth);
        phantom.assert_seen(&seen);
        let dice = dice_seen(&seen);
        println!("{:?} {:?}: {dice:.3?}", scan.contrast, scan.acquisition);
        for (sum, dice) in sums.iter_mut().zip(dice) {
            *sum += dice;
        }
    }
    for (structure, sum) in TARGETS.into_iter().zip(sums) {
        let mean = sum / scans.len() as f64;
        println!("{}: mean Dice {mean:.3}", structure.prompt());
        assert!(mean >= DICE_FLOOR, "{}: mean Dice {mean:.3}", structure.prompt());
    }
    let jobs = service.json(&["job", "list"]).unwrap();
    assert!(jobs.as_array().unwrap().iter().all(|job| job["state"] == "done"), "{jobs}");
    let verified = service.command(&["audit", "verify"]).unwrap();
    assert!(verified.contains("entries are sound"), "{verified}");
    assert_page_shows(&service, &phantoms[0], jobs[0]["job_id"].as_str().unwrap());
    assert!(service.get("/metrics").unwrap().contains("prosector_jobs_finished_total"));
}

/// What a person sees in a browser: studies, a study with its decision, a job with its targets.
fn assert_page_shows(service: &Prosector, phantom: &Phantom, job: &str) {
    let look = |path: &str| dump_dom(&format!("{}{path}", service.url())).unwrap();

    let studies = look("/");
    assert!(studies.contains(&phantom.study_instance_uid), "{studies}");
    let study = look(&format!("/studies/{}", phantom.study_instance_uid));
    assert!(study.contains("every condition holds"), "{study}");
    let job = look(&format!("/jobs/{job}"));
    for word in ["left kidney", "delivered", "job leased"] {
        assert!(job.contains(word), "no {word} in {job}");
    }
}

fn study_of(segmentation: &std::path::Path) -> String {
    dicom_io::header::read_file(segmentation).unwrap().study_instance_uid.to_string()
}

#[test]
fn the_same_job_twice_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("study");
    Phantom::write(&source, &Scan::ct(5, Plane::Axial));
    let segment = |output: &str| {
        let arguments =
            ["segment", "study", "--target", "@phantom", "--model", "phantom", "--output", output];
        let done = run_in(folder.path(), &arguments).unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let series =
            std::fs::read_dir(folder.path().join(output)).unwrap().next().unwrap().unwrap();
        std::fs::read(series.path().join("seg.dcm")).unwrap()
    };

    assert!(segment("first") == segment("second"), "the bytes differ");
}

#[test]
fn a_study_sent_again_makes_no_second_job_and_a_result_sent_back_none_at_all() {
    let pacs = Orthanc::start(&[]).unwrap();
    let service = Prosector::start(&format!("{PHANTOM_PROTOCOL}{}", destination(&pacs))).unwrap();
    let peer = Peer { ae_title: AE_TITLE, port: service.dicom_port() };
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("study");
    let received = folder.path().join("received");
    std::fs::create_dir(&received).unwrap();
    let phantom = Phantom::write(&source, &Scan::ct(6, Plane::Axial));
    dcmsend(peer, &source).unwrap();
    segmentations(&pacs, 1, &received);

    dcmsend(peer, &source).unwrap();
    dcmsend(peer, &received).unwrap();
    std::thread::sleep(std::time::Duration::from_secs(3));

    let jobs = service.json(&["job", "list"]).unwrap();
    assert_eq!(jobs.as_array().unwrap().len(), 1, "{jobs}");
    let studies = service.json(&["audit", "studies"]).unwrap();
    assert_eq!(studies[0]["instances"], phantom.instances);
    assert_eq!(studies.as_array().unwrap().len(), 1);
}

#[test]
fn a_study_that_no_protocol_takes_is_kept_with_the_reason() {
    let site = "[completeness]\nquiet = \"500ms\"\n[[destination]]\nname = \"folder\"\nfolder = \"out\"\n\
                [[protocol]]\nname = \"mr\"\nmatch = { modality = \"MR\" }\nmodel = \"phantom\"\n\
                targets = [\"liver\"]\ndestinations = [\"folder\"]\n";
    let service = Prosector::start(site).unwrap();
    let peer = Peer { ae_title: AE_TITLE, port: service.dicom_port() };
    let folder = tempfile::tempdir().unwrap();
    let phantom = Phantom::write(folder.path(), &Scan::ct(7, Plane::Axial));

    dcmsend(peer, folder.path()).unwrap();

    let why = wait_for_decision(&service, &phantom.series_instance_uid);
    assert!(why.contains("no_protocol"), "{why}");
    assert!(why.contains("Modality"), "{why}");
    assert!(service.json(&["job", "list"]).unwrap().as_array().unwrap().is_empty());
    let instances = service.json(&["audit", "instances"]).unwrap();
    assert_eq!(instances.as_array().map(Vec::len), Some(phantom.instances.min(100)));
}

pub(crate) fn wait_for_decision(service: &Prosector, series: &str) -> String {
    let mut said = String::new();
    let limit = std::time::Duration::from_mins(1);
    test_harness::wait_until("a decision", limit, || {
        said = service.command(&["why", series, "--format", "json"])?;
        let why: Value = serde_json::from_str(&said)?;
        let series = &why["studies"][0]["series"][0];
        Ok(!series["settled_at"].is_null())
    })
    .unwrap();
    said
}
