//! What a set of files holds, series by series.

use std::collections::{BTreeMap, BTreeSet};

use dicom_io::series::{ReadSeriesError, Refusal, SeriesReport, Stack};
use dicom_types::{SeriesInstanceUid, SopInstanceUid};

use crate::protocol::Protocol;
use crate::routing::{GeometryFacts, SeriesFacts, attributes_to_read};

/// Volumes named among those that are left out; a series of time points has hundreds.
const VOLUMES_NAMED: usize = 3;

/// One series, or the files that name none.
#[derive(Debug)]
pub(crate) struct SeriesSource {
    /// Its identity; `None` for files whose header could not be read.
    pub(crate) series_instance_uid: Option<SeriesInstanceUid>,
    /// Its volumes, the one to segment first. Several time points, echoes or weightings lie side by side here.
    pub(crate) stacks: Vec<Stack>,
    /// What in it is no volume.
    pub(crate) refusals: Vec<Refusal>,
    /// Its instances.
    pub(crate) instances: BTreeSet<SopInstanceUid>,
}

impl SeriesSource {
    /// The volume to segment: the one with most voxels, of several equal ones the first that was acquired.
    pub(crate) fn volume(&self) -> Option<&Stack> {
        self.stacks.first()
    }

    /// Why there is no volume, or why parts of the series are not in it: each reason once.
    pub(crate) fn reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        for refusal in &self.refusals {
            let reason = explain(&refusal.reason);
            // Nothing but its path tells a file without identity from others.
            let files = refusal.instances.iter().filter(|_| self.series_instance_uid.is_none());
            let named: Vec<String> =
                files.map(|refused| format!("{}: {reason}", refused.path.display())).collect();
            reasons.extend(if named.is_empty() { vec![reason] } else { named });
        }
        reasons.dedup();
        reasons
    }

    /// Which further volumes of the series are left out, if there are any: one job segments one volume.
    pub(crate) fn further_volumes(&self) -> Option<String> {
        let (_, rest) = self.stacks.split_first().filter(|(_, rest)| !rest.is_empty())?;
        let named: Vec<String> = rest.iter().take(VOLUMES_NAMED).map(name_of_volume).collect();
        let unnamed = match rest.len() - named.len() {
            0 => String::new(),
            count => format!(" and {count} more"),
        };
        Some(format!(
            "one of {} volumes is segmented, the one with most voxels, of equal ones the first acquired; left out: {}{unnamed}",
            self.stacks.len(),
            named.join(", "),
        ))
    }

    /// Everything of the series that its result does not show, with the reasons.
    pub(crate) fn left_out(&self) -> Vec<String> {
        self.reasons().into_iter().chain(self.further_volumes()).collect()
    }

    /// Whether all that is wrong is that there are single slices, which span no volume.
    pub(crate) fn is_single_slices(&self) -> bool {
        let is_single =
            |reason: &ReadSeriesError| matches!(reason, ReadSeriesError::SingleSlice { .. });
        !self.refusals.is_empty() && self.refusals.iter().all(|refusal| is_single(&refusal.reason))
    }

    /// What routing needs to know for `protocols`, and what is kept for others to be tried.
    pub(crate) fn facts(&self, protocols: &[Protocol]) -> SeriesFacts {
        let mut facts = SeriesFacts::new(self.instances.len());
        let Some(stack) = self.volume() else { return facts };
        facts.geometry = Some(GeometryFacts::from(&stack.geometry));
        for attribute in attributes_to_read(protocols) {
            facts.set(&attribute, attribute.values(&stack.header));
        }
        facts
    }
}

/// A volume by its extent and the slice that it begins with.
fn name_of_volume(stack: &Stack) -> String {
    let [slices, rows, columns] = stack.geometry.shape();
    let size = format!("{slices} slices of {rows} by {columns}");
    let Some(first) = stack.slices.first() else { return size };
    let frame = first.frame_number.map(|number| format!(" frame {number}")).unwrap_or_default();
    format!("{size} from instance {}{frame}", first.sop_instance_uid)
}

/// The chain of causes in one line.
fn explain(error: &ReadSeriesError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Sorts a report by series; files that name no series come first.
pub(crate) fn series_of(report: SeriesReport) -> Vec<SeriesSource> {
    let mut series: BTreeMap<Option<SeriesInstanceUid>, SeriesSource> = BTreeMap::new();
    let empty = |uid: &Option<SeriesInstanceUid>| SeriesSource {
        series_instance_uid: uid.clone(),
        stacks: Vec::new(),
        refusals: Vec::new(),
        instances: BTreeSet::new(),
    };
    for stack in report.stacks {
        let uid = Some(stack.series_instance_uid.clone());
        let source = series.entry(uid.clone()).or_insert_with(|| empty(&uid));
        source.instances.extend(stack.slices.iter().map(|slice| slice.sop_instance_uid.clone()));
        source.stacks.push(stack);
    }
    for refusal in report.refusals {
        let uid = refusal.series_instance_uid.clone();
        let source = series.entry(uid.clone()).or_insert_with(|| empty(&uid));
        let names = refusal.instances.iter().map(|refused| refused.name.sop_instance_uid.clone());
        source.instances.extend(names.flatten());
        source.refusals.push(refusal);
    }
    series.into_values().collect()
}
