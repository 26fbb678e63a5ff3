//! What a PACS received.

use std::path::{Path, PathBuf};
use std::time::Duration;

use test_harness::dcmtk::dciodvfy;
use test_harness::orthanc::Orthanc;
use test_harness::{python, wait_until};

/// Site file lines that send results to `pacs`.
pub(crate) fn destination(pacs: &Orthanc) -> String {
    format!(
        "[[destination]]\nname = \"pacs\"\nae_title = \"ORTHANC\"\naddress = \"127.0.0.1:{}\"\n\
         retry = {{ first = \"200ms\", longest = \"1s\" }}\n",
        pacs.dicom_port()
    )
}

/// Site file lines that send every CT and MR through the phantom pack.
pub(crate) const PHANTOM_PROTOCOL: &str = "\
[completeness]
quiet = \"1s\"
[[protocol]]
name = \"phantom\"
match = { modality = [\"CT\", \"MR\"] }
model = \"phantom\"
targets = [\"@phantom\"]
destinations = [\"pacs\"]
";

/// Waits until the PACS has `count` segmentations and stores them as files in `folder`.
pub(crate) fn segmentations(pacs: &Orthanc, count: usize, folder: &Path) -> Vec<PathBuf> {
    wait_until(&format!("{count} segmentations"), Duration::from_mins(3), || {
        Ok(pacs.instances_of_modality("SEG")?.len() >= count)
    })
    .unwrap();
    let found = pacs.instances_of_modality("SEG").unwrap();
    assert_eq!(found.len(), count, "segmentations in the PACS");
    found
        .iter()
        .map(|instance| {
            let path = folder.join(format!("{instance}.dcm"));
            std::fs::write(&path, pacs.file(instance).unwrap()).unwrap();
            path
        })
        .collect()
}

/// Checks a segmentation with tools of others and returns what they saw.
pub(crate) fn assert_sound(segmentation: &Path, source: &Path) -> String {
    assert_valid(segmentation);
    python::check("check_seg.py", &[segmentation, source]).unwrap()
}

/// As [`assert_sound`], with the Dice of every segment against the truth in a folder of `Phantom::write_truth`.
pub(crate) fn assert_sound_with_truth(segmentation: &Path, source: &Path, truth: &Path) -> String {
    assert_valid(segmentation);
    let arguments = [segmentation, source, "--truth".as_ref(), truth];
    python::check("check_seg.py", &arguments).unwrap()
}

fn assert_valid(segmentation: &Path) {
    let said = dciodvfy(segmentation).unwrap();
    let errors: Vec<&str> = said.lines().filter(|line| line.contains("Error")).collect();
    assert!(errors.is_empty(), "dciodvfy of {}: {errors:?}", segmentation.display());
}
