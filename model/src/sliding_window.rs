//! Windows over a volume, their weights, and the weighted sums of what the network says about each.
//!
//! A target lives in few places, so its sums are kept in small bricks that exist only where some window saw it: memory
//! follows the organs, not targets times volume.

use half::f16;

use crate::net::MaskStrip;

/// Voxels of a brick along W and D; along H a brick is one plane, so that planes need no locks.
const BRICK: [usize; 2] = [8, 32];
/// Probability below which a brick is not begun. What is left out changes an averaged probability by less than this.
const NEGLIGIBLE: f32 = 1e-5;

/// Half-open range of voxels along each axis, `[H, W, D]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) start: [usize; 3],
    pub(crate) end: [usize; 3],
}

impl Window {
    /// Voxels of the volume along each axis; fewer than the window's size where the volume is shorter.
    pub(crate) fn shape(&self) -> [usize; 3] {
        std::array::from_fn(|axis| self.end[axis] - self.start[axis])
    }
}

/// The windows of `size` over a volume of `shape`, H outermost: each half a window further, the last one moved back to
/// the end of the volume.
// SAT evaluate/inference.py and data/inference_dataset.py, split_3d.
pub(crate) fn windows(shape: [usize; 3], size: [usize; 3]) -> Vec<Window> {
    let ranges: [Vec<(usize, usize)>; 3] =
        std::array::from_fn(|axis| ranges(shape[axis], size[axis]));
    let mut windows = Vec::new();
    for &(h0, h1) in &ranges[0] {
        for &(w0, w1) in &ranges[1] {
            for &(d0, d1) in &ranges[2] {
                windows.push(Window { start: [h0, w0, d0], end: [h1, w1, d1] });
            }
        }
    }
    windows
}

fn ranges(length: usize, size: usize) -> Vec<(usize, usize)> {
    let step = (size / 2).max(1);
    let count = length.div_ceil(step).saturating_sub(1).max(1);
    (0..count)
        .map(|i| {
            let end = (i * step + size).min(length);
            (end.saturating_sub(size), end)
        })
        .collect()
}

/// Weight of every voxel of a whole window, `[H, W, D]`: a Gaussian around voxel `size / 2` with a standard deviation
/// of an eighth of the size, 10 at its maximum, in the steps of half precision and never zero.
#[derive(Debug, Clone)]
pub(crate) struct Gaussian {
    size: [usize; 3],
    weights: Vec<f32>,
}

impl Gaussian {
    pub(crate) fn new(size: [usize; 3]) -> Self {
        let profiles: [Vec<f64>; 3] = size.map(profile);
        let smallest = f16::from_bits(1);
        let mut weights = Vec::with_capacity(size.iter().product());
        for h in &profiles[0] {
            for w in &profiles[1] {
                for d in &profiles[2] {
                    let weight = f16::from_f64(10.0 * (h * w * d));
                    weights.push(if weight == f16::ZERO { smallest } else { weight }.to_f32());
                }
            }
        }
        Self { size, weights }
    }

    /// Weights of row `w` of plane `h`, from the row's first voxel on.
    pub(crate) fn row(&self, h: usize, w: usize) -> &[f32] {
        let [_, width, depth] = self.size;
        &self.weights[(h * width + w) * depth..][..depth]
    }
}

fn profile(size: usize) -> Vec<f64> {
    let centre = (size / 2) as f64;
    let sigma = size as f64 / 8.0;
    (0..size).map(|x| (-(x as f64 - centre).powi(2) / (2.0 * sigma * sigma)).exp()).collect()
}

/// Weighted sums of every target over a volume, plane by plane along H.
#[derive(Debug)]
pub(crate) struct Sums {
    shape: [usize; 3],
    planes: Vec<Plane>,
}

/// Sums of one plane.
#[derive(Debug)]
pub(crate) struct Plane {
    shape: [usize; 2],
    /// Sum of the weights, `[W][D]`.
    weights: Vec<f32>,
    /// Bricks of each target, once it has any: `[brick along W][brick along D]`.
    targets: Vec<Option<Bricks>>,
}

type Bricks = Box<[Option<Box<[f32]>>]>;

/// A plane of the sums, and where a window lies in it.
pub(crate) struct PlaneOfWindow<'a> {
    plane: &'a mut Plane,
    window: Window,
    gaussian: &'a Gaussian,
}

impl Sums {
    /// Sums for `targets` targets over a volume of `shape`.
    pub(crate) fn new(shape: [usize; 3], targets: usize) -> Self {
        let [height, width, depth] = shape;
        let plane = || Plane {
            shape: [width, depth],
            weights: vec![0.0; width * depth],
            targets: vec![None; targets],
        };
        Self { shape, planes: (0..height).map(|_| plane()).collect() }
    }

    /// The planes that `window` covers, in order.
    pub(crate) fn planes_of<'a>(
        &'a mut self,
        window: Window,
        gaussian: &'a Gaussian,
    ) -> Vec<PlaneOfWindow<'a>> {
        self.planes[window.start[0]..window.end[0]]
            .iter_mut()
            .map(|plane| PlaneOfWindow { plane, window, gaussian })
            .collect()
    }

    /// Averaged probabilities of a target where it may reach one half, and the box that they fill.
    pub(crate) fn probabilities(&self, target: usize) -> Option<Probabilities> {
        let (start, end) = self.extent(target)?;
        let shape: [usize; 3] = std::array::from_fn(|axis| end[axis] - start[axis]);
        let mut values = vec![0.0f32; shape.iter().product()];
        let mut rows = values.chunks_exact_mut(shape[2]);
        for plane in &self.planes[start[0]..end[0]] {
            for w in start[1]..end[1] {
                let row = rows.next().expect("as many rows as the box has");
                plane.average(target, w, start[2], row);
            }
        }
        Some(Probabilities { start, shape, values, volume: self.shape })
    }

    /// Box of the bricks of a target.
    fn extent(&self, target: usize) -> Option<([usize; 3], [usize; 3])> {
        let mut start = [usize::MAX; 3];
        let mut end = [0; 3];
        for (h, plane) in self.planes.iter().enumerate() {
            let Some(bricks) = &plane.targets[target] else { continue };
            let along_d = plane.shape[1].div_ceil(BRICK[1]);
            for (index, _) in bricks.iter().enumerate().filter(|(_, brick)| brick.is_some()) {
                let first = [h, index / along_d * BRICK[0], index % along_d * BRICK[1]];
                let size = [1, BRICK[0], BRICK[1]];
                for axis in 0..3 {
                    start[axis] = start[axis].min(first[axis]);
                    end[axis] = end[axis].max((first[axis] + size[axis]).min(self.shape[axis]));
                }
            }
        }
        (end[0] > 0).then_some((start, end))
    }
}

impl Plane {
    /// Averages of row `w` from voxel `first_d` on; zero where nothing was summed.
    fn average(&self, target: usize, w: usize, first_d: usize, row: &mut [f32]) {
        let Some(bricks) = &self.targets[target] else { return };
        let [_, depth] = self.shape;
        let along_d = depth.div_ceil(BRICK[1]);
        let weights = &self.weights[w * depth..][..depth];
        for (offset, value) in row.iter_mut().enumerate() {
            let d = first_d + offset;
            if let Some(brick) = &bricks[w / BRICK[0] * along_d + d / BRICK[1]] {
                *value = brick[w % BRICK[0] * BRICK[1] + d % BRICK[1]] / weights[d];
            }
        }
    }
}

impl PlaneOfWindow<'_> {
    /// Adds the network's probabilities of some rows of this plane, times the window's weights.
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
                self.plane.add_row(target, w0 + w, d0, row, weights);
            }
        }
    }
}

impl Plane {
    fn add_row(&mut self, target: usize, w: usize, d0: usize, row: &[f32], weights: &[f32]) {
        let [width, depth] = self.shape;
        let along_d = depth.div_ceil(BRICK[1]);
        let mut from = 0;
        while from < row.len() {
            let d = d0 + from;
            let to = row.len().min(from + BRICK[1] - d % BRICK[1]);
            let piece = &row[from..to];
            let pieces = piece.iter().zip(&weights[from..to]);
            from = to;
            let index = w / BRICK[0] * along_d + d / BRICK[1];
            let bricks = &mut self.targets[target];
            let is_begun = bricks.as_ref().is_some_and(|bricks| bricks[index].is_some());
            if !is_begun && piece.iter().all(|&probability| probability < NEGLIGIBLE) {
                continue;
            }
            let bricks =
                bricks.get_or_insert_with(|| vec![None; width.div_ceil(BRICK[0]) * along_d].into());
            let brick = bricks[index]
                .get_or_insert_with(|| vec![0.0; BRICK[0] * BRICK[1]].into_boxed_slice());
            let sums = &mut brick[w % BRICK[0] * BRICK[1] + d % BRICK[1]..];
            for (sum, (probability, weight)) in sums.iter_mut().zip(pieces) {
                *sum += probability * weight;
            }
        }
    }
}

/// Averaged probabilities of one target inside a box; outside they are zero.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Probabilities {
    /// First voxel of the box, `[H, W, D]`.
    pub(crate) start: [usize; 3],
    /// Voxels of the box along each axis.
    pub(crate) shape: [usize; 3],
    /// `[H][W][D]`, D fastest.
    pub(crate) values: Vec<f32>,
    /// Voxels of the whole volume along each axis.
    pub(crate) volume: [usize; 3],
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::Golden;
    use proptest::prelude::*;

    #[test]
    #[ignore = "needs the folder of PROSECTOR_TEST_SAT"]
    fn weights_are_those_of_the_reference() {
        let golden = Golden::open("gaussian");

        let small = Gaussian::new([64, 32, 32]);
        let large = Gaussian::new([288, 288, 96]);

        assert_eq!(small.weights, golden.floats("gauss_64x32x32"));
        let mut every = Vec::new();
        for h in (0..288).step_by(9) {
            for w in (0..288).step_by(9) {
                every.extend(large.row(h, w).iter().step_by(6).copied());
            }
        }
        assert_eq!(every, golden.floats("gauss_288x288x96_s"));
    }

    #[test]
    #[ignore = "needs the folder of PROSECTOR_TEST_SAT"]
    fn windows_are_those_of_the_reference() {
        for (name, shape, size) in [
            ("slide_a", [80, 68, 36], [64, 64, 32]),
            ("slide_b", [70, 48, 20], [64, 64, 32]),
            ("window_multi_a", [300, 290, 100], [288, 288, 96]),
        ] {
            let golden = Golden::open(name);
            let expected = golden.numbers("windows");

            let found: Vec<f64> = windows(shape, size)
                .iter()
                .flat_map(|window| (0..3).flat_map(|a| [window.start[a], window.end[a]]))
                .map(|v| v as f64)
                .collect();

            assert_eq!(found, expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn windows_cover_every_voxel_and_stay_inside(length in 1usize..400, half in 1usize..80) {
            let size = 2 * half;
            let ranges = ranges(length, size);
            let mut covered = vec![false; length];
            for (start, end) in ranges {
                prop_assert!(end <= length && end - start == size.min(length));
                covered[start..end].fill(true);
            }
            prop_assert!(covered.into_iter().all(|c| c));
        }

        #[test]
        fn bricks_hold_what_a_plain_array_would(
            shape in (1usize..4, 1usize..20, 1usize..70),
            seed in any::<u64>(),
        ) {
            let shape = [shape.0, shape.1, shape.2];
            let size = [2, 8, 32];
            let gaussian = Gaussian::new(size);
            let mut sums = Sums::new(shape, 1);
            let voxels: usize = shape.iter().product();
            let (mut plain, mut weights) = (vec![0.0f32; voxels], vec![0.0f32; voxels]);
            let mut state = seed;
            for window in windows(shape, size) {
                let padded = size[1] * size[2];
                let probabilities: Vec<Vec<f32>> = (0..window.shape()[0])
                    .map(|_| (0..padded).map(|_| {
                        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        let value = (state >> 40) as f32 / (1u64 << 24) as f32;
                        if value < 0.7 { 0.0 } else { value }
                    }).collect())
                    .collect();
                for (h, mut plane) in sums.planes_of(window, &gaussian).into_iter().enumerate() {
                    let strip = MaskStrip { h, w: 0..size[1], probabilities: &probabilities[h] };
                    plane.add(&strip, size[2]);
                }
                let [hs, ws, ds] = window.shape();
                for (h, plane) in probabilities.iter().enumerate().take(hs) { for w in 0..ws { for d in 0..ds {
                    let [h0, w0, d0] = window.start;
                    let index = ((h0 + h) * shape[1] + w0 + w) * shape[2] + d0 + d;
                    let weight = gaussian.row(h, w)[d];
                    plain[index] += plane[w * size[2] + d] * weight;
                    weights[index] += weight;
                }}}
            }
            let found = sums.probabilities(0);
            for h in 0..shape[0] { for w in 0..shape[1] { for d in 0..shape[2] {
                let index = (h * shape[1] + w) * shape[2] + d;
                let expected = plain[index] / weights[index];
                let value = found.as_ref().map_or(0.0, |box_| {
                    let at = [h, w, d];
                    let inside = (0..3).all(|a| {
                        (box_.start[a]..box_.start[a] + box_.shape[a]).contains(&at[a])
                    });
                    if !inside { return 0.0; }
                    let [a, b, c]: [usize; 3] = std::array::from_fn(|k| at[k] - box_.start[k]);
                    box_.values[(a * box_.shape[1] + b) * box_.shape[2] + c]
                });
                prop_assert!((value - expected).abs() <= 2.0 * NEGLIGIBLE, "{value} {expected}");
            }}}
        }
    }
}
