//! Targets: what one word of a protocol asks the network for, and how the answer is coded.

use std::collections::HashSet;

use dicom_io::coded_concept::CodedConcept;
use dicom_io::seg::{LongString, SegmentConcept};
use dicom_types::Modality;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::config::{FieldPath, Problems, suggest};
use crate::routing::Condition;
use crate::vocabulary::{Class, Sex, TargetSet, Vocabulary, parse_rgb};

/// Coding scheme of concepts that no published table holds (PS3.3 8.2: local schemes start with 99).
const PRIVATE_SCHEME: &str = "99PROSECTOR";
/// Longest prompt, characters: what Segment Label (LO) holds.
const MAX_PROMPT: usize = 64;

/// One segment to look for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// What the text encoder reads, and the segment's label.
    pub(crate) prompt: String,
    /// What the segment is.
    pub(crate) concept: SegmentConcept,
    /// Whether the concept says no less than the prompt.
    pub(crate) exact: bool,
    /// Display colour, sRGB.
    pub(crate) rgb: [u8; 3],
    /// Looked for in patients of this sex alone.
    pub(crate) only_for: Option<Sex>,
    /// Scans in which the class was labelled during training; empty when that is not known.
    pub(crate) trained_on: Vec<Modality>,
}

impl Target {
    fn of_class(class: &Class) -> Self {
        Self {
            prompt: class.name.clone(),
            concept: class.concept.clone(),
            exact: class.exact,
            rgb: class.rgb,
            only_for: None,
            trained_on: class.modalities.clone(),
        }
    }

    /// A target that no table knows: the prompt as it is, coded in a scheme of our own.
    pub(crate) fn free_text(prompt: &str) -> Self {
        let digest = Sha256::digest(prompt.as_bytes());
        let value = format!("{:02X}{:02X}{:02X}{:02X}", digest[0], digest[1], digest[2], digest[3]);
        let meaning = LongString::fitted(prompt);
        let code = |value: &str, scheme: &str, meaning: &str| {
            CodedConcept::new(value, scheme, meaning).expect("each part fits its attribute")
        };
        Self {
            prompt: prompt.to_owned(),
            concept: SegmentConcept {
                // Wide enough for anatomy and findings; which of the two a free text means is not known.
                property_category: code("123037004", "SCT", "Body structure"),
                property_type: code(&value, PRIVATE_SCHEME, meaning.as_str()),
                property_type_modifier: None,
                anatomic_region: None,
                anatomic_region_modifier: None,
            },
            exact: true,
            rgb: [128 | (digest[4] / 2), 128 | (digest[5] / 2), 128 | (digest[6] / 2)],
            only_for: None,
            trained_on: Vec::new(),
        }
    }

    /// Whether to look for it in a patient whose Patient's Sex (0010,0040) is `sex`.
    pub(crate) fn is_for(&self, sex: Option<Sex>) -> bool {
        self.only_for.is_none() || self.only_for == sex
    }
}

/// Why a text names no target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ResolveError {
    /// Neither prompt nor synonym.
    #[error("no class {text:?} in the vocabulary{advice}")]
    UnknownClass {
        /// What was asked for.
        text: String,
        /// The nearest name, or how to do without.
        advice: String,
    },
    /// No set of this name.
    #[error("no set \"@{name}\"{advice}")]
    UnknownSet {
        /// What was asked for.
        name: String,
        /// The nearest name, or all of them.
        advice: String,
    },
    /// Something other than `+lesions` behind the name of a set.
    #[error("{suffix:?} after the set's name is not +lesions")]
    UnknownSuffix {
        /// What stood there.
        suffix: String,
    },
    /// No class of the vocabulary carries the code.
    #[error("no class of the vocabulary has the SNOMED CT code {code}")]
    UnknownCode {
        /// What was asked for.
        code: String,
    },
    /// More than one class carries the code.
    #[error("the SNOMED CT code {code} fits {candidates}; name one of them")]
    AmbiguousCode {
        /// What was asked for.
        code: String,
        /// Prompts of the classes.
        candidates: String,
    },
}

impl ResolveError {
    /// Whether nothing but a coded concept is missing: the text could still be a prompt.
    pub(crate) fn is_about_text(&self) -> bool {
        matches!(self, Self::UnknownClass { .. })
    }
}

/// The targets that `text` names: a prompt or synonym, a SNOMED CT code (`10200004` or `SCT:10200004`), or a set
/// (`@ct_abdomen`, `@ct_abdomen+lesions`).
///
/// # Errors
/// [`ResolveError`] when nothing, or more than one class, is called so.
pub(crate) fn resolve(text: &str) -> Result<Vec<Target>, ResolveError> {
    let vocabulary = Vocabulary::get();
    let text = text.trim();
    if let Some(name) = text.strip_prefix('@') {
        return resolve_set(vocabulary, name);
    }
    if let Some(code) = snomed_code(text) {
        return resolve_code(vocabulary, code).map(|class| vec![Target::of_class(class)]);
    }
    let Some(class) = vocabulary.class(text) else {
        let advice = match suggest::nearest(text, vocabulary.names()) {
            Some(name) => format!(", did you mean {name:?}?"),
            None => "; a table with prompt, category and type may bring its codes".to_owned(),
        };
        return Err(ResolveError::UnknownClass { text: text.to_owned(), advice });
    };
    Ok(vec![Target::of_class(class)])
}

fn snomed_code(text: &str) -> Option<&str> {
    let digits = text.strip_prefix("SCT:").unwrap_or(text).trim();
    let is_code = (6..=18).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    is_code.then_some(digits)
}

fn resolve_code<'v>(vocabulary: &'v Vocabulary, code: &str) -> Result<&'v Class, ResolveError> {
    match vocabulary.classes_with_code("SCT", code).as_slice() {
        [] => Err(ResolveError::UnknownCode { code: code.to_owned() }),
        [class] => Ok(class),
        several => {
            let names: Vec<String> = several.iter().map(|c| format!("{:?}", c.name)).collect();
            let candidates = names.join(", ");
            Err(ResolveError::AmbiguousCode { code: code.to_owned(), candidates })
        }
    }
}

fn resolve_set(vocabulary: &Vocabulary, text: &str) -> Result<Vec<Target>, ResolveError> {
    let (name, suffix) = text.split_at(text.find('+').unwrap_or(text.len()));
    let with_lesions = match suffix {
        "" => false,
        "+lesions" => true,
        _ => return Err(ResolveError::UnknownSuffix { suffix: suffix.to_owned() }),
    };
    let Some(set) = vocabulary.set(name) else {
        let mut advice = suggest::hint(name, vocabulary.set_names());
        if advice.is_empty() {
            let known: Vec<String> = vocabulary.set_names().map(|n| format!("@{n}")).collect();
            advice = format!("; there are {}", known.join(", "));
        }
        return Err(ResolveError::UnknownSet { name: name.to_owned(), advice });
    };
    Ok(targets_of_set(vocabulary, set, with_lesions))
}

fn targets_of_set(vocabulary: &Vocabulary, set: &TargetSet, with_lesions: bool) -> Vec<Target> {
    let mut lists = vec![(&set.targets, None)];
    lists.push((&set.male, Some(Sex::Male)));
    lists.push((&set.female, Some(Sex::Female)));
    if with_lesions {
        lists.push((&set.lesions, None));
    }
    let mut targets = Vec::new();
    for (prompts, only_for) in lists {
        for class in prompts.iter().filter_map(|prompt| vocabulary.class(prompt)) {
            targets.push(Target { only_for, ..Target::of_class(class) });
        }
    }
    targets
}

/// A coded concept as a site file writes it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCode {
    value: String,
    scheme: String,
    meaning: String,
}

/// A target that brings its codes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTarget {
    prompt: String,
    category: RawCode,
    #[serde(rename = "type")]
    property_type: RawCode,
    modifier: Option<RawCode>,
    region: Option<RawCode>,
    region_modifier: Option<RawCode>,
    /// `#RRGGBB`
    rgb: Option<String>,
}

/// Checks the list `targets` of a protocol. A target named twice counts once.
pub(crate) fn read_all(raw: &[Value], path: &FieldPath, problems: &mut Problems) -> Vec<Target> {
    if raw.is_empty() {
        problems.error(path, "missing; name at least one target");
    }
    let mut seen = HashSet::new();
    let mut targets = Vec::new();
    for (index, value) in raw.iter().enumerate() {
        let path = path.index(index);
        let resolved = match value {
            Value::String(text) => problems.take(&path, resolve(text)),
            Value::Number(number) => problems.take(&path, resolve(&number.to_string())),
            Value::Object(_) => read_table(value, &path, problems).map(|target| vec![target]),
            _ => {
                problems.error(&path, "a target is a text, a SNOMED CT code or a table");
                None
            }
        };
        let new = resolved.into_iter().flatten().filter(|t| seen.insert(t.prompt.clone()));
        targets.extend(new);
    }
    targets
}

fn read_table(value: &Value, path: &FieldPath, problems: &mut Problems) -> Option<Target> {
    let raw = problems.take(path, RawTarget::deserialize(value))?;
    let prompt = raw.prompt.trim();
    if prompt.is_empty() || prompt.chars().count() > MAX_PROMPT {
        problems.error(&path.key("prompt"), format!("must have 1 to {MAX_PROMPT} characters"));
        return None;
    }
    let mut code = |key: &str, raw: Option<&RawCode>| match raw {
        Some(RawCode { value, scheme, meaning }) => {
            let code = CodedConcept::new(value, scheme, meaning);
            problems.take(&path.key(key), code).map(Some)
        }
        None => Some(None),
    };
    let category = code("category", Some(&raw.category));
    let property_type = code("type", Some(&raw.property_type));
    let modifier = code("modifier", raw.modifier.as_ref());
    let region = code("region", raw.region.as_ref());
    let region_modifier = code("region_modifier", raw.region_modifier.as_ref());
    let known = Vocabulary::get().class(prompt);
    let rgb = match raw.rgb.as_deref().map(parse_rgb) {
        Some(Some(rgb)) => rgb,
        Some(None) => {
            problems.error(&path.key("rgb"), "a colour is written \"#RRGGBB\"");
            return None;
        }
        None => known.map_or_else(|| Target::free_text(prompt).rgb, |class| class.rgb),
    };
    Some(Target {
        prompt: prompt.to_owned(),
        concept: SegmentConcept {
            property_category: category??,
            property_type: property_type??,
            property_type_modifier: modifier?,
            anatomic_region: region?,
            anatomic_region_modifier: region_modifier?,
        },
        exact: true,
        rgb,
        only_for: None,
        trained_on: known.map(|class| class.modalities.clone()).unwrap_or_default(),
    })
}

/// Warns of targets that were trained on none of the modalities that the protocol takes.
pub(crate) fn warn_of_modalities(
    targets: &[Target],
    condition: &Condition,
    path: &FieldPath,
    problems: &mut Problems,
) {
    let Some(taken) = condition.modalities() else { return };
    let foreign = |target: &&Target| {
        !target.trained_on.is_empty() && !target.trained_on.iter().any(|m| taken.contains(m))
    };
    let names: Vec<String> =
        targets.iter().filter(foreign).map(|t| format!("{:?}", t.prompt)).collect();
    if !names.is_empty() {
        let taken: Vec<&str> = taken.iter().map(|m| m.as_str()).collect();
        let message =
            format!("SAT was not trained to find {} in {}", names.join(", "), taken.join(", "));
        problems.warn(path, message);
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    fn prompts(text: &str) -> Vec<String> {
        resolve(text).unwrap().into_iter().map(|target| target.prompt).collect()
    }

    #[test]
    fn a_target_is_named_by_prompt_synonym_code_or_set() {
        assert_eq!(prompts("liver"), ["liver"]);
        assert_eq!(prompts("Bladder"), ["urinary bladder"]);
        assert_eq!(prompts("10200004"), ["liver"]);
        assert_eq!(prompts("SCT:78961009"), ["spleen"]);
        assert!(prompts("@ct_abdomen").contains(&"pancreas".to_owned()));
    }

    #[test]
    fn findings_come_only_when_asked_for() {
        assert!(!prompts("@ct_abdomen").contains(&"liver tumor".to_owned()));
        assert!(prompts("@ct_abdomen+lesions").contains(&"liver tumor".to_owned()));
    }

    #[test]
    fn organs_of_one_sex_are_looked_for_in_that_sex_alone() {
        let targets = resolve("@ct_pelvis").unwrap();
        let of = |sex| {
            let taken = targets.iter().filter(|target| target.is_for(sex));
            taken.map(|target| target.prompt.as_str()).collect::<Vec<_>>()
        };

        assert!(of(Some(Sex::Male)).contains(&"prostate"));
        assert!(!of(Some(Sex::Male)).contains(&"uterus"));
        assert!(of(Some(Sex::Female)).contains(&"uterus"));
        assert!(!of(None).contains(&"prostate"));
        assert!(of(None).contains(&"sacrum"));
    }

    #[test]
    fn a_code_that_several_classes_share_is_refused_with_their_names() {
        let vocabulary = Vocabulary::get();
        // 302551006: T12; 51282000: "Vertebra", shared by several groups of vertebrae
        let error = resolve("51282000");

        let classes = vocabulary.classes_with_code("SCT", "51282000");
        assert_eq!(error.is_err(), classes.len() != 1);
        let message = ResolveError::AmbiguousCode { code: "1".into(), candidates: "\"a\"".into() };
        assert_eq!(message.to_string(), "the SNOMED CT code 1 fits \"a\"; name one of them");
    }

    #[test]
    fn free_text_gets_a_private_code_of_its_own() {
        let target = Target::free_text("left lung nodule cluster");
        let other = Target::free_text("something else");

        assert_eq!(target.concept.property_type.scheme_designator(), "99PROSECTOR");
        assert_eq!(target.concept.property_type.meaning(), "left lung nodule cluster");
        assert!(target.concept.property_type.value().len() <= 16);
        assert_ne!(target.concept.property_type.value(), other.concept.property_type.value());
        assert_eq!(target, Target::free_text("left lung nodule cluster"));
    }

    #[test]
    fn any_free_text_can_be_coded() {
        for text in ["", "größer\\n", &"x".repeat(500)] {
            let concept = Target::free_text(text).concept;

            assert!(!concept.property_type.meaning().is_empty());
        }
    }

    #[test]
    fn resolved_targets_carry_their_codes() {
        let mut table = String::new();
        for text in
            ["liver", "left kidney", "kidney cyst", "left heart ventricle", "left anterior eyeball"]
        {
            for target in resolve(text).unwrap() {
                let concept = &target.concept;
                let code = |code: &CodedConcept| {
                    format!("{} {} {}", code.value(), code.scheme_designator(), code.meaning())
                };
                let part = |part: &Option<CodedConcept>| part.as_ref().map_or("-".to_owned(), code);
                let _ = writeln!(
                    table,
                    "{}: {} | {} | {} | {} | {} | exact {} | {:?}",
                    target.prompt,
                    code(&concept.property_category),
                    code(&concept.property_type),
                    part(&concept.property_type_modifier),
                    part(&concept.anatomic_region),
                    part(&concept.anatomic_region_modifier),
                    target.exact,
                    target.rgb,
                );
            }
        }

        insta::assert_snapshot!(table);
    }
}
