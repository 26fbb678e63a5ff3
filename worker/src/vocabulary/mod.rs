//! The words that SAT was trained with, their coded concepts and colours, and named sets of them.
//!
//! The data lies in `worker/vocabulary/`, whose README names its sources.

mod class;
mod set;
mod table;

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use dicom_types::Modality;

pub(crate) use class::{Class, parse_rgb};
pub(crate) use set::{Sex, TargetSet};

static VOCABULARY: LazyLock<Vocabulary> =
    LazyLock::new(|| table::read().expect("the built-in vocabulary is read by a test"));

/// Classes, synonyms and sets.
#[derive(Debug)]
pub(crate) struct Vocabulary {
    classes: Vec<Class>,
    by_name: HashMap<String, usize>,
    sets: BTreeMap<String, TargetSet>,
}

impl Vocabulary {
    /// The built-in vocabulary.
    pub(crate) fn get() -> &'static Self {
        &VOCABULARY
    }

    /// The class that `text` names: by prompt or synonym, whatever the case, with underscores or hyphens for spaces,
    /// and with the side in front or behind ("Kidney, left").
    pub(crate) fn class(&self, text: &str) -> Option<&Class> {
        let plain = normalized(text);
        let index = self.by_name.get(&plain).or_else(|| self.by_name.get(&side_first(&plain)?))?;
        Some(&self.classes[*index])
    }

    /// Every class whose type carries the code `value` of scheme `scheme`, those without a side first.
    pub(crate) fn classes_with_code(&self, scheme: &str, value: &str) -> Vec<&Class> {
        let same_code = |class: &&Class| {
            let code = &class.concept.property_type;
            code.scheme_designator() == scheme && code.value() == value
        };
        let mut found: Vec<&Class> = self.classes.iter().filter(same_code).collect();
        let is_narrower = |c: &Class| {
            c.concept.property_type_modifier.is_some() || c.concept.anatomic_region.is_some()
        };
        if found.iter().any(|class| !is_narrower(class)) {
            found.retain(|class| !is_narrower(class));
        }
        found
    }

    /// The set called `name`, without its `@`.
    pub(crate) fn set(&self, name: &str) -> Option<&TargetSet> {
        self.sets.get(name)
    }

    /// Names of all sets, in alphabetical order.
    pub(crate) fn set_names(&self) -> impl Iterator<Item = &str> {
        self.sets.keys().map(String::as_str)
    }

    /// Every prompt with every modality that it was trained on.
    pub(crate) fn trained(&self) -> impl Iterator<Item = (&str, Modality)> {
        self.classes.iter().flat_map(|class| {
            class.modalities.iter().map(|modality| (class.name.as_str(), *modality))
        })
    }

    /// Prompts and synonyms.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }
}

/// Lower case, with single spaces for spaces, underscores and hyphens.
///
/// A hyphen inside a prompt ("covid-19 infection") is normalised on both sides of the comparison.
fn normalized(text: &str) -> String {
    let lower = text.to_lowercase();
    let separators = |c: char| c.is_whitespace() || matches!(c, '_' | '-' | ',');
    lower.split(separators).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// "kidney left" as "left kidney".
fn side_first(plain: &str) -> Option<String> {
    let (rest, side) = plain.rsplit_once(' ')?;
    matches!(side, "left" | "right").then(|| format!("{side} {rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_class_by_any_way_of_writing_it() {
        let vocabulary = Vocabulary::get();

        for text in ["left kidney", "Left Kidney", "left_kidney", "Kidney, left", " LEFT-KIDNEY "] {
            assert_eq!(vocabulary.class(text).unwrap().name, "left kidney", "{text}");
        }
        assert_eq!(vocabulary.class("bladder").unwrap().name, "urinary bladder");
        assert_eq!(vocabulary.class("COVID-19 infection").unwrap().name, "covid-19 infection");
        assert!(vocabulary.class("livr").is_none());
    }

    #[test]
    fn a_code_without_side_finds_the_class_without_side() {
        let kidneys = Vocabulary::get().classes_with_code("SCT", "64033007");

        assert_eq!(kidneys.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["kidney"]);
    }

    #[test]
    fn every_set_names_classes_alone() {
        let vocabulary = Vocabulary::get();

        for name in vocabulary.set_names() {
            let set = vocabulary.set(name).unwrap();
            for prompt in set.all() {
                let class = vocabulary.class(prompt).unwrap_or_else(|| panic!("{name}: {prompt}"));
                assert_eq!(class.name, prompt, "{name}");
                let trained = set.modality.iter().any(|m| class.modalities.contains(m));
                assert!(trained, "{name}: {prompt} was not trained on {:?}", set.modality);
            }
        }
    }
}
