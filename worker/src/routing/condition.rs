//! Conditions of a `match` table, typed when they are read.

use std::collections::BTreeMap;
use std::fmt;

use dicom_io::{Attribute, ValueKind};
use dicom_types::Modality;
use serde_json::{Map, Value};

use super::facts::SeriesFacts;
use super::value_test::{Kind, Test};
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
}

/// Subjects that are no header attributes.
const OWN: [(&str, Subject); 8] = [
    ("calling_ae_title", Subject::CallingAeTitle),
    ("called_ae_title", Subject::CalledAeTitle),
    ("instances", Subject::Instances),
    ("slices", Subject::Slices),
    ("slice_spacing_mm", Subject::SliceSpacing),
    ("pixel_spacing_mm", Subject::PixelSpacing),
    ("coverage_mm", Subject::Coverage),
    ("plane", Subject::Plane),
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
                let test = Test::read(value, subject.kind(), path, problems)?;
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

    /// Every header attribute that the condition asks for.
    pub(crate) fn attributes(&self) -> Vec<Attribute> {
        match self {
            Self::Fact(Subject::Attribute(attribute), _) => vec![*attribute],
            Self::Fact(..) => Vec::new(),
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
                Some(words.iter().filter_map(|word| word.parse().ok()).collect())
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
        }
    }

    fn kind(self) -> Kind {
        match self {
            Self::Attribute(attribute) => match attribute.kind() {
                ValueKind::Number => Kind::Number,
                ValueKind::Age => Kind::Age,
                ValueKind::Code if is_moment(&attribute) => Kind::Moment,
                ValueKind::Code | ValueKind::FreeText => Kind::Text,
            },
            Self::CallingAeTitle | Self::CalledAeTitle => Kind::AeTitle,
            Self::Plane => Kind::Plane,
            Self::Instances
            | Self::Slices
            | Self::SliceSpacing
            | Self::PixelSpacing
            | Self::Coverage => Kind::Number,
        }
    }

    /// Whether values may be repeated in a reason: codes and numbers of the image, nothing of the patient, no dates and
    /// nothing that a person typed.
    fn may_be_told(self) -> bool {
        let Self::Attribute(attribute) = self else { return true };
        let is_coded = matches!(attribute.kind(), ValueKind::Code | ValueKind::Number);
        let is_of_patient = attribute.tag().0 == 0x0010;
        is_coded && !is_of_patient && !is_moment(&attribute)
    }

    fn values(self, facts: &SeriesFacts) -> Vec<String> {
        let geometry = facts.geometry;
        let ae_title = |title: &Option<dicom_types::AeTitle>| {
            title.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let of_volume = |value: Option<f64>| value.iter().map(|v| rounded(*v)).collect::<Vec<_>>();
        match self {
            Self::Attribute(attribute) => facts.values(&attribute).to_vec(),
            Self::CallingAeTitle => ae_title(&facts.calling_ae_title),
            Self::CalledAeTitle => ae_title(&facts.called_ae_title),
            Self::Instances => vec![facts.instances.to_string()],
            Self::Slices => of_volume(geometry.map(|g| g.slices as f64)),
            Self::SliceSpacing => of_volume(geometry.map(|g| g.slice_spacing_mm)),
            Self::PixelSpacing => of_volume(geometry.map(|g| g.pixel_spacing_mm)),
            Self::Coverage => of_volume(geometry.map(|g| g.coverage_mm)),
            Self::Plane => geometry.iter().map(|g| g.plane.as_str().to_owned()).collect(),
        }
    }

    fn check(self, test: &Test, facts: &SeriesFacts) -> Result<(), String> {
        let values = self.values(facts);
        if test.holds(&values) {
            return Ok(());
        }
        let name = self.name();
        if values.is_empty() {
            return Err(format!("{name} is absent, not {test}"));
        }
        if self.may_be_told() {
            return Err(format!("{name} is {}, not {test}", values.join("\\")));
        }
        Err(format!("{name} is not {test}"))
    }
}

/// Whether the attribute holds a date or a time.
fn is_moment(attribute: &Attribute) -> bool {
    let keyword = attribute.keyword();
    attribute.kind() == ValueKind::Code && (keyword.ends_with("Date") || keyword.ends_with("Time"))
}

/// A length without the noise of its computation: a micrometre decides nothing.
fn rounded(value: f64) -> String {
    format!("{}", (value * 1000.0).round() / 1000.0)
}
