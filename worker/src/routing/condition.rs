//! Conditions of a `match` table, typed when they are read.

use std::collections::BTreeMap;
use std::fmt;

use dicom_io::{Attribute, ValueKind};
use dicom_types::{AeTitle, Modality};
use serde_json::{Map, Value};

use super::derived::{self, Kernel, Phase};
use super::facts::{Plane, SeriesFacts};
use super::value_test::{Domain, Kind, Test, Values};
use crate::config::{FieldPath, Problems, suggest};

/// A condition on a series.
#[derive(Debug, Clone)]
pub(crate) enum Condition {
    /// One fact.
    Fact(Subject, Test),
    /// All must hold.
    All(Vec<Condition>),
    /// One must hold.
    Any(Vec<Condition>),
    /// It must not hold.
    Not(Box<Condition>),
}

/// The fact that a condition is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    /// A header attribute.
    Attribute(Attribute),
    /// Calling AE title of the association.
    CallingAeTitle,
    /// Called AE title of the association.
    CalledAeTitle,
    /// Number of instances.
    Instances,
    /// Number of slices of the volume.
    Slices,
    /// Distance of planes, millimetres.
    SliceSpacing,
    /// Larger pixel distance, millimetres.
    PixelSpacing,
    /// Extent along the normal, millimetres.
    Coverage,
    /// How the planes lie.
    Plane,
    /// Whether contrast was given.
    Contrast,
    /// When the scan looked at it.
    ContrastPhase,
    /// How much the kernel smooths.
    Kernel,
    /// The scanner's clock.
    TimeOfDay,
}

/// Subjects that are no header attributes.
const OWN: [(&str, Subject); 12] = [
    ("calling_ae_title", Subject::CallingAeTitle),
    ("called_ae_title", Subject::CalledAeTitle),
    ("instances", Subject::Instances),
    ("slices", Subject::Slices),
    ("slice_spacing_mm", Subject::SliceSpacing),
    ("pixel_spacing_mm", Subject::PixelSpacing),
    ("coverage_mm", Subject::Coverage),
    ("plane", Subject::Plane),
    ("contrast", Subject::Contrast),
    ("contrast_phase", Subject::ContrastPhase),
    ("kernel", Subject::Kernel),
    ("time_of_day", Subject::TimeOfDay),
];

const COMBINATORS: [&str; 3] = ["all", "any", "not"];

impl Condition {
    /// Reads a table of conditions that must all hold, noting at `path` what is wrong.
    ///
    /// Modality is checked first and combinations last, so that the reason that a person reads is the plainest.
    pub(crate) fn read(
        table: &Map<String, Value>,
        path: &FieldPath,
        problems: &mut Problems,
    ) -> Option<Self> {
        let mut conditions = BTreeMap::new();
        let mut complete = true;
        for (key, value) in table {
            let condition = Self::read_entry(key, value, &path.key(key), problems);
            complete &= condition.is_some();
            if let Some(condition) = condition {
                conditions.insert((condition.rank(), key.as_str()), condition);
            }
        }
        complete.then(|| Self::All(conditions.into_values().collect()))
    }

    fn read_entry(
        key: &str,
        value: &Value,
        path: &FieldPath,
        problems: &mut Problems,
    ) -> Option<Self> {
        match key {
            "all" => Self::read_list(value, path, problems).map(Self::All),
            "any" => Self::read_list(value, path, problems).map(Self::Any),
            "not" => match value {
                Value::Object(table) => {
                    Self::read(table, path, problems).map(|inner| Self::Not(Box::new(inner)))
                }
                _ => Self::read_list(value, path, problems)
                    .map(|inner| Self::Not(Box::new(Self::Any(inner)))),
            },
            _ => {
                let Some(subject) = Subject::named(key) else {
                    problems.error(path, unknown_subject(key));
                    return None;
                };
                let test = Test::read(value, subject.domain(), path, problems)?;
                Some(Self::Fact(subject, test))
            }
        }
    }

    fn read_list(value: &Value, path: &FieldPath, problems: &mut Problems) -> Option<Vec<Self>> {
        let tables: Option<Vec<&Map<String, Value>>> =
            value.as_array().and_then(|list| list.iter().map(Value::as_object).collect());
        let Some(tables) = tables.filter(|tables| !tables.is_empty()) else {
            problems.error(path, "must be a list of tables of conditions");
            return None;
        };
        let read: Vec<Option<Self>> = tables
            .into_iter()
            .enumerate()
            .map(|(index, table)| Self::read(table, &path.index(index), problems))
            .collect();
        read.into_iter().collect()
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Fact(Subject::Attribute(a), _) if a.keyword() == "Modality" => 0,
            Self::Fact(Subject::CallingAeTitle | Subject::CalledAeTitle, _) => 1,
            Self::Fact(Subject::Attribute(_), _) => 2,
            Self::Fact(..) => 3,
            Self::All(_) | Self::Any(_) | Self::Not(_) => 4,
        }
    }

    /// Whether the condition holds.
    ///
    /// # Errors
    /// The first thing that does not, in words.
    pub(crate) fn check(&self, facts: &SeriesFacts) -> Result<(), String> {
        match self {
            Self::Fact(subject, test) => subject.check(test, facts),
            Self::All(all) => all.iter().try_for_each(|condition| condition.check(facts)),
            Self::Any(any) => {
                let mut reasons = Vec::new();
                for condition in any {
                    match condition.check(facts) {
                        Ok(()) => return Ok(()),
                        Err(reason) => reasons.push(reason),
                    }
                }
                Err(format!("none of {} alternatives: {}", any.len(), reasons.join("; ")))
            }
            Self::Not(inner) => match inner.check(facts) {
                Ok(()) => Err(format!("excluded: {inner}")),
                Err(_) => Ok(()),
            },
        }
    }

    /// Whether the condition holds, without a word about why not.
    pub(crate) fn holds(&self, facts: &SeriesFacts) -> bool {
        match self {
            Self::Fact(subject, test) => test.holds(subject.values(facts)),
            Self::All(all) => all.iter().all(|condition| condition.holds(facts)),
            Self::Any(any) => any.iter().any(|condition| condition.holds(facts)),
            Self::Not(inner) => !inner.holds(facts),
        }
    }

    /// Every header attribute that the condition asks for.
    pub(crate) fn attributes(&self) -> Vec<Attribute> {
        match self {
            Self::Fact(subject, _) => subject.attributes(),
            Self::All(list) | Self::Any(list) => list.iter().flat_map(Self::attributes).collect(),
            Self::Not(inner) => inner.attributes(),
        }
    }

    /// The modalities that it takes, where it says so by an equality that always applies.
    pub(crate) fn modalities(&self) -> Option<Vec<Modality>> {
        match self {
            Self::Fact(Subject::Attribute(attribute), test)
                if attribute.keyword() == "Modality" =>
            {
                let words = test.words()?;
                Some(words.iter().filter_map(|word| word.to_uppercase().parse().ok()).collect())
            }
            Self::All(all) => all.iter().find_map(Self::modalities),
            _ => None,
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |conditions: &[Self], word: &str| {
            conditions.iter().map(ToString::to_string).collect::<Vec<_>>().join(word)
        };
        match self {
            Self::Fact(subject, test) => write!(f, "{} is {test}", subject.name()),
            Self::All(all) if all.is_empty() => f.write_str("anything"),
            Self::All(all) => f.write_str(&joined(all, " and ")),
            Self::Any(any) => write!(f, "({})", joined(any, " or ")),
            Self::Not(inner) => write!(f, "not ({inner})"),
        }
    }
}

fn unknown_subject(key: &str) -> String {
    let own = OWN.iter().map(|(name, _)| *name).chain(COMBINATORS);
    let plain = key.replace('_', "");
    let hint = match suggest::nearest(key, own) {
        Some(word) => format!(", did you mean {word:?}?"),
        None => suggest::hint(&plain, Attribute::keywords()),
    };
    format!("no attribute {key:?} in the data dictionary{hint}")
}

impl Subject {
    fn named(key: &str) -> Option<Self> {
        let own = OWN.iter().find(|(name, _)| *name == key).map(|(_, subject)| *subject);
        own.or_else(|| Attribute::by_keyword(key).map(Self::Attribute))
    }

    fn name(self) -> &'static str {
        match self {
            Self::Attribute(attribute) => attribute.keyword(),
            Self::CallingAeTitle => "calling AE title",
            Self::CalledAeTitle => "called AE title",
            Self::Instances => "number of instances",
            Self::Slices => "number of slices",
            Self::SliceSpacing => "slice spacing in mm",
            Self::PixelSpacing => "pixel spacing in mm",
            Self::Coverage => "coverage in mm",
            Self::Plane => "plane",
            Self::Contrast => "contrast",
            Self::ContrastPhase => "phase of contrast",
            Self::Kernel => "kernel",
            Self::TimeOfDay => "time of day",
        }
    }

    fn domain(self) -> Domain {
        let (kind, least) = match self {
            Self::Attribute(attribute) => (kind_of(&attribute), None),
            Self::CallingAeTitle | Self::CalledAeTitle => (Kind::AeTitle, None),
            Self::Plane => (Kind::Words(Plane::WORDS), None),
            Self::ContrastPhase => (Kind::Words(Phase::WORDS), None),
            Self::Kernel => (Kind::Words(Kernel::WORDS), None),
            Self::Contrast => (Kind::Flag, None),
            Self::TimeOfDay => (Kind::Time, None),
            Self::Instances | Self::Slices => (Kind::Number, Some(1.0)),
            Self::SliceSpacing | Self::PixelSpacing | Self::Coverage => {
                (Kind::Number, Some(f64::MIN_POSITIVE))
            }
        };
        let (keyword, longest) = match self {
            Self::Attribute(attribute) => (Some(attribute.keyword()), attribute.longest()),
            Self::CallingAeTitle | Self::CalledAeTitle => (None, Some(16)),
            _ => (None, None),
        };
        Domain { kind, keyword, longest, least }
    }

    /// Header attributes that the subject is read from.
    fn attributes(self) -> Vec<Attribute> {
        let keywords = match self {
            Self::Attribute(attribute) => return vec![attribute],
            Self::Contrast | Self::ContrastPhase => derived::OF_CONTRAST,
            Self::Kernel => derived::OF_KERNEL,
            Self::TimeOfDay => derived::OF_TIME,
            _ => &[],
        };
        keywords.iter().filter_map(|keyword| Attribute::by_keyword(keyword)).collect()
    }

    /// Whether values may be repeated in a reason: codes and numbers of the image, nothing of the patient, no dates and
    /// nothing that a person typed.
    fn may_be_told(self) -> bool {
        let Self::Attribute(attribute) = self else { return self != Self::TimeOfDay };
        let is_coded = matches!(attribute.kind(), ValueKind::Code | ValueKind::Number);
        let is_of_patient = attribute.tag().0 == 0x0010;
        is_coded && !is_of_patient && !is_moment(&attribute)
    }

    fn values(self, facts: &SeriesFacts) -> Values<'_> {
        let geometry = facts.geometry.as_ref();
        match self {
            Self::Attribute(attribute) => Values::Texts(facts.values(&attribute)),
            Self::CallingAeTitle => {
                Values::Word(facts.calling_ae_title.as_ref().map(AeTitle::as_str))
            }
            Self::CalledAeTitle => {
                Values::Word(facts.called_ae_title.as_ref().map(AeTitle::as_str))
            }
            Self::Instances => Values::Number(Some(facts.instances as f64)),
            Self::Slices => Values::Number(geometry.map(|g| g.slices as f64)),
            Self::SliceSpacing => Values::Number(geometry.map(|g| g.slice_spacing_mm)),
            Self::PixelSpacing => Values::Number(geometry.map(|g| g.pixel_spacing_mm)),
            Self::Coverage => Values::Number(geometry.map(|g| g.coverage_mm)),
            Self::Plane => Values::Word(geometry.map(|g| g.plane.as_str())),
            Self::Contrast => {
                Values::Word(Some(if derived::contrast(facts) { "yes" } else { "no" }))
            }
            Self::ContrastPhase => Values::Word(Some(derived::phase(facts).as_str())),
            Self::Kernel => Values::Word(derived::kernel(facts).map(Kernel::as_str)),
            Self::TimeOfDay => Values::Word(derived::time_of_day(facts)),
        }
    }

    fn check(self, test: &Test, facts: &SeriesFacts) -> Result<(), String> {
        let values = self.values(facts);
        if test.holds(values) {
            return Ok(());
        }
        let name = self.name();
        if values.is_empty() {
            return Err(format!("{name} is absent, not {test}"));
        }
        if self.may_be_told() {
            return Err(format!("{name} is {}, not {test}", values.text()));
        }
        Err(format!("{name} is not {test}"))
    }
}

fn kind_of(attribute: &Attribute) -> Kind {
    let keyword = attribute.keyword();
    match attribute.kind() {
        ValueKind::Number => Kind::Number,
        ValueKind::Age => Kind::Age,
        ValueKind::Code if is_moment(attribute) => {
            let is_date = keyword.ends_with("Date") || keyword.ends_with("DateTime");
            if is_date { Kind::Date } else { Kind::Time }
        }
        ValueKind::Code | ValueKind::FreeText => Kind::Text,
    }
}

/// Whether the attribute holds a date or a time.
fn is_moment(attribute: &Attribute) -> bool {
    let keyword = attribute.keyword();
    attribute.kind() == ValueKind::Code && (keyword.ends_with("Date") || keyword.ends_with("Time"))
}
