//! Coded concepts (PS3.3 8.8): what a segment shows, in a terminology that other systems know.

/// Longest Code Value (0008,0100), a short string (PS3.5 6.2).
const MAX_SHORT: usize = 16;
/// Longest Code Meaning (0008,0104), a long string.
const MAX_MEANING: usize = 64;
/// Longest value taken for Long Code Value (0008,0119). The standard knows no limit, database columns do.
const MAX_LONG_VALUE: usize = 256;

/// The part of a coded concept that a [`CodedConceptError`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConceptPart {
    /// Code Value, Long Code Value or URN Code Value.
    Value,
    /// Coding Scheme Designator.
    SchemeDesignator,
    /// Code Meaning.
    Meaning,
}

impl std::fmt::Display for ConceptPart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Value => "code value",
            Self::SchemeDesignator => "coding scheme designator",
            Self::Meaning => "code meaning",
        })
    }
}

/// Why three texts are not a coded concept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodedConceptError {
    /// Nothing but spaces.
    #[error("empty {part}")]
    Empty {
        /// Which part.
        part: ConceptPart,
    },
    /// Longer than its value representation allows.
    #[error("{part} of {length} characters, at most {max} are allowed")]
    TooLong {
        /// Which part.
        part: ConceptPart,
        /// Characters found.
        length: usize,
        /// Characters allowed.
        max: usize,
    },
    /// A backslash, a control character or something outside ASCII, which would depend on the character set of the
    /// object that the concept is written to.
    #[error("{part} with a backslash, a control character or a character outside ASCII")]
    Malformed {
        /// Which part.
        part: ConceptPart,
    },
    /// A retired designator of SNOMED, whose codes are others than those of SCT.
    #[error("coding scheme designator {designator} is retired, use SCT with SNOMED CT codes")]
    Retired {
        /// The designator found.
        designator: &'static str,
    },
}

/// The attribute that carries the value of a concept (PS3.3 8.8.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodeValueForm {
    /// Code Value (0008,0100), up to 16 characters.
    Short,
    /// Long Code Value (0008,0119).
    Long,
    /// URN Code Value (0008,0120).
    Urn,
}

/// A code with its scheme and its meaning, each trimmed, printable ASCII and within its length.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CodedConcept {
    value: Box<str>,
    scheme_designator: Box<str>,
    meaning: Box<str>,
}

impl CodedConcept {
    /// Builds a concept from its code value, the designator of its coding scheme (`SCT`, `DCM`, …) and its meaning.
    ///
    /// # Errors
    /// [`CodedConceptError`] names the part that the standard refuses.
    pub fn new(
        value: &str,
        scheme_designator: &str,
        meaning: &str,
    ) -> Result<Self, CodedConceptError> {
        let value = checked(value, ConceptPart::Value, MAX_LONG_VALUE)?;
        let scheme_designator =
            checked(scheme_designator, ConceptPart::SchemeDesignator, MAX_SHORT)?;
        let meaning = checked(meaning, ConceptPart::Meaning, MAX_MEANING)?;
        for designator in ["SRT", "SNM3", "99SDM"] {
            if &*scheme_designator == designator {
                return Err(CodedConceptError::Retired { designator });
            }
        }
        Ok(Self { value, scheme_designator, meaning })
    }

    /// The code.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Which attribute the code goes to.
    pub fn value_form(&self) -> CodeValueForm {
        if self.value.starts_with("urn:") || self.value.contains("://") {
            CodeValueForm::Urn
        } else if self.value.len() > MAX_SHORT {
            CodeValueForm::Long
        } else {
            CodeValueForm::Short
        }
    }

    /// The coding scheme, `SCT` for SNOMED CT, `DCM` for the standard's own codes.
    pub fn scheme_designator(&self) -> &str {
        &self.scheme_designator
    }

    /// What the code means, for a person.
    pub fn meaning(&self) -> &str {
        &self.meaning
    }
}

fn checked(text: &str, part: ConceptPart, max: usize) -> Result<Box<str>, CodedConceptError> {
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Err(CodedConceptError::Empty { part });
    }
    if !trimmed.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'\\') {
        return Err(CodedConceptError::Malformed { part });
    }
    if trimmed.len() > max {
        return Err(CodedConceptError::TooLong { part, length: trimmed.len(), max });
    }
    Ok(trimmed.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trims_every_part() {
        let liver = CodedConcept::new(" 10200004 ", "SCT ", " Liver").unwrap();

        assert_eq!(
            (liver.value(), liver.scheme_designator(), liver.meaning()),
            ("10200004", "SCT", "Liver")
        );
        assert_eq!(liver.value_form(), CodeValueForm::Short);
    }

    #[test]
    fn long_codes_and_urns_get_their_own_attribute() {
        let long = CodedConcept::new("12345678901234567", "SCT", "Long").unwrap();
        let urn = CodedConcept::new("urn:oid:1.2.3", "99X", "Urn").unwrap();

        assert_eq!(long.value_form(), CodeValueForm::Long);
        assert_eq!(urn.value_form(), CodeValueForm::Urn);
    }

    #[test]
    fn refuses_each_kind_of_bad_part() {
        let too_long = "m".repeat(65);
        let cases = [
            (("", "SCT", "Liver"), CodedConceptError::Empty { part: ConceptPart::Value }),
            (
                ("1", "  ", "Liver"),
                CodedConceptError::Empty { part: ConceptPart::SchemeDesignator },
            ),
            (("1", "SCT", ""), CodedConceptError::Empty { part: ConceptPart::Meaning }),
            (
                ("1", "SCT", too_long.as_str()),
                CodedConceptError::TooLong { part: ConceptPart::Meaning, length: 65, max: 64 },
            ),
            (
                ("1", "A2345678901234567", "Liver"),
                CodedConceptError::TooLong {
                    part: ConceptPart::SchemeDesignator,
                    length: 17,
                    max: 16,
                },
            ),
            (("1\\2", "SCT", "Liver"), CodedConceptError::Malformed { part: ConceptPart::Value }),
            (("1", "SCT", "Größe"), CodedConceptError::Malformed { part: ConceptPart::Meaning }),
            (("T-62000", "SRT", "Liver"), CodedConceptError::Retired { designator: "SRT" }),
        ];

        for ((value, scheme, meaning), expected) in cases {
            assert_eq!(CodedConcept::new(value, scheme, meaning), Err(expected));
        }
    }
}
