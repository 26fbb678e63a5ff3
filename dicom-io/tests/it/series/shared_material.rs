//! Every folder of the shared test material.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use dicom_io::series::{SeriesReport, read_stacks};

use crate::header::corpus;

/// Files below `root`, by the folder that holds them, named relative to `root`.
pub(crate) fn folders(root: &Path) -> BTreeMap<String, Vec<PathBuf>> {
    let mut folders = BTreeMap::<String, Vec<PathBuf>>::new();
    let mut pending = vec![root.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else if folder != root {
                let name = folder.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                folders.entry(name).or_default().push(path);
            }
        }
    }
    folders
}

/// One line per stack, refusal and duplicate.
fn describe(report: &SeriesReport) -> String {
    let mut text = String::new();
    for stack in &report.stacks {
        let shape = stack.geometry.shape();
        let spacing = stack.geometry.spacing_mm().map(|mm| (mm * 1e4).round() / 1e4);
        let planes = (stack.geometry.plane_distance_mm() * 1e4).round() / 1e4;
        let loaded = match stack.load() {
            Ok(volume) => {
                let sum: f64 = volume.values().iter().map(|&v| f64::from(v)).sum();
                let mean = sum / volume.values().len() as f64;
                format!("mean {mean:.3}")
            }
            Err(error) => format!("not loaded: {}", chain(&error)),
        };
        let modality = stack.modality;
        writeln!(text, "volume {modality} {shape:?} spacing {spacing:?} planes {planes} {loaded}")
            .unwrap();
    }
    for refusal in &report.refusals {
        writeln!(text, "refused {}: {}", refusal.instances.len(), chain(&refusal.reason)).unwrap();
    }
    if !report.duplicates.is_empty() {
        writeln!(text, "duplicates {}", report.duplicates.len()).unwrap();
    }
    text
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        write!(text, ": {cause}").unwrap();
        source = cause.source();
    }
    text
}

#[test]
#[ignore = "needs the folder of PROSECTOR_TEST_DICOM"]
fn every_folder_has_a_stated_outcome() {
    let root = corpus();
    let mut outcomes = String::new();

    for (name, files) in folders(&root) {
        let files: Vec<_> = files.into_iter().filter(|file| !file.ends_with("LICENSE")).collect();
        write!(outcomes, "## {name}\n{}\n", describe(&read_stacks(&files))).unwrap();
    }

    insta::assert_snapshot!(outcomes);
}
