//! A pack measured on series whose truth is known, with references that others wrote.

use std::path::Path;

use prosector_model::phantom::Plane;
use serde_json::Value;
use test_harness::prosector::run_in;
use test_harness::python;

use crate::pacs::assert_sound_with_truth;
use crate::phantom::{Phantom, Scan, TARGETS, dice_seen};

#[test]
fn every_kind_of_reference_gives_the_agreement_that_others_count() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let phantom = Phantom::write(&path("series"), &Scan::ct(21, Plane::Coronal));
    phantom.write_truth(&path("truth"));
    python::check("truth_as_nifti.py", &[path("series"), path("truth"), path("nifti")]).unwrap();
    let arguments =
        ["segment", "series", "--target", "@phantom", "--model", "phantom", "--output", "out"];
    assert!(run_in(folder.path(), &arguments).unwrap().status.success());
    let own = path("out").join(&phantom.series_instance_uid).join("seg.dcm");
    std::fs::copy(&own, path("seg.dcm")).unwrap();
    let counted = dice_seen(&assert_sound_with_truth(&own, &path("series"), &path("truth")));

    let masks: Vec<String> = TARGETS
        .iter()
        .map(|target| format!("\"{0}\" = \"nifti/{0}.nii.gz\"", target.prompt()))
        .collect();
    let by_masks = evaluate(folder.path(), &format!("masks = {{ {} }}", masks.join(", ")));
    let by_label = evaluate(
        folder.path(),
        "labels = { file = \"nifti/labels.nii.gz\", values = { liver = 4, \"left kidney\" = 2 } }",
    );
    let by_itself = evaluate(folder.path(), "segmentation = \"seg.dcm\"");

    assert_eq!(by_masks.len(), TARGETS.len());
    for (target, counted) in TARGETS.into_iter().zip(counted) {
        let (dice, nsd) = score(&by_masks, target.prompt());
        assert!((dice - counted).abs() < 1e-4, "{}: {dice}, others {counted}", target.prompt());
        assert!(nsd > 0.2 && nsd <= 1.0, "{}: {nsd}", target.prompt());
        assert_eq!(score(&by_itself, target.prompt()), (1.0, 1.0));
    }
    assert_eq!(by_label.len(), 2);
    assert_eq!(score(&by_label, "liver"), score(&by_masks, "liver"));
    assert_eq!(score(&by_label, "left kidney"), score(&by_masks, "left kidney"));
}

#[test]
fn a_reference_on_another_grid_fails_its_case_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for (seed, name) in [(21, "one"), (22, "two")] {
        let phantom = Phantom::write(&path(name), &Scan::ct(seed, Plane::Axial));
        phantom.write_truth(&path("truth"));
        python::check(
            "truth_as_nifti.py",
            &[path(name), path("truth"), path(&format!("{name}-nifti"))],
        )
        .unwrap();
    }
    let cases = "[[case]]\nname = \"wrong\"\nseries = \"one\"\nmasks = { liver = \"two-nifti/liver.nii.gz\" }\n\
                 [[case]]\nname = \"right\"\nseries = \"two\"\nmasks = { liver = \"two-nifti/liver.nii.gz\" }\n";
    std::fs::write(path("cases.toml"), cases).unwrap();

    let arguments =
        ["model", "evaluate", "phantom", "--cases", "cases.toml", "--details", "--format", "json"];
    let done = run_in(folder.path(), &arguments).unwrap();

    assert_eq!(done.status.code(), Some(1));
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(said.contains("case wrong") && said.contains("another grid"), "{said}");
    let rows: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 1);
    assert_eq!(rows[0]["case"], "right");
}

/// Rows of the table for one case with this reference.
fn evaluate(folder: &Path, reference: &str) -> Vec<Value> {
    let cases = format!("[[case]]\nseries = \"series\"\n{reference}\n");
    std::fs::write(folder.join("cases.toml"), cases).unwrap();
    let arguments =
        ["model", "evaluate", "phantom", "--cases", "cases.toml", "--details", "--format", "json"];
    let done = run_in(folder, &arguments).unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).unwrap()
}

fn score(rows: &[Value], class: &str) -> (f64, f64) {
    let row = rows.iter().find(|row| row["class"] == class).unwrap();
    (row["dice"].as_f64().unwrap(), row["nsd"].as_f64().unwrap())
}
