//! The forms of a result: each is what others read, and what a destination refuses is replaced by the next.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use prosector_model::phantom::{Contrast, Plane};
use serde_json::Value;
use test_harness::dcmtk::{Peer, SelectiveStorescp, dciodvfy, dcmsend};
use test_harness::orthanc::Orthanc;
use test_harness::prosector::{AE_TITLE, Prosector, run_in};
use test_harness::{material, python, wait_until};

use crate::pacs::{assert_sound, destination};
use crate::phantom::{Phantom, Scan};

const SEG: &str = "1.2.840.10008.5.1.4.1.1.66.4";
const SC: &str = "1.2.840.10008.5.1.4.1.1.7.4";
const SR: &str = "1.2.840.10008.5.1.4.1.1.88.34";

/// Site file lines: the phantom pack on every CT and MR, these forms, to `destinations`.
fn protocol(forms: &str, destinations: &str) -> String {
    format!(
        "[completeness]\nquiet = \"1s\"\n[[protocol]]\nname = \"phantom\"\n\
         match = {{ modality = [\"CT\", \"MR\"] }}\nmodel = \"phantom\"\ntargets = [\"@phantom\"]\n\
         forms = {forms}\ndestinations = {destinations}\n"
    )
}

fn storescp_destination(server: &SelectiveStorescp) -> String {
    format!(
        "[[destination]]\nname = \"old\"\nae_title = \"{}\"\naddress = \"127.0.0.1:{}\"\n\
         retry = {{ first = \"200ms\", longest = \"1s\" }}\n",
        SelectiveStorescp::AE_TITLE,
        server.port()
    )
}

/// Waits until the one job has ended and none of its deliveries is open, and shows it.
fn ended_job(service: &Prosector) -> Value {
    let mut shown = Value::Null;
    wait_until("the job and its deliveries to end", Duration::from_mins(3), || {
        let jobs = service.json(&["job", "list"])?;
        let Some(job) = jobs[0]["job_id"].as_str() else { return Ok(false) };
        shown = service.json(&["job", "show", job])?;
        let is_open = |d: &Value| d["state"] == "pending" || d["state"] == "sending";
        let deliveries = shown["delivery"].as_array().unwrap();
        Ok(shown["state"] == "done" && !deliveries.is_empty() && !deliveries.iter().any(is_open))
    })
    .unwrap();
    shown
}

/// `destination form: state [-> form that took its place]`, sorted.
fn deliveries(job: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut lines: Vec<String> = job["delivery"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| {
            let line =
                format!("{} {}: {}", text(&d["destination"]), text(&d["form"]), text(&d["state"]));
            let other = text(&d["replaced_by"]);
            if other.is_empty() { line } else { format!("{line} -> {other}") }
        })
        .collect();
    lines.sort();
    lines
}

fn assert_no_error(file: &Path) {
    let said = dciodvfy(file).unwrap();
    let errors: Vec<&str> = said.lines().filter(|line| line.contains("Error")).collect();
    assert!(errors.is_empty(), "dciodvfy of {}: {errors:?}", file.display());
}

/// The slices of a phantom, which is a folder of single-frame files.
fn slices(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn assert_report(report: &Path, segmentation: &Path, sources: &[PathBuf]) {
    assert_no_error(report);
    let mut arguments = vec![report, segmentation];
    arguments.extend(sources.iter().map(PathBuf::as_path));
    python::check("check_sr.py", &arguments).unwrap();
}

fn assert_structure_set(set: &Path, segmentation: &Path, sources: &[PathBuf]) {
    assert_no_error(set);
    let mut arguments = vec![set];
    arguments.extend(sources.iter().map(PathBuf::as_path));
    arguments.extend(["--segmentation".as_ref(), segmentation]);
    python::check("check_rtstruct.py", &arguments).unwrap();
}

fn assert_picture(picture: &Path, source: &Path) {
    assert_no_error(picture);
    python::check("check_picture.py", &[picture, source]).unwrap();
}

#[test]
fn every_form_reaches_orthanc_and_says_the_same() {
    let pacs = Orthanc::start(&[]).unwrap();
    let forms = "[\"seg\", \"labelmap\", \"sr\", \"picture\"]";
    let site = format!("{}{}", protocol(forms, "[\"pacs\"]"), destination(&pacs));
    let service = Prosector::start(&site).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("study");
    let scan = Scan { contrast: Contrast::Mr, ..Scan::ct(31, Plane::Coronal) };
    let phantom = Phantom::write(&source, &scan);
    dcmsend(Peer { ae_title: AE_TITLE, port: service.dicom_port() }, &source).unwrap();

    let job = ended_job(&service);

    assert_eq!(
        deliveries(&job),
        ["pacs picture: delivered", "pacs seg: delivered", "pacs sr: delivered"]
    );
    let mut received = BTreeMap::new();
    for modality in ["SEG", "SR", "OT"] {
        let instances = pacs.instances_of_modality(modality).unwrap();
        assert_eq!(instances.len(), 1, "{modality}");
        let path = folder.path().join(format!("{modality}.dcm"));
        std::fs::write(&path, pacs.file(&instances[0]).unwrap()).unwrap();
        received.insert(modality, path);
    }
    phantom.assert_seen(&assert_sound(&received["SEG"], &source));
    let slices = slices(&source);
    assert_report(&received["SR"], &received["SEG"], &slices);
    assert_picture(&received["OT"], &slices[0]);

    let series = phantom.series_instance_uid.as_str();
    let job_row = &service.json(&["job", "list"]).unwrap()[0];
    for (modality, form) in [("SEG", "seg"), ("SR", "sr"), ("OT", "picture")] {
        let path = received[modality].to_str().unwrap();
        let told = service.json(&["explain", path]).unwrap();
        assert_eq!(told["form"], form);
        assert_eq!(told["protocol"], "phantom");
        assert_eq!(told["model"], "phantom");
        assert_eq!(told["pack_digest"], job_row["pack_digest"]);
        assert_eq!(told["source_series_instance_uid"], series);
        assert!(told["software"].as_str().unwrap().starts_with("prosector "), "{told}");
        let targets = told["targets"].as_array().unwrap();
        assert!(targets.contains(&"left kidney".into()), "{told}");
        let table = service.command(&["explain", path]).unwrap();
        assert!(table.contains("left kidney") && table.contains(series), "{table}");
        assert!(service.command(&["explain", path, "--format", "csv"]).unwrap().contains(series));
    }
    let foreign = service.command(&["explain", slices[0].to_str().unwrap()]).unwrap_err();
    assert!(format!("{foreign:#}").contains("not a result of prosector"), "{foreign:#}");
    assert!(service.command(&["audit", "verify"]).unwrap().contains("entries are sound"));
}

#[test]
fn what_an_old_pacs_refuses_is_replaced_and_the_delivery_says_so() {
    let old = SelectiveStorescp::start(&[SC]).unwrap();
    let pacs = Orthanc::start(&[]).unwrap();
    let site = format!(
        "{}{}{}forms = [\"seg\", \"labelmap\", \"picture\"]\n",
        protocol("[\"seg\", \"sr\"]", "[\"pacs\", \"old\"]"),
        destination(&pacs),
        storescp_destination(&old),
    );
    let service = Prosector::start(&site).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("study");
    Phantom::write(&source, &Scan::ct(32, Plane::Axial));
    dcmsend(Peer { ae_title: AE_TITLE, port: service.dicom_port() }, &source).unwrap();

    let job = ended_job(&service);

    // The phantom pack's targets may overlap in a voxel, and then there is no label map to offer.
    let labelmaps = job["results"].as_array().unwrap().iter().any(|r| r["form"] == "labelmap");
    let expected: &[&str] = if labelmaps {
        &[
            "old labelmap: cancelled -> picture",
            "old picture: delivered",
            "old seg: cancelled -> labelmap",
            "pacs seg: delivered",
            "pacs sr: delivered",
        ]
    } else {
        &[
            "old picture: delivered",
            "old seg: cancelled -> picture",
            "pacs seg: delivered",
            "pacs sr: delivered",
        ]
    };
    assert_eq!(deliveries(&job), expected);
    assert_eq!(job["delivered"], 3);
    assert_eq!(job["deliveries"], 3);
    let received = old.received().unwrap();
    assert_eq!(received.len(), 1, "{received:?}");
    assert_picture(&received[0], &slices(&source)[0]);
    let study = job["study_instance_uid"].as_str().unwrap();
    let why = service.command(&["why", study]).unwrap();
    assert!(why.contains("old takes no seg: form_refused"), "{why}");
    assert!(why.contains("delivery_replaced"), "{why}");
}

#[test]
fn a_report_refers_to_the_segmentation_that_the_pacs_took() {
    let old = SelectiveStorescp::start(&[SEG, SR]).unwrap();
    let site = protocol("[\"labelmap\", \"seg\", \"sr\"]", "[\"old\"]")
        .replace("\"@phantom\"", "\"liver\", \"spleen\", \"left lung\"");
    let service = Prosector::start(&format!("{site}{}", storescp_destination(&old))).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("study");
    Phantom::write(&source, &Scan::ct(34, Plane::Axial));
    dcmsend(Peer { ae_title: AE_TITLE, port: service.dicom_port() }, &source).unwrap();

    let job = ended_job(&service);

    assert_eq!(
        deliveries(&job),
        [
            "old labelmap: cancelled -> seg",
            "old seg: delivered",
            "old sr: cancelled -> sr",
            "old sr: delivered",
        ]
    );
    let received = old.received().unwrap();
    let of_class = |class: &str| {
        let is_of = |path: &&PathBuf| {
            dicom_io::header::read_file(path).unwrap().sop_class_uid.as_str() == class
        };
        received.iter().find(is_of).unwrap()
    };
    assert_report(of_class(SR), of_class(SEG), &slices(&source));
    let count = received.len();

    let id = job["job_id"].as_str().unwrap();
    service.command(&["job", "retry", id]).unwrap();
    let again = ended_job(&service);

    assert_eq!(deliveries(&again), deliveries(&job), "a second run says the same");
    assert!(old.received().unwrap().len() >= count);
}

#[test]
fn what_a_pacs_refuses_in_every_form_has_failed() {
    let old = SelectiveStorescp::start(&[SR]).unwrap();
    let site =
        format!("{}{}", protocol("[\"sr\", \"seg\"]", "[\"old\"]"), storescp_destination(&old));
    let service = Prosector::start(&site).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("study");
    Phantom::write(&source, &Scan::ct(33, Plane::Axial));
    dcmsend(Peer { ae_title: AE_TITLE, port: service.dicom_port() }, &source).unwrap();

    let job = ended_job(&service);

    assert_eq!(deliveries(&job), ["old seg: failed", "old sr: delivered"]);
    assert_no_error(&old.received().unwrap()[0]);
}

/// Writes every form of a series with the phantom pack, twice, and gives back the folder of its results.
fn segment_twice(folder: &Path, source: &Path) -> Option<PathBuf> {
    let segment = |output: &str| {
        let source = source.to_str().unwrap();
        let arguments = [
            "segment", source, "--target", "@phantom", "--form", "seg", "labelmap", "sr",
            "picture", "rtstruct", "--output", output,
        ];
        run_in(folder, &arguments)
    };
    // A folder may hold series that are no volumes beside one that is.
    let _ = segment("once");
    let _ = segment("twice");
    let entries = std::fs::read_dir(folder.join("once")).ok()?;
    let series = entries.map(|entry| entry.unwrap().path()).find(|p| p.join("seg.dcm").exists())?;
    let again = folder.join("twice").join(series.file_name().unwrap());
    for name in ["seg.dcm", "labelmap.dcm", "sr.dcm", "picture.dcm", "rtstruct.dcm"] {
        let read = |folder: &Path| std::fs::read(folder.join(name)).ok();
        assert!(read(&series) == read(&again), "{name} differs from run to run");
    }
    Some(series)
}

#[test]
#[ignore = "needs the folder of PROSECTOR_TEST_DICOM"]
fn every_form_of_real_series_is_read_by_others_and_the_same_twice() {
    let dicom = material("PROSECTOR_TEST_DICOM").unwrap();
    for name in ["ct-abdomen-siemens-j2k", "ct-head-philips", "mr-fragmented-jpeg-lossless"] {
        let source = dicom.join(name);
        let folder = tempfile::tempdir().unwrap();
        let Some(result) = segment_twice(folder.path(), &source) else {
            panic!("{name} has no result");
        };
        let series = result.file_name().unwrap().to_str().unwrap().to_owned();
        let sources: Vec<PathBuf> = slices(&source)
            .into_iter()
            .filter(|path| {
                dicom_io::header::read_file(path)
                    .is_ok_and(|header| header.series_instance_uid.as_str() == series)
            })
            .collect();
        assert_sound(&result.join("seg.dcm"), &source);
        assert_report(&result.join("sr.dcm"), &result.join("seg.dcm"), &sources);
        assert_picture(&result.join("picture.dcm"), &sources[0]);
        assert_structure_set(&result.join("rtstruct.dcm"), &result.join("seg.dcm"), &sources);
        if result.join("labelmap.dcm").exists() {
            python::check("check_seg.py", &[&result.join("labelmap.dcm"), &source]).unwrap();
        }
    }
}
