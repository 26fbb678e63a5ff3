//! Splitting a set of instances into stacks.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use dicom::object::InMemDicomObject;
use dicom_types::{GridGeometry, SeriesInstanceUid, SopInstanceUid};
use rayon::prelude::*;

use super::file::read_header;
use super::frame::Frame;
use super::grid::{distance_mm, fit, same_position, sort_along_normal};
use super::instance::{ReadInstance, read_instance};
use super::split_facts::Distinction;
use super::{
    Duplicate, InstanceName, ReadSeriesError, Refusal, RefusedInstance, SeriesReport, Stack,
};

/// Fewest slices of each part when overlapping reconstructions are pulled apart.
const MIN_INTERLEAVED: usize = 3;

/// Reads the headers of `files` and splits their series into stacks.
///
/// Stacks of a series are told apart by kind of object, frame of reference, matrix, orientation,
/// pixel spacing, stack, echo time, b-value, temporal position and part of the complex signal. Slices that are no
/// volume after that, because positions repeat or lie too close, are told apart by whichever further attribute makes
/// volumes of all of them (acquisition, trigger time, kernel and the like), at last by runs of instance numbers.
///
/// The result does not depend on the order of `files`. Every file ends in a stack, in a refusal or as a duplicate.
/// Headers are read on rayon's threads.
pub fn read_stacks(files: &[PathBuf]) -> SeriesReport {
    let mut files: Vec<&PathBuf> = files.iter().collect();
    files.sort();
    files.dedup();
    let instances: Vec<(&PathBuf, ReadInstance)> =
        files.into_par_iter().map(|path| (path, read_instance(path))).collect();

    let mut report =
        SeriesReport { stacks: Vec::new(), refusals: Vec::new(), duplicates: Vec::new() };
    let instances = set_duplicates_aside(instances, &mut report);
    let mut series = BTreeMap::<SeriesInstanceUid, Vec<Frame>>::new();
    for frame in instances.into_iter().flatten() {
        series.entry(frame.instance.series_instance_uid.clone()).or_default().push(frame);
    }
    let series: Vec<_> = series.into_values().collect();
    let outcomes: Vec<_> = series.into_par_iter().map(split_series).collect();
    for (stacks, refusals) in outcomes {
        report.stacks.extend(stacks);
        report.refusals.extend(refusals);
    }
    report.refusals.sort_by(|a, b| {
        let key = |refusal: &Refusal| {
            (refusal.series_instance_uid.clone(), refusal.instances.first().cloned())
        };
        key(a).cmp(&key(b))
    });
    report
}

/// Keeps one file per instance, refuses what cannot be used, and returns the frames of the rest.
fn set_duplicates_aside(
    instances: Vec<(&PathBuf, ReadInstance)>,
    report: &mut SeriesReport,
) -> Vec<Vec<Frame>> {
    let mut refuse = |series: Option<&SeriesInstanceUid>, name, path: &PathBuf, reason| {
        report.refusals.push(Refusal {
            series_instance_uid: series.cloned(),
            instances: vec![RefusedInstance { name, path: path.clone() }],
            reason,
        });
    };
    let mut by_uid = BTreeMap::<SopInstanceUid, Vec<(PathBuf, Vec<Frame>)>>::new();
    for (path, ReadInstance { name, series_instance_uid, frames }) in instances {
        let series = series_instance_uid.as_ref();
        let frames = match frames {
            Ok(frames) => frames,
            Err(reason) => {
                refuse(series, name, path, reason);
                continue;
            }
        };
        let mut usable = Vec::with_capacity(frames.len());
        for frame in frames {
            match frame {
                Ok(frame) => usable.push(frame),
                Err(refusal) => refuse(series, refusal.name, path, refusal.reason),
            }
        }
        if let Some(uid) = name.sop_instance_uid.filter(|_| !usable.is_empty()) {
            by_uid.entry(uid).or_default().push((path.clone(), usable));
        }
    }

    let mut kept = Vec::with_capacity(by_uid.len());
    for (uid, mut copies) in by_uid {
        // A copy without loss is better than one with; the path decides between equals.
        copies.sort_by_cached_key(|(path, frames)| {
            (frames.first().is_some_and(|frame| frame.instance.lossy), path.clone())
        });
        let mut copies = copies.into_iter();
        let Some((path, frames)) = copies.next() else { continue };
        let others: Vec<_> = copies.collect();
        let all_alike = others.iter().all(|(_, other)| {
            other.len() == frames.len()
                && other.iter().zip(&frames).all(|(a, b)| a.shows_the_same_as(b))
        });
        let paths = others.into_iter().map(|(path, _)| path);
        if all_alike {
            report.duplicates.extend(paths.map(|other| Duplicate {
                sop_instance_uid: uid.clone(),
                kept: path.clone(),
                path: other,
            }));
            kept.push(frames);
        } else {
            let name = InstanceName::new(&uid, None);
            let series = frames.first().map(|frame| frame.instance.series_instance_uid.clone());
            let instances = std::iter::once(path).chain(paths);
            report.refusals.push(Refusal {
                series_instance_uid: series,
                instances: instances
                    .map(|path| RefusedInstance { name: name.clone(), path })
                    .collect(),
                reason: ReadSeriesError::Conflict { instance: name },
            });
        }
    }
    kept
}

/// Frames that make a volume with its grid, or that do not and why.
type Part<'a> = (Vec<&'a Frame>, Result<GridGeometry, ReadSeriesError>);

fn split_series(mut frames: Vec<Frame>) -> (Vec<Stack>, Vec<Refusal>) {
    frames.sort_by(|a, b| a.order().cmp(&b.order()));
    // A series belongs to one study (PS3.3 A.1.2.3): which patient this would be, nobody can say.
    if let Some(stray) = frames.iter().find(|frame| {
        frames.first().is_some_and(|first| {
            first.instance.study_instance_uid != frame.instance.study_instance_uid
        })
    }) {
        let reason = ReadSeriesError::Study { instance: stray.name() };
        return (Vec::new(), vec![refusal(&frames.iter().collect::<Vec<_>>(), reason)]);
    }
    let mut stacks = Vec::new();
    let mut refusals = Vec::new();
    let mut headers = Headers::new();
    for group in parallel_groups(&frames) {
        for (slices, outcome) in resolve(group) {
            let built = outcome.and_then(|geometry| build_stack(&slices, geometry, &mut headers));
            match built {
                Ok(stack) => stacks.push((slices.iter().map(|s| s.order()).min(), stack)),
                Err(reason) => refusals.push(refusal(&slices, reason)),
            }
        }
    }
    stacks.sort_by(|(a_order, a), (b_order, b)| {
        let voxels = b.geometry.voxels().cmp(&a.geometry.voxels());
        voxels.then_with(|| a_order.cmp(b_order))
    });
    (stacks.into_iter().map(|(_, stack)| stack).collect(), refusals)
}

/// Groups frames that may share a grid. The order of `frames` decides which of two near orientations is the measure.
fn parallel_groups(frames: &[Frame]) -> Vec<Vec<&Frame>> {
    let mut groups: Vec<Vec<&Frame>> = Vec::new();
    let mut candidates = HashMap::<_, Vec<usize>>::new();
    for frame in frames {
        let facts = &frame.instance;
        let key = (
            &frame.source.sop_class_uid,
            &facts.frame_of_reference_uid,
            (facts.rows, facts.columns),
            &frame.facts.always,
        );
        let known = candidates.entry(key).or_default();
        let home = known.iter().copied().find(|&index| {
            let first = groups.get(index).and_then(|group| group.first());
            first.is_some_and(|first| first.plane.is_parallel_to(&frame.plane))
        });
        if let Some(group) = home.and_then(|index| groups.get_mut(index)) {
            group.push(frame);
        } else {
            known.push(groups.len());
            groups.push(vec![frame]);
        }
    }
    groups
}

/// Makes volumes of parallel slices: as they stand, or told apart by what tells them apart.
fn resolve(mut group: Vec<&Frame>) -> Vec<Part<'_>> {
    sort_along_normal(&mut group);
    let error = match fit(&group) {
        Ok(geometry) => return vec![(group, Ok(geometry))],
        Err(error) => error,
    };
    let multiplicity = multiplicity(&group);
    let mut partial = None;
    for distinctions in distinctions() {
        let parts = partition(&group, &distinctions);
        if parts.len() < 2 {
            continue;
        }
        let is_complete = parts.iter().all(|(_, outcome)| outcome.is_ok());
        let is_fine_grained = distinctions.iter().any(|distinction| distinction.is_a_time())
            && parts.len() > multiplicity;
        if is_complete && !is_fine_grained && (multiplicity > 1 || are_interleaved(&parts)) {
            return parts;
        }
        let repeats = parts
            .iter()
            .any(|(_, outcome)| matches!(outcome, Err(ReadSeriesError::SamePosition { .. })));
        let some_volume = parts.iter().any(|(_, outcome)| outcome.is_ok());
        if partial.is_none() && !repeats && some_volume && parts.len() <= multiplicity {
            partial = Some(parts);
        }
    }
    if let Some(parts) = partial {
        return parts;
    }
    if multiplicity > 1
        && let Some(parts) = runs_of_instances(&group, multiplicity)
    {
        return parts;
    }
    vec![(group, Err(error))]
}

/// Every single distinction in order of trust, then every pair.
fn distinctions() -> Vec<Vec<Distinction>> {
    let singles = Distinction::ALL.map(|a| vec![a]);
    let pairs = Distinction::ALL
        .iter()
        .enumerate()
        .flat_map(|(i, &a)| Distinction::ALL.iter().skip(i + 1).map(move |&b| vec![a, b]));
    singles.into_iter().chain(pairs).collect()
}

/// Most slices at one position. `group` is sorted along the normal.
fn multiplicity(group: &[&Frame]) -> usize {
    group.chunk_by(|a, b| same_position(a, b)).map(<[_]>::len).max().unwrap_or(0)
}

/// Parts of `group` with equal values of all `distinctions`, each fitted, in the order of acquisition.
fn partition<'a>(group: &[&'a Frame], distinctions: &[Distinction]) -> Vec<Part<'a>> {
    let mut parts = BTreeMap::<Vec<Option<&str>>, Vec<&Frame>>::new();
    for &frame in group {
        let value = |distinction: &Distinction| {
            frame.facts.sometimes.get(*distinction as usize).and_then(Option::as_deref)
        };
        parts.entry(distinctions.iter().map(value).collect()).or_default().push(frame);
    }
    if parts.len() < 2 {
        return Vec::new();
    }
    parts
        .into_values()
        .map(|part| {
            let outcome = fit(&part);
            (part, outcome)
        })
        .collect()
}

/// Whether parts that share no position are reconstructions of one region, rather than the two sides of a gap.
fn are_interleaved(parts: &[Part<'_>]) -> bool {
    let Some((reference, _)) = parts.first() else { return false };
    let Some(&origin) = reference.first() else { return false };
    let extents: Vec<_> = parts
        .iter()
        .filter_map(|(part, _)| {
            let [first, .., last] = part.as_slice() else { return None };
            let is_long_enough = part.len() >= MIN_INTERLEAVED;
            is_long_enough.then(|| (distance_mm(origin, first), distance_mm(origin, last)))
        })
        .collect();
    let overlaps = |i: usize, (first, last): (f64, f64)| {
        extents.iter().enumerate().any(|(j, &(f, l))| j != i && f < last && first < l)
    };
    extents.len() == parts.len()
        && extents.iter().enumerate().all(|(i, &extent)| overlaps(i, extent))
}

/// Takes the first slice at every position, then the second, and so on, if the scanner numbered them so: each part
/// is a run of instance (or frame) numbers of its own.
fn runs_of_instances<'a>(group: &[&'a Frame], multiplicity: usize) -> Option<Vec<Part<'a>>> {
    let mut parts: Vec<Vec<&Frame>> = vec![Vec::new(); multiplicity];
    for at_one_position in group.chunk_by(|a, b| same_position(a, b)) {
        for (part, &frame) in parts.iter_mut().zip(at_one_position) {
            part.push(frame);
        }
    }
    let number = |frame: &&Frame| {
        let (instance, frame_number, _) = frame.order();
        instance.map(|instance| (instance, frame_number))
    };
    let mut previous_end = None;
    for part in &parts {
        let numbers: Vec<_> = part.iter().map(number).collect::<Option<_>>()?;
        let (first, last) = (numbers.iter().min().copied()?, numbers.iter().max().copied()?);
        if previous_end.is_some_and(|end| end >= first) {
            return None;
        }
        previous_end = Some(last);
    }
    let parts: Vec<_> = parts
        .into_iter()
        .map(|part| {
            let outcome = fit(&part);
            (part, outcome)
        })
        .collect();
    parts.iter().any(|(_, outcome)| outcome.is_ok()).then_some(parts)
}

/// Headers read again for stacks, by file: several stacks may begin in one enhanced instance.
type Headers = HashMap<PathBuf, Arc<InMemDicomObject>>;

fn build_stack(
    slices: &[&Frame],
    geometry: GridGeometry,
    headers: &mut Headers,
) -> Result<Stack, ReadSeriesError> {
    let Some(&first) = slices.first() else {
        let instance = InstanceName { sop_instance_uid: None, frame_number: None };
        return Err(ReadSeriesError::SingleSlice { instance });
    };
    let path = &first.source.path;
    let header = if let Some(header) = headers.get(path) {
        Arc::clone(header)
    } else {
        let header = read_header(path)
            .map_err(|source| ReadSeriesError::Header { instance: first.name(), source })?;
        let header = Arc::new(header.instance.dataset);
        headers.insert(path.clone(), Arc::clone(&header));
        header
    };
    let facts = &first.instance;
    Ok(Stack {
        study_instance_uid: facts.study_instance_uid.clone(),
        series_instance_uid: facts.series_instance_uid.clone(),
        frame_of_reference_uid: facts.frame_of_reference_uid.clone(),
        modality: facts.modality,
        geometry,
        slices: slices.iter().map(|frame| frame.source.clone()).collect(),
        image_orientation_patient: first.orientation_text.clone(),
        pixel_spacing: first.spacing_text.clone(),
        slice_thickness: first.slice_thickness.clone(),
        lossy_image_compression: slices.iter().any(|frame| frame.instance.lossy),
        header,
    })
}

fn refusal(slices: &[&Frame], reason: ReadSeriesError) -> Refusal {
    let mut instances: Vec<_> = slices
        .iter()
        .map(|frame| RefusedInstance { name: frame.name(), path: frame.source.path.clone() })
        .collect();
    instances.sort();
    Refusal {
        series_instance_uid: slices.first().map(|frame| frame.instance.series_instance_uid.clone()),
        instances,
        reason,
    }
}
