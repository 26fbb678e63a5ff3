//! Named sets of prompts.

use dicom_types::Modality;

/// Patient's Sex (0010,0040), where it decides which organs exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Sex {
    /// `M`
    Male,
    /// `F`
    Female,
}

impl Sex {
    /// Reads the enumerated values that name a sex; `O` and an empty value do not.
    pub(crate) fn from_header(value: &str) -> Option<Self> {
        match value {
            "M" => Some(Self::Male),
            "F" => Some(Self::Female),
            _ => None,
        }
    }
}

/// Targets that one kind of examination usually asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TargetSet {
    /// Name for people.
    pub(crate) title: String,
    /// Scans that the set is meant for.
    pub(crate) modality: Vec<Modality>,
    /// Voxel order that the set was trained in.
    pub(crate) orientation: String,
    /// Anatomy.
    pub(crate) targets: Vec<String>,
    /// Findings, left out unless asked for.
    pub(crate) lesions: Vec<String>,
    /// Taken for men alone.
    pub(crate) male: Vec<String>,
    /// Taken for women alone.
    pub(crate) female: Vec<String>,
}

impl TargetSet {
    /// Every prompt that the set can yield.
    #[cfg(test)]
    pub(crate) fn all(&self) -> impl Iterator<Item = &str> {
        let lists = [&self.targets, &self.lesions, &self.male, &self.female];
        lists.into_iter().flatten().map(String::as_str)
    }
}
