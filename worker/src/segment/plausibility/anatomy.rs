//! Where things lie in a body, as far as it takes to find odd what lies elsewhere.

use crate::protocol::Target;
use crate::vocabulary::Vocabulary;

/// A side of the patient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

impl Side {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Right => "right",
        }
    }
}

/// Heights of organs' middles, counted in vertebrae from the first cervical one (1) to the fifth sacral one (29).
/// Textbook anatomy, lying down; what varies by several vertebrae or spans many of them is not here.
const HEIGHTS: [(&str, f64); 27] = [
    ("brain", -4.0),
    ("brainstem", -1.0),
    ("cerebellum", -2.0),
    ("mandible", 2.0),
    ("parotid gland", 1.0),
    ("submandibular gland", 3.0),
    ("larynx", 5.0),
    ("thyroid gland", 6.5),
    ("clavicle", 8.0),
    ("trachea", 9.5),
    ("lung", 13.5),
    ("heart", 14.5),
    ("sternum", 12.5),
    ("liver", 17.5),
    ("spleen", 18.0),
    ("stomach", 18.5),
    ("adrenal gland", 19.0),
    ("gallbladder", 20.0),
    ("pancreas", 20.5),
    ("kidney", 21.0),
    ("iliopsoas", 24.5),
    ("hip", 27.0),
    ("sacrum", 27.0),
    ("urinary bladder", 29.0),
    ("rectum", 28.5),
    ("head of femur", 29.5),
    ("femur", 33.0),
];

/// Organs that lie on one side without being one of a pair.
const ON_ONE_SIDE: [(&str, Side); 4] = [
    ("liver", Side::Right),
    ("gallbladder", Side::Right),
    ("spleen", Side::Left),
    ("stomach", Side::Left),
];

/// What the middle of the body goes through.
const IN_THE_MIDDLE: [&str; 9] = [
    "sternum",
    "spinal cord",
    "spinal canal",
    "sacrum",
    "brainstem",
    "corpus callosum",
    "third ventricle",
    "prostate",
    "vertebrae",
];

/// Words of classes that are many things, or branch and are broken by thick slices.
const MANY: [&str; 24] = [
    "rib",
    "cartilage",
    "discs",
    "node",
    "bronchie",
    "vessel",
    "artery",
    "vein",
    "vena",
    "trunk",
    "bowel",
    "intestine",
    "colon",
    "tissue",
    "fluid",
    "matter",
    "bone",
    "tract",
    "radiation",
    "cochlea",
    "ganglia",
    "muscle",
    "brain ventricle",
    "cortex",
];

/// Words of a prompt without its side: "left kidney" is "kidney".
fn without_side(prompt: &str) -> &str {
    prompt.strip_prefix("left ").or_else(|| prompt.strip_prefix("right ")).unwrap_or(prompt)
}

/// How far down the body a target lies, in vertebrae; nothing where that says little.
pub(super) fn height(prompt: &str) -> Option<f64> {
    if let Some(number) = vertebra(prompt) {
        return Some(number);
    }
    let plain = without_side(prompt);
    let plain = match plain {
        "head of left femur" | "head of right femur" => "head of femur",
        "thyroid" => "thyroid gland",
        other => other,
    };
    HEIGHTS.iter().find(|(name, _)| *name == plain).map(|(_, height)| *height)
}

/// The number of a vertebra such as "thoracic vertebrae 10 (t10)", counted from the first cervical one.
fn vertebra(prompt: &str) -> Option<f64> {
    if prompt.starts_with("intervertebral") {
        return None;
    }
    let (_, code) = prompt.strip_suffix(')')?.rsplit_once('(')?;
    let number: u32 = code.get(1..)?.parse().ok()?;
    let above = match code.as_bytes().first()? {
        b'c' => 0,
        b't' => 7,
        b'l' => 19,
        b's' => 24,
        _ => return None,
    };
    Some(f64::from(above + number))
}

/// The side that a target is meant to be on: its own, or where the organ lies.
pub(super) fn side(target: &Target) -> Option<Side> {
    let concept = &target.concept;
    let modifiers = [&concept.property_type_modifier, &concept.anatomic_region_modifier];
    let coded = modifiers.into_iter().flatten().find_map(|code| match code.value() {
        "7771000" => Some(Side::Left),
        "24028007" => Some(Side::Right),
        _ => None,
    });
    let natural = || ON_ONE_SIDE.iter().find(|(name, _)| *name == target.prompt);
    coded.or_else(|| natural().map(|(_, side)| *side))
}

/// The prompt of the same thing on the other side.
pub(super) fn partner(prompt: &str) -> Option<String> {
    let swapped: Vec<&str> = prompt
        .split(' ')
        .map(|word| match word {
            "left" => "right",
            "right" => "left",
            other => other,
        })
        .collect();
    let swapped = swapped.join(" ");
    (swapped != prompt).then_some(swapped)
}

/// Whether the middle of the body goes through a target's middle.
pub(super) fn is_in_the_middle(prompt: &str) -> bool {
    IN_THE_MIDDLE.contains(&prompt) || vertebra(prompt).is_some()
}

/// Whether no scan is expected to hold all of it: skin, bone, muscle.
pub(super) fn is_everywhere(prompt: &str) -> bool {
    prompt == "body" || Vocabulary::get().class(prompt).is_some_and(|c| c.region == "whole body")
}

/// How many parts a target has; nothing where any number is as it should be.
pub(super) fn parts(prompt: &str) -> Option<usize> {
    let vocabulary = Vocabulary::get();
    let class = vocabulary.class(prompt)?;
    let is_numbered_bone =
        prompt.split(' ').any(|word| word.bytes().all(|byte| byte.is_ascii_digit()));
    let is_many = MANY.iter().any(|word| prompt.contains(word)) || prompt.ends_with("vertebrae");
    if class.lesion || class.region == "whole body" || (is_many && !is_numbered_bone) {
        return None;
    }
    let is_pair = vocabulary.class(&format!("left {prompt}")).is_some()
        || prompt == "head of femur"
        || (vertebra(prompt).is_none() && prompt.starts_with("rib "));
    Some(if is_pair { 2 } else { 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_the_tables_is_a_class() {
        let names = HEIGHTS.iter().map(|(name, _)| *name);
        let names = names.chain(ON_ONE_SIDE.iter().map(|(name, _)| *name)).chain(IN_THE_MIDDLE);

        for name in names {
            let class = Vocabulary::get().class(name).unwrap_or_else(|| panic!("{name}"));
            assert_eq!(class.name, name);
        }
    }

    #[test]
    fn vertebrae_stand_one_below_the_other() {
        assert_eq!(height("cervical vertebrae 7 (c7)"), Some(7.0));
        assert_eq!(height("thoracic vertebrae 12 (t12)"), Some(19.0));
        assert_eq!(height("lumbar vertebrae 1 (l1)"), Some(20.0));
        assert_eq!(height("sacral vertebrae 1 (s1)"), Some(25.0));
        assert_eq!(height("left kidney"), Some(21.0));
        assert_eq!(height("aorta"), None);
    }

    #[test]
    fn pairs_have_two_parts_and_branches_any_number() {
        assert_eq!(parts("kidney"), Some(2));
        assert_eq!(parts("left kidney"), Some(1));
        assert_eq!(parts("liver"), Some(1));
        assert_eq!(parts("left rib 5"), Some(1));
        assert_eq!(parts("lumbar vertebrae 1 (l1)"), Some(1));
        assert_eq!(parts("rib"), None);
        assert_eq!(parts("vertebrae"), None);
        assert_eq!(parts("liver tumor"), None);
        assert_eq!(parts("something else"), None);
    }

    #[test]
    fn sides_are_coded_or_natural() {
        let side_of = |prompt: &str| side(&crate::protocol::resolve(prompt).unwrap()[0]);

        assert_eq!(side_of("left kidney"), Some(Side::Left));
        assert_eq!(side_of("head of right femur"), Some(Side::Right));
        assert_eq!(side_of("liver"), Some(Side::Right));
        assert_eq!(side_of("aorta"), None);
        assert_eq!(partner("head of left femur").as_deref(), Some("head of right femur"));
        assert_eq!(partner("liver"), None);
    }
}
