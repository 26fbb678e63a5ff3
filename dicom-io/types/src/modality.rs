//! Modalities that prosector can segment.

use std::fmt;
use std::str::FromStr;

/// A value of Modality (0008,0060) for which SAT was trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Modality {
    /// Computed tomography, values in HU.
    Ct,
    /// Magnetic resonance, arbitrary units.
    Mr,
    /// Positron emission tomography.
    Pt,
}

impl Modality {
    /// The defined term of PS3.3 C.7.3.1.1.1.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ct => "CT",
            Self::Mr => "MR",
            Self::Pt => "PT",
        }
    }
}

/// A modality that the model was not trained for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("modality is none of CT, MR, PT")]
pub struct ParseModalityError;

impl FromStr for Modality {
    type Err = ParseModalityError;

    fn from_str(text: &str) -> Result<Self, ParseModalityError> {
        match text.trim_matches([' ', '\0']) {
            "CT" => Ok(Self::Ct),
            "MR" => Ok(Self::Mr),
            "PT" => Ok(Self::Pt),
            _ => Err(ParseModalityError),
        }
    }
}

impl fmt::Display for Modality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
