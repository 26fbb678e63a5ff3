//! What a file tells of how it came about, also after others have written it anew.

use std::path::Path;
use std::process::Command;

use dicom_io::lineage::{Lineage, LineageError, read};

use super::example::{Example, provenance};
use super::labelmap::labelmap;
use super::picture::capture;
use super::report::report;
use super::series::TestSeries;
use super::structure_set::structure_set;

fn objects(series: &TestSeries) -> Vec<(&'static str, Vec<u8>)> {
    let stack = &series.stack;
    let shape = stack.geometry.shape();
    let example = Example::disjoint(shape);
    vec![
        ("1.2.840.10008.5.1.4.1.1.66.4", example.build(stack).bytes),
        ("1.2.840.10008.5.1.4.1.1.66.7", labelmap(stack, &example).bytes),
        ("1.2.840.10008.5.1.4.1.1.88.34", report(stack, &example).1.bytes),
        ("1.2.840.10008.5.1.4.1.1.7.4", capture(stack, &example).1.bytes),
        ("1.2.840.10008.5.1.4.1.1.481.3", structure_set(stack, &example).bytes),
    ]
}

fn assert_told(told: &Lineage, sop_class_uid: &str, series: &TestSeries) {
    let provenance = provenance();
    assert_eq!(told.sop_class_uid.as_str(), sop_class_uid);
    assert_eq!(told.study_instance_uid, series.stack.study_instance_uid);
    let source = series.stack.series_instance_uid.as_str();
    assert_eq!(told.source_series_instance_uid.as_deref(), Some(source), "{sop_class_uid}");
    assert_eq!(told.software, "prosector 0.1.0");
    assert_eq!(told.protocol_name, provenance.protocol_name);
    assert_eq!(told.protocol_revision, provenance.protocol_revision);
    assert_eq!(told.pack_name, provenance.model_name);
    assert_eq!(told.pack_digest, provenance.pack_digest);
    assert_eq!(told.targets, ["liver", "liver tumor", "left kidney", "aorta"], "{sop_class_uid}");
    assert!(told.created.as_deref().is_some_and(|created| created.starts_with("2025")));
}

fn dcmconv(arguments: &[&str], from: &Path, to: &Path) {
    let status = Command::new("/usr/bin/dcmconv").args(arguments).arg(from).arg(to).status();
    assert!(status.expect("dcmconv is missing: install dcmtk").success());
}

#[test]
fn every_form_tells_how_it_came_about() {
    let series = TestSeries::oblique();
    let folder = tempfile::tempdir().unwrap();
    let [own, others] = ["own.dcm", "others.dcm"].map(|name| folder.path().join(name));

    for (class, bytes) in objects(&series) {
        std::fs::write(&own, bytes).unwrap();
        assert_told(&read(&own).unwrap(), class, &series);
        // A PACS may keep and send what it received in another transfer syntax, lengths written another way.
        for arguments in [["+ti", "-e"], ["+te", "+e"], ["+tb", "-e"], ["+td", "-e"]] {
            dcmconv(&arguments, &own, &others);
            assert_told(&read(&others).unwrap(), class, &series);
        }
    }
}

#[test]
fn a_file_of_others_is_refused_with_its_reason() {
    let series = TestSeries::oblique();
    let folder = tempfile::tempdir().unwrap();
    let garbage = folder.path().join("garbage");
    std::fs::write(&garbage, b"no DICOM at all, and not long either").unwrap();

    let source = read(&series.stack.slices[0].path);
    assert!(matches!(source, Err(LineageError::NotOurs)), "{source:?}");
    for path in [garbage, folder.path().join("absent"), folder.path().to_owned()] {
        let refused = read(&path);
        assert!(matches!(refused, Err(LineageError::Header(_))), "{refused:?}");
    }
}
