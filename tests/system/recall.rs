//! Results of a faulty pack taken back from the PACS that has them.

use std::time::Duration;

use prosector_model::phantom::Plane;
use test_harness::dcmtk::{Peer, dciodvfy, dcmsend};
use test_harness::orthanc::Orthanc;
use test_harness::prosector::{AE_TITLE, Prosector};
use test_harness::wait_until;

use crate::pacs::{PHANTOM_PROTOCOL, destination, segmentations};
use crate::phantom::{Phantom, Scan};

#[test]
fn results_of_a_pack_are_retracted_from_orthanc_by_rejection_notes() {
    let pacs = Orthanc::start(&[]).unwrap();
    let service = Prosector::start(&format!("{PHANTOM_PROTOCOL}{}", destination(&pacs))).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("study");
    let phantom = Phantom::write(&source, &Scan::ct(80, Plane::Axial));
    dcmsend(Peer { ae_title: AE_TITLE, port: service.dicom_port() }, &source).unwrap();
    segmentations(&pacs, 1, folder.path());
    let delivered = || Ok(service.json(&["job", "list"])?[0]["delivered"] == 1);
    wait_until("the delivery to be recorded", Duration::from_secs(20), delivered).unwrap();
    let job = service.json(&["job", "list"]).unwrap()[0].clone();
    let pack = job["pack_digest"].as_str().unwrap();

    let unknown = service.json(&["recall", "--pack", &"0".repeat(64), "--dry-run"]).unwrap();
    assert_eq!(unknown.as_array().unwrap().len(), 0);
    let planned = service.json(&["recall", "--pack", pack, "--dry-run"]).unwrap();
    assert_eq!(planned.as_array().unwrap().len(), 1);
    assert_eq!(planned[0]["action"], "would be retracted from pacs");
    assert_eq!(planned[0]["study_instance_uid"], phantom.study_instance_uid.as_str());
    assert!(pacs.instances_of_modality("KO").unwrap().is_empty(), "a dry run sends nothing");

    let done = service.json(&["recall", "--pack", pack, "--reason", "safety"]).unwrap();

    let action = done[0]["action"].as_str().unwrap();
    let note_uid = action.strip_prefix("retracted by ").unwrap();
    wait_until("the note in the PACS", Duration::from_mins(1), || {
        Ok(pacs.instances_of_modality("KO")?.len() == 1)
    })
    .unwrap();
    let note = pacs.instances_of_modality("KO").unwrap().pop().unwrap();
    let file = folder.path().join("note.dcm");
    std::fs::write(&file, pacs.file(&note).unwrap()).unwrap();
    let said = dciodvfy(&file).unwrap();
    assert!(said.contains("KeyObjectSelection") && !said.contains("Error"), "{said}");
    let tags = pacs.get(&format!("instances/{note}/simplified-tags")).unwrap();
    assert_eq!(tags["SOPInstanceUID"], note_uid);
    assert_eq!(tags["StudyInstanceUID"], phantom.study_instance_uid.as_str());
    assert_eq!(tags["PatientID"], "PHANTOM");
    assert_eq!(tags["ConceptNameCodeSequence"][0]["CodeValue"], "113037");
    let rejected =
        &tags["CurrentRequestedProcedureEvidenceSequence"][0]["ReferencedSeriesSequence"];
    let rejected = &rejected[0]["ReferencedSOPSequence"][0]["ReferencedSOPInstanceUID"];
    assert_eq!(*rejected, planned[0]["sop_instance_uid"]);

    let again = service.json(&["recall", "--protocol", "phantom", "--dry-run"]).unwrap();
    assert_eq!(again.as_array().unwrap().len(), 0, "nothing is left to recall");
    let why = service.command(&["why", &phantom.study_instance_uid]).unwrap();
    assert!(why.contains("result_recalled [recalled_for_patient_safety]"), "{why}");
    let job = job["job_id"].as_str().unwrap();
    assert!(service.command(&["job", "retry", job]).is_err(), "a recalled result stays recalled");
    assert!(service.command(&["audit", "verify"]).unwrap().contains("entries are sound"));
}
