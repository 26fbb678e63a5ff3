//! Windows over a volume, and the weights of their voxels.

use std::fmt;
use std::str::FromStr;

use half::f16;
use rayon::prelude::*;

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

/// How windows cover a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// The published tiling: each window half a window further than the last.
    #[default]
    Reference,
    /// Neighbours share at most about a quarter of a window, and windows without body are left out.
    Fast,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 2] = [Self::Reference, Self::Fast];

    /// The mode's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::Fast => "fast",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("mode is neither reference nor fast")]
pub struct ParseModeError;

impl FromStr for Mode {
    type Err = ParseModeError;

    fn from_str(text: &str) -> Result<Self, ParseModeError> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == text).ok_or(ParseModeError)
    }
}

/// The windows of `size` over a volume of `shape`, H outermost.
pub(crate) fn windows(shape: [usize; 3], size: [usize; 3], mode: Mode) -> Vec<Window> {
    let ranges: [Vec<(usize, usize)>; 3] = std::array::from_fn(|axis| match mode {
        Mode::Reference => ranges(shape[axis], size[axis]),
        Mode::Fast => sparse_ranges(shape[axis], size[axis]),
    });
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

/// Each window half a window further, the last one moved back to the end of the volume.
// SAT evaluate/inference.py and data/inference_dataset.py, split_3d.
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

/// As few windows as share a quarter of their size with the next, spread evenly.
fn sparse_ranges(length: usize, size: usize) -> Vec<(usize, usize)> {
    if length <= size {
        return vec![(0, length)];
    }
    let farthest = length - size;
    let steps = farthest.div_ceil((size - size / 4).max(1));
    (0..=steps)
        .map(|i| {
            let start = (i * farthest + steps / 2) / steps;
            (start, start + size)
        })
        .collect()
}

/// Leaves out the windows of a volume `[H, W, D]` in which fewer than one voxel in a thousand exceeds `level`. Where
/// none remains, all do.
pub(crate) fn with_body(
    windows: Vec<Window>,
    (values, [_, width, depth]): (&[f32], [usize; 3]),
    level: f32,
) -> Vec<Window> {
    let has_body = |window: &Window| {
        let Window { start, end } = *window;
        let above = |h: usize| -> usize {
            let rows = (start[1]..end[1]).map(|w| (h * width + w) * depth);
            let row = |first: usize| &values[first + start[2]..first + end[2]];
            rows.map(|first| row(first).iter().filter(|&&value| value > level).count()).sum()
        };
        let above: usize = (start[0]..end[0]).into_par_iter().map(above).sum();
        above * 1000 >= window.shape().iter().product()
    };
    let kept: Vec<Window> = windows.iter().copied().filter(has_body).collect();
    if kept.is_empty() { windows } else { kept }
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

            let found: Vec<f64> = windows(shape, size, Mode::Reference)
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
        fn fast_windows_cover_every_voxel_with_no_more_windows(
            length in 1usize..900,
            half in 1usize..80,
        ) {
            let size = 2 * half;
            let sparse = sparse_ranges(length, size);
            prop_assert!(sparse.len() <= ranges(length, size).len());
            prop_assert_eq!(sparse[0].0, 0);
            prop_assert_eq!(sparse[sparse.len() - 1].1, length);
            for (start, end) in &sparse {
                prop_assert_eq!(end - start, size.min(length));
            }
            for pair in sparse.windows(2) {
                prop_assert!(pair[1].0 > pair[0].0 && pair[1].0 + size / 4 <= pair[0].1);
            }
        }
    }

    #[test]
    fn windows_of_air_are_left_out_unless_all_are() {
        let shape = [4, 8, 40];
        let all = windows(shape, [4, 8, 16], Mode::Fast);
        let mut values = vec![-1.0; 4 * 8 * 40];
        for row in values.chunks_exact_mut(40) {
            row[39] = 0.5;
        }

        let kept = with_body(all.clone(), (&values, shape), 0.0);

        assert_eq!(all.len(), 3);
        assert_eq!(kept, all[2..]);
        assert_eq!(with_body(all.clone(), (&values, shape), 1.0), all);
    }
}
