//! What is odd about a segmentation, target by target, for a person to look at.
//!
//! Nothing here is wrong for certain: a spleen may have been removed, and a body may be mirrored. A finding goes into
//! the report and the job; a protocol may keep the result back for it.

mod anatomy;
mod midline;
mod shape;
#[cfg(test)]
mod tests;

use dicom_types::{GridGeometry, Mask, Modality, Volume};
use prosector_storage::{Finding, FindingKind};

use crate::protocol::{Plausibility, Target};
use anatomy::Side;
use shape::Shape;

/// Vertebrae between a missing target and those above and below it that are there.
const HEIGHT_MARGIN: f64 = 2.0;
/// Volume from which on a target is surely there, millilitres.
const SURELY_THERE_ML: f64 = 0.5;
/// A target is cut off where more than this part of its largest cross section lies in the volume's border.
const CUT_OFF: f64 = 0.05;
/// Voxels beside the expected parts that are more than noise: this part of all, and this number.
const STRAY_PART: f64 = 0.05;
const STRAY_VOXELS: u64 = 8;
/// How far beyond the middle a target must lie to be on the wrong side, millimetres: beyond the middle between it and its
/// partner, beyond that of structures in the middle, beyond that of the body's outline.
const BEYOND_PARTNER_MM: f64 = 3.0;
const BEYOND_MIDDLE_MM: f64 = 10.0;
const BEYOND_OUTLINE_MM: f64 = 20.0;

/// A target and what was found of it.
struct Seen<'a> {
    target: &'a Target,
    shape: Shape,
    /// Where its middle is, patient space.
    middle_mm: [f64; 3],
    volume_ml: f64,
}

/// Looks at the masks of `targets`, which are on the grid of `volume`. In the order of the targets.
pub(super) fn findings(
    volume: &Volume,
    modality: Modality,
    targets: &[Target],
    masks: &[Mask],
    rules: &Plausibility,
) -> Vec<Finding> {
    let geometry = volume.geometry();
    let voxel_ml = geometry.voxel_volume_mm3() / 1000.0;
    let seen: Vec<Seen<'_>> = targets
        .iter()
        .zip(masks)
        .map(|(target, mask)| {
            let shape = Shape::of(mask);
            let middle_mm = geometry.position_mm(shape.centroid);
            let volume_ml = shape.count as f64 * voxel_ml;
            Seen { target, shape, middle_mm, volume_ml }
        })
        .collect();
    let has_sides = seen.iter().any(|s| s.shape.count > 0 && anatomy::side(s.target).is_some());
    let outline = has_sides.then(|| midline::of_body(volume, modality)).flatten();
    let middle = mean(seen.iter().filter(|s| is_there(s) && is_middle(s)).map(|s| s.middle_mm[0]));
    let mut findings = Vec::new();
    for one in &seen {
        let prompt = &one.target.prompt;
        let mut note = |kind, detail: Option<String>| {
            let finding = |detail| Finding { prompt: prompt.clone(), kind, detail };
            findings.extend(detail.map(finding));
        };
        if one.shape.count == 0 {
            note(FindingKind::Empty, missing(one, &seen, rules));
            continue;
        }
        note(FindingKind::CutOff, cut_off(one, geometry));
        note(FindingKind::Fragments, fragments(one, rules));
        note(FindingKind::Side, wrong_side(one, &seen, middle, outline));
        note(FindingKind::Volume, out_of_range(one, rules));
    }
    findings
}

fn is_there(seen: &Seen<'_>) -> bool {
    seen.volume_ml >= SURELY_THERE_ML
}

fn is_middle(seen: &Seen<'_>) -> bool {
    anatomy::is_in_the_middle(&seen.target.prompt)
}

/// Why an empty target is odd: the protocol expects it, or it lies between others that are there.
fn missing(one: &Seen<'_>, all: &[Seen<'_>], rules: &Plausibility) -> Option<String> {
    let prompt = &one.target.prompt;
    if rules.expected.contains(prompt) {
        return Some("not found, and the protocol expects it".to_owned());
    }
    if rules.optional.contains(prompt) {
        return None;
    }
    let height = anatomy::height(prompt)?;
    let there = all.iter().filter(|other| is_there(other)).filter_map(|other| {
        let other_height = anatomy::height(&other.target.prompt)?;
        Some((other.target.prompt.as_str(), other_height))
    });
    let (mut above, mut below) = (None, None);
    for (name, other) in there {
        if other <= height - HEIGHT_MARGIN {
            above.get_or_insert(name);
        } else if other >= height + HEIGHT_MARGIN {
            below.get_or_insert(name);
        }
    }
    Some(format!("not found, although {} above and {} below it are", above?, below?))
}

/// Which borders of the volume a target reaches.
fn cut_off(one: &Seen<'_>, geometry: &GridGeometry) -> Option<String> {
    if anatomy::is_everywhere(&one.target.prompt) {
        return None;
    }
    let mut borders = Vec::new();
    for (profile, step) in one.shape.profiles.iter().zip(geometry.steps_mm()) {
        let largest = profile.iter().copied().max().unwrap_or_default();
        let least = ((largest as f64 * CUT_OFF) as u64).max(1);
        let (first, last) = (profile.first()?, profile.last()?);
        if *first >= least {
            borders.push(direction(step.map(|mm| -mm)));
        }
        if *last >= least {
            borders.push(direction(step));
        }
    }
    let borders = (!borders.is_empty()).then(|| borders.join(", "))?;
    Some(format!("cut off at the border of the volume: {borders}"))
}

/// The patient's word for a direction in patient space (LPS).
fn direction(step: [f64; 3]) -> &'static str {
    let longest = (0..3).max_by(|&a, &b| step[a].abs().total_cmp(&step[b].abs())).unwrap_or(2);
    match (longest, step[longest] > 0.0) {
        (0, true) => "left",
        (0, false) => "right",
        (1, true) => "back",
        (1, false) => "front",
        (_, true) => "head",
        (_, false) => "feet",
    }
}

fn fragments(one: &Seen<'_>, rules: &Plausibility) -> Option<String> {
    let prompt = &one.target.prompt;
    let configured = rules.parts.get(prompt).map(|parts| *parts as usize);
    let expected = configured.or_else(|| anatomy::parts(prompt))?;
    let largest: u64 = one.shape.parts.iter().take(expected).sum();
    let stray = one.shape.count - largest;
    let is_odd = stray >= STRAY_VOXELS && stray as f64 > STRAY_PART * one.shape.count as f64;
    is_odd.then(|| {
        let share = 100.0 * largest as f64 / one.shape.count as f64;
        let found = one.shape.parts.len();
        let largest = match expected {
            1 => "the largest holds".to_owned(),
            count => format!("the largest {count} hold"),
        };
        format!("in {found} parts, of which {largest} {share:.0} %")
    })
}

/// Left and right are those of the patient: x grows to the left (PS3.3 C.7.6.2.1.1).
fn wrong_side(
    one: &Seen<'_>,
    all: &[Seen<'_>],
    middle: Option<f64>,
    outline: Option<f64>,
) -> Option<String> {
    let side = anatomy::side(one.target)?;
    let x = one.middle_mm[0];
    let beyond = |middle: f64| match side {
        Side::Left => middle - x,
        Side::Right => x - middle,
    };
    let partner = anatomy::partner(&one.target.prompt);
    let partner = all.iter().find(|other| {
        other.shape.count > 0 && partner.as_ref().is_some_and(|name| *name == other.target.prompt)
    });
    let by_partner = partner.map(|other| f64::midpoint(x, other.middle_mm[0]));
    let evidence = [
        (by_partner, BEYOND_PARTNER_MM, "its partner"),
        (middle, BEYOND_MIDDLE_MM, "the middle of the body"),
        (outline.filter(|_| middle.is_none()), BEYOND_OUTLINE_MM, "the body's outline"),
    ];
    evidence.into_iter().find_map(|(middle, margin, by)| {
        let beyond = middle.map(beyond).filter(|beyond| *beyond > margin)?;
        Some(format!("{beyond:.0} mm off the {} side, by {by}", side.as_str()))
    })
}

fn out_of_range(one: &Seen<'_>, rules: &Plausibility) -> Option<String> {
    let [least, most] = rules.volume_ml.get(&one.target.prompt)?;
    let is_odd = !(*least..=*most).contains(&one.volume_ml);
    is_odd.then(|| format!("{:.1} mL, expected {least} to {most} mL", one.volume_ml))
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    (count > 0.0).then(|| sum / count)
}
