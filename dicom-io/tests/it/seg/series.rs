//! Series made for these tests, as files.

use std::path::{Path, PathBuf};

use dicom::object::{InMemDicomObject, from_reader};
use dicom_io::series::{Stack, read_stacks};
use dicom_io::synthetic::{SyntheticSeries, write_series};
use dicom_types::{GridGeometry, Modality, Volume};
use tempfile::TempDir;

/// A stack and the folder that holds its files.
pub(super) struct TestSeries {
    pub(super) stack: Stack,
    folder: TempDir,
}

impl TestSeries {
    /// Rotated about two axes, with a gantry tilt, three different spacings and frames that end inside a byte.
    pub(super) fn oblique() -> Self {
        let (a, b) = (0.3_f64, -0.2_f64);
        let column = [a.cos(), a.sin() * b.cos(), a.sin() * b.sin()];
        let row = [-a.sin(), a.cos() * b.cos(), a.cos() * b.sin()];
        let normal = [0.0, -b.sin(), b.cos()];
        let scaled = |v: [f64; 3], mm: f64| v.map(|x| x * mm);
        let slice = std::array::from_fn(|i| 3.0 * normal[i] + 0.4 * row[i]);
        let steps = [slice, scaled(row, 0.7), scaled(column, 0.9)];
        Self::of(GridGeometry::new([5, 23, 37], [-17.5, -33.25, 101.125], steps).unwrap())
    }

    /// The oblique series after `change` of the data set of every file.
    pub(super) fn oblique_with(change: impl Fn(&mut InMemDicomObject)) -> Self {
        let series = Self::oblique();
        let files: Vec<_> = series
            .stack
            .slices
            .iter()
            .map(|slice| {
                let mut object = from_reader(std::fs::File::open(&slice.path).unwrap()).unwrap();
                change(&mut object);
                let mut file = Vec::new();
                object.write_all(&mut file).unwrap();
                file
            })
            .collect();
        Self::from_files(files.into_iter())
    }

    pub(super) fn of(geometry: GridGeometry) -> Self {
        let values = (0..geometry.voxels()).map(|i| (i % 97) as f32).collect();
        let volume = Volume::new(geometry, values).unwrap();
        let series = SyntheticSeries {
            modality: Modality::Ct,
            study_instance_uid: "1.2.3.1".parse().unwrap(),
            series_instance_uid: "1.2.3.2".parse().unwrap(),
            frame_of_reference_uid: "1.2.3.3".parse().unwrap(),
            patient_name: "Phantom^Test",
            patient_id: "P-1",
            accession_number: "A-1",
            series_number: 2,
            description: "phantom",
            body_part_examined: "ABDOMEN",
            date: "20250615",
        };
        let instances = write_series(&volume, &series).unwrap();
        Self::from_files(instances.into_iter().map(|instance| instance.bytes))
    }

    pub(super) fn from_files(files: impl Iterator<Item = Vec<u8>>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let paths: Vec<PathBuf> = files
            .enumerate()
            .map(|(index, bytes)| {
                let path = folder.path().join(format!("{index:03}.dcm"));
                std::fs::write(&path, bytes).unwrap();
                path
            })
            .collect();
        let mut report = read_stacks(&paths);
        assert!(report.refusals.is_empty(), "{:?}", report.refusals);
        Self { stack: report.stacks.remove(0), folder }
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }
}
