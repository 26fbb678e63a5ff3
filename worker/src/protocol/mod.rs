//! A protocol: which series, which targets, which model pack, which destinations.

mod target;

use std::collections::HashSet;

use crate::config::{FieldPath, Problems, RawProtocol, name, suggest};
use crate::routing::Condition;

pub(crate) use target::{ResolveError, Target, resolve};

/// Name of the pack that is built in.
pub(crate) const PHANTOM_PACK: &str = "phantom";

/// How urgent a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Priority {
    /// A patient waits on the table.
    Stat,
    /// Soon.
    Urgent,
    /// In turn.
    Routine,
    /// When nothing else waits.
    Backfill,
}

impl Priority {
    const ALL: [(&'static str, Self); 4] = [
        ("stat", Self::Stat),
        ("urgent", Self::Urgent),
        ("routine", Self::Routine),
        ("backfill", Self::Backfill),
    ];
}

/// Voxel order that a volume is brought into before the network sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub(crate) enum Orientation {
    /// Axes grow to Right, Anterior, Superior: what SAT was trained on, sagittal spines apart.
    #[serde(rename = "RAS")]
    Ras,
    /// Axes grow to Anterior, Superior, Right: sagittal scans of the spine.
    #[serde(rename = "ASR")]
    Asr,
}

impl Orientation {
    pub(crate) const ALL: [(&'static str, Self); 2] = [("RAS", Self::Ras), ("ASR", Self::Asr)];

    /// The code as it is written.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ras => "RAS",
            Self::Asr => "ASR",
        }
    }
}

/// Forms of the result that this version writes.
const FORMS: [&str; 1] = ["seg"];
/// Forms that a site file may name as a preference.
const KNOWN_FORMS: [&str; 5] = ["seg", "labelmap", "sr", "picture", "rtstruct"];

/// Which series, which targets, which model pack, which destinations.
#[derive(Debug, Clone)]
pub(crate) struct Protocol {
    /// What jobs, logs and people call it.
    pub(crate) name: String,
    /// Which series it takes.
    pub(crate) condition: Condition,
    /// Name of the model pack.
    pub(crate) model: String,
    /// What to segment; some for one sex alone, see [`Target::is_for`].
    pub(crate) targets: Vec<Target>,
    /// How urgent its jobs are.
    pub(crate) priority: Priority,
    /// Voxel order for the network.
    pub(crate) orientation: Orientation,
    /// Names of destinations.
    pub(crate) destinations: Vec<String>,
}

impl Protocol {
    /// Checks every `[[protocol]]`, noting what is wrong. `destinations` are the names that exist.
    pub(crate) fn read_all(
        raw: &[RawProtocol],
        destinations: &HashSet<&str>,
        problems: &mut Problems,
    ) -> Vec<Self> {
        let mut seen = HashSet::new();
        let mut protocols = Vec::new();
        for (index, raw) in raw.iter().enumerate() {
            let path = FieldPath::root().key("protocol").index(index);
            protocols.extend(Self::read(raw, &path, destinations, &mut seen, problems));
        }
        protocols
    }

    fn read(
        raw: &RawProtocol,
        path: &FieldPath,
        known_destinations: &HashSet<&str>,
        seen: &mut HashSet<String>,
        problems: &mut Problems,
    ) -> Option<Self> {
        let name = name(raw.name.as_deref(), &path.key("name"), seen, problems);
        let condition = match &raw.matches {
            Some(table) => Condition::read(table, &path.key("match"), problems),
            None => missing(&path.key("match"), "write { } to take every series", problems),
        };
        let model = match raw.model.as_deref() {
            Some(model) if !model.is_empty() => Some(model.to_owned()),
            _ => missing(&path.key("model"), "name a pack", problems),
        };
        let targets = target::read_all(&raw.targets, &path.key("targets"), problems);
        let priority = choose(
            raw.priority.as_deref(),
            "routine",
            &Priority::ALL,
            &path.key("priority"),
            problems,
        );
        let orientation = choose(
            raw.orientation.as_deref(),
            "RAS",
            &Orientation::ALL,
            &path.key("orientation"),
            problems,
        );
        check_forms(&raw.forms, &path.key("forms"), problems);
        check_destinations(
            &raw.destinations,
            &path.key("destinations"),
            known_destinations,
            problems,
        );
        if let Some(condition) = &condition {
            target::warn_of_modalities(&targets, condition, &path.key("targets"), problems);
        }
        Some(Self {
            name: name?,
            condition: condition?,
            model: model?,
            targets,
            priority: priority?,
            orientation: orientation?,
            destinations: raw.destinations.clone(),
        })
    }
}

fn missing<T>(path: &FieldPath, advice: &str, problems: &mut Problems) -> Option<T> {
    problems.error(path, format!("missing; {advice}"));
    None
}

fn choose<T: Copy>(
    text: Option<&str>,
    default: &str,
    known: &[(&str, T)],
    path: &FieldPath,
    problems: &mut Problems,
) -> Option<T> {
    let text = text.unwrap_or(default);
    if let Some((_, value)) = known.iter().find(|(word, _)| *word == text) {
        return Some(*value);
    }
    let words: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
    let hint = suggest::hint(text, words.iter().copied());
    problems.error(path, format!("{text:?} is none of {}{hint}", words.join(", ")));
    None
}

/// A form that this version does not write may stand in a list as a preference, as long as another one follows that
/// it does write: a site that gets nothing of what it asked for must hear of it at the start.
fn check_forms(forms: &[String], path: &FieldPath, problems: &mut Problems) {
    for (index, form) in forms.iter().enumerate() {
        if !KNOWN_FORMS.contains(&form.as_str()) {
            let hint = suggest::hint(form, KNOWN_FORMS);
            let message = format!("{form:?} is none of {}{hint}", KNOWN_FORMS.join(", "));
            problems.error(&path.index(index), message);
        } else if !FORMS.contains(&form.as_str()) {
            problems.warn(&path.index(index), format!("this version writes no {form}"));
        }
    }
    let is = |words: &[&str], form: &String| words.contains(&form.as_str());
    let all_known = forms.iter().all(|form| is(&KNOWN_FORMS, form));
    if !forms.is_empty() && all_known && !forms.iter().any(|form| is(&FORMS, form)) {
        problems.error(path, format!("this version writes {} alone", FORMS.join(", ")));
    }
}

fn check_destinations(
    names: &[String],
    path: &FieldPath,
    known: &HashSet<&str>,
    problems: &mut Problems,
) {
    if names.is_empty() && !problems.any_at(path) {
        problems.warn(path, "no destination: results are kept but sent nowhere");
    }
    for (index, name) in names.iter().enumerate() {
        if known.contains(name.as_str()) {
            continue;
        }
        let hint = suggest::hint(name, known.iter().copied());
        problems.error(&path.index(index), format!("no destination is called {name:?}{hint}"));
    }
}
