//! One class of the vocabulary.

use dicom_io::seg::SegmentConcept;
use dicom_types::Modality;

/// A prompt that SAT was trained with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Class {
    /// The prompt, as the text encoder takes it.
    pub(crate) name: String,
    /// Scans in which the class was labelled during training.
    pub(crate) modalities: Vec<Modality>,
    /// What a segment of this class is.
    pub(crate) concept: SegmentConcept,
    /// Whether the type says no less than the prompt.
    pub(crate) exact: bool,
    /// Recommended colour, sRGB.
    pub(crate) rgb: [u8; 3],
    /// Whether it is a finding rather than anatomy.
    pub(crate) lesion: bool,
    /// Region of the body, one of the eight of SAT's evaluation or the whole body.
    pub(crate) region: String,
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
