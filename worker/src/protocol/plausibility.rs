//! What a protocol says of results that are odd.

use std::collections::{BTreeMap, BTreeSet};

use prosector_storage::{Finding, FindingKind, Hold, ReasonCode};
use serde_json::{Value, json};

use super::target::{Target, resolve};
use crate::config::{FieldPath, Problems, RawPlausibility, suggest};

/// The word for every kind of finding.
const ALL: &str = "all";

/// What is expected of the targets, and which findings keep a result back.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Plausibility {
    /// Prompts that are to be found in every series.
    pub(crate) expected: BTreeSet<String>,
    /// Prompts that need not be there, wherever the scan was taken.
    pub(crate) optional: BTreeSet<String>,
    /// Least and largest volume by prompt, millilitres.
    pub(crate) volume_ml: BTreeMap<String, [f64; 2]>,
    /// Parts by prompt, in place of what anatomy says.
    pub(crate) parts: BTreeMap<String, u32>,
    /// Findings that keep a result back.
    pub(crate) hold: Vec<FindingKind>,
}

impl Plausibility {
    /// Checks the table `plausibility` of a protocol with these targets.
    pub(super) fn read(
        raw: &RawPlausibility,
        targets: &[Target],
        path: &FieldPath,
        problems: &mut Problems,
    ) -> Self {
        let mut prompt = |name: &str, path: &FieldPath| prompt(name, targets, path, problems);
        let mut list = |names: &[String], key: &str| -> BTreeSet<String> {
            let path = path.key(key);
            let named = names.iter().enumerate();
            named.filter_map(|(index, name)| prompt(name, &path.index(index))).collect()
        };
        let expected = list(&raw.expected, "expected");
        let optional = list(&raw.optional, "optional");
        let mut volume_ml = BTreeMap::new();
        for (name, range) in &raw.volume_ml {
            let path = path.key("volume_ml").key(name);
            let Some(prompt) = self::prompt(name, targets, &path, problems) else { continue };
            match range.as_slice() {
                &[least, most] if least >= 0.0 && least < most && most.is_finite() => {
                    volume_ml.insert(prompt, [least, most]);
                }
                _ => problems.error(&path, "not two volumes in mL, the smaller one first"),
            }
        }
        let mut parts = BTreeMap::new();
        for (name, count) in &raw.parts {
            let path = path.key("parts").key(name);
            let Some(prompt) = self::prompt(name, targets, &path, problems) else { continue };
            if *count == 0 {
                problems.error(&path, "a target has at least one part");
            }
            parts.insert(prompt, *count);
        }
        let hold = hold(&raw.hold, &path.key("hold"), problems);
        Self { expected, optional, volume_ml, parts, hold }
    }

    /// Why a result with these findings is kept back, where it is.
    pub(crate) fn hold_for(&self, findings: &[Finding]) -> Option<Hold> {
        let grave: Vec<&Finding> =
            findings.iter().filter(|finding| self.hold.contains(&finding.kind)).collect();
        let reason_code = match grave.first()?.kind {
            FindingKind::Empty => ReasonCode::new("implausible_empty"),
            FindingKind::CutOff => ReasonCode::new("implausible_cut_off"),
            FindingKind::Fragments => ReasonCode::new("implausible_fragments"),
            FindingKind::Side => ReasonCode::new("implausible_side"),
            FindingKind::Volume => ReasonCode::new("implausible_volume"),
        };
        let reasons: Vec<String> = grave.iter().map(ToString::to_string).collect();
        Some(Hold { reason_code, reason: reasons.join("; ") })
    }

    /// What changes a result, as it goes into the identity of a job; null where nothing does. Holding changes no byte.
    pub(crate) fn canonical(&self) -> Value {
        let rules = Self { hold: Vec::new(), ..self.clone() };
        if rules == Self::default() {
            return Value::Null;
        }
        json!([self.expected, self.optional, self.volume_ml, self.parts])
    }
}

/// The prompt of one of `targets`, named as the list of targets may name it.
fn prompt(
    name: &str,
    targets: &[Target],
    path: &FieldPath,
    problems: &mut Problems,
) -> Option<String> {
    let resolved = resolve(name).ok().filter(|found| found.len() == 1);
    let wanted = resolved.map_or_else(|| name.to_owned(), |mut found| found.remove(0).prompt);
    if targets.iter().any(|target| target.prompt == wanted) {
        return Some(wanted);
    }
    let prompts = targets.iter().map(|target| target.prompt.as_str());
    let hint = suggest::hint(name, prompts);
    problems.error(path, format!("{name:?} is no target of the protocol{hint}"));
    None
}

fn hold(words: &[String], path: &FieldPath, problems: &mut Problems) -> Vec<FindingKind> {
    if words == [ALL] {
        return FindingKind::ALL.to_vec();
    }
    let mut kinds = Vec::new();
    for (index, word) in words.iter().enumerate() {
        if let Ok(kind) = word.parse() {
            kinds.push(kind);
            continue;
        }
        let known: Vec<&str> = FindingKind::ALL.iter().map(|kind| kind.as_str()).collect();
        let hint = suggest::hint(word, known.iter().copied());
        let message = format!("{word:?} is none of {}, or \"{ALL}\" alone{hint}", known.join(", "));
        problems.error(&path.index(index), message);
    }
    kinds
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(raw: &Value) -> (Plausibility, String) {
        let raw: RawPlausibility = serde_json::from_value(raw.clone()).unwrap();
        let targets = ["liver", "left kidney"].map(|t| resolve(t).unwrap().remove(0));
        let mut problems = Problems::default();
        let path = FieldPath::root().key("plausibility");
        let read = Plausibility::read(&raw, &targets, &path, &mut problems);
        let (errors, _) = problems.into_sorted();
        (read, errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }

    #[test]
    fn every_mistake_is_named_with_its_place() {
        let (_, errors) = read(&json!({
            "hold": ["volumes"], "expected": ["livr"], "optional": ["spleen"],
            "volume_ml": { "liver": [2500, 800] }, "parts": { "left kidney": 0 },
        }));

        insta::assert_snapshot!(errors, @r#"
        plausibility.expected[0]: "livr" is no target of the protocol, did you mean "liver"?
        plausibility.hold[0]: "volumes" is none of empty, cut_off, fragments, side, volume, or "all" alone, did you mean "volume"?
        plausibility.optional[0]: "spleen" is no target of the protocol
        plausibility.parts.left kidney: a target has at least one part
        plausibility.volume_ml.liver: not two volumes in mL, the smaller one first
        "#);
    }

    #[test]
    fn what_the_protocol_names_keeps_a_result_back_and_nothing_else() {
        let (rules, errors) = read(&json!({
            "hold": ["side", "volume"], "volume_ml": { "kidney_left": [80, 400] },
        }));
        assert_eq!(errors, "");
        assert!(rules.volume_ml["left kidney"].iter().eq(&[80.0, 400.0]));
        let finding = |kind| Finding { prompt: "liver".to_owned(), kind, detail: "odd".to_owned() };

        assert_eq!(rules.hold_for(&[finding(FindingKind::CutOff)]), None);
        let held = rules.hold_for(&[finding(FindingKind::CutOff), finding(FindingKind::Side)]);
        let held = held.unwrap();
        assert_eq!(held.reason_code, ReasonCode::new("implausible_side"));
        assert_eq!(held.reason, "liver: odd");
        assert_eq!(read(&json!({ "hold": ["all"] })).0.hold.len(), FindingKind::ALL.len());
    }

    #[test]
    fn holding_changes_no_job_and_a_range_does() {
        assert_eq!(read(&json!({ "hold": ["all"] })).0.canonical(), Value::Null);
        assert!(read(&json!({ "expected": ["liver"] })).0.canonical().is_array());
    }
}
