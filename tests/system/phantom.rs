//! Phantom studies on disk, and what must be found in them.

use std::path::Path;

use dicom_io::synthetic::{SyntheticSeries, write_series};
use dicom_types::{GridGeometry, Modality};
use prosector_model::phantom::{Acquisition, Contrast, HELD_OUT_SEED, Plane, Structure, Torso};
use serde_json::Value;

/// Structures of the phantom's target set.
pub(crate) const TARGETS: [Structure; 8] = [
    Structure::LeftLung,
    Structure::RightLung,
    Structure::Liver,
    Structure::Spleen,
    Structure::LeftKidney,
    Structure::RightKidney,
    Structure::Aorta,
    Structure::Vertebrae,
];

/// A phantom that was scanned and written as a series.
pub(crate) struct Phantom {
    torso: Torso,
    grid: GridGeometry,
    pub(crate) study_instance_uid: String,
    pub(crate) series_instance_uid: String,
    pub(crate) instances: usize,
    sop_instance_uids: Vec<String>,
}

/// How a phantom is scanned.
#[derive(Clone)]
pub(crate) struct Scan {
    pub(crate) seed: u64,
    pub(crate) contrast: Contrast,
    pub(crate) acquisition: Acquisition,
}

impl Scan {
    /// A CT in an upright plane, coarse enough to be quick.
    pub(crate) fn ct(seed: u64, plane: Plane) -> Self {
        let acquisition = Acquisition::new(plane).with_spacing_mm([5.0, 3.0, 3.0]);
        Self { seed, contrast: Contrast::Ct, acquisition }
    }
}

impl Phantom {
    /// Writes the series into `folder`, a file per slice.
    pub(crate) fn write(folder: &Path, scan: &Scan) -> Self {
        Self::write_as(folder, scan, "Phantom^Torso", "PHANTOM", "ACCESSION")
    }

    /// Writes the series with the given patient's name, patient id and accession number.
    pub(crate) fn write_as(
        folder: &Path,
        scan: &Scan,
        patient_name: &str,
        patient_id: &str,
        accession_number: &str,
    ) -> Self {
        let torso = Torso::random(HELD_OUT_SEED + scan.seed);
        let grid = scan.acquisition.grid(&torso);
        let volume = torso.sample(&grid, scan.contrast, scan.seed);
        let uid = |kind: u32| format!("1.2.826.0.1.3680043.10.1491.{}.{kind}", scan.seed + 1);
        let series = SyntheticSeries {
            modality: if scan.contrast == Contrast::Ct { Modality::Ct } else { Modality::Mr },
            study_instance_uid: uid(1).parse().unwrap(),
            series_instance_uid: uid(2).parse().unwrap(),
            frame_of_reference_uid: uid(3).parse().unwrap(),
            patient_name,
            patient_id,
            accession_number,
            series_number: 3,
            description: "Phantom",
            body_part_examined: "ABDOMEN",
            date: "20260101",
        };
        std::fs::create_dir_all(folder).unwrap();
        let instances = write_series(&volume, &series).unwrap();
        for (index, instance) in instances.iter().enumerate() {
            std::fs::write(folder.join(format!("{index:03}.dcm")), &instance.bytes).unwrap();
        }
        Self {
            torso,
            grid,
            study_instance_uid: uid(1),
            series_instance_uid: uid(2),
            instances: instances.len(),
            sop_instance_uids: instances.iter().map(|i| i.sop_instance_uid.to_string()).collect(),
        }
    }

    /// SOP Instance UIDs, in the order of the files' names.
    pub(crate) fn sop_instance_uids(&self) -> &[String] {
        &self.sop_instance_uids
    }

    /// Writes where each target is, a byte a voxel, in the layout that `check_seg.py --truth` reads.
    pub(crate) fn write_truth(&self, folder: &Path) {
        std::fs::create_dir_all(folder).unwrap();
        let slices: Vec<(&str, Option<u32>)> =
            self.sop_instance_uids.iter().map(|uid| (uid.as_str(), None)).collect();
        std::fs::write(folder.join("slices.json"), serde_json::to_vec(&slices).unwrap()).unwrap();
        let [_, rows, columns] = self.grid.shape();
        for (structure, truth) in TARGETS.into_iter().zip(self.torso.truths(&self.grid, &TARGETS)) {
            let mut bytes = vec![0u8; self.grid.voxels()];
            truth.for_each(|[s, r, c]| bytes[(s * rows + r) * columns + c] = 1);
            std::fs::write(folder.join(format!("{}.raw", structure.prompt())), bytes).unwrap();
        }
    }

    /// Compares what a third-party reader saw in a segmentation with the phantom: volume within a factor of two and
    /// centroid within 25 mm of the truth, in the patient. A mirrored or upside-down object is off by more than 60 mm
    /// for every organ that is not in the middle.
    pub(crate) fn assert_seen(&self, checked: &str) {
        let seen: Value = serde_json::from_str(checked).unwrap();
        let truths = self.torso.truths(&self.grid, &TARGETS);
        for (structure, truth) in TARGETS.into_iter().zip(&truths) {
            let label = structure.prompt();
            let segments = seen["segments"].as_array().unwrap();
            let segment = segments.iter().find(|segment| segment["label"] == label);
            let segment = segment.unwrap_or_else(|| panic!("no segment {label} in {checked}"));
            let mut sum = [0.0; 3];
            truth.for_each(|voxel| {
                let position = self.grid.position_mm(voxel.map(|index| index as f64));
                for (sum, p) in sum.iter_mut().zip(position) {
                    *sum += p;
                }
            });
            let count = truth.count() as f64;
            let expected = sum.map(|s| s / count);
            let found: Vec<f64> = serde_json::from_value(segment["centroid_mm"].clone()).unwrap();
            let distance =
                expected.iter().zip(&found).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
            assert!(distance < 25.0, "{label} lies at {found:?}, truth {expected:?}");
            let ratio = segment["voxels"].as_f64().unwrap() / count;
            assert!((0.5..2.0).contains(&ratio), "{label} has {ratio:.2} times the voxels");
        }
    }
}

/// Dice of each of [`TARGETS`], as `check_seg.py --truth` printed it.
pub(crate) fn dice_seen(checked: &str) -> [f64; TARGETS.len()] {
    let seen: Value = serde_json::from_str(checked).unwrap();
    let segments = seen["segments"].as_array().unwrap();
    TARGETS.map(|structure| {
        let segment = segments.iter().find(|segment| segment["label"] == structure.prompt());
        segment.and_then(|segment| segment["dice"].as_f64()).unwrap_or(0.0)
    })
}
