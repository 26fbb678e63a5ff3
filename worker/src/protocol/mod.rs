//! A protocol: which series, which targets, which model pack, which destinations.

mod forms;
mod live;
mod plausibility;
mod schedule;
mod target;

use std::collections::HashSet;

use anyhow::Context as _;
use dicom_io::Attribute;
use prosector_model::{Mode, OrientationCode};
use prosector_storage::{Priority, ProtocolRevision, ProtocolRule, Sha256Digest};

use crate::config::{FieldPath, Problems, RawProtocol, in_order, name, suggest};
use crate::routing::{Choose, Condition, choice_attributes};

pub(crate) use forms::{Forms, Product, Shipment};
pub(crate) use live::LiveProtocols;
pub(crate) use plausibility::Plausibility;
use schedule::Schedule;
pub(crate) use target::{Target, resolve};

/// Name of the pack that is built in.
pub(crate) const PHANTOM_PACK: &str = "phantom";

/// Voxel orders that a protocol may ask for.
const ORIENTATIONS: [(&str, OrientationCode); 2] =
    [("RAS", OrientationCode::Ras), ("ASR", OrientationCode::Asr)];
/// Ways to cover a volume with windows.
const MODES: [(&str, Mode); 2] =
    [(Mode::Reference.as_str(), Mode::Reference), (Mode::Fast.as_str(), Mode::Fast)];

/// Which series, which targets, which model pack, which destinations.
#[derive(Debug, Clone)]
pub(crate) struct Protocol {
    /// What jobs, logs and people call it.
    pub(crate) name: String,
    /// Which series it takes.
    pub(crate) condition: Condition,
    /// Name of the model pack.
    pub(crate) model: String,
    /// Name of the pack that runs beside it in the shadow lane.
    pub(crate) shadow: Option<String>,
    /// Which of several series of a study it takes.
    pub(crate) choose: Choose,
    /// What makes a series more welcome than others, the sum deciding before everything else.
    pub(crate) prefer: Vec<Condition>,
    /// What to segment; some for one sex alone, see [`Target::is_for`].
    pub(crate) targets: Vec<Target>,
    /// How urgent its jobs are.
    pub(crate) priority: Priority,
    /// When its jobs begin, and how many of them.
    pub(crate) schedule: Schedule,
    /// Voxel order for the network.
    pub(crate) orientation: OrientationCode,
    /// How windows cover the volume.
    pub(crate) mode: Mode,
    /// Forms of the result, for destinations that name none of their own.
    pub(crate) forms: Forms,
    /// Names of destinations.
    pub(crate) destinations: Vec<String>,
    /// What is expected of the targets.
    pub(crate) plausibility: Plausibility,
    /// The protocol as it was written, keys in a fixed order.
    pub(crate) definition: String,
}

impl Protocol {
    /// Whether the network is to read the volume as sagittal slices.
    pub(crate) fn is_sagittal(&self) -> bool {
        self.orientation == OrientationCode::Asr
    }

    /// Whether it takes one series of a study rather than every one that matches.
    pub(crate) fn chooses(&self) -> bool {
        self.choose != Choose::All
    }

    /// Whether both ask the same model for the same targets, so that a series segmented by one needs no other job.
    pub(crate) fn gives_the_same_as(&self, other: &Self) -> bool {
        self.name == other.name
            && self.model == other.model
            && self.orientation == other.orientation
            && self.mode == other.mode
            && self.targets == other.targets
    }

    /// Header attributes that decide whether it takes a series, some more than once.
    pub(crate) fn attributes(&self) -> Vec<Attribute> {
        let mut attributes = self.condition.attributes();
        attributes.extend(choice_attributes(self));
        attributes
    }

    /// What a job made by this protocol refers to.
    pub(crate) fn revision(&self) -> ProtocolRevision {
        ProtocolRevision {
            protocol_name: self.name.clone(),
            sha256: Sha256Digest::of(self.definition.as_bytes()),
            definition: self.definition.clone(),
        }
    }

    /// Names of the packs that its jobs run, the one of production first.
    pub(crate) fn packs(&self) -> impl Iterator<Item = &str> {
        [Some(&self.model), self.shadow.as_ref()].into_iter().flatten().map(String::as_str)
    }

    /// Reads a protocol back from the wording that [`Self::revision`] keeps.
    ///
    /// # Errors
    /// When this version of the program does not understand it.
    pub(crate) fn of_definition(definition: &str) -> anyhow::Result<Self> {
        let raw: RawProtocol = serde_json::from_str(definition)
            .context("the protocol's wording is not one that this version knows")?;
        let destinations: HashSet<&str> = raw.destinations.iter().map(String::as_str).collect();
        let mut problems = Problems::default();
        let path = FieldPath::root().key("protocol");
        let protocol = Self::read(&raw, &path, &destinations, &mut HashSet::new(), &mut problems);
        let is_wrong = problems.any();
        let (errors, _) = problems.into_sorted();
        if let Some(protocol) = protocol.filter(|_| !is_wrong) {
            return Ok(protocol);
        }
        let reasons: Vec<String> = errors.iter().map(ToString::to_string).collect();
        anyhow::bail!("the protocol's wording does not hold: {}", reasons.join("; "))
    }

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
        let shadow = raw.shadow.clone();
        let is_itself = shadow.is_some() && shadow == model;
        if is_itself || shadow.as_deref() == Some("") {
            problems.error(&path.key("shadow"), "name a pack other than model");
        }
        let schedule = Schedule::read(raw, path, problems);
        let priority = choose(
            raw.priority.as_deref(),
            "routine",
            &Priority::ALL.iter().map(|p| (p.as_str(), *p)).collect::<Vec<_>>(),
            &path.key("priority"),
            problems,
        );
        let orientation = choose(
            raw.orientation.as_deref(),
            "RAS",
            &ORIENTATIONS,
            &path.key("orientation"),
            problems,
        );
        let mode = choose(raw.mode.as_deref(), "reference", &MODES, &path.key("mode"), problems);
        let plausibility_path = path.key("plausibility");
        let plausibility = raw
            .plausibility
            .as_ref()
            .map(|raw| Plausibility::read(raw, &targets, &plausibility_path, problems));
        let forms = Forms::read(&raw.forms, &path.key("forms"), problems);
        let choose_path = path.key("choose");
        let choice = choose(raw.choose.as_deref(), "all", &Choose::WORDS, &choose_path, problems);
        let prefer = read_preferences(raw, choice, &path.key("prefer"), problems);
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
            shadow,
            choose: choice?,
            prefer: prefer?,
            targets,
            priority: priority?,
            schedule,
            orientation: orientation?,
            mode: mode?,
            forms: forms?,
            destinations: raw.destinations.clone(),
            plausibility: plausibility.unwrap_or_default(),
            definition: definition(raw),
        })
    }
}

/// What keeps jobs of `protocols` waiting.
pub(crate) fn rules_of(protocols: &[Protocol]) -> Vec<ProtocolRule> {
    protocols.iter().filter_map(|protocol| protocol.schedule.rule(&protocol.name)).collect()
}

/// The protocol as JSON: keys sorted, so that the same protocol is the same text.
fn definition(raw: &RawProtocol) -> String {
    let value = serde_json::to_value(raw).expect("text, numbers and lists are JSON");
    in_order(value).to_string()
}

fn read_preferences(
    raw: &RawProtocol,
    choice: Option<Choose>,
    path: &FieldPath,
    problems: &mut Problems,
) -> Option<Vec<Condition>> {
    if !raw.prefer.is_empty() && matches!(choice, Some(Choose::All | Choose::First)) {
        problems.error(path, "preferences need choose = \"best\"");
    }
    let read: Vec<Option<Condition>> = raw
        .prefer
        .iter()
        .enumerate()
        .map(|(index, table)| Condition::read(table, &path.index(index), problems))
        .collect();
    read.into_iter().collect()
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
