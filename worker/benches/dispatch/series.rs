//! Small series, each of a study of its own.

use std::path::Path;

use anyhow::Result;
use dicom_io::synthetic::{SyntheticSeries, write_series};
use dicom_types::{GridGeometry, Modality, Volume};
use uuid::Uuid;

/// Slices, rows, columns.
const SHAPE: [usize; 3] = [12, 64, 64];

/// Writes `count` series into folders `000`, `001`, … of `folder`.
pub(crate) fn write(folder: &Path, count: usize) -> Result<()> {
    let steps = [[0.0, 0.0, 3.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]];
    let geometry = GridGeometry::new(SHAPE, [0.0; 3], steps)?;
    let values = (0..geometry.voxels()).map(|at| (at % 200) as f32).collect();
    let volume = Volume::new(geometry, values)?;
    for number in 0..count {
        let uid = || format!("2.25.{}", Uuid::new_v4().as_u128());
        let series = SyntheticSeries {
            modality: Modality::Ct,
            study_instance_uid: uid().parse()?,
            series_instance_uid: uid().parse()?,
            frame_of_reference_uid: uid().parse()?,
            patient_name: "Bench",
            patient_id: "BENCH",
            accession_number: "BENCH",
            series_number: 1,
            description: "Bench",
            body_part_examined: "ABDOMEN",
            date: "20260101",
        };
        let folder = folder.join(format!("{number:03}"));
        std::fs::create_dir_all(&folder)?;
        for (index, instance) in write_series(&volume, &series)?.into_iter().enumerate() {
            std::fs::write(folder.join(format!("{index:03}.dcm")), instance.bytes)?;
        }
    }
    Ok(())
}
