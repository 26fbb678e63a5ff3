//! Real series from public projects, sent by DCMTK, with Orthanc as the destination: one sound segmentation each, or
//! a recorded reason.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use test_harness::dcmtk::run;
use test_harness::orthanc::Orthanc;
use test_harness::prosector::{AE_TITLE, Prosector};
use test_harness::{material, wait_until};

use crate::pacs::{PHANTOM_PROTOCOL, assert_sound, destination};

/// Folders whose series must end in a segmentation, or in the recorded outcome that nothing was found. The others are no
/// volumes: each is recorded with its reason.
const VOLUMES: [&str; 18] = [
    "ct-abdomen-siemens-j2k",
    "ct-enhanced",
    "ct-head-philips",
    "ct-head-tilt-philips",
    "ct-liver-3slice-with-seg",
    "mr-4d-fmri-ge",
    "mr-enhanced-philips",
    "mr-enhanced-siemens-xa30",
    "mr-fragmented-jpeg-lossless",
    "mr-oblique-sagittal-ge",
    "mr-one-series-six-syntaxes/implicit",
    "mr-one-series-six-syntaxes/j2k",
    "mr-one-series-six-syntaxes/jpeg-lossless",
    "mr-one-series-six-syntaxes/jpegls",
    "mr-one-series-six-syntaxes/rle",
    "mr-one-series-six-syntaxes/uncompressed",
    "seg-odd-frame-size/23x38x3",
    "seg-odd-frame-size/24x38x3",
];

#[test]
#[ignore = "needs the folder of PROSECTOR_TEST_DICOM"]
fn every_real_series_ends_in_a_sound_segmentation_or_a_reason() {
    let dicom = material("PROSECTOR_TEST_DICOM").unwrap();
    let pacs = Orthanc::start(&[]).unwrap();
    let service = Prosector::start(&format!("{PHANTOM_PROTOCOL}{}", destination(&pacs))).unwrap();
    let mut folders: Vec<PathBuf> = std::fs::read_dir(&dicom)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();

    for folder in &folders {
        let port = service.dicom_port().to_string();
        let folder = folder.to_string_lossy();
        // Whether each object is accepted is part of the outcome: some are no DICOM at all.
        let arguments = [
            "-aec",
            AE_TITLE,
            "--no-uid-checks",
            "--no-halt",
            "+sd",
            "+r",
            "127.0.0.1",
            &port,
            &folder,
        ];
        run("dcmsend", "dcmtk", &arguments).unwrap();
    }
    wait_until("every series to come to its end", Duration::from_mins(8), || {
        let studies = service.json(&["audit", "studies", "--limit", "1000"])?;
        Ok(studies
            .as_array()
            .unwrap()
            .iter()
            .all(|study| study["unsettled_series"] == 0 && study["open_jobs"] == 0)
            && !studies.as_array().unwrap().is_empty())
    })
    .unwrap();

    let outcomes = outcomes(&service);
    for (series, outcome) in &outcomes {
        println!("{series}: {outcome}");
        assert!(!outcome.is_empty(), "series {series} has no recorded outcome");
    }
    let received = tempfile::tempdir().unwrap();
    wait_until("every delivery", Duration::from_mins(1), || {
        let jobs = service.json(&["job", "list", "--limit", "1000"])?;
        Ok(jobs.as_array().unwrap().iter().all(|job| job["delivered"] == job["deliveries"]))
    })
    .unwrap();
    let mut segmented = BTreeMap::new();
    for instance in pacs.instances_of_modality("SEG").unwrap() {
        let tags = pacs.get(&format!("instances/{instance}/simplified-tags")).unwrap();
        let series = &tags["ReferencedSeriesSequence"][0]["SeriesInstanceUID"];
        let is_ours =
            tags["ManufacturerModelName"] == "prosector" || tags["Manufacturer"] == "prosector";
        if let (Some(series), true) = (series.as_str(), is_ours) {
            let path = received.path().join(format!("{instance}.dcm"));
            std::fs::write(&path, pacs.file(&instance).unwrap()).unwrap();
            let previous = segmented.insert(series.to_owned(), path);
            assert!(previous.is_none(), "two segmentations of {series}");
        }
    }
    for name in VOLUMES {
        let folder = dicom.join(name);
        if !folder.is_dir() {
            continue;
        }
        let series = series_of(&folder);
        let has_ended_well = series.iter().any(|series| {
            let ended = outcomes.get(series).map(String::as_str);
            if let Some(segmentation) = segmented.get(series) {
                assert_sound(segmentation, &folder);
                return true;
            }
            ended.is_some_and(|ended| ended.starts_with("empty"))
        });
        assert!(has_ended_well, "{name}: {series:?} ended as {outcomes:?}");
    }
    assert_further_volumes_are_named(&service, &dicom.join("mr-4d-fmri-ge"));
    assert!(service.command(&["audit", "verify"]).unwrap().contains("entries are sound"));
}

/// Two time points in one series: one result, and the other one named, with a frame of reference for what has none.
fn assert_further_volumes_are_named(service: &Prosector, folder: &Path) {
    let [series] = &series_of(folder)[..] else { panic!("one series in {}", folder.display()) };

    let why = service.command(&["why", series]).unwrap();
    let jobs = service.json(&["job", "list", "--series", series]).unwrap();
    assert_eq!(jobs.as_array().unwrap().len(), 1, "{jobs}");
    let job = service.json(&["job", "show", jobs[0]["job_id"].as_str().unwrap()]).unwrap();

    let named = "one of 2 volumes is segmented";
    assert!(why.contains("a part of the series: refused, ") && why.contains(named), "{why}");
    assert!(job["left_out"][0].as_str().is_some_and(|reason| reason.contains(named)), "{job}");
    assert!(job.to_string().contains("derived from the series"), "{job}");
}

/// How each series ended: the state of its job, or the reason why it has none.
fn outcomes(service: &Prosector) -> BTreeMap<String, String> {
    let mut outcomes = BTreeMap::new();
    let studies = service.json(&["audit", "studies", "--limit", "1000"]).unwrap();
    for study in studies.as_array().unwrap() {
        let uid = study["study_instance_uid"].as_str().unwrap();
        let page: Value =
            serde_json::from_str(&service.get(&format!("/api/v1/studies/{uid}")).unwrap()).unwrap();
        for series in page["series"].as_array().unwrap() {
            let text = |key: &str| series[key].as_str().unwrap_or_default().to_owned();
            outcomes.insert(
                text("series_instance_uid"),
                format!("{}: {}", text("reason_code"), text("reason")),
            );
        }
    }
    let jobs = service.json(&["job", "list", "--limit", "1000"]).unwrap();
    for job in jobs.as_array().unwrap() {
        let text = |key: &str| job[key].as_str().unwrap_or_default().to_owned();
        outcomes
            .insert(text("series_instance_uid"), format!("{} {}", text("state"), text("reason")));
    }
    outcomes
}

/// Series Instance UIDs of the files in a folder.
fn series_of(folder: &Path) -> Vec<String> {
    let mut series: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .filter_map(|entry| dicom_io::header::read_file(&entry.ok()?.path()).ok())
        .map(|header| header.series_instance_uid.to_string())
        .collect();
    series.sort();
    series.dedup();
    series
}
