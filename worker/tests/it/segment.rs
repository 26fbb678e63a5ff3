//! `prosector segment` and `prosector model`.

use std::fs;
use std::path::Path;

use dicom_types::Modality;
use serde_json::Value;
use tempfile::{TempDir, tempdir};

use crate::pack::{PROMPTS, write_tiny};
use crate::program::{Run, prosector};
use crate::series::write_axial;

const CT: &str = "1.2.3.1";
const MR: &str = "1.2.3.3";

/// A folder with a pack and a CT and an MR series.
fn workplace() -> TempDir {
    let folder = tempdir().unwrap();
    fs::create_dir(folder.path().join("models")).unwrap();
    write_tiny(&folder.path().join("models/tiny"));
    write_axial(&folder.path().join("in/ct"), CT, Modality::Ct, 12);
    write_axial(&folder.path().join("in/mr"), MR, Modality::Mr, 9);
    folder
}

fn segment(folder: &Path, input: &str, output: &str, more: &[&str]) -> Run {
    let mut args = vec!["segment", input, "--model", "tiny", "--output", output];
    args.extend(more);
    prosector(folder, &args)
}

fn summary(folder: &Path, output: &str, series: &str) -> Value {
    let path = folder.join(output).join(series).join("summary.json");
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn every_series_gets_a_folder_with_its_result() {
    let place = workplace();

    let run = segment(place.path(), "in", "out", &["--target", "liver", "left kidney", "spleen"]);

    assert_eq!(run.code, 0, "{}", run.stderr);
    for (series, modality, slices) in [(CT, "CT", 12), (MR, "MR", 9)] {
        let summary = summary(place.path(), "out", series);
        assert_eq!(summary["series_instance_uid"], series);
        assert_eq!(summary["modality"], modality);
        assert_eq!(summary["volume"]["shape"], serde_json::json!([slices, 24, 32]));
        let targets = summary["targets"].as_array().unwrap();
        let prompts: Vec<_> = targets.iter().map(|t| t["prompt"].as_str().unwrap()).collect();
        assert_eq!(prompts, ["liver", "left kidney", "spleen"]);
        for target in targets {
            let voxels = target["voxel_count"].as_f64().unwrap();
            // 2 mm by 2 mm by 5 mm
            let volume_ml = (voxels * 0.02 * 1000.0).round() / 1000.0;
            assert_eq!(target["volume_ml"], volume_ml);
        }
        let folder = place.path().join("out").join(series);
        let png = fs::read(folder.join("preview.png")).unwrap();
        assert!(png.starts_with(b"\x89PNG"));
        let is_empty = targets.iter().all(|target| target["voxel_count"] == 0);
        assert_eq!(summary["segmentation"].is_null(), is_empty);
        assert_eq!(folder.join("seg.dcm").exists(), !is_empty);
    }
}

#[test]
fn at_least_one_generated_series_has_an_object_to_look_at() {
    let place = workplace();

    segment(place.path(), "in", "out", &["--target", "liver", "left kidney", "spleen"]);

    let objects = [CT, MR].map(|uid| place.path().join("out").join(uid).join("seg.dcm"));
    assert!(objects.iter().any(|object| object.exists()));
}

#[test]
fn the_same_job_gives_the_same_bytes() {
    let place = workplace();
    let run = |output| segment(place.path(), "in", output, &["--target", "liver", "spleen"]);

    assert_eq!((run("once").code, run("twice").code), (0, 0));

    for series in [CT, MR] {
        for name in ["seg.dcm", "preview.png"] {
            let read =
                |output: &str| fs::read(place.path().join(output).join(series).join(name)).ok();
            assert!(read("once") == read("twice"), "{series} {name}");
        }
        let job = |output| summary(place.path(), output, series)["job_id"].clone();
        assert_eq!(job("once"), job("twice"));
    }
}

#[test]
fn nothing_of_the_patient_is_printed_logged_or_summarised() {
    let place = workplace();

    let run = segment(place.path(), "in", "out", &["--target", "liver"]);

    let summary = summary(place.path(), "out", CT).to_string();
    for text in [run.stdout, run.stderr, summary] {
        assert!(!text.contains("SENTINEL"), "{text}");
    }
}

#[test]
fn a_series_that_is_no_volume_fails_with_its_reason_and_the_others_are_done() {
    let place = workplace();
    write_axial(&place.path().join("in/single"), "1.2.3.4", Modality::Ct, 1);

    let run = segment(place.path(), "in", "out", &["--target", "liver", "--format", "json"]);

    assert_eq!(run.code, 1);
    let rows: Value = serde_json::from_str(&run.stdout).unwrap();
    let states: Vec<_> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["series"].as_str().unwrap(), row["state"] == "failed"))
        .collect();
    assert_eq!(states, [(CT, false), (MR, false), ("1.2.3.4", true)]);
    let reason = rows[2]["reason"].as_str().unwrap();
    assert!(reason.contains("is a single slice"), "{reason}");
    assert!(place.path().join("out").join(CT).join("summary.json").exists());
    assert!(!place.path().join("out/1.2.3.4").exists());
}

#[test]
fn a_protocol_names_targets_pack_and_orientation() {
    let place = workplace();
    let site = r#"
[[protocol]]
name = "kidneys"
match = { modality = "CT" }
model = "tiny"
targets = ["left kidney", "right kidney"]
orientation = "ASR"
destinations = []
"#;
    fs::write(place.path().join("site.toml"), site).unwrap();

    let args =
        ["segment", "in/ct", "--config", "site.toml", "--protocol", "kidneys", "--output", "o"];
    let run = prosector(place.path(), &args);

    assert_eq!(run.code, 0, "{}", run.stderr);
    let summary = summary(place.path(), "o", CT);
    assert_eq!(summary["protocol"], "kidneys");
    assert_eq!(summary["orientation"], "ASR");
    assert_eq!(summary["model"]["name"], "tiny");
    assert_eq!(summary["targets"].as_array().unwrap().len(), 2);
}

#[test]
fn modality_and_orientation_can_be_overridden() {
    let place = workplace();

    let more = ["--target", "liver", "--modality", "mr", "--orientation", "ASR"];
    let run = segment(place.path(), "in/ct", "out", &more);

    assert_eq!(run.code, 0, "{}", run.stderr);
    let summary = summary(place.path(), "out", CT);
    assert_eq!(summary["modality"], "MR");
    assert_eq!(summary["orientation"], "ASR");
}

#[test]
fn wrong_usage_ends_with_2_and_says_what_would_be_right() {
    let place = workplace();
    let cases: [(&[&str], &str); 7] = [
        (&["segment", "in", "--output", "o"], "--target"),
        (&["segment", "in", "--target", "liver"], "--output"),
        (&["segment", "in", "--output", "o", "--target", "x", "--protocol", "y"], "cannot be used"),
        (&["segment", "in", "--output", "o", "--target", "@ct_abdomn"], "ct_abdomen"),
        (&["segment", "in", "--output", "o", "--target", "liver", "--model", "tiy"], "tiny"),
        (&["segment", "in", "--output", "o", "--protocol", "phantm"], "phantom"),
        (
            &["segment", "in", "--output", "o", "--target", "liver", "--modality", "US"],
            "CT, MR, PT",
        ),
    ];
    for (args, hint) in cases {
        let run = prosector(place.path(), args);

        assert_eq!(run.code, 2, "{args:?}: {}", run.stderr);
        assert!(run.stderr.contains(hint), "{args:?}: {}", run.stderr);
        assert!(!place.path().join("o").exists());
    }
}

#[test]
fn a_prompt_that_the_pack_cannot_know_fails_with_the_nearest() {
    let place = workplace();

    let run = segment(place.path(), "in/ct", "out", &["--target", "some liver"]);

    assert_eq!(run.code, 1);
    assert!(run.stdout.contains("liver, "), "{}", run.stdout);
}

#[test]
fn a_pack_is_inspected_verified_and_asked_for_prompts() {
    let place = workplace();
    let model = |args: &[&str]| prosector(place.path(), &[&["model"], args].concat());

    let inspect = model(&["inspect", "tiny"]);
    assert_eq!((inspect.code, model(&["verify", "tiny"]).code), (0, 0));
    insta::with_settings!({ filters => [("[0-9a-f]{64}", "[digest]")] }, {
        insta::assert_snapshot!(inspect.stdout);
    });
    let prompts = model(&["prompts", "tiny", PROMPTS[0], "--format", "csv"]);
    assert_eq!(prompts.code, 0);
    assert!(prompts.stdout.contains("liver,ct,cached,"), "{}", prompts.stdout);
    assert_eq!(model(&["prompts", "tiny", "unheard of"]).code, 1);
    assert_eq!(model(&["inspect", "absent"]).code, 2);
}

#[test]
fn a_damaged_pack_does_not_verify() {
    let place = workplace();
    let weights = place.path().join("models/tiny/weights.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&weights, bytes).unwrap();

    let run = prosector(place.path(), &["model", "verify", "tiny"]);

    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("weights.safetensors"), "{}", run.stderr);
}

#[test]
fn an_import_of_something_else_leaves_nothing() {
    let place = workplace();
    fs::write(place.path().join("x.pth"), "not a checkpoint").unwrap();

    let args = ["model", "import", "--checkpoint", "x.pth", "--output", "models/x"];
    let run = prosector(place.path(), &args);

    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("x.pth"), "{}", run.stderr);
    assert_eq!(fs::read_dir(place.path().join("models")).unwrap().count(), 1);
    let half = [&args[..], &["--text-encoder", "y.pth"]].concat();
    assert_eq!(prosector(place.path(), &half).code, 2);
}

/// The result folder that has an object; the tiny pack finds something in one of the series at least.
fn folder_with_object(folder: &Path, output: &str) -> std::path::PathBuf {
    let folders = [CT, MR].map(|series| folder.join(output).join(series));
    folders.into_iter().find(|folder| folder.join("seg.dcm").exists()).unwrap()
}

#[test]
fn every_form_asked_for_is_written_and_tells_how_it_came_about() {
    let place = workplace();
    let forms = ["--target", "liver", "spleen", "--form", "seg", "sr", "picture"];
    let run = segment(place.path(), "in", "out", &forms);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let folder = folder_with_object(place.path(), "out");
    let series = folder.file_name().unwrap().to_str().unwrap();
    let summary = summary(place.path(), "out", series);
    let results = summary["results"].as_array().unwrap();
    let files: Vec<_> = results.iter().map(|result| result["file"].as_str().unwrap()).collect();
    assert_eq!(files, ["seg.dcm", "sr.dcm", "picture.dcm"]);

    for result in results {
        let file = folder.join(result["file"].as_str().unwrap());
        let run = prosector(place.path(), &["explain", file.to_str().unwrap(), "--format", "json"]);
        assert_eq!(run.code, 0, "{}", run.stderr);
        let told: Value = serde_json::from_str(&run.stdout).unwrap();
        assert_eq!(told["form"], result["form"]);
        assert_eq!(told["sop_instance_uid"], result["sop_instance_uid"]);
        assert_eq!(told["source_series_instance_uid"], series);
        assert_eq!(told["protocol"], "command line");
        assert_eq!(told["model"], summary["model"]["name"]);
        assert_eq!(told["pack_digest"], summary["model"]["digest"]);
        let revision = told["protocol_revision"].as_str().unwrap();
        assert!(summary["protocol_digest"].as_str().unwrap().starts_with(revision));
        for target in told["targets"].as_array().unwrap() {
            assert!(["liver", "spleen"].contains(&target.as_str().unwrap()), "{target}");
        }
        assert!(!run.stdout.contains("SENTINEL"), "{}", run.stdout);
    }
}

#[test]
fn a_later_run_leaves_no_form_that_was_not_asked_for() {
    let place = workplace();
    segment(place.path(), "in", "out", &["--target", "liver", "--form", "sr"]);
    let folder = folder_with_object(place.path(), "out");
    assert!(folder.join("sr.dcm").exists() && folder.join("seg.dcm").exists());

    segment(place.path(), "in", "out", &["--target", "liver"]);

    assert!(!folder.join("sr.dcm").exists() && folder.join("seg.dcm").exists());
}

#[test]
fn a_form_that_is_none_is_wrong_usage() {
    let place = workplace();

    let run = segment(place.path(), "in", "out", &["--target", "liver", "--form", "pictures"]);

    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("did you mean \"picture\"?"), "{}", run.stderr);
    assert!(!place.path().join("out").exists());
}

#[test]
fn a_file_that_is_no_result_of_ours_is_not_explained() {
    let place = workplace();
    fs::write(place.path().join("garbage"), "no DICOM at all").unwrap();
    let slice = fs::read_dir(place.path().join("in/ct")).unwrap().next().unwrap().unwrap().path();

    for (file, reason) in [
        (slice.to_str().unwrap(), "not a result of prosector"),
        ("garbage", "cannot read it as DICOM"),
        ("absent", "cannot read the file"),
    ] {
        let run = prosector(place.path(), &["explain", file]);
        assert_eq!(run.code, 1, "{file}");
        assert!(run.stderr.contains(reason), "{}", run.stderr);
        assert_eq!(run.stdout, "");
    }
}
