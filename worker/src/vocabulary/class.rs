//! One class of the vocabulary.

use dicom_types::Modality;

/// A coded concept (PS3.3 table 8.8-1).
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Code {
    /// Code Value (0008,0100).
    pub(crate) value: String,
    /// Coding Scheme Designator (0008,0102).
    pub(crate) scheme: String,
    /// Code Meaning (0008,0104).
    pub(crate) meaning: String,
}

impl Code {
    /// Joins the three parts of a code.
    pub(crate) fn new(value: &str, scheme: &str, meaning: &str) -> Self {
        Self { value: value.to_owned(), scheme: scheme.to_owned(), meaning: meaning.to_owned() }
    }

    /// Whether this is the code `value` of `scheme`, whatever its meaning is called.
    pub(crate) fn is(&self, scheme: &str, value: &str) -> bool {
        self.scheme == scheme && self.value == value
    }
}

/// What a segment is, in the words of the Segment Description macro (PS3.3 table C.8.20-4).
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize)]
pub(crate) struct Concept {
    /// Segmented Property Category.
    pub(crate) category: Code,
    /// Segmented Property Type.
    pub(crate) property_type: Code,
    /// Segmented Property Type Modifier: the side.
    pub(crate) modifier: Option<Code>,
    /// Anatomic Region, for findings.
    pub(crate) anatomic_region: Option<Code>,
    /// Anatomic Region Modifier.
    pub(crate) anatomic_region_modifier: Option<Code>,
    /// Whether the type says no less than the prompt.
    pub(crate) exact: bool,
}

/// A prompt that SAT was trained with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Class {
    /// The prompt, as the text encoder takes it.
    pub(crate) name: String,
    /// Scans in which the class was labelled during training.
    pub(crate) modalities: Vec<Modality>,
    /// What a segment of this class is.
    pub(crate) concept: Concept,
    /// Recommended colour, sRGB.
    pub(crate) rgb: [u8; 3],
    /// Whether it is a finding rather than anatomy.
    pub(crate) lesion: bool,
}

/// Reads a colour written as `#RRGGBB`.
pub(crate) fn parse_rgb(text: &str) -> Option<[u8; 3]> {
    let digits = text.strip_prefix('#')?;
    if digits.len() != 6 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let number = u32::from_str_radix(digits, 16).ok()?;
    let [_, red, green, blue] = number.to_be_bytes();
    Some([red, green, blue])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_colours_and_refuses_what_is_none() {
        assert_eq!(parse_rgb("#0A80ff"), Some([10, 128, 255]));
        for text in ["", "#", "0A80ff", "#0A80f", "#0A80fff", "#0A80fg", "#+A80ff", "#é80ff"] {
            assert_eq!(parse_rgb(text), None, "{text}");
        }
    }
}
