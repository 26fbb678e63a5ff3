//! Pictures of masks over the images that they were made from.

mod canvas;
mod font;
mod legend;
mod object;
mod plane;
mod slice;
mod window;

use dicom_types::{GridGeometry, Mask, Modality, Volume};

pub(crate) use object::TARGETS;
pub use object::{SOP_CLASS_UID, build};

use canvas::Canvas;
use plane::Cut;
use window::Window;

pub use plane::Plane;
pub use slice::{render_slice, slice_count};

/// Space around the panels and between them, in pixels.
const MARGIN: usize = 16;
/// Most pixels for the widths of the three panels together.
const PANELS_WIDTH: f64 = 1320.0;
/// Most pixels for the height of a panel.
const PANELS_HEIGHT: f64 = 560.0;
/// The panels from left to right.
const PLANES: [Plane; 3] = [Plane::Axial, Plane::Coronal, Plane::Sagittal];
/// How much of the colour is laid over the inside of a mask.
const FILL: f64 = 0.34;

/// An RGB picture, rows from top to bottom, three bytes a pixel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `3 * width * height` bytes.
    pub rgb: Vec<u8>,
}

/// A mask to draw.
#[derive(Debug, Clone, Copy)]
pub struct Overlay<'a> {
    /// What the legend calls it.
    pub label: &'a str,
    /// Its colour, sRGB.
    pub rgb: [u8; 3],
    /// Its voxels, on the grid of the volume.
    pub mask: &'a Mask,
}

/// Draws the axial, the coronal and the sagittal plane of the patient where each cuts most masks.
///
/// The planes are those of the patient's axes, whatever the acquisition was; millimetres are square, and one scale
/// holds for all three. Right of the patient is left in the picture, anterior is up (left in the sagittal plane), the
/// head is up. Masks without a voxel are not drawn and not listed. `notice` stands under the legend.
pub fn render(
    volume: &Volume,
    modality: Modality,
    overlays: &[Overlay<'_>],
    notice: &str,
) -> Preview {
    Sheet::new(volume, modality, overlays, notice).draw_center()
}

/// Draws what [`render`] draws, and behind it `steps` pictures of the same size whose planes go from one end of the
/// masks to the other: from right to left, from front to back, from the feet to the head.
pub fn render_series(
    volume: &Volume,
    modality: Modality,
    overlays: &[Overlay<'_>],
    notice: &str,
    steps: usize,
) -> Vec<Preview> {
    let sheet = Sheet::new(volume, modality, overlays, notice);
    let mut pictures = vec![sheet.draw_center()];
    let span = sheet.span_mm();
    pictures.extend((0..steps).map(|step| {
        let share = (step as f64 + 0.5) / steps as f64;
        sheet.draw(&sheet.cuts(span.map(|[low, high]| low + (high - low) * share)))
    }));
    pictures
}

/// What the pictures of one volume have in common: scale, window, legend.
struct Sheet<'a> {
    volume: &'a Volume,
    present: Vec<Overlay<'a>>,
    bounds_mm: [[f64; 2]; 3],
    pixels_per_mm: f64,
    center: Vec<Cut>,
    window: Window,
    width: usize,
    panels_width: usize,
    panels_height: usize,
    legend: legend::Legend,
}

impl<'a> Sheet<'a> {
    fn new(volume: &'a Volume, modality: Modality, overlays: &[Overlay<'a>], notice: &str) -> Self {
        let geometry = volume.geometry();
        let present: Vec<_> =
            overlays.iter().filter(|overlay| overlay.mask.count() > 0).copied().collect();
        let bounds_mm = bounds_mm(geometry);
        let sizes_mm = PLANES.map(|plane| plane.size_mm(bounds_mm));
        let widths_mm: f64 = sizes_mm.iter().map(|size| size[0]).sum();
        let height_mm = sizes_mm.iter().map(|size| size[1]).fold(0.0, f64::max);
        let pixels_per_mm = (PANELS_WIDTH / widths_mm).min(PANELS_HEIGHT / height_mm);
        let center_mm = center_mm(geometry, &present);
        let center = cuts(bounds_mm, center_mm, pixels_per_mm);
        let samples: Vec<_> = center.iter().map(|cut| cut.sample(volume)).collect();
        let window = Window::choose(modality, samples.iter().flatten().flatten().copied());
        let panels_width: usize = center.iter().map(|cut| cut.width + MARGIN).sum();
        let panels_height = center.iter().map(|cut| cut.height).max().unwrap_or(1);
        let width = (panels_width + MARGIN).max(legend::MIN_WIDTH);
        let legend = legend::Legend::new(geometry, &present, notice, width - 2 * MARGIN);
        Self {
            volume,
            present,
            bounds_mm,
            pixels_per_mm,
            center,
            window,
            width,
            panels_width,
            panels_height,
            legend,
        }
    }

    fn cuts(&self, center_mm: [f64; 3]) -> Vec<Cut> {
        cuts(self.bounds_mm, center_mm, self.pixels_per_mm)
    }

    /// Lowest and highest coordinate of the masks on each axis; those of the volume where there is no mask.
    fn span_mm(&self) -> [[f64; 2]; 3] {
        let spans = self.present.iter().map(|o| span_mm(self.volume.geometry(), o.mask));
        let joined = spans.reduce(|a, b| {
            std::array::from_fn(|axis| [a[axis][0].min(b[axis][0]), a[axis][1].max(b[axis][1])])
        });
        joined.unwrap_or(self.bounds_mm)
    }

    fn draw_center(&self) -> Preview {
        self.draw(&self.center)
    }

    fn draw(&self, cuts: &[Cut]) -> Preview {
        let height = self.panels_height + 3 * MARGIN + self.legend.height();
        let mut canvas = Canvas::new(self.width, height);
        let mut left = MARGIN + (self.width - self.panels_width - MARGIN) / 2;
        for cut in cuts {
            let top = MARGIN + (self.panels_height - cut.height) / 2;
            let values = cut.sample(self.volume);
            let geometry = self.volume.geometry();
            draw_panel(
                &mut canvas,
                [left, top],
                cut,
                &values,
                &self.window,
                geometry,
                &self.present,
            );
            left += cut.width + MARGIN;
        }
        self.legend.draw(&mut canvas, [MARGIN, self.panels_height + 2 * MARGIN]);
        canvas.into_preview()
    }
}

fn cuts(bounds_mm: [[f64; 2]; 3], center_mm: [f64; 3], pixels_per_mm: f64) -> Vec<Cut> {
    PLANES.into_iter().map(|plane| Cut::new(plane, bounds_mm, center_mm, pixels_per_mm)).collect()
}

fn draw_panel(
    canvas: &mut Canvas,
    [left, top]: [usize; 2],
    cut: &Cut,
    values: &[Option<f32>],
    window: &Window,
    geometry: &GridGeometry,
    overlays: &[Overlay<'_>],
) {
    let mut pixels: Vec<[f64; 3]> =
        values.iter().map(|value| value.map_or([0.0; 3], |v| [window.gray(v); 3])).collect();
    for overlay in overlays {
        let color = overlay.rgb.map(f64::from);
        let coverage = cut.coverage(geometry, overlay.mask);
        for row in 0..cut.height {
            for column in 0..cut.width {
                let inside = coverage[row * cut.width + column];
                if inside <= 0.0 {
                    continue;
                }
                let edge = edge_strength(&coverage, cut, row, column);
                let alpha = inside * (FILL + (1.0 - FILL) * edge);
                for (channel, color) in pixels[row * cut.width + column].iter_mut().zip(color) {
                    *channel += (color - *channel) * alpha;
                }
            }
        }
    }
    for row in 0..cut.height {
        for column in 0..cut.width {
            let pixel = pixels[row * cut.width + column].map(|v| v.round() as u8);
            canvas.set(left + column, top + row, pixel);
        }
    }
    draw_letters(canvas, [left, top], cut);
}

/// How much a pixel inside a mask belongs to its outline: the share of coverage that a neighbour lacks.
fn edge_strength(coverage: &[f64], cut: &Cut, row: usize, column: usize) -> f64 {
    let at = |row: Option<usize>, column: Option<usize>| match (row, column) {
        (Some(row), Some(column)) if row < cut.height && column < cut.width => {
            coverage[row * cut.width + column]
        }
        _ => 1.0,
    };
    let lowest = [
        at(row.checked_sub(1), Some(column)),
        at(Some(row + 1), Some(column)),
        at(Some(row), column.checked_sub(1)),
        at(Some(row), Some(column + 1)),
    ]
    .into_iter()
    .fold(1.0, f64::min);
    1.0 - lowest
}

/// Writes where the patient's sides are at the edges of a panel.
fn draw_letters(canvas: &mut Canvas, [left, top]: [usize; 2], cut: &Cut) {
    const INSET: usize = 4;
    const LETTER: [u8; 3] = [255, 236, 150];
    let [letter_width, letter_height] = font::size("R", 2);
    let [west, east, north, south] = cut.plane.letters();
    let middle_row = top + cut.height.saturating_sub(letter_height) / 2;
    let middle_column = left + cut.width.saturating_sub(letter_width) / 2;
    let right = left + cut.width.saturating_sub(letter_width + INSET);
    let bottom = top + cut.height.saturating_sub(letter_height + INSET);
    font::draw_shadowed(canvas, [left + INSET, middle_row], west, 2, LETTER);
    font::draw_shadowed(canvas, [right, middle_row], east, 2, LETTER);
    let has_room_above = cut.height > 4 * letter_height;
    if has_room_above {
        font::draw_shadowed(canvas, [middle_column, top + INSET], north, 2, LETTER);
        font::draw_shadowed(canvas, [middle_column, bottom], south, 2, LETTER);
    }
}

/// Where the planes lie: on each axis the place that cuts most masks, and among those the one nearest to their middle;
/// the centre of the grid where there is no mask.
fn center_mm(geometry: &GridGeometry, overlays: &[Overlay<'_>]) -> [f64; 3] {
    /// Places that are tried on each axis.
    const CANDIDATES: usize = 201;
    let spans: Vec<_> = overlays.iter().map(|overlay| span_mm(geometry, overlay.mask)).collect();
    let middle_index = geometry.shape().map(|length| (length - 1) as f64 / 2.0);
    let mut center = geometry.position_mm(middle_index);
    for (axis, center) in center.iter_mut().enumerate() {
        let low = spans.iter().map(|span| span[axis][0]).fold(f64::INFINITY, f64::min);
        let high = spans.iter().map(|span| span[axis][1]).fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = spans.iter().map(|span| f64::midpoint(span[axis][0], span[axis][1])).sum();
        let middle = sum / spans.len() as f64;
        let candidates = (0..CANDIDATES)
            .map(|step| low + (high - low) * step as f64 / (CANDIDATES - 1) as f64)
            .map(|place| {
                let is_cut =
                    |span: &&[[f64; 2]; 3]| (span[axis][0]..=span[axis][1]).contains(&place);
                (spans.iter().filter(is_cut).count(), place)
            });
        let best = candidates.max_by(|(cut_a, a), (cut_b, b)| {
            let nearer = (b - middle).abs().total_cmp(&(a - middle).abs());
            cut_a.cmp(cut_b).then(nearer)
        });
        if let Some((_, place)) = best.filter(|_| !spans.is_empty()) {
            *center = place;
        }
    }
    center
}

/// Lowest and highest coordinate of a mask's voxels on each axis of the patient.
fn span_mm(geometry: &GridGeometry, mask: &Mask) -> [[f64; 2]; 3] {
    let mut span = [[f64::INFINITY, f64::NEG_INFINITY]; 3];
    mask.for_each(|voxel| {
        for (span, value) in span.iter_mut().zip(geometry.position_mm(voxel.map(|i| i as f64))) {
            span[0] = span[0].min(value);
            span[1] = span[1].max(value);
        }
    });
    span
}

/// Box around all voxels of the grid in patient space, half a voxel beyond their centres.
fn bounds_mm(geometry: &GridGeometry) -> [[f64; 2]; 3] {
    let mut bounds = [[f64::INFINITY, f64::NEG_INFINITY]; 3];
    for corner in 0..8 {
        let index = std::array::from_fn(|axis| {
            if corner >> axis & 1 == 0 { -0.5 } else { geometry.shape()[axis] as f64 - 0.5 }
        });
        for (bound, value) in bounds.iter_mut().zip(geometry.position_mm(index)) {
            bound[0] = bound[0].min(value);
            bound[1] = bound[1].max(value);
        }
    }
    bounds
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cube of 60 voxels of one millimetre, dark, in the given orientation.
    fn volume(origin_mm: [f64; 3], steps_mm: [[f64; 3]; 3]) -> Volume {
        let geometry = GridGeometry::new([60; 3], origin_mm, steps_mm).unwrap();
        Volume::new(geometry, vec![-1000.0; 60 * 60 * 60]).unwrap()
    }

    /// Voxels closer than 10 mm to a place in the patient.
    fn ball(geometry: &GridGeometry, center_mm: [f64; 3]) -> Mask {
        Mask::from_fn(geometry.shape(), |voxel| {
            let position = geometry.position_mm(voxel.map(|i| i as f64));
            let squared: f64 = position.iter().zip(center_mm).map(|(p, c)| (p - c).powi(2)).sum();
            squared < 100.0
        })
    }

    /// Mean place of the pixels of `color`, as a share of the panel, for each of the three panels.
    fn places(preview: &Preview, is_color: impl Fn(&[u8]) -> bool) -> Vec<[f64; 2]> {
        let panel = (preview.width - 4 * MARGIN) / 3;
        (0..3)
            .map(|index| {
                let left = MARGIN + index * (panel + MARGIN);
                let mut sums = [0.0; 3];
                for row in 0..panel {
                    for column in 0..panel {
                        let first = 3 * ((MARGIN + row) * preview.width + left + column);
                        if is_color(&preview.rgb[first..first + 3]) {
                            sums[0] += column as f64;
                            sums[1] += row as f64;
                            sums[2] += panel as f64;
                        }
                    }
                }
                [sums[0] / sums[2], sums[1] / sums[2]]
            })
            .collect()
    }

    /// Red lies right, anterior, high; green left, posterior, low. Both are cut by all three planes through the middle.
    fn assert_conventional(volume: &Volume) {
        let geometry = volume.geometry();
        let red = ball(geometry, [-7.0, -7.0, 7.0]);
        let green = ball(geometry, [7.0, 7.0, -7.0]);
        let overlays = [
            Overlay { label: "red", rgb: [255, 0, 0], mask: &red },
            Overlay { label: "green", rgb: [0, 255, 0], mask: &green },
        ];

        let preview = render(volume, Modality::Ct, &overlays, "test");

        assert_eq!(preview.rgb.len(), 3 * preview.width * preview.height);
        let red = places(&preview, |p| p[0] > 60 && p[1] == 0 && p[2] == 0);
        let green = places(&preview, |p| p[1] > 60 && p[0] == 0 && p[2] == 0);
        for (plane, (red, green)) in red.iter().zip(&green).enumerate() {
            assert!(red[0] < 0.48 && green[0] > 0.52, "plane {plane}: {red:?} {green:?}");
            assert!(red[1] < 0.48 && green[1] > 0.52, "plane {plane}: {red:?} {green:?}");
        }
    }

    #[test]
    fn right_is_left_anterior_and_head_are_up_in_an_axial_acquisition() {
        assert_conventional(&volume(
            [-29.5; 3],
            [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]],
        ));
    }

    #[test]
    fn right_is_left_anterior_and_head_are_up_in_a_sagittal_acquisition_from_the_left() {
        assert_conventional(&volume(
            [29.5, -29.5, 29.5],
            [[-1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]],
        ));
    }

    #[test]
    fn millimetres_are_square_whatever_the_spacing() {
        let steps = [[0.0, 0.0, 5.0], [0.0, 0.5, 0.0], [2.0, 0.0, 0.0]];
        let geometry = GridGeometry::new([20, 100, 50], [0.0; 3], steps).unwrap();
        let volume = Volume::new(geometry, vec![0.0; 100_000]).unwrap();

        let bounds = bounds_mm(volume.geometry());
        let cut = Cut::new(Plane::Coronal, bounds, [0.0; 3], 4.0);

        assert_eq!([cut.width, cut.height], [400, 400]);
        assert!(cut.sample(&volume).iter().all(Option::is_some));
    }

    #[test]
    fn planes_lie_where_they_cut_most_masks() {
        let volume = volume([-29.5; 3], [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]);
        let geometry = volume.geometry();
        let far = ball(geometry, [20.0, 20.0, 20.0]);
        let near = [ball(geometry, [-15.0, -15.0, -15.0]), ball(geometry, [-10.0, -10.0, -10.0])];
        let overlays: Vec<_> = [&far, &near[0], &near[1]]
            .map(|mask| Overlay { label: "ball", rgb: [255; 3], mask })
            .to_vec();

        let center = center_mm(geometry, &overlays);

        assert!(center.iter().all(|mm| (-20.0..=-5.0).contains(mm)), "{center:?}");
    }

    #[test]
    fn draws_a_series_without_any_mask() {
        let empty = Mask::empty([60; 3]);
        let overlays = [Overlay { label: "none", rgb: [255, 0, 0], mask: &empty }];
        let volume = volume([0.0; 3], [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]);

        let preview = render(&volume, Modality::Mr, &overlays, "");

        assert!(preview.height > PANELS_HEIGHT as usize / 2);
    }
}
