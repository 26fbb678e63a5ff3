//! The phantom study that is sent.

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
pub(super) struct Study {
    torso: Torso,
    /// Folder of the files.
    pub(super) folder: PathBuf,
    /// One file per slice.
    pub(super) files: Vec<PathBuf>,
}

impl Study {
    /// Makes a torso, scans it with planes tilted about two axes, and writes the series.
    pub(super) fn make(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let torso = Torso::random(SEED);
        let acquisition = Acquisition::new(Plane::Axial)
            .with_tilt([1.0, 0.4, 0.0], 14.0)
            .with_spacing_mm([4.0, 1.5, 1.5]);
        let volume = torso.sample(&acquisition.grid(&torso), Contrast::Ct, SEED);
        let uid = || format!("2.25.{}", Uuid::new_v4().as_u128());
        let series = SyntheticSeries {
            modality: Modality::Ct,
            study_instance_uid: uid().parse()?,
            series_instance_uid: uid().parse()?,
            frame_of_reference_uid: uid().parse()?,
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
    pub(super) fn stack(&self) -> Result<Stack> {
        let report = read_stacks(&self.files);
        report.stacks.into_iter().next().context("the phantom is no volume")
    }

    /// What is where, on the stored grid of the series, for every target of the phantom's set.
    pub(super) fn truths(&self, grid: GridGeometry) -> Result<Vec<(String, Mask)>> {
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
