//! Weighted sums of what the network says about every window, and their averages.
//!
//! A target lives in few places, so its sums are kept in small bricks that exist only where some window saw it: memory
//! follows the organs, not targets times volume. Where targets fill the volume all the same, what goes beyond a limit
//! lies in a file.

mod plane;
mod room;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;

use rayon::prelude::*;

use crate::sliding_window::{Gaussian, Window};
use plane::Plane;
pub(crate) use plane::PlaneOfWindow;
pub(crate) use room::Room;
#[cfg(test)]
pub(crate) use tests::{in_memory, sums_of};

/// Half-open box of voxels `[H, W, D]`: first, and one past the last.
pub(crate) type Box3 = ([usize; 3], [usize; 3]);

/// Planes of H whose values are copied together, so that the lines of memory they share are written once.
const PLANES: usize = 16;

/// Weighted sums of every target over a volume, plane by plane along H.
#[derive(Debug)]
pub(crate) struct Sums {
    shape: [usize; 3],
    planes: Vec<Plane>,
    room: Arc<Room>,
}

impl Sums {
    /// Sums for `targets` targets over a volume of `shape`.
    pub(crate) fn new(shape: [usize; 3], targets: usize, room: Room) -> Self {
        let room = Arc::new(room);
        let [height, width, depth] = shape;
        let plane = || Plane::new([width, depth], targets, Arc::clone(&room));
        let planes = (0..height).map(|_| plane()).collect();
        Self { shape, planes, room }
    }

    /// Voxels along H, W, D.
    pub(crate) fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Where the sums live.
    pub(crate) fn room(&self) -> &Room {
        &self.room
    }

    /// The planes that `window` covers, in order.
    pub(crate) fn planes_of<'a>(
        &'a mut self,
        window: Window,
        gaussian: &'a Gaussian,
    ) -> Vec<PlaneOfWindow<'a>> {
        let covered = &mut self.planes[window.start[0]..window.end[0]];
        covered.iter_mut().map(|plane| plane.of_window(window, gaussian)).collect()
    }

    /// Tells whether everything that was added has found room.
    ///
    /// # Errors
    /// What the file system said when a plane did not find any.
    pub(crate) fn check(&mut self) -> io::Result<()> {
        self.planes.iter_mut().try_for_each(Plane::check)
    }

    /// Smallest box of the voxels at which the average of a target exceeds one half.
    pub(crate) fn extent_above_half(&self, target: usize) -> Option<Box3> {
        let planes = self.planes.par_iter().enumerate();
        let boxes = planes.filter_map(|(h, plane)| {
            let [w0, w1, d0, d1] = plane.extent_above_half(target)?;
            Some(([h, w0, d0], [h + 1, w1, d1]))
        });
        boxes.reduce_with(|(start, end), (other_start, other_end)| {
            let low = std::array::from_fn(|axis| start[axis].min(other_start[axis]));
            (low, std::array::from_fn(|axis| end[axis].max(other_end[axis])))
        })
    }

    /// Writes the averaged probabilities of a target inside a box into `values`, which are laid out by `strides` of H, W
    /// and D. Where nothing was summed, values stay as they are.
    pub(crate) fn fill(
        &self,
        target: usize,
        (start, end): Box3,
        strides: [usize; 3],
        values: &mut [f32],
    ) {
        for first in (start[0]..end[0]).step_by(PLANES) {
            let last = (first + PLANES).min(end[0]);
            let planes = &self.planes[first..last];
            let offset = (first - start[0]) * strides[0];
            plane::fill(planes, target, [start, end], strides, &mut values[offset..]);
        }
    }

    /// Takes what lies in the file out of this process's memory.
    pub(crate) fn release(&self) {
        if self.room.spilled_bytes() > 0 {
            self.planes.iter().for_each(Plane::release);
        }
    }
}
