use proptest::prelude::*;

use super::plane::NEGLIGIBLE;
use super::*;
use crate::net::MaskStrip;
use crate::sliding_window::{Mode, windows};

/// Sums of one target whose averages are `values`, up to rounding.
pub(crate) fn sums_of(shape: [usize; 3], values: &[f32]) -> Sums {
    let gaussian = Gaussian::new(shape);
    let mut sums = Sums::new(shape, 1, in_memory());
    let window = windows(shape, shape, Mode::Reference)[0];
    let planes = values.chunks_exact(shape[1] * shape[2]);
    for ((h, mut plane), probabilities) in
        sums.planes_of(window, &gaussian).into_iter().enumerate().zip(planes)
    {
        plane.add(&MaskStrip { h, w: 0..shape[1], probabilities }, shape[2]);
    }
    sums
}

/// Room that no test exceeds.
pub(crate) fn in_memory() -> Room {
    Room::new(u64::MAX, "nowhere".into())
}

impl Sums {
    /// The averaged probabilities of a target on the whole volume.
    pub(crate) fn dense(&self, target: usize) -> Vec<f32> {
        let [height, width, depth] = self.shape;
        let mut values = vec![0.0; height * width * depth];
        self.fill(target, ([0; 3], self.shape), [width * depth, depth, 1], &mut values);
        values
    }
}

/// Numbers that are zero more often than not.
fn sparse(seed: u64) -> impl FnMut() -> f32 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let value = (state >> 40) as f32 / (1u64 << 24) as f32;
        if value < 0.7 { 0.0 } else { value }
    }
}

/// Probabilities of every window, `[window][plane][target][w][d]`.
fn probabilities(
    shape: [usize; 3],
    size: [usize; 3],
    targets: usize,
    seed: u64,
) -> Vec<(Window, Vec<Vec<f32>>)> {
    let mut next = sparse(seed);
    let values = targets * size[1] * size[2];
    let mut plane = move || (0..values).map(|_| next()).collect();
    windows(shape, size, Mode::Reference)
        .into_iter()
        .map(|window| (window, (0..window.shape()[0]).map(|_| plane()).collect()))
        .collect()
}

fn summed(
    shape: [usize; 3],
    size: [usize; 3],
    targets: usize,
    room: Room,
    added: &[(Window, Vec<Vec<f32>>)],
) -> Sums {
    let gaussian = Gaussian::new(size);
    let mut sums = Sums::new(shape, targets, room);
    for (window, planes) in added {
        for ((h, mut plane), probabilities) in
            sums.planes_of(*window, &gaussian).into_iter().enumerate().zip(planes)
        {
            plane.add(&MaskStrip { h, w: 0..size[1], probabilities }, size[2]);
        }
    }
    sums.check().unwrap();
    sums
}

proptest! {
    #[test]
    fn bricks_hold_what_a_plain_array_would(
        shape in (1usize..4, 1usize..20, 1usize..70),
        seed in any::<u64>(),
    ) {
        let (shape, size) = ([shape.0, shape.1, shape.2], [2, 8, 32]);
        let gaussian = Gaussian::new(size);
        let added = probabilities(shape, size, 1, seed);
        let voxels: usize = shape.iter().product();
        let (mut plain, mut weights) = (vec![0.0f32; voxels], vec![0.0f32; voxels]);
        for (window, planes) in &added {
            let [hs, ws, ds] = window.shape();
            for (h, plane) in planes.iter().enumerate().take(hs) { for w in 0..ws { for d in 0..ds {
                let [h0, w0, d0] = window.start;
                let index = ((h0 + h) * shape[1] + w0 + w) * shape[2] + d0 + d;
                let weight = gaussian.row(h, w)[d];
                plain[index] += plane[w * size[2] + d] * weight;
                weights[index] += weight;
            }}}
        }

        let sums = summed(shape, size, 1, in_memory(), &added);

        let found = sums.dense(0);
        let extent = sums.extent_above_half(0);
        for h in 0..shape[0] { for w in 0..shape[1] { for d in 0..shape[2] {
            let index = (h * shape[1] + w) * shape[2] + d;
            let expected = plain[index] / weights[index];
            let value = found[index];
            prop_assert!((value - expected).abs() <= 2.0 * NEGLIGIBLE, "{value} {expected}");
            let is_inside = extent.is_some_and(|(start, end)| {
                (0..3).all(|k| (start[k]..end[k]).contains(&[h, w, d][k]))
            });
            prop_assert!(is_inside || value <= 0.5);
        }}}
    }
}

#[test]
fn what_lies_in_the_file_is_the_same_to_the_bit() {
    let (shape, size, targets) = ([9, 40, 70], [6, 32, 64], 5);
    let added = probabilities(shape, size, targets, 3);
    let folder = tempfile::tempdir().unwrap();
    let in_file = || Room::new(0, folder.path().to_owned());
    // Room for some of the pages.
    let in_both = Room::new(100 << 10, folder.path().to_owned());

    let memory = summed(shape, size, targets, in_memory(), &added);
    let file = summed(shape, size, targets, in_file(), &added);
    let both = summed(shape, size, targets, in_both, &added);
    file.release();

    assert_eq!(memory.room().spilled_bytes(), 0);
    assert!(both.room().spilled_bytes() > 0);
    for target in 0..targets {
        let expected = memory.dense(target);
        assert!(expected.iter().any(|&value| value > 0.5));
        assert_eq!(file.dense(target), expected);
        assert_eq!(both.dense(target), expected);
        assert_eq!(both.extent_above_half(target), memory.extent_above_half(target));
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the file has no name");
}

#[test]
fn a_folder_that_is_not_there_is_an_error_and_not_a_loss() {
    let (shape, size) = ([2, 8, 32], [2, 8, 32]);
    let mut sums = Sums::new(shape, 1, Room::new(0, "/nonexistent/folder".into()));
    let gaussian = Gaussian::new(size);
    let window = windows(shape, size, Mode::Reference)[0];
    let ones = vec![1.0; 256];
    let strip = MaskStrip { h: 0, w: 0..8, probabilities: &ones };

    sums.planes_of(window, &gaussian)[0].add(&strip, 32);

    let failure = sums.check().unwrap_err();
    assert_eq!(failure.kind(), io::ErrorKind::NotFound);
}
