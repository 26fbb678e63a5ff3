//! Rejection notes, verified by dciodvfy and read by highdicom.

use std::process::Command;

use dicom_io::ResultObject;
use dicom_io::rejection_note::{
    BuildRejectionNoteError, RejectedInstance, RejectionNoteContent, RejectionReason, build,
};

use super::example::{Example, identity};
use super::series::TestSeries;

/// A note about a segmentation and a report, with patient and study of the file that `taken_from` picks.
fn note(series: &TestSeries, reason: RejectionReason) -> (ResultObject, Vec<String>) {
    let object = Example::new(series.stack.geometry.shape()).build(&series.stack);
    let rejected = [
        RejectedInstance {
            series_instance_uid: object.series_instance_uid.clone(),
            sop_instance_uid: object.sop_instance_uid.clone(),
            sop_class_uid: "1.2.840.10008.5.1.4.1.1.66.4".parse().unwrap(),
        },
        RejectedInstance {
            series_instance_uid: "2.25.17".parse().unwrap(),
            sop_instance_uid: "2.25.18".parse().unwrap(),
            sop_class_uid: "1.2.840.10008.5.1.4.1.1.88.34".parse().unwrap(),
        },
    ];
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("seg.dcm");
    std::fs::write(&file, &object.bytes).unwrap();
    let content = RejectionNoteContent {
        study_instance_uid: &series.stack.study_instance_uid,
        rejected: &rejected,
        reason,
        description: "Result of protocol ct-abdomen recalled.",
        identity: &identity(),
        software_version: "1.0",
        device_serial_number: "prosector",
    };
    let note = build(&file, &content).unwrap();
    assert!(note == build(&file, &content).unwrap(), "the same content gives the same bytes");
    let uids = rejected.iter().map(|instance| instance.sop_instance_uid.to_string()).collect();
    (note, uids)
}

const READ_WITH_HIGHDICOM: &str = "
import sys, pydicom, highdicom
note = highdicom.ko.KeyObjectSelectionDocument.from_dataset(pydicom.dcmread(sys.argv[1]))
source = pydicom.dcmread(sys.argv[2], stop_before_pixels=True)
for keyword in ('PatientName', 'PatientID', 'StudyInstanceUID', 'AccessionNumber', 'StudyDate', 'StudyID'):
    assert note.get(keyword) == source.get(keyword), keyword
title = note.ConceptNameCodeSequence[0]
print(title.CodingSchemeDesignator, title.CodeValue, title.CodeMeaning, sep='|')
found = [item for item in note.ContentSequence if 'ReferencedSOPSequence' in item]
evidence = [sop.ReferencedSOPInstanceUID for study in note.CurrentRequestedProcedureEvidenceSequence
            for series in study.ReferencedSeriesSequence for sop in series.ReferencedSOPSequence]
referenced = [item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for item in found]
assert sorted(evidence) == sorted(referenced)
print(*referenced)
print(*[item.ValueType for item in found])
print(*[note.resolve_reference(uid)[0] for uid in referenced])
";

#[test]
fn others_read_every_kind_of_note() {
    let series = TestSeries::oblique();
    for (reason, title) in [
        (RejectionReason::Quality, "DCM|113001|Rejected for Quality Reasons"),
        (RejectionReason::PatientSafety, "DCM|113037|Rejected for Patient Safety Reasons"),
        (RejectionReason::WrongWorklistEntry, "DCM|113038|Incorrect Modality Worklist Entry"),
        (RejectionReason::RetentionExpired, "DCM|113039|Data Retention Policy Expired"),
    ] {
        let (note, uids) = note(&series, reason);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("note.dcm");
        std::fs::write(&file, &note.bytes).unwrap();

        let verified = Command::new("/usr/bin/dciodvfy")
            .arg(&file)
            .output()
            .expect("dciodvfy is missing: install dicom3tools");
        let said = String::from_utf8_lossy(&verified.stderr);
        assert!(said.contains("KeyObjectSelection") && !said.contains("Error"), "{said}");

        let python = std::env::var_os("PROSECTOR_TEST_PYTHON")
            .expect("PROSECTOR_TEST_PYTHON is not set: run the tests through ops/test");
        let output = Command::new(python)
            .args(["-c", READ_WITH_HIGHDICOM])
            .arg(&file)
            .arg(&series.stack.slices[0].path)
            .output()
            .unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{complaint}");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines[0], title);
        assert_eq!(lines[1], uids.join(" "));
        assert_eq!(lines[2], "IMAGE COMPOSITE");
        assert!(lines[3].starts_with(series.stack.study_instance_uid.as_str()), "{said}");
    }
}

#[test]
fn a_note_needs_something_to_reject_in_the_study_of_its_patient() {
    let series = TestSeries::oblique();
    let study = series.stack.study_instance_uid.clone();
    let other = "1.2.3".parse().unwrap();
    let rejected = [RejectedInstance {
        series_instance_uid: "2.25.17".parse().unwrap(),
        sop_instance_uid: "2.25.18".parse().unwrap(),
        sop_class_uid: "1.2.840.10008.5.1.4.1.1.66.4".parse().unwrap(),
    }];
    let identity = identity();
    let content = RejectionNoteContent {
        study_instance_uid: &study,
        rejected: &[],
        reason: RejectionReason::Quality,
        description: "",
        identity: &identity,
        software_version: "1.0",
        device_serial_number: "prosector",
    };
    let file = &series.stack.slices[0].path;

    assert!(matches!(build(file, &content), Err(BuildRejectionNoteError::Nothing)));
    let content =
        RejectionNoteContent { rejected: &rejected, study_instance_uid: &other, ..content };
    assert!(matches!(build(file, &content), Err(BuildRejectionNoteError::OtherStudy)));
    let missing = std::path::Path::new("no/such/file.dcm");
    assert!(matches!(build(missing, &content), Err(BuildRejectionNoteError::Source(_))));
}
