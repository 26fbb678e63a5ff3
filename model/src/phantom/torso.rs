//! The anatomy of one phantom, and its truth on any grid.

use dicom_types::{GridGeometry, Mask, Volume};
use rayon::prelude::*;

use super::appearance::{Appearance, Contrast};
use super::organs::{
    Kidney, Wave, random_aorta, random_kidney, random_liver, random_vena_cava, random_wave,
};
use super::random::Stream;
use super::shape::{Ellipsoid, Rotation, Vessel, add_scaled, dot};
use super::structure::{Structure, Structures};
use super::tissue::Tissue;

/// Streams of random numbers drawn from the seed of a torso.
const ANATOMY: u64 = 1;

/// Thickness of the skin.
const SKIN_MM: f32 = 2.5;
/// Thickness of the diaphragm.
const DIAPHRAGM_MM: f32 = 4.0;
/// A kidney's fat reaches to this multiple of its radius.
const KIDNEY_CAPSULE: f32 = 1.2;

/// A random torso in patient space (LPS, millimetres).
///
/// The trunk has no end towards head and feet: the field of view of an acquisition cuts it.
#[derive(Debug, Clone)]
pub struct Torso {
    centre_mm: [f64; 3],
    attitude: Rotation,
    waves: [Wave; 3],

    half_width: f32,
    half_depth: f32,
    /// 1 for an ellipse, less for squarer flanks.
    roundness: f32,
    fat: f32,
    wall: f32,
    /// Half axes of the cavity inside the wall.
    cavity: [f32; 2],
    table: Option<f32>,

    diaphragm_top: f32,
    diaphragm_height: f32,
    diaphragm_tilt: f32,
    lung_top: f32,
    mediastinum: f32,
    rib_pitch: f32,
    rib_phase: f32,

    spine: [f32; 2],
    spine_radii: [f32; 2],
    aorta: Vessel,
    vena_cava: Vessel,
    heart: Ellipsoid,
    liver: [Ellipsoid; 2],
    spleen: Ellipsoid,
    stomach: Ellipsoid,
    /// Left, right.
    kidneys: [Kidney; 2],
    bowel_phase: [f32; 3],
}

impl Torso {
    /// The torso of `seed`.
    pub fn random(seed: u64) -> Self {
        let mut r = Stream::new(seed, ANATOMY);
        let half_width = r.uniform(148.0, 195.0);
        let half_depth = half_width * r.uniform(0.64, 0.74);
        let fat = r.uniform(5.0, 24.0);
        let wall = r.uniform(9.0, 16.0);
        let cavity = [half_width - 1.2 * fat - wall, half_depth - fat - wall];
        let [a, b] = cavity;
        let dome = r.uniform(0.0, 30.0);
        let height = r.uniform(60.0, 85.0);
        let tilt = r.uniform(0.0, 0.2);
        let under_dome = |x: f32, y: f32| dome - height * (x * x + y * y) - tilt * b * y;

        let spine_radii = [r.uniform(19.0, 25.0), r.uniform(16.0, 21.0)];
        let spine = [r.uniform(-4.0, 4.0), b - spine_radii[1] - r.uniform(14.0, 22.0)];
        let before_spine = spine[1] - spine_radii[1];
        let aorta = random_aorta(&mut r, spine[0], before_spine);
        let vena_cava = random_vena_cava(&mut r, spine[0], before_spine, dome);

        let heart = Ellipsoid::new(
            [r.uniform(10.0, 30.0), -r.uniform(0.15, 0.35) * b, dome + r.uniform(30.0, 45.0)],
            [r.uniform(50.0, 62.0), r.uniform(38.0, 48.0), r.uniform(42.0, 52.0)],
            Rotation::xyz_degrees([r.uniform(-15.0, 15.0), r.uniform(10.0, 35.0), 0.0]),
        );
        let liver = random_liver(&mut r, [a, b], under_dome(0.4, 0.0));
        let spleen = Ellipsoid::new(
            [
                r.uniform(0.62, 0.74) * a,
                r.uniform(0.25, 0.42) * b,
                under_dome(0.66, 0.33) - r.uniform(28.0, 48.0),
            ],
            [r.uniform(24.0, 33.0), r.uniform(38.0, 50.0), r.uniform(45.0, 60.0)],
            Rotation::xyz_degrees([
                r.uniform(-25.0, 25.0),
                r.uniform(-15.0, 15.0),
                r.uniform(10.0, 45.0),
            ]),
        );
        let stomach = Ellipsoid::new(
            [r.uniform(0.25, 0.42) * a, -r.uniform(0.1, 0.35) * b, dome - r.uniform(60.0, 95.0)],
            [r.uniform(35.0, 55.0), r.uniform(28.0, 42.0), r.uniform(40.0, 60.0)],
            Rotation::xyz_degrees([0.0, r.uniform(-40.0, 40.0), r.uniform(-20.0, 20.0)]),
        );
        let level = dome - r.uniform(115.0, 140.0);
        let kidneys = [
            random_kidney(&mut r, 1.0, [a, b], level),
            random_kidney(&mut r, -1.0, [a, b], level - 12.0),
        ];
        Self {
            centre_mm: [0; 3].map(|_: i32| f64::from(r.uniform(-40.0, 40.0))),
            attitude: Rotation::about(r.direction(), r.uniform(-7.0, 7.0).to_radians()),
            waves: [0; 3].map(|_| random_wave(&mut r)),
            half_width,
            half_depth,
            roundness: r.uniform(0.72, 1.0),
            fat,
            wall,
            cavity,
            table: r.chance(0.6).then(|| half_depth + r.uniform(4.0, 20.0)),
            diaphragm_top: dome,
            diaphragm_height: height,
            diaphragm_tilt: tilt,
            lung_top: dome + r.uniform(140.0, 175.0),
            mediastinum: r.uniform(22.0, 34.0),
            rib_pitch: r.uniform(24.0, 32.0),
            rib_phase: r.uniform(0.0, 1.0),
            spine,
            spine_radii,
            aorta,
            vena_cava,
            heart,
            liver,
            spleen,
            stomach,
            kidneys,
            bowel_phase: [0; 3].map(|_| r.uniform(0.0, std::f32::consts::TAU)),
        }
    }

    /// Middle of the torso: about as far below the top of the lungs as above the lower ends of the kidneys.
    pub fn centre_mm(&self) -> [f64; 3] {
        self.centre_mm
    }

    /// Width, depth and height of a box, upright in patient space, that holds the organs and the trunk beside them.
    pub fn extent_mm(&self) -> [f64; 3] {
        [2.0 * f64::from(self.half_width) + 20.0, 2.0 * f64::from(self.half_depth) + 30.0, 380.0]
    }

    /// The structures at a point of patient space.
    pub fn structures_at(&self, position_mm: [f64; 3]) -> Structures {
        self.tissue(self.local(position_mm)).structures()
    }

    /// What a scanner would measure on `grid`.
    ///
    /// Values are whole numbers within 16 bits, HU for CT. `acquisition_seed` draws what differs between two scans of
    /// one patient: contrast phase, sequence, intensity of every tissue, bias field and noise.
    #[expect(clippy::missing_panics_doc, reason = "one value is computed for each voxel")]
    pub fn sample(&self, grid: &GridGeometry, contrast: Contrast, acquisition_seed: u64) -> Volume {
        let appearance = Appearance::random(contrast, acquisition_seed);
        let [_, rows, columns] = grid.shape();
        let mut values = vec![0.0f32; grid.voxels()];
        values.par_chunks_mut(columns).enumerate().for_each(|(line, row_values)| {
            for (column, value) in row_values.iter_mut().enumerate() {
                let voxel = [line / rows, line % rows, column];
                *value = self.voxel_value(grid, voxel, &appearance);
            }
        });
        Volume::new(*grid, values).expect("one value was computed for each voxel of the grid")
    }

    fn voxel_value(&self, grid: &GridGeometry, voxel: [usize; 3], appearance: &Appearance) -> f32 {
        /// Points of a voxel whose tissues are averaged: every axis sees four of its levels.
        const POINTS: [[f64; 3]; 4] = [
            [-0.375, 0.125, -0.125],
            [-0.125, -0.375, 0.375],
            [0.125, 0.375, -0.375],
            [0.375, -0.125, 0.125],
        ];
        let index = voxel.map(|i| i as f64);
        let mut signal = 0.0;
        for point in POINTS {
            let position = grid.position_mm(std::array::from_fn(|axis| index[axis] + point[axis]));
            signal += 0.25 * appearance.signal(self.tissue(self.local(position)));
        }
        let centre = subtract_f64(grid.position_mm(index), self.centre_mm);
        let [_, rows, columns] = grid.shape();
        let linear = (voxel[0] * rows + voxel[1]) * columns + voxel[2];
        appearance.measured(signal, centre, linear as u64)
    }

    /// The voxels of `grid` whose centre lies in `structure`.
    #[expect(clippy::missing_panics_doc, reason = "one mask is made for one structure")]
    pub fn truth(&self, grid: &GridGeometry, structure: Structure) -> Mask {
        self.truths(grid, &[structure]).pop().expect("one mask is made for one structure")
    }

    /// The voxels of `grid` whose centre lies in each of `structures`, which are looked for all at once.
    pub fn truths(&self, grid: &GridGeometry, structures: &[Structure]) -> Vec<Mask> {
        let [slices, rows, columns] = grid.shape();
        let planes: Vec<Vec<Structures>> = (0..slices)
            .into_par_iter()
            .map(|slice| {
                let mut plane = Vec::with_capacity(rows * columns);
                for row in 0..rows {
                    for column in 0..columns {
                        let index = [slice, row, column].map(|i| i as f64);
                        plane.push(self.structures_at(grid.position_mm(index)));
                    }
                }
                plane
            })
            .collect();
        structures
            .par_iter()
            .map(|&structure| {
                Mask::from_fn(grid.shape(), |[slice, row, column]| {
                    planes[slice][row * columns + column].contains(structure)
                })
            })
            .collect()
    }

    /// Patient space to the space in which the anatomy is defined: upright, centred, undeformed.
    fn local(&self, position_mm: [f64; 3]) -> [f32; 3] {
        let upright = self.attitude.apply(subtract_f64(position_mm, self.centre_mm));
        let mut p = upright;
        for wave in &self.waves {
            p = add_scaled(p, wave.push, (dot(wave.vector, upright) + wave.phase).sin());
        }
        p
    }

    fn tissue(&self, p: [f32; 3]) -> Tissue {
        let [x, y, _] = p;
        let level = self.trunk_level(x, y);
        if level >= 1.0 {
            return self.outside(x, y);
        }
        let depth = (x * x + y * y).sqrt() * (1.0 / level.max(1e-3) - 1.0);
        let flank = (x / self.half_width).powi(2);
        if depth < SKIN_MM {
            return Tissue::Skin;
        }
        let under_fat = depth - self.fat * (1.0 + 0.4 * flank);
        if under_fat < 0.0 {
            return Tissue::Fat;
        }
        if let Some(tissue) = self.along_the_spine(p) {
            return tissue;
        }
        if under_fat < self.wall {
            return self.wall(p, under_fat);
        }
        let above_diaphragm = p[2] - self.diaphragm(x, y);
        if above_diaphragm > DIAPHRAGM_MM {
            self.chest(p)
        } else if above_diaphragm > 0.0 {
            Tissue::Muscle
        } else {
            self.abdomen(p)
        }
    }

    /// Below 1 in the trunk; grows linearly along each ray from the middle.
    fn trunk_level(&self, x: f32, y: f32) -> f32 {
        let x2 = (x / self.half_width).powi(2);
        let y2 = (y / self.half_depth).powi(2);
        (x2 * x2 + y2 * y2 + 2.0 * self.roundness * x2 * y2).sqrt().sqrt()
    }

    fn outside(&self, x: f32, y: f32) -> Tissue {
        const HALF_WIDTH: f32 = 190.0;
        const THICKNESS: f32 = 14.0;
        let Some(top) = self.table else { return Tissue::Air };
        let below_top = y - top + 25.0 * (x / HALF_WIDTH).powi(2);
        let in_table = x.abs() < HALF_WIDTH && (0.0..THICKNESS).contains(&below_top);
        if in_table { Tissue::Table } else { Tissue::Air }
    }

    fn along_the_spine(&self, p: [f32; 3]) -> Option<Tissue> {
        const CANAL_RADIUS: f32 = 8.0;
        let x = p[0] - self.spine[0];
        let y = p[1] - self.spine[1];
        let [rx, ry] = self.spine_radii;
        let near = x.abs() < 75.0 && y > -80.0;
        if !near {
            return None;
        }
        if (x / rx).powi(2) + (y / ry).powi(2) <= 1.0 {
            return Some(Tissue::Vertebra);
        }
        let behind = y - ry - CANAL_RADIUS;
        if x * x + behind * behind <= CANAL_RADIUS * CANAL_RADIUS {
            return Some(Tissue::Canal);
        }
        if self.aorta.contains(p) {
            return Some(Tissue::Aorta);
        }
        if self.vena_cava.contains(p) {
            return Some(Tissue::VenaCava);
        }
        let beside = x.abs() - 34.0;
        if (beside / 34.0).powi(2) + ((y - 24.0) / 20.0).powi(2) <= 1.0 {
            return Some(Tissue::Muscle);
        }
        None
    }

    fn wall(&self, p: [f32; 3], depth: f32) -> Tissue {
        let in_the_middle = (depth - 0.5 * self.wall).abs() < 3.0;
        let lowest_rib = self.diaphragm_top - 110.0 + 0.5 * p[1];
        if !in_the_middle || p[2] < lowest_rib {
            return Tissue::Muscle;
        }
        let around = (p[2] + 0.45 * p[1]) / self.rib_pitch + self.rib_phase;
        let in_rib = around - around.floor() < 0.4;
        if in_rib { Tissue::Rib } else { Tissue::Muscle }
    }

    /// Height of the diaphragm's lower face.
    fn diaphragm(&self, x: f32, y: f32) -> f32 {
        let [a, b] = self.cavity;
        let from_middle = (x / a).powi(2) + (y / b).powi(2);
        self.diaphragm_top - self.diaphragm_height * from_middle - self.diaphragm_tilt * y
    }

    fn chest(&self, p: [f32; 3]) -> Tissue {
        /// Distance of the lungs' axes from the midline over the cavity's half width.
        const LUNG_AXIS: f32 = 0.45;
        const APEX_CURVATURE: f32 = 0.008;
        if self.heart.contains(p) {
            return Tissue::Heart;
        }
        let [x, y, z] = p;
        let beside = x.abs() - LUNG_AXIS * self.cavity[0];
        let apex = self.lung_top - APEX_CURVATURE * (beside * beside + y * y);
        if z > apex {
            return Tissue::Muscle;
        }
        if x.abs() < self.mediastinum + 0.05 * y {
            return Tissue::Fat;
        }
        if x > 0.0 { Tissue::LeftLung } else { Tissue::RightLung }
    }

    fn abdomen(&self, p: [f32; 3]) -> Tissue {
        for (kidney, tissue) in self.kidneys.iter().zip([Tissue::LeftKidney, Tissue::RightKidney]) {
            let level = kidney.solid.level(p);
            if level <= 1.0 {
                return if kidney.hilum.contains(p) { Tissue::Fat } else { tissue };
            }
            if level <= KIDNEY_CAPSULE {
                return Tissue::Fat;
            }
        }
        if self.spleen.contains(p) {
            return Tissue::Spleen;
        }
        if self.liver.iter().any(|lobe| lobe.contains(p)) {
            return Tissue::Liver;
        }
        if self.stomach.contains(p) {
            return Tissue::Stomach;
        }
        let [u, v, w] = self.bowel_phase;
        let folds = (p[0] / 13.0 + u + (p[2] / 31.0).sin()).sin() * (p[1] / 12.0 + v).sin()
            + 0.6 * (p[2] / 14.0 + w).sin();
        if folds > 0.1 { Tissue::Bowel } else { Tissue::Fat }
    }
}

/// Difference of two patient positions; small enough near the torso for single precision.
fn subtract_f64(a: [f64; 3], b: [f64; 3]) -> [f32; 3] {
    std::array::from_fn(|axis| (a[axis] - b[axis]) as f32)
}
