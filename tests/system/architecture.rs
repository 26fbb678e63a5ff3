//! The house has the doors that ARCHITECTURE.md draws, and no others.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Edges between the members of the workspace, development edges left out.
const EDGES: &[(&str, &str)] = &[
    ("dicom-io", "dicom-types"),
    ("prosector-model", "dicom-types"),
    ("prosector-storage", "dicom-types"),
    ("prosector", "dicom-io"),
    ("prosector", "dicom-types"),
    ("prosector", "prosector-model"),
    ("prosector", "prosector-storage"),
];

/// Crates that open a door to the outside, and the members that may hold the key: one, but for TLS, whose provider is
/// chosen by whoever makes a connection.
const DOORS: &[(&str, &str)] = &[
    ("dicom", "dicom-io"),
    ("dicom-ul", "dicom-io"),
    ("dicom-transfer-syntax-registry", "dicom-io"),
    ("hyper", "dicom-io"),
    ("rustls", "dicom-io"),
    ("rustls", "prosector-storage"),
    ("candle-core", "prosector-model"),
    ("candle-nn", "prosector-model"),
    ("tokenizers", "prosector-model"),
    ("sqlx", "prosector-storage"),
    ("object_store", "prosector-storage"),
    ("lapin", "prosector"),
    ("config", "prosector"),
    ("clap", "prosector"),
    ("axum", "prosector"),
    ("tracing-subscriber", "prosector"),
];

fn normal_dependencies() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let output = Command::new(env!("CARGO"))
        .current_dir(root)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut found = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        for dependency in package["dependencies"].as_array().unwrap() {
            if dependency["kind"].is_null() {
                let text = |value: &Value| value.as_str().unwrap().to_owned();
                found.push((text(&package["name"]), text(&dependency["name"])));
            }
        }
    }
    found
}

#[test]
fn crates_depend_on_each_other_as_drawn() {
    let members = ["dicom-types", "dicom-io", "prosector-model", "prosector-storage", "prosector"];
    let expected: BTreeSet<_> =
        EDGES.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect();

    let found: BTreeSet<_> = normal_dependencies()
        .into_iter()
        .filter(|(from, to)| members.contains(&from.as_str()) && members.contains(&to.as_str()))
        .collect();

    assert_eq!(found, expected);
}

#[test]
fn each_outside_world_has_one_door() {
    let dependencies = normal_dependencies();

    for (dependency, _) in DOORS {
        let owners: BTreeSet<&str> =
            DOORS.iter().filter(|(door, _)| door == dependency).map(|(_, owner)| *owner).collect();
        let users: BTreeSet<&str> = dependencies
            .iter()
            .filter(|(_, to)| to == dependency)
            .map(|(from, _)| from.as_str())
            .collect();
        assert!(users.is_subset(&owners), "{dependency} is used by {users:?}");
    }
}
