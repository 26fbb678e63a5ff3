//! Reference masks on the stored grid of a series.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use dicom_io::series::Stack;
use dicom_types::{GridGeometry, Mask};
use nifti::{NiftiHeader, NiftiObject as _, RandomAccessNiftiVolume as _, ReaderOptions};

use super::manifest::Reference;

/// Largest distance, in voxels, of a voxel of a NIfTI image from one of the series.
const LATTICE_TOLERANCE: f64 = 0.05;

impl Reference {
    /// Prompt and mask of every target that the reference knows, on the grid of `stack`.
    ///
    /// # Errors
    /// When a file cannot be read, or lies on another grid than the series.
    pub(super) fn read(&self, stack: &Stack) -> Result<Vec<(String, Mask)>> {
        match self {
            Self::Segmentation(path) => segments(path, stack),
            Self::Masks(masks) => masks
                .iter()
                .map(|(prompt, path)| {
                    let image = Image::read(path)?;
                    Ok((prompt.clone(), image.mask(&stack.geometry, |value| value != 0.0, path)?))
                })
                .collect(),
            Self::Labels(path, values) => {
                let image = Image::read(path)?;
                values
                    .iter()
                    .map(|(prompt, &wanted)| {
                        let is_wanted = |value: f32| (value - f32::from(wanted)).abs() < 0.5;
                        Ok((prompt.clone(), image.mask(&stack.geometry, is_wanted, path)?))
                    })
                    .collect()
            }
        }
    }
}

fn segments(path: &Path, stack: &Stack) -> Result<Vec<(String, Mask)>> {
    let context = || format!("cannot read the reference {}", path.display());
    let bytes = std::fs::read(path).with_context(context)?;
    let segments = dicom_io::seg::read(&bytes, stack).with_context(context)?;
    Ok(segments.into_iter().map(|segment| (segment.label, segment.mask)).collect())
}

/// A NIfTI image.
struct Image {
    /// Voxels along i, j, k.
    shape: [usize; 3],
    /// Index `[i, j, k]` to patient position: the centre of the first voxel and the steps (LPS, mm).
    origin_mm: [f64; 3],
    steps_mm: [[f64; 3]; 3],
    /// Values, i fastest.
    values: Vec<f32>,
}

impl Image {
    fn read(path: &Path) -> Result<Self> {
        let context = || format!("cannot read the reference {}", path.display());
        let object = ReaderOptions::new().read_file(path).with_context(context)?;
        let header = object.header();
        let extents = header.dim().with_context(context)?;
        let is_volume = extents.len() >= 3 && extents[3..].iter().all(|&extent| extent == 1);
        if !is_volume {
            bail!("{} is no single volume but an image of {extents:?}", path.display());
        }
        let shape = [extents[0], extents[1], extents[2]].map(usize::from);
        let affine = affine(header).with_context(|| {
            format!("{} does not say where its voxels lie (no sform, no qform)", path.display())
        })?;
        // NIfTI's world is RAS.
        let to_lps = |column: usize| [-affine[0][column], -affine[1][column], affine[2][column]];
        let (origin_mm, steps_mm) = (to_lps(3), [to_lps(0), to_lps(1), to_lps(2)]);
        let mut place = vec![0u16; extents.len()];
        let volume = object.volume();
        let mut values = Vec::with_capacity(shape.iter().product());
        for k in 0..extents[2] {
            for j in 0..extents[1] {
                for i in 0..extents[0] {
                    place[..3].copy_from_slice(&[i, j, k]);
                    values.push(volume.get_f32(&place).with_context(context)?);
                }
            }
        }
        Ok(Self { shape, origin_mm, steps_mm, values })
    }

    /// The voxels of `grid` at which the image's value is wanted.
    fn mask(
        &self,
        grid: &GridGeometry,
        is_wanted: impl Fn(f32) -> bool,
        path: &Path,
    ) -> Result<Mask> {
        let axes = self.axes(grid).with_context(|| {
            format!("{} lies on another grid than its series: resample it first", path.display())
        })?;
        let [columns, rows, _] = self.shape;
        Ok(Mask::from_fn(grid.shape(), |voxel| {
            let mut ijk = [0; 3];
            for (stored, &(axis, is_backwards)) in axes.iter().enumerate() {
                let index = voxel[stored];
                ijk[axis] = if is_backwards { self.shape[axis] - 1 - index } else { index };
            }
            is_wanted(self.values[(ijk[2] * rows + ijk[1]) * columns + ijk[0]])
        }))
    }

    /// For each axis of `grid` the axis of the image that runs along it, and whether it runs backwards. Nothing where
    /// the voxels are not the same.
    fn axes(&self, grid: &GridGeometry) -> Option<[(usize, bool); 3]> {
        let first = grid.index(self.origin_mm);
        let mut axes = [None; 3];
        for (axis, step) in self.steps_mm.iter().enumerate() {
            let position = std::array::from_fn(|k| self.origin_mm[k] + step[k]);
            let along = grid.index(position);
            let delta: [f64; 3] = std::array::from_fn(|k| along[k] - first[k]);
            let stored = (0..3).max_by(|&a, &b| delta[a].abs().total_cmp(&delta[b].abs()))?;
            if self.shape[axis] != grid.shape()[stored] {
                return None;
            }
            let is_backwards = delta[stored] < 0.0;
            axes[stored].replace((axis, is_backwards)).is_none().then_some(())?;
            // The last voxel is the furthest off.
            let last = (self.shape[axis] - 1).max(1) as f64;
            let mut expected = [0.0; 3];
            expected[stored] = if is_backwards { -1.0 } else { 1.0 };
            let is_off =
                |(found, wanted): (&f64, f64)| (found - wanted).abs() * last > LATTICE_TOLERANCE;
            if delta.iter().zip(expected).any(is_off) {
                return None;
            }
            let start = if is_backwards { (self.shape[axis] - 1) as f64 } else { 0.0 };
            if (first[stored] - start).abs() > LATTICE_TOLERANCE {
                return None;
            }
        }
        let [a, b, c] = axes;
        Some([a?, b?, c?])
    }
}

/// Rows of the affine from index to RAS millimetres: the sform, else the qform (nifti1.h, methods 3 and 2).
fn affine(header: &NiftiHeader) -> Option<[[f64; 4]; 3]> {
    if header.sform_code > 0 {
        return Some([header.srow_x, header.srow_y, header.srow_z].map(|row| row.map(f64::from)));
    }
    if header.qform_code <= 0 {
        return None;
    }
    let [b, c, d] = [header.quatern_b, header.quatern_c, header.quatern_d].map(f64::from);
    let a = (1.0 - b * b - c * c - d * d).max(0.0).sqrt();
    let handedness = if header.pixdim[0] < 0.0 { -1.0 } else { 1.0 };
    let [x, y, z] = [1, 2, 3].map(|axis| f64::from(header.pixdim[axis]));
    let zooms = [x, y, handedness * z];
    let offset = [header.quatern_x, header.quatern_y, header.quatern_z].map(f64::from);
    let rotation = [
        [a * a + b * b - c * c - d * d, 2.0 * (b * c - a * d), 2.0 * (b * d + a * c)],
        [2.0 * (b * c + a * d), a * a + c * c - b * b - d * d, 2.0 * (c * d - a * b)],
        [2.0 * (b * d - a * c), 2.0 * (c * d + a * b), a * a + d * d - b * b - c * c],
    ];
    Some(std::array::from_fn(|row| {
        let [p, q, r] = std::array::from_fn(|k| rotation[row][k] * zooms[k]);
        [p, q, r, offset[row]]
    }))
}
