//! The phantom study that is sent: by the demonstration, and by the self-test.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use dicom_io::series::{Stack, read_stacks};
use dicom_io::synthetic::{SyntheticSeries, write_series};
use dicom_types::{GridGeometry, Mask, Modality};
use prosector_model::phantom::{Acquisition, Contrast, HELD_OUT_SEED, Plane, Structure, Torso};
use uuid::Uuid;

use crate::protocol::resolve;

/// A torso that the phantom pack was neither trained on nor chosen by.
const SEED: u64 = HELD_OUT_SEED + 77;

/// A phantom CT on disk.
#[derive(Debug)]
pub(crate) struct Study {
    torso: Torso,
    /// Folder of the files.
    pub(crate) folder: PathBuf,
    /// One file per slice.
    pub(crate) files: Vec<PathBuf>,
}

impl Study {
    /// Makes a torso, scans it with planes tilted about two axes, and writes the series.
    ///
    /// # Errors
    /// When a file cannot be written, or a UID is none.
    pub(crate) fn make(
        folder: &Path,
        study_instance_uid: &str,
        series_instance_uid: &str,
    ) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let torso = Torso::random(SEED);
        let acquisition = Acquisition::new(Plane::Axial)
            .with_tilt([1.0, 0.4, 0.0], 14.0)
            .with_spacing_mm([4.0, 1.5, 1.5]);
        let volume = torso.sample(&acquisition.grid(&torso), Contrast::Ct, SEED);
        let series = SyntheticSeries {
            modality: Modality::Ct,
            study_instance_uid: study_instance_uid.parse()?,
            series_instance_uid: series_instance_uid.parse()?,
            frame_of_reference_uid: format!("2.25.{}", Uuid::new_v4().as_u128()).parse()?,
            patient_name: "Phantom^Torso",
            patient_id: "PHANTOM",
            accession_number: "DEMO",
            series_number: 1,
            description: "Phantom, oblique",
            body_part_examined: "ABDOMEN",
            date: "20260101",
        };
        let mut files = Vec::new();
        for (index, instance) in write_series(&volume, &series)?.into_iter().enumerate() {
            let path = folder.join(format!("{index:03}.dcm"));
            std::fs::write(&path, instance.bytes)?;
            files.push(path);
        }
        Ok(Self { torso, folder: folder.to_owned(), files })
    }

    /// The series as a reader finds it.
    ///
    /// # Errors
    /// When it is no volume.
    pub(crate) fn stack(&self) -> Result<Stack> {
        let report = read_stacks(&self.files);
        report.stacks.into_iter().next().context("the phantom is no volume")
    }

    /// What is where, on the stored grid of the series, for every target of the phantom's set.
    ///
    /// # Errors
    /// When the phantom has no such structure.
    pub(crate) fn truths(&self, grid: GridGeometry) -> Result<Vec<(String, Mask)>> {
        let mut prompts = Vec::new();
        let mut structures = Vec::new();
        for target in resolve("@phantom")? {
            let structure = Structure::from_prompt(&target.prompt)
                .with_context(|| format!("the phantom has no {}", target.prompt))?;
            prompts.push(target.prompt);
            structures.push(structure);
        }
        let truths = prompts.into_iter().zip(self.torso.truths(&grid, &structures)).collect();
        Ok(truths)
    }
}
