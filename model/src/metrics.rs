//! How well a mask agrees with a reference.

use std::collections::BTreeMap;

use dicom_types::{GridGeometry, Mask};
use rayon::prelude::*;

/// Corners of each face of a cell in their order around it; bit k of a corner is its place along axis k.
const FACES: [[usize; 4]; 6] =
    [[0, 2, 6, 4], [1, 3, 7, 5], [0, 1, 5, 4], [2, 3, 7, 6], [0, 1, 3, 2], [4, 5, 7, 6]];

/// Agreement of a mask with its reference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Agreement {
    /// Twice the common voxels over the sum of both; 0 to 1.
    pub dice: f64,
    /// Normalised surface distance: the share of both surfaces that lies within the tolerance of the other; 0 to 1.
    pub nsd: f64,
}

impl Agreement {
    /// Compares `found` with `reference`, both on `geometry`. Where the reference is empty both values are 1 if nothing
    /// was found and 0 otherwise.
    ///
    /// Surfaces are taken as marching cubes has them through the middles between voxel centres: a cell of eight voxels
    /// that are not all alike holds a piece of surface, whose area counts and whose place is the middle of the cell
    /// (Nikolov et al., "Clinically applicable segmentation of head and neck anatomy for radiotherapy", 2021; the
    /// reference behaviour of SAT, which measures at 1 mm). Distances and areas are those of patient space, so that
    /// oblique and tilted grids are measured as they are.
    ///
    /// # Panics
    /// When the masks have not the shape of `geometry`.
    pub fn measure(
        found: &Mask,
        reference: &Mask,
        geometry: &GridGeometry,
        tolerance_mm: f64,
    ) -> Self {
        assert_eq!(found.shape(), geometry.shape());
        assert_eq!(reference.shape(), geometry.shape());
        let voxels = [found.count(), reference.count()];
        if voxels[1] == 0 {
            let value = if voxels[0] == 0 { 1.0 } else { 0.0 };
            return Self { dice: value, nsd: value };
        }
        let dice = 2.0 * found.count_common(reference) as f64 / (voxels[0] + voxels[1]) as f64;
        let nsd = surface_agreement(found, reference, geometry, tolerance_mm);
        Self { dice, nsd }
    }
}

fn surface_agreement(
    found: &Mask,
    reference: &Mask,
    geometry: &GridGeometry,
    tolerance_mm: f64,
) -> f64 {
    let cells = Cells::around([found, reference]);
    let codes = [cells.codes(found), cells.codes(reference)];
    let areas = surface_areas(geometry.steps_mm());
    let reach = cells.reach(geometry.steps_mm(), tolerance_mm);
    let [(near_a, all_a), (near_b, all_b)] = [[0, 1], [1, 0]]
        .map(|[one, other]| cells.area_within(&codes[one], &codes[other], &areas, &reach));
    if all_a + all_b == 0.0 { 1.0 } else { (near_a + near_b) / (all_a + all_b) }
}

/// The cells between the voxels of a box that holds both masks. Cell `[i, j, k]` has voxel `start + [i, j, k] - 1` as
/// its lowest corner.
struct Cells {
    start: [usize; 3],
    shape: [usize; 3],
}

impl Cells {
    fn around(masks: [&Mask; 2]) -> Self {
        let extents = masks.map(Mask::extent).into_iter().filter(|e| !e.shape().contains(&0));
        let extents: Vec<_> = extents.collect();
        let start =
            std::array::from_fn(|k| extents.iter().map(|e| e.start[k]).min().unwrap_or_default());
        let end: [usize; 3] =
            std::array::from_fn(|k| extents.iter().map(|e| e.end[k]).max().unwrap_or_default());
        Self { start, shape: std::array::from_fn(|k| end[k] - start[k] + 1) }
    }

    /// For each cell which of its corners lie in `mask`, a bit each.
    fn codes(&self, mask: &Mask) -> Vec<u8> {
        let [_, rows, columns] = self.shape;
        let mut codes = vec![0u8; self.shape.iter().product()];
        let bounds = mask.shape();
        codes.par_chunks_mut(rows * columns).enumerate().for_each(|(slice, plane)| {
            // A cell touches the voxels below and at its own index: those of the slice before and of this one.
            for corner_slice in 0..2 {
                let Some(s) = (self.start[0] + slice + corner_slice).checked_sub(1) else {
                    continue;
                };
                for row in 0..rows - 1 {
                    let r = self.start[1] + row;
                    if s >= bounds[0] || r >= bounds[1] {
                        continue;
                    }
                    for column in 0..columns - 1 {
                        let c = self.start[2] + column;
                        if c >= bounds[2] || !mask.contains([s, r, c]) {
                            continue;
                        }
                        // The voxel is the upper corner of the cell at its place and the lower one of the next.
                        for (dr, dc) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                            let bit = corner_slice | (1 - dr) << 1 | (1 - dc) << 2;
                            plane[(row + dr) * columns + column + dc] |= 1 << bit;
                        }
                    }
                }
            }
        });
        codes
    }

    /// Steps to all cells within the tolerance, the nearest first.
    fn reach(&self, steps_mm: [[f64; 3]; 3], tolerance_mm: f64) -> Vec<[isize; 3]> {
        // A sheared grid can bring cells nearer than their index tells: the shortest of all plane distances bounds it.
        let volume = determinant(steps_mm).abs();
        let most = |axis: usize| {
            let [a, b] = [steps_mm[(axis + 1) % 3], steps_mm[(axis + 2) % 3]];
            let between_planes = volume / length(cross(a, b));
            ((tolerance_mm / between_planes).floor() as isize).min(self.shape[axis] as isize)
        };
        let [slices, rows, columns] = [most(0), most(1), most(2)];
        let mut near = BTreeMap::new();
        for s in -slices..=slices {
            for r in -rows..=rows {
                for c in -columns..=columns {
                    let index = [s as f64, r as f64, c as f64];
                    let place: [f64; 3] = std::array::from_fn(|k| {
                        (0..3).map(|axis| index[axis] * steps_mm[axis][k]).sum()
                    });
                    let distance = length(place);
                    if distance <= tolerance_mm {
                        near.insert((distance.to_bits(), [s, r, c]), [s, r, c]);
                    }
                }
            }
        }
        near.into_values().collect()
    }

    /// Surface of `codes` near that of `others`, and all of it.
    fn area_within(
        &self,
        codes: &[u8],
        others: &[u8],
        areas: &[f64; 256],
        reach: &[[isize; 3]],
    ) -> (f64, f64) {
        let [_, rows, columns] = self.shape;
        let planes: Vec<(f64, f64)> = codes
            .par_chunks(rows * columns)
            .enumerate()
            .map(|(slice, plane)| {
                let (mut near, mut all) = (0.0, 0.0);
                for (index, &code) in plane.iter().enumerate() {
                    if !is_surface(code) {
                        continue;
                    }
                    let cell = [slice, index / columns, index % columns];
                    let area = areas[usize::from(code)];
                    all += area;
                    if self.is_near(cell, others, reach) {
                        near += area;
                    }
                }
                (near, all)
            })
            .collect();
        planes.iter().fold((0.0, 0.0), |sum, plane| (sum.0 + plane.0, sum.1 + plane.1))
    }

    fn is_near(&self, cell: [usize; 3], others: &[u8], reach: &[[isize; 3]]) -> bool {
        let [_, rows, columns] = self.shape;
        reach.iter().any(|step| {
            let mut at = [0; 3];
            for axis in 0..3 {
                let Some(index) = cell[axis].checked_add_signed(step[axis]) else { return false };
                if index >= self.shape[axis] {
                    return false;
                }
                at[axis] = index;
            }
            is_surface(others[(at[0] * rows + at[1]) * columns + at[2]])
        })
    }
}

fn is_surface(code: u8) -> bool {
    code != 0 && code != u8::MAX
}

/// Area in mm² of the surface in a cell, for each way in which its corners can lie inside.
fn surface_areas(steps_mm: [[f64; 3]; 3]) -> [f64; 256] {
    std::array::from_fn(|code| {
        polygons(code)
            .iter()
            .map(|polygon| {
                let corners: Vec<[f64; 3]> =
                    polygon.iter().map(|&edge| middle(edge, steps_mm)).collect();
                let fan = corners.windows(2).skip(1);
                fan.map(|pair| triangle_area(corners[0], pair[0], pair[1])).sum::<f64>()
            })
            .sum()
    })
}

/// An edge of a cell, by its corners, the lower first.
type Edge = (usize, usize);

/// Closed polygons through the edges whose ends differ. Where a face has both diagonals unlike, the inner corners stay
/// apart.
fn polygons(code: usize) -> Vec<Vec<Edge>> {
    let is_inside = |corner: usize| code >> corner & 1 == 1;
    let mut links: BTreeMap<Edge, Vec<Edge>> = BTreeMap::new();
    for face in FACES {
        let edge = |i: usize| {
            let (a, b) = (face[i % 4], face[(i + 1) % 4]);
            (a.min(b), a.max(b))
        };
        let crossed: Vec<usize> =
            (0..4).filter(|&i| is_inside(face[i]) != is_inside(face[(i + 1) % 4])).collect();
        let pairs: Vec<(usize, usize)> = match crossed.as_slice() {
            [] => Vec::new(),
            [a, b] => vec![(*a, *b)],
            // Both edges at an inner corner belong together.
            _ => (0..4).filter(|&i| is_inside(face[i])).map(|i| ((i + 3) % 4, i)).collect(),
        };
        for (a, b) in pairs {
            links.entry(edge(a)).or_default().push(edge(b));
            links.entry(edge(b)).or_default().push(edge(a));
        }
    }
    let mut polygons = Vec::new();
    while let Some((&first, _)) = links.first_key_value() {
        let mut polygon = vec![first];
        let mut at = first;
        while let Some(next) = links.get_mut(&at).and_then(Vec::pop) {
            if let Some(back) = links.get_mut(&next)
                && let Some(place) = back.iter().position(|edge| *edge == at)
            {
                back.swap_remove(place);
            }
            if next == first {
                break;
            }
            polygon.push(next);
            at = next;
        }
        for edge in &polygon {
            links.remove(edge);
        }
        polygons.push(polygon);
    }
    polygons
}

fn middle((a, b): Edge, steps_mm: [[f64; 3]; 3]) -> [f64; 3] {
    let along = |axis: usize| 0.5 * ((a >> axis & 1) + (b >> axis & 1)) as f64;
    std::array::from_fn(|k| (0..3).map(|axis| along(axis) * steps_mm[axis][k]).sum())
}

fn triangle_area(a: [f64; 3], b: [f64; 3], c: [f64; 3]) -> f64 {
    let difference = |p: [f64; 3], q: [f64; 3]| std::array::from_fn(|k| p[k] - q[k]);
    0.5 * length(cross(difference(b, a), difference(c, a)))
}

fn cross(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    std::array::from_fn(|k| {
        let (i, j) = ((k + 1) % 3, (k + 2) % 3);
        a[i] * b[j] - a[j] * b[i]
    })
}

fn length(v: [f64; 3]) -> f64 {
    v.iter().map(|x| x * x).sum::<f64>().sqrt()
}

fn determinant([a, b, c]: [[f64; 3]; 3]) -> f64 {
    let normal = cross(a, b);
    (0..3).map(|k| normal[k] * c[k]).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: [usize; 3] = [22, 26, 28];

    fn ball(centre: [f64; 3], radii: [f64; 3], has_holes: bool) -> Mask {
        Mask::from_fn(SHAPE, |voxel| {
            let level: f64 =
                (0..3).map(|k| ((voxel[k] as f64 - centre[k]) / radii[k]).powi(2)).sum();
            let is_hole =
                has_holes && (7 * voxel[0] + 5 * voxel[1] + 3 * voxel[2]).is_multiple_of(11);
            level <= 1.0 && !is_hole
        })
    }

    fn grid(spacing_mm: [f64; 3]) -> GridGeometry {
        let [s, r, c] = spacing_mm;
        let steps = [[0.0, 0.0, s], [0.0, r, 0.0], [c, 0.0, 0.0]];
        GridGeometry::new(SHAPE, [0.0; 3], steps).unwrap()
    }

    // Expected: the Python package surface-distance-based-measures 0.1, compute_surface_distances and
    // compute_surface_dice_at_tolerance of the same masks, spacing and tolerance. Cells whose corners allow several
    // surfaces are triangulated otherwise there, which shows in a mask full of holes.
    #[test]
    fn surfaces_agree_as_the_authors_of_the_measure_have_it() {
        let one = ball([10.0, 12.0, 12.0], [6.0, 7.0, 8.0], false);
        for (has_holes, spacing_mm, tolerance_mm, dice, nsd) in CASES {
            let other = ball([11.0, 13.0, 13.0], [6.5, 6.5, 8.5], has_holes);

            let found = Agreement::measure(&other, &one, &grid(spacing_mm), tolerance_mm);

            assert!((found.dice - dice).abs() < 1e-6, "{found:?}, Dice {dice}");
            assert!((found.nsd - nsd).abs() < 3e-3, "{found:?}, NSD {nsd}");
        }
    }

    /// Holes in the found ball, spacing, tolerance, Dice, normalised surface distance.
    const CASES: [(bool, [f64; 3], f64, f64, f64); 6] = [
        (false, [3.0, 1.0, 1.0], 1.0, 0.805_555, 0.779_709),
        (false, [1.3, 0.8, 0.7], 1.0, 0.805_555, 0.769_590),
        (false, [1.0, 1.0, 1.0], 2.0, 0.805_555, 0.990_756),
        (true, [3.0, 1.0, 1.0], 1.0, 0.770_856, 0.768_990),
        (true, [1.3, 0.8, 0.7], 1.0, 0.770_856, 0.768_044),
        (true, [1.0, 1.0, 1.0], 2.0, 0.770_856, 0.960_007),
    ];

    #[test]
    fn an_empty_reference_is_met_by_nothing_alone() {
        let ball = ball([10.0; 3], [4.0; 3], false);
        let empty = Mask::empty(SHAPE);
        let all = Agreement { dice: 1.0, nsd: 1.0 };
        let none = Agreement { dice: 0.0, nsd: 0.0 };
        let measure = |found, reference| Agreement::measure(found, reference, &grid([1.0; 3]), 1.0);

        assert_eq!(measure(&empty, &empty), all);
        assert_eq!(measure(&ball, &empty), none);
        assert_eq!(measure(&empty, &ball), none);
        assert_eq!(measure(&ball, &ball), all);
    }

    #[test]
    fn the_surface_of_a_ball_is_that_of_a_ball() {
        let radius = 9.0;
        let ball = ball([10.5; 3], [radius; 3], false);
        let cells = Cells::around([&ball, &ball]);
        let areas = surface_areas(grid([1.0; 3]).steps_mm());

        let (_, area) = cells.area_within(&cells.codes(&ball), &cells.codes(&ball), &areas, &[]);

        let expected = 4.0 * std::f64::consts::PI * radius * radius;
        // Marching cubes on a binary mask overestimate by about a tenth.
        assert!((1.0..1.15).contains(&(area / expected)), "{area} mm², {expected} mm²");
    }
}
