//! Placing parallel slices on a regular grid.

use dicom_types::GridGeometry;

use super::ReadSeriesError;
use super::frame::Frame;
use super::plane::{dot, length, scale, subtract};

/// Slices closer than this along the normal lie at one position.
const SAME_POSITION_MM: f64 = 0.01;
/// How far a slice may lie from where the grid has it: half a unit of positions stored with one decimal, with room.
const ROUNDING_MM: f64 = 0.06;
/// The same for thick slices, as a part of the step.
const STEP_TOLERANCE: f64 = 0.02;
/// Never more than this part of the smallest spacing, however small that is.
const SPACING_TOLERANCE: f64 = 0.25;
/// Most voxels of a volume: 4 GiB of values.
const MAX_VOXELS: usize = 1 << 30;

/// Sorts parallel slices along their normal; the order of acquisition decides between equals.
pub(super) fn sort_along_normal(frames: &mut [&Frame]) {
    let Some(normal) = frames.first().map(|frame| frame.plane.normal) else { return };
    frames.sort_by(|a, b| {
        let along = dot(a.position_mm(), normal).total_cmp(&dot(b.position_mm(), normal));
        along.then_with(|| a.order().cmp(&b.order()))
    });
}

/// Distance of two slices along the normal of the first.
pub(super) fn distance_mm(a: &Frame, b: &Frame) -> f64 {
    dot(subtract(b.position_mm(), a.position_mm()), a.plane.normal)
}

/// Whether two slices lie at one position.
pub(super) fn same_position(a: &Frame, b: &Frame) -> bool {
    distance_mm(a, b).abs() < SAME_POSITION_MM
}

/// Fits a grid to slices that are sorted along their normal.
///
/// The step is that from the first to the last slice, so that a gantry tilt stays the shear that it is.
pub(super) fn fit(frames: &[&Frame]) -> Result<GridGeometry, ReadSeriesError> {
    let [first, .., last] = frames else {
        let instance = frames.first().map(|frame| frame.name());
        return Err(ReadSeriesError::SingleSlice {
            instance: instance.unwrap_or_else(no_instance),
        });
    };
    if let Some([a, b]) = frames.array_windows().find(|[a, b]| same_position(a, b)) {
        return Err(ReadSeriesError::SamePosition { instance: b.name(), other: a.name() });
    }
    let slices = frames.len();
    let extent = subtract(last.position_mm(), first.position_mm());
    let slice_step = scale(extent, 1.0 / (slices - 1) as f64);
    check_line(frames, slice_step)?;

    let [row_spacing, column_spacing] = first.plane.spacing_mm;
    let row_step = scale(first.plane.column_direction, row_spacing);
    let column_step = scale(first.plane.row_direction, column_spacing);
    let shape = [slices, first.instance.rows.into(), first.instance.columns.into()];
    let voxels = shape.iter().product();
    if voxels > MAX_VOXELS {
        let instance = first.name();
        return Err(ReadSeriesError::TooLarge { instance, voxels, limit: MAX_VOXELS });
    }
    GridGeometry::new(shape, first.position_mm(), [slice_step, row_step, column_step])
        .map_err(|source| ReadSeriesError::Grid { instance: first.name(), source })
}

fn no_instance() -> super::InstanceName {
    super::InstanceName { sop_instance_uid: None, frame_number: None }
}

/// Checks that every slice lies where the grid has it, along the normal and in the plane.
fn check_line(frames: &[&Frame], slice_step: [f64; 3]) -> Result<(), ReadSeriesError> {
    let Some(first) = frames.first() else { return Ok(()) };
    let normal = first.plane.normal;
    let plane_distance = dot(slice_step, normal);
    let [row_spacing, column_spacing] = first.plane.spacing_mm;
    let smallest = plane_distance.min(row_spacing).min(column_spacing);
    let tolerance =
        (STEP_TOLERANCE * plane_distance).max(ROUNDING_MM).min(SPACING_TOLERANCE * smallest);

    let mut furthest = (0.0, *first);
    for (i, frame) in frames.iter().enumerate() {
        let expected = scale(slice_step, i as f64);
        let error = subtract(subtract(frame.position_mm(), first.position_mm()), expected);
        let along = dot(error, normal);
        if along.abs() > tolerance {
            return Err(widest_gap(frames));
        }
        let in_plane = length(subtract(error, scale(normal, along)));
        if in_plane > furthest.0 {
            furthest = (in_plane, *frame);
        }
    }
    let (distance_mm, frame) = furthest;
    if distance_mm > tolerance {
        return Err(ReadSeriesError::OffLine { instance: frame.name(), distance_mm });
    }
    Ok(())
}

/// Names the gap that differs most from the median one.
fn widest_gap(frames: &[&Frame]) -> ReadSeriesError {
    let gaps: Vec<_> = frames.array_windows().map(|[a, b]| (distance_mm(a, b), a.name())).collect();
    let mut sorted: Vec<_> = gaps.iter().map(|(gap, _)| *gap).collect();
    sorted.sort_by(f64::total_cmp);
    let expected_mm = sorted.get((sorted.len() - 1) / 2).copied().unwrap_or_default();
    let odd = |gap: f64| (gap - expected_mm).abs();
    let widest = gaps.into_iter().max_by(|(a, _), (b, _)| odd(*a).total_cmp(&odd(*b)));
    let (gap_mm, instance) = widest.unwrap_or_else(|| (0.0, no_instance()));
    ReadSeriesError::SliceGap { instance, gap_mm, expected_mm }
}
