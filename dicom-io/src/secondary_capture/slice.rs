//! One plane of the patient after another.

use dicom_types::{GridGeometry, Modality, Volume};

use super::canvas::Canvas;
use super::plane::{Cut, Plane};
use super::window::Window;
use super::{Overlay, Preview, bounds_mm, draw_panel};

/// Most slices of one plane; finer ones are passed over.
const MOST_SLICES: usize = 512;
/// Longest side of a picture, pixels.
const LONGEST_SIDE: f64 = 640.0;
/// Voxels that the window of a series without unit is chosen from.
const WINDOW_SAMPLES: usize = 20_000;

/// How many slices of `plane` there are: one for each step of the grid's finest spacing, 512 at most.
pub fn slice_count(geometry: &GridGeometry, plane: Plane) -> usize {
    let [low, high] = bounds_mm(geometry)[plane.through().0];
    let finest_mm = geometry.spacing_mm().into_iter().fold(f64::INFINITY, f64::min);
    (((high - low) / finest_mm).round() as usize).clamp(1, MOST_SLICES)
}

/// Draws slice number `slice` of [`slice_count`], from 0 at the head, the front or the right of the patient.
///
/// Sides are those of [`super::render`]: right of the patient is left in the picture. All slices of a series have one
/// grey scale. A number beyond the last slice draws the last one.
pub fn render_slice(
    volume: &Volume,
    modality: Modality,
    overlays: &[Overlay<'_>],
    plane: Plane,
    slice: usize,
) -> Preview {
    let geometry = volume.geometry();
    let bounds = bounds_mm(geometry);
    let count = slice_count(geometry, plane);
    let (axis, grows) = plane.through();
    let share = (slice.min(count - 1) as f64 + 0.5) / count as f64;
    let share = if grows { share } else { 1.0 - share };
    let mut center_mm = [0.0; 3];
    center_mm[axis] = bounds[axis][0] + share * (bounds[axis][1] - bounds[axis][0]);
    let [width_mm, height_mm] = plane.size_mm(bounds);
    let cut = Cut::new(plane, bounds, center_mm, LONGEST_SIDE / width_mm.max(height_mm));
    let step = (volume.values().len() / WINDOW_SAMPLES).max(1);
    let window = Window::choose(modality, volume.values().iter().step_by(step).copied());
    let samples = cut.sample(volume);
    let mut canvas = Canvas::new(cut.width, cut.height);
    draw_panel(&mut canvas, [0, 0], &cut, &samples, &window, geometry, overlays);
    canvas.into_preview()
}

#[cfg(test)]
mod tests {
    use dicom_types::Mask;

    use super::*;

    /// 40 slices of 2 mm from the feet up, 30 rows of 3 mm, 20 columns of 4 mm.
    fn volume() -> Volume {
        let steps = [[0.0, 0.0, 2.0], [0.0, 3.0, 0.0], [4.0, 0.0, 0.0]];
        let geometry = GridGeometry::new([40, 30, 20], [0.0; 3], steps).unwrap();
        Volume::new(geometry, vec![0.0; 40 * 30 * 20]).unwrap()
    }

    fn has_red(picture: &Preview) -> bool {
        picture.rgb.chunks(3).any(|pixel| pixel[0] > pixel[1].saturating_add(60))
    }

    #[test]
    fn there_is_a_slice_for_each_step_of_the_finest_spacing() {
        let volume = volume();

        let counts = [Plane::Axial, Plane::Coronal, Plane::Sagittal]
            .map(|plane| slice_count(volume.geometry(), plane));

        assert_eq!(counts, [40, 45, 40]);
    }

    #[test]
    fn slices_run_from_head_to_foot_from_front_to_back_and_from_right_to_left() {
        let volume = volume();
        // High in the patient, in front, on the right: x and y are small, z is large.
        let mask = Mask::from_fn([40, 30, 20], |[s, r, c]| s >= 36 && r < 4 && c < 4);
        let overlay = [Overlay { label: "corner", rgb: [255, 0, 0], mask: &mask }];
        let drawn =
            |plane, slice| has_red(&render_slice(&volume, Modality::Ct, &overlay, plane, slice));

        for plane in [Plane::Axial, Plane::Coronal, Plane::Sagittal] {
            assert!(drawn(plane, 1), "{plane:?}");
            assert!(!drawn(plane, 30), "{plane:?}");
        }
        assert!(!drawn(Plane::Axial, usize::MAX));
    }
}
