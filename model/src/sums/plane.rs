//! The sums of one plane of H.

use std::io;
use std::sync::Arc;

use super::room::{Extent, Room};
use crate::net::MaskStrip;
use crate::sliding_window::{Gaussian, Window};

/// Voxels of a brick along W and D; along H a brick is one plane, so that planes need no locks.
const BRICK: [usize; 2] = [8, 32];
/// Values of a brick.
const BRICK_VALUES: usize = BRICK[0] * BRICK[1];
/// Values that are reserved together for one target: a page of memory or of the file.
const PAGE_VALUES: usize = 4 * BRICK_VALUES;
/// Probability below which a brick is not begun. What is left out changes an averaged probability by less than this.
pub(super) const NEGLIGIBLE: f32 = 1e-5;

/// Sums of one plane.
#[derive(Debug)]
pub(super) struct Plane {
    shape: [usize; 2],
    /// Sum of the weights, `[W][D]`.
    weights: Vec<f32>,
    /// Bricks of each target, once it has any.
    targets: Vec<Option<Bricks>>,
    pages: Pages,
    failure: Option<io::Error>,
}

/// The bricks of one target in one plane.
#[derive(Debug)]
struct Bricks {
    /// `[brick along W][brick along D]`: zero where there is none, else one more than its number.
    numbers: Box<[u32]>,
    begun: u32,
    /// Bricks lie in pages in the order of their numbers.
    pages: Vec<Page>,
}

#[derive(Debug)]
enum Page {
    Memory(Box<[f32]>),
    File { extent: u32, first: u32 },
}

/// What pages are made of.
#[derive(Debug)]
struct Pages {
    room: Arc<Room>,
    extents: Vec<Extent>,
    /// Values of the last extent that are given away.
    used: usize,
}

impl Pages {
    fn begin(&mut self) -> io::Result<Page> {
        if self.room.take_memory((PAGE_VALUES * size_of::<f32>()) as u64) {
            return Ok(Page::Memory(vec![0.0; PAGE_VALUES].into_boxed_slice()));
        }
        if self.extents.is_empty() || self.used == Extent::VALUES {
            self.extents.push(self.room.extent()?);
            self.used = 0;
        }
        let first = self.used as u32;
        self.used += PAGE_VALUES;
        Ok(Page::File { extent: self.extents.len() as u32 - 1, first })
    }

    fn values<'a>(&'a self, page: &'a Page) -> &'a [f32] {
        match page {
            Page::Memory(values) => values,
            Page::File { extent, first } => {
                &self.extents[*extent as usize].values()[*first as usize..][..PAGE_VALUES]
            }
        }
    }

    fn values_mut<'a>(&'a mut self, page: &'a mut Page) -> &'a mut [f32] {
        match page {
            Page::Memory(values) => values,
            Page::File { extent, first } => {
                &mut self.extents[*extent as usize].values_mut()[*first as usize..][..PAGE_VALUES]
            }
        }
    }
}

impl Bricks {
    fn new(places: usize) -> Self {
        Self { numbers: vec![0; places].into_boxed_slice(), begun: 0, pages: Vec::new() }
    }

    /// Values of the brick at `place`, if it is begun.
    fn get<'a>(&'a self, place: usize, pages: &'a Pages) -> Option<&'a [f32]> {
        let number = self.numbers[place].checked_sub(1)? as usize * BRICK_VALUES;
        let page = pages.values(&self.pages[number / PAGE_VALUES]);
        Some(&page[number % PAGE_VALUES..][..BRICK_VALUES])
    }

    fn get_or_begin<'a>(
        &'a mut self,
        place: usize,
        pages: &'a mut Pages,
    ) -> io::Result<&'a mut [f32]> {
        if self.numbers[place] == 0 {
            if (self.begun as usize * BRICK_VALUES).is_multiple_of(PAGE_VALUES) {
                self.pages.push(pages.begin()?);
            }
            self.begun += 1;
            self.numbers[place] = self.begun;
        }
        let number = (self.numbers[place] - 1) as usize * BRICK_VALUES;
        let page = pages.values_mut(&mut self.pages[number / PAGE_VALUES]);
        Ok(&mut page[number % PAGE_VALUES..][..BRICK_VALUES])
    }
}

impl Plane {
    pub(super) fn new(shape: [usize; 2], targets: usize, room: Arc<Room>) -> Self {
        Self {
            shape,
            weights: vec![0.0; shape[0] * shape[1]],
            targets: (0..targets).map(|_| None).collect(),
            pages: Pages { room, extents: Vec::new(), used: 0 },
            failure: None,
        }
    }

    pub(super) fn of_window<'a>(
        &'a mut self,
        window: Window,
        gaussian: &'a Gaussian,
    ) -> PlaneOfWindow<'a> {
        PlaneOfWindow { plane: self, window, gaussian }
    }

    pub(super) fn check(&mut self) -> io::Result<()> {
        self.failure.take().map_or(Ok(()), Err)
    }

    pub(super) fn release(&self) {
        self.pages.extents.iter().for_each(Extent::release);
    }

    /// First and one past the last voxel along W, then along D, of those whose average exceeds one half.
    pub(super) fn extent_above_half(&self, target: usize) -> Option<[usize; 4]> {
        let bricks = self.targets[target].as_ref()?;
        let [width, depth] = self.shape;
        let along_d = depth.div_ceil(BRICK[1]);
        let mut found: Option<[usize; 4]> = None;
        for place in 0..bricks.numbers.len() {
            let Some(brick) = bricks.get(place, &self.pages) else { continue };
            let [w0, d0] = [place / along_d * BRICK[0], place % along_d * BRICK[1]];
            let rows = brick.chunks_exact(BRICK[1]).enumerate().take(width - w0);
            for (w, sums) in rows {
                let weights = &self.weights[(w0 + w) * depth + d0..][..(depth - d0).min(BRICK[1])];
                let above = sums.iter().zip(weights).map(|(sum, weight)| *sum > 0.5 * weight);
                let mask = above.enumerate().fold(0u32, |mask, (d, is)| mask | u32::from(is) << d);
                if mask == 0 {
                    continue;
                }
                let first = d0 + mask.trailing_zeros() as usize;
                let end = d0 + 32 - mask.leading_zeros() as usize;
                let [a0, a1, b0, b1] = found.unwrap_or([usize::MAX, 0, usize::MAX, 0]);
                found = Some([a0.min(w0 + w), a1.max(w0 + w + 1), b0.min(first), b1.max(end)]);
            }
        }
        found
    }

    fn add_row(
        &mut self,
        target: usize,
        [w, d0]: [usize; 2],
        row: &[f32],
        weights: &[f32],
    ) -> io::Result<()> {
        let [width, depth] = self.shape;
        let along_d = depth.div_ceil(BRICK[1]);
        let mut from = 0;
        while from < row.len() {
            let d = d0 + from;
            let to = row.len().min(from + BRICK[1] - d % BRICK[1]);
            let piece = &row[from..to];
            let pieces = piece.iter().zip(&weights[from..to]);
            from = to;
            let place = w / BRICK[0] * along_d + d / BRICK[1];
            let bricks = &mut self.targets[target];
            let is_begun = bricks.as_ref().is_some_and(|bricks| bricks.numbers[place] > 0);
            if !is_begun && is_negligible(piece) {
                continue;
            }
            let bricks =
                bricks.get_or_insert_with(|| Bricks::new(width.div_ceil(BRICK[0]) * along_d));
            let brick = bricks.get_or_begin(place, &mut self.pages)?;
            let sums = &mut brick[w % BRICK[0] * BRICK[1] + d % BRICK[1]..];
            for (sum, (probability, weight)) in sums.iter_mut().zip(pieces) {
                *sum += probability * weight;
            }
        }
        Ok(())
    }
}

/// Whether no value reaches [`NEGLIGIBLE`]. Counts instead of stopping early, which is faster for a brick's row.
fn is_negligible(piece: &[f32]) -> bool {
    piece.iter().map(|&probability| u32::from(probability >= NEGLIGIBLE)).sum::<u32>() == 0
}

/// Writes the averages of `target` inside a box; `planes` lie next to each other, and `values` begins with the first.
pub(super) fn fill(
    planes: &[Plane],
    target: usize,
    [start, end]: [[usize; 3]; 2],
    strides: [usize; 3],
    values: &mut [f32],
) {
    let Some(first) = planes.first() else { return };
    let along_d = first.shape[1].div_ceil(BRICK[1]);
    for w_brick in start[1] / BRICK[0]..end[1].div_ceil(BRICK[0]) {
        for d_brick in start[2] / BRICK[1]..end[2].div_ceil(BRICK[1]) {
            let low = [w_brick * BRICK[0], d_brick * BRICK[1]];
            let w = low[0].max(start[1])..(low[0] + BRICK[0]).min(end[1]);
            let d = low[1].max(start[2])..(low[1] + BRICK[1]).min(end[2]);
            for (h, plane) in planes.iter().enumerate() {
                let Some(bricks) = &plane.targets[target] else { continue };
                let Some(brick) = bricks.get(w_brick * along_d + d_brick, &plane.pages) else {
                    continue;
                };
                for w in w.clone() {
                    let sums = &brick[(w - low[0]) * BRICK[1] + d.start - low[1]..][..d.len()];
                    let weights = &plane.weights[w * plane.shape[1] + d.start..][..d.len()];
                    let offset = h * strides[0] + (w - start[1]) * strides[1];
                    let offset = offset + (d.start - start[2]) * strides[2];
                    let values = values[offset..].iter_mut().step_by(strides[2]);
                    for (value, (sum, weight)) in values.zip(sums.iter().zip(weights)) {
                        // No window covers a voxel without weight.
                        *value = if *weight > 0.0 { sum / weight } else { 0.0 };
                    }
                }
            }
        }
    }
}

/// A plane of the sums, and where a window lies in it.
pub(crate) struct PlaneOfWindow<'a> {
    plane: &'a mut Plane,
    window: Window,
    gaussian: &'a Gaussian,
}

impl PlaneOfWindow<'_> {
    /// Adds the network's probabilities of some rows of this plane, times the window's weights.
    ///
    /// Sums that find no room are left out; [`super::Sums::check`] then says so.
    pub(crate) fn add(&mut self, strip: &MaskStrip<'_>, depth_of_window: usize) {
        let [_, width, depth] = self.window.shape();
        let rows = strip.w.start..strip.w.end.min(width);
        if rows.is_empty() {
            return;
        }
        let [_, w0, d0] = self.window.start;
        let volume_depth = self.plane.shape[1];
        for w in rows.clone() {
            let weights = &self.gaussian.row(strip.h, w)[..depth];
            let sums = &mut self.plane.weights[(w0 + w) * volume_depth + d0..][..depth];
            for (sum, weight) in sums.iter_mut().zip(weights) {
                *sum += weight;
            }
        }
        let voxels = strip.w.len() * depth_of_window;
        for (target, probabilities) in strip.probabilities.chunks_exact(voxels).enumerate() {
            for w in rows.clone() {
                let row = &probabilities[(w - strip.w.start) * depth_of_window..][..depth];
                let weights = &self.gaussian.row(strip.h, w)[..depth];
                if let Err(error) = self.plane.add_row(target, [w0 + w, d0], row, weights) {
                    self.plane.failure.get_or_insert(error);
                }
            }
        }
        if rows.end == width {
            self.plane.release();
        }
    }
}
