//! Contours of a structure set against the masks: the pixels inside are found again, slice by slice.

use dicom::dictionary_std::tags;
use dicom_types::Mask;

use super::SegMismatch;
use super::object::{
    Item, Parsed, element, items, malformed, only_item, optional_text, text, unexpected,
};
use crate::seg::content::SegmentInput;
use crate::series::Stack;

/// How far a point may lie off the plane of its image, in millimetres.
const OFF_PLANE_MM: f64 = 1e-3;

/// Fills every contour and compares what is inside with the mask of its region.
pub(super) fn check(
    object: &Parsed<'_>,
    stack: &Stack,
    segments: &[SegmentInput<'_>],
) -> Result<(), SegMismatch> {
    let regions = items(object.dataset, tags::STRUCTURE_SET_ROI_SEQUENCE)?;
    let contours = items(object.dataset, tags::ROI_CONTOUR_SEQUENCE)?;
    if regions.len() != segments.len() || contours.len() != segments.len() {
        return Err(SegMismatch::SegmentCount { expected: segments.len(), found: regions.len() });
    }
    for (index, segment) in segments.iter().enumerate() {
        let number = index as u16 + 1;
        let (region, contour) = (regions[index], contours[index]);
        if text(region, tags::ROI_NAME)? != segment.description.label.as_str() {
            return Err(SegMismatch::Segment { number, attribute: "ROIName" });
        }
        for (item, tag) in [(region, tags::ROI_NUMBER), (contour, tags::REFERENCED_ROI_NUMBER)] {
            if text(item, tag)? != number.to_string() {
                return Err(unexpected(tag));
            }
        }
        check_region(contour, stack, segment.mask, number)?;
    }
    Ok(())
}

fn check_region(
    region: Item<'_>,
    stack: &Stack,
    mask: &Mask,
    number: u16,
) -> Result<(), SegMismatch> {
    let [slices, rows, columns] = stack.geometry.shape();
    let mut crossings: Vec<Vec<Vec<f64>>> = vec![Vec::new(); slices];
    for (index, contour) in items(region, tags::CONTOUR_SEQUENCE)?.into_iter().enumerate() {
        let slice = slice_of(contour, stack)
            .ok_or(SegMismatch::Unexpected { attribute: "ContourImageSequence" })?;
        if text(contour, tags::CONTOUR_GEOMETRIC_TYPE)? != "CLOSED_PLANAR" {
            return Err(unexpected(tags::CONTOUR_GEOMETRIC_TYPE));
        }
        let points = points(contour, stack, slice, index + 1)?;
        let rows_of_slice = &mut crossings[slice];
        rows_of_slice.resize(rows, Vec::new());
        let next = points.iter().cycle().skip(1);
        for (a, b) in points.iter().zip(next) {
            let (low, high) = (a[0].min(b[0]), a[0].max(b[0]));
            let first = low.ceil().max(0.0) as usize;
            for (row, places) in rows_of_slice.iter_mut().enumerate().skip(first) {
                let row = row as f64;
                if row >= high {
                    break;
                }
                places.push(a[1] + (row - a[0]) / (b[0] - a[0]) * (b[1] - a[1]));
            }
        }
    }
    for (slice, rows_of_slice) in crossings.iter().enumerate() {
        if rows_of_slice.is_empty() && mask.count_in_slice(slice) > 0 {
            return Err(SegMismatch::MissingFrame { number, slice });
        }
        for (row, places) in rows_of_slice.iter().enumerate() {
            for column in 0..columns {
                let crossed = places.iter().filter(|place| **place > column as f64).count();
                if (crossed % 2 == 1) != mask.contains([slice, row, column]) {
                    return Err(SegMismatch::Contour { number, slice });
                }
            }
        }
    }
    Ok(())
}

/// The slice that a contour's image is.
fn slice_of(contour: Item<'_>, stack: &Stack) -> Option<usize> {
    let image = only_item(contour, tags::CONTOUR_IMAGE_SEQUENCE).ok()?;
    let uid = text(image, tags::REFERENCED_SOP_INSTANCE_UID).ok()?;
    let frame = optional_text(image, tags::REFERENCED_FRAME_NUMBER).ok()?;
    stack.slices.iter().position(|slice| {
        let number = slice.frame_number.map(|number| number.to_string());
        slice.sop_instance_uid.as_str() == uid && number.as_deref() == frame
    })
}

/// The points in pixels, `[row, column]`, after a look at whether they lie in the plane of the slice.
fn points(
    contour: Item<'_>,
    stack: &Stack,
    slice: usize,
    contour_number: usize,
) -> Result<Vec<[f64; 2]>, SegMismatch> {
    let value = element(contour, tags::CONTOUR_DATA)?.value;
    let wrong = || malformed(tags::CONTOUR_DATA);
    let text = std::str::from_utf8(value).map_err(|_| wrong())?;
    let numbers: Vec<f64> = text
        .trim_end()
        .split('\\')
        .map(|number| number.trim().parse().map_err(|_| wrong()))
        .collect::<Result<_, _>>()?;
    let count: usize = self::text(contour, tags::NUMBER_OF_CONTOUR_POINTS)?
        .parse()
        .map_err(|_| malformed(tags::NUMBER_OF_CONTOUR_POINTS))?;
    if numbers.len() != 3 * count || count < 3 {
        return Err(wrong());
    }
    let at = |voxel: [f64; 3]| stack.geometry.position_mm(voxel);
    let place = slice as f64;
    let origin = at([place, 0.0, 0.0]);
    let minus = |a: [f64; 3], b: [f64; 3]| -> [f64; 3] { std::array::from_fn(|i| a[i] - b[i]) };
    let dot = |a: [f64; 3], b: [f64; 3]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let down = minus(at([place, 1.0, 0.0]), origin);
    let right = minus(at([place, 0.0, 1.0]), origin);
    numbers
        .chunks_exact(3)
        .map(|point| {
            let offset = minus([point[0], point[1], point[2]], origin);
            let row = dot(offset, down) / dot(down, down);
            let column = dot(offset, right) / dot(right, right);
            let in_plane: [f64; 3] = std::array::from_fn(|i| row * down[i] + column * right[i]);
            let off = minus(offset, in_plane);
            let distance_mm = dot(off, off).sqrt();
            if distance_mm > OFF_PLANE_MM {
                return Err(SegMismatch::Position { frame: contour_number, distance_mm });
            }
            Ok([row, column])
        })
        .collect()
}
