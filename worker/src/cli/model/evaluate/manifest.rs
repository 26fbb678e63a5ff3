//! The cases of an evaluation: series, and where their references lie.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::cli::UsageError;

/// Tolerance of the normalised surface distance where the manifest states none: that of SAT's own evaluation.
const DEFAULT_TOLERANCE_MM: f64 = 1.0;

/// A manifest as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawManifest {
    #[serde(default = "default_tolerance")]
    tolerance_mm: f64,
    case: Vec<RawCase>,
}

fn default_tolerance() -> f64 {
    DEFAULT_TOLERANCE_MM
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCase {
    name: Option<String>,
    series: PathBuf,
    modality: Option<Modality>,
    orientation: Option<Orientation>,
    segmentation: Option<PathBuf>,
    #[serde(default)]
    masks: BTreeMap<String, PathBuf>,
    labels: Option<RawLabels>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Modality {
    Ct,
    Mr,
    Pt,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Orientation {
    Ras,
    Asr,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLabels {
    file: PathBuf,
    values: BTreeMap<String, u16>,
}

/// Cases to evaluate, checked.
#[derive(Debug)]
pub(super) struct Manifest {
    /// Tolerance of the normalised surface distance.
    pub(super) tolerance_mm: f64,
    /// At least one.
    pub(super) cases: Vec<Case>,
}

/// One series with its reference.
#[derive(Debug)]
pub(super) struct Case {
    /// What the tables call it.
    pub(super) name: String,
    /// File, or folder of files, of the series.
    pub(super) series: PathBuf,
    /// What to tell the network that the scan is, in place of what the header says.
    pub(super) modality: Option<dicom_types::Modality>,
    /// Voxel order for the network.
    pub(super) orientation: prosector_model::OrientationCode,
    /// Where the truth is.
    pub(super) reference: Reference,
}

/// Where the truth of a case is.
#[derive(Debug)]
pub(super) enum Reference {
    /// A DICOM Segmentation whose Segment Labels are prompts.
    Segmentation(PathBuf),
    /// A NIfTI image for each prompt; what is not zero belongs to it.
    Masks(BTreeMap<String, PathBuf>),
    /// One NIfTI image with a value for each prompt.
    Labels(PathBuf, BTreeMap<String, u16>),
}

impl Manifest {
    /// Reads a manifest. Paths in it are relative to its folder.
    ///
    /// # Errors
    /// When it cannot be read, or says something that cannot be; all problems at once.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the cases {}", path.display()))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        Self::parse(&text, folder)
            .map_err(|problem| UsageError(format!("{}: {problem}", path.display())).into())
    }

    fn parse(text: &str, folder: &Path) -> Result<Self, String> {
        let raw: RawManifest = toml::from_str(text).map_err(|error| error.to_string())?;
        let mut problems = Vec::new();
        let is_length = raw.tolerance_mm.is_finite() && raw.tolerance_mm > 0.0;
        if !is_length {
            problems.push("tolerance_mm is no positive length".to_owned());
        }
        if raw.case.is_empty() {
            problems.push("no [[case]]".to_owned());
        }
        let mut cases = Vec::new();
        for (index, case) in raw.case.into_iter().enumerate() {
            match case.check(folder) {
                Ok(case) => cases.push(case),
                Err(problem) => problems.push(format!("case[{index}]: {problem}")),
            }
        }
        if problems.is_empty() {
            return Ok(Self { tolerance_mm: raw.tolerance_mm, cases });
        }
        Err(problems.join("; "))
    }
}

impl RawCase {
    fn check(self, folder: &Path) -> Result<Case, String> {
        let masks = (!self.masks.is_empty()).then_some(self.masks);
        let reference = match (self.segmentation, masks, self.labels) {
            (Some(file), None, None) => Reference::Segmentation(folder.join(file)),
            (None, Some(masks), None) => Reference::Masks(
                masks.into_iter().map(|(prompt, file)| (prompt, folder.join(file))).collect(),
            ),
            (None, None, Some(labels)) if labels.values.is_empty() => {
                return Err("labels.values names no target".to_owned());
            }
            (None, None, Some(labels)) => {
                Reference::Labels(folder.join(labels.file), labels.values)
            }
            _ => return Err("state one of segmentation, masks, labels".to_owned()),
        };
        Ok(Case {
            name: self.name.unwrap_or_else(|| self.series.display().to_string()),
            series: folder.join(self.series),
            modality: self.modality.map(|modality| match modality {
                Modality::Ct => dicom_types::Modality::Ct,
                Modality::Mr => dicom_types::Modality::Mr,
                Modality::Pt => dicom_types::Modality::Pt,
            }),
            orientation: match self.orientation {
                None | Some(Orientation::Ras) => prosector_model::OrientationCode::Ras,
                Some(Orientation::Asr) => prosector_model::OrientationCode::Asr,
            },
            reference,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_has_one_reference_and_paths_of_the_manifests_folder() {
        let text =
            "[[case]]\nseries = \"ct\"\nmodality = \"CT\"\nmasks = { liver = \"liver.nii.gz\" }\n";

        let manifest = Manifest::parse(text, Path::new("/data")).unwrap();

        assert!((manifest.tolerance_mm - DEFAULT_TOLERANCE_MM).abs() < f64::EPSILON);
        assert_eq!(manifest.cases[0].name, "ct");
        assert_eq!(manifest.cases[0].series, Path::new("/data/ct"));
        let Reference::Masks(masks) = &manifest.cases[0].reference else { panic!("{manifest:?}") };
        assert_eq!(masks["liver"], Path::new("/data/liver.nii.gz"));
    }

    #[test]
    fn every_problem_is_named() {
        let text = "tolerance_mm = 0\n[[case]]\nseries = \"a\"\n\
                    [[case]]\nseries = \"b\"\nsegmentation = \"s\"\nmasks = { liver = \"m\" }\n";

        let problem = Manifest::parse(text, Path::new("")).unwrap_err();

        insta::assert_snapshot!(problem, @"tolerance_mm is no positive length; case[0]: state one of segmentation, masks, labels; case[1]: state one of segmentation, masks, labels");
        assert!(Manifest::parse("[[case]]\nserie = \"a\"\n", Path::new("")).is_err());
        assert!(Manifest::parse("case = []\n", Path::new("")).unwrap_err().contains("no [[case]]"));
    }
}
