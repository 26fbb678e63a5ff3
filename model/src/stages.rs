//! The stages around the network by themselves, for measuring them without it.

use std::ops::Range;

use dicom_types::{Mask, Modality, Volume};
use rayon::prelude::*;

use crate::net::MaskStrip;
use crate::pack::Preprocessing;
use crate::preprocess::{OrientationCode, Prepared, PreprocessError, prepare};
use crate::segmenter::{SegmentError, SegmenterOptions, chosen_windows, restore};
use crate::sliding_window::{Gaussian, Mode, Window};
use crate::sums::Sums;

/// Rows that are handed over at a time.
const ROWS: usize = 4;

/// A prepared volume whose probabilities come from a function in place of a network.
#[derive(Debug)]
pub struct Stages {
    prepared: Prepared,
    windows: Vec<Window>,
    gaussian: Gaussian,
    stored_shape: [usize; 3],
    targets: usize,
    sums: Sums,
}

impl Stages {
    /// Prepares `volume` for `targets` targets, as the segmenter does for a CT.
    ///
    /// # Errors
    /// [`PreprocessError`]
    pub fn prepare(
        volume: &Volume,
        targets: usize,
        mode: Mode,
        settings: &Preprocessing,
        options: &SegmenterOptions,
    ) -> Result<Self, PreprocessError> {
        let prepared = prepare(volume, Modality::Ct, OrientationCode::Ras, settings)?;
        Ok(Self {
            windows: chosen_windows(&prepared, settings.window, mode),
            gaussian: Gaussian::new(settings.window),
            stored_shape: volume.geometry().shape(),
            targets,
            sums: Sums::new(prepared.shape, targets, options.room()),
            prepared,
        })
    }

    /// Voxels of the prepared volume along H, W, D.
    pub fn shape(&self) -> [usize; 3] {
        self.prepared.shape
    }

    /// Number of windows.
    pub fn windows(&self) -> usize {
        self.windows.len()
    }

    /// Bytes of sums on the disk.
    pub fn spilled_bytes(&self) -> u64 {
        self.sums.room().spilled_bytes()
    }

    /// Adds one window. `fill` writes the probabilities of a target in a row `[h, w]` of the prepared volume, from `d`
    /// on, into a row of zeros.
    ///
    /// # Errors
    /// [`SegmentError::Spill`]
    ///
    /// # Panics
    /// When there is no such window.
    pub fn add(
        &mut self,
        window: usize,
        fill: impl Fn(usize, [usize; 2], Range<usize>, &mut [f32]) + Sync,
    ) -> Result<(), SegmentError> {
        let window = self.windows[window];
        let [_, width, depth] = window.shape();
        let targets = self.targets;
        let mut planes = self.sums.planes_of(window, &self.gaussian);
        planes.par_iter_mut().enumerate().for_each(|(h, plane)| {
            let mut probabilities = vec![0.0f32; targets * ROWS * depth];
            for first in (0..width).step_by(ROWS) {
                let rows = first..(first + ROWS).min(width);
                let values = &mut probabilities[..targets * rows.len() * depth];
                values.fill(0.0);
                for (index, row) in values.chunks_exact_mut(depth).enumerate() {
                    let (target, w) = (index / rows.len(), first + index % rows.len());
                    let [h0, w0, d0] = window.start;
                    fill(target, [h0 + h, w0 + w], d0..d0 + depth, row);
                }
                plane.add(&MaskStrip { h, w: rows, probabilities: values }, depth);
            }
        });
        self.sums.check().map_err(|source| SegmentError::Spill {
            folder: self.sums.room().folder().to_owned(),
            source,
        })
    }

    /// Brings the averages back to the stored grid, a mask for each target.
    ///
    /// # Errors
    /// [`SegmentError::Preprocess`]
    pub fn restore(&self) -> Result<Vec<Mask>, SegmentError> {
        restore(&self.prepared, &self.sums, self.stored_shape, self.targets)
    }
}
