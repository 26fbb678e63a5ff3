//! Series made in code.

use std::path::Path;

use dicom_io::synthetic::{SyntheticSeries, write_series};
use dicom_types::{GridGeometry, Modality, Volume};

/// Writes an axial series of `slices` slices of 24 rows and 32 columns to `folder`.
pub(crate) fn write_axial(folder: &Path, uid: &str, modality: Modality, slices: usize) {
    let steps = [[0.0, 0.0, 5.0], [0.0, 2.0, 0.0], [2.0, 0.0, 0.0]];
    let geometry = GridGeometry::new([slices, 24, 32], [-32.0, -24.0, 0.0], steps).unwrap();
    let values = (0..geometry.voxels()).map(|i| (i % 700) as f32 - 350.0).collect();
    let volume = Volume::new(geometry, values).unwrap();
    let series = SyntheticSeries {
        modality,
        study_instance_uid: "1.2.3".parse().unwrap(),
        series_instance_uid: uid.parse().unwrap(),
        frame_of_reference_uid: "1.2.3.9".parse().unwrap(),
        patient_name: "SENTINEL^NAME",
        patient_id: "SENTINEL-ID",
        accession_number: "SENTINEL-ACC",
        series_number: 3,
        description: "SENTINEL description",
        body_part_examined: "ABDOMEN",
        date: "20260102",
    };
    std::fs::create_dir_all(folder).unwrap();
    for (number, instance) in write_series(&volume, &series).unwrap().iter().enumerate() {
        std::fs::write(folder.join(format!("{number:03}.dcm")), &instance.bytes).unwrap();
    }
}
