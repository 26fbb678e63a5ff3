//! Every operation, at every instruction level of the machine, against its definition in float64.

use std::{ops::Range, sync::Arc};

use proptest::prelude::*;

use super::{
    Arena, DirectWeights, FeatureMap, Level, MaskWeights, Moments, Shape, Source, StemWeights,
    TransposedWeights, WinogradWeights, average_pool,
    map::{LEAKY_SLOPE, NORM_EPSILON, Pending},
    masks,
};
use crate::generated::generated_values;

/// A dense map in float64, `[h, w, d, channel]`.
#[derive(Debug, Clone)]
struct Plain {
    shape: Shape,
    channels: usize,
    values: Vec<f64>,
}

impl Plain {
    fn of(map: &FeatureMap) -> Self {
        let values = map.settled().iter().map(|&value| f64::from(value)).collect();
        Self { shape: map.shape, channels: map.channels, values }
    }

    /// Zero outside.
    fn at(&self, [h, w, d]: [isize; 3], channel: usize) -> f64 {
        let inside = |place: isize, length: usize| usize::try_from(place).is_ok_and(|p| p < length);
        let [height, width, depth] = self.shape;
        if !(inside(h, height) && inside(w, width) && inside(d, depth)) {
            return 0.0;
        }
        let voxel = (h as usize * width + w as usize) * depth + d as usize;
        self.values[voxel * self.channels + channel]
    }
}

/// Both sources of a decoder's joining unit, or the one of any other.
fn convolve(sources: &[Plain], kernel: &[f32], outputs: usize, step: usize) -> Plain {
    let shape = sources[0].shape.map(|length| length.div_ceil(step));
    let inputs: usize = sources.iter().map(|source| source.channels).sum();
    let mut values = Vec::new();
    for voxel in voxels(shape) {
        for output in 0..outputs {
            let mut sum = 0.0;
            let mut input = 0;
            for source in sources {
                for channel in 0..source.channels {
                    for tap in 0..27 {
                        let offsets = [tap / 9, tap / 3 % 3, tap % 3];
                        let place = std::array::from_fn(|axis| {
                            (voxel[axis] * step + offsets[axis]) as isize - 1
                        });
                        let weight = kernel[(output * inputs + input) * 27 + tap];
                        sum += source.at(place, channel) * f64::from(weight);
                    }
                    input += 1;
                }
            }
            values.push(sum);
        }
    }
    Plain { shape, channels: outputs, values }
}

fn voxels([height, width, depth]: Shape) -> impl Iterator<Item = [usize; 3]> {
    (0..height * width * depth)
        .map(move |voxel| [voxel / (width * depth), voxel / depth % width, voxel % depth])
}

/// A map of generated values, perhaps with a pending normalisation.
fn map(arena: &Arc<Arena>, name: &str, shape: Shape, channels: usize, pending: bool) -> FeatureMap {
    let mut map = FeatureMap::new(arena, shape, channels);
    let stride = map.stride();
    let count = shape.iter().product::<usize>() * channels;
    let values: Vec<f32> = generated_values(name, count).collect();
    map.data_mut().fill(0.0);
    for (voxel, values) in values.chunks_exact(channels).enumerate() {
        map.data_mut()[voxel * stride..][..channels].copy_from_slice(values);
    }
    if pending {
        let mut scale: Vec<f32> = generated_values("scale", channels).collect();
        let mut shift: Vec<f32> = generated_values("shift", channels).collect();
        scale.resize(stride, 0.0);
        shift.resize(stride, 0.0);
        map.pending = Some(Pending { scale, shift });
    }
    map
}

fn values(name: &str, count: usize) -> Vec<f32> {
    generated_values(name, count).collect()
}

/// Planes `planes` of a map, as a slab of an upsampled map is passed on.
fn part(map: &FeatureMap, planes: Range<usize>) -> Source<'_> {
    let mut source = map.source();
    source.values = &map.data()[planes.start * map.plane()..planes.end * map.plane()];
    source.planes = planes;
    source
}

/// Largest difference over the largest expected magnitude.
fn error(found: &FeatureMap, expected: &Plain) -> f64 {
    assert_eq!((found.shape, found.channels), (expected.shape, expected.channels));
    let stride = found.stride();
    for voxel in found.data().chunks_exact(stride) {
        assert!(voxel[found.channels..].iter().all(|&value| value == 0.0), "padding is not zero");
    }
    let scale = expected.values.iter().fold(1e-3_f64, |scale, value| scale.max(value.abs()));
    let differences = Plain::of(found).values.into_iter().zip(&expected.values);
    differences.fold(0.0, |worst, (found, &expected)| worst.max((found - expected).abs() / scale))
}

fn check_moments(moments: &Moments, expected: &Plain) {
    let count = expected.shape.iter().product::<usize>() as f64;
    assert!((moments.count - count).abs() < 0.5);
    for channel in 0..expected.channels {
        let values = || expected.values.iter().skip(channel).step_by(expected.channels);
        let mean = values().sum::<f64>() / count;
        let variance = values().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
        let scale = (variance + mean * mean).sqrt() + 1e-3;
        let found = moments.deviation[channel] / moments.count;
        assert!((moments.mean[channel] - mean).abs() < 1e-5 * scale, "mean of channel {channel}");
        assert!((found - variance).abs() < 2e-5 * scale * scale, "variance of channel {channel}");
    }
}

/// Which operation a case runs.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Path {
    Direct,
    Winograd,
}

fn run_convolution(
    level: Level,
    path: Path,
    sources: &[FeatureMap],
    kernel: &[f32],
    outputs: usize,
    step: usize,
    slab: usize,
) -> (FeatureMap, Moments) {
    let arena = Arc::default();
    let channels: Vec<usize> = sources.iter().map(|source| source.channels).collect();
    let shape = sources[0].shape.map(|length| length.div_ceil(step));
    let mut output = FeatureMap::new(&arena, shape, outputs);
    let mut moments = Moments::empty(output.stride());
    let plane = output.plane();
    for first in (0..shape[0]).step_by(slab) {
        let planes = first..(first + slab).min(shape[0]);
        let needed = (first * step).saturating_sub(1)
            ..((planes.end - 1) * step + 2).min(sources[0].shape[0]);
        let sources: Vec<Source<'_>> =
            sources.iter().map(|source| part(source, needed.clone())).collect();
        let target = &mut output.data_mut()[planes.start * plane..planes.end * plane];
        let block = match path {
            Path::Direct => DirectWeights::pack(level, kernel, outputs, &channels, step)
                .apply(level, &arena, &sources, target, planes, shape),
            Path::Winograd => WinogradWeights::pack(level, kernel, outputs, &channels)
                .apply(level, &arena, &sources, target, planes, shape),
        };
        moments.merge(&block);
    }
    (output, moments)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn convolutions_follow_the_definition(
        shape in [1..11_usize, 1..12, 1..14],
        channels in prop::collection::vec(1..40_usize, 1..3),
        outputs in 1..52_usize,
        path in prop_oneof![Just((Path::Direct, 1)), Just((Path::Direct, 2)), Just((Path::Winograd, 1))],
        pending in any::<[bool; 2]>(),
        slab in 1..3_usize,
    ) {
        let (path, step) = path;
        let shape = shape.map(|length| length.next_multiple_of(step));
        let arena = Arc::default();
        let sources: Vec<FeatureMap> = channels
            .iter()
            .enumerate()
            .map(|(index, &channels)| {
                map(&arena, &format!("source {index}"), shape, channels, pending[index])
            })
            .collect();
        let inputs: usize = channels.iter().sum();
        let kernel = values("kernel", outputs * inputs * 27);
        let plain: Vec<Plain> = sources.iter().map(Plain::of).collect();
        let expected = convolve(&plain, &kernel, outputs, step);
        for level in Level::available() {
            let (found, moments) =
                run_convolution(level, path, &sources, &kernel, outputs, step, 4 * slab);

            let tolerance = if path == Path::Winograd { 1e-5 } else { 2e-6 };
            let error = error(&found, &expected);
            prop_assert!(error < tolerance, "{}: {error:e}", level.name());
            check_moments(&moments, &expected);
        }
    }

    #[test]
    fn convolutions_over_their_own_input_follow_the_definition(
        shape in [1..23_usize, 1..7, 1..7],
        channels in 1..20_usize,
        slab in 1..4_usize,
        path in prop_oneof![Just(Path::Direct), Just(Path::Winograd)],
    ) {
        let arena: Arc<Arena> = Arc::default();
        let level = Level::detect();
        let source = map(&arena, "source", shape, channels, true);
        let kernel = values("kernel", channels * channels * 27);
        let mut found = FeatureMap::with_slab(&arena, shape, channels, 4 * slab);
        found.data_mut().copy_from_slice(source.data());
        found.pending.clone_from(&source.pending);
        // Once from the end of the buffer to its start, and once back.
        for _ in 0..2 {
            let expected = convolve(&[Plain::of(&found)], &kernel, channels, 1);
            let slabs = found.slabs();
            prop_assert_eq!(slabs.len(), shape[0].div_ceil(4 * slab));
            for slab in slabs {
                let (target, own) = found.overlay(&slab);
                match path {
                    Path::Direct => {
                        DirectWeights::pack(level, &kernel, channels, &[channels], 1)
                            .apply(level, &arena, &[own], target, slab, shape)
                    }
                    Path::Winograd => WinogradWeights::pack(level, &kernel, channels, &[channels])
                        .apply(level, &arena, &[own], target, slab, shape),
                };
            }
            let stride = found.stride();
            found.settle_overlay(Pending { scale: vec![1.0; stride], shift: vec![0.0; stride] });
            // What the next reader sees is activated; compare before that.
            let pending = found.pending.take();

            let error = error(&found, &expected);
            prop_assert!(error < 1e-5, "{error:e}");
            found.pending = pending;
        }
    }

    #[test]
    fn transposed_convolution_follows_the_definition(
        shape in [1..5_usize, 1..6, 1..20],
        inputs in 1..40_usize,
        outputs in 1..40_usize,
        pending in any::<bool>(),
        first in 0..4_usize,
    ) {
        let arena = Arc::default();
        let source = map(&arena, "source", shape, inputs, pending);
        let kernel = values("kernel", inputs * outputs * 8);
        let bias = values("bias", outputs);
        let plain = Plain::of(&source);
        let fine = shape.map(|length| 2 * length);
        let planes = first.min(fine[0] - 1)..fine[0];
        let mut expected = Vec::new();
        for [h, w, d] in voxels(fine).filter(|voxel| planes.contains(&voxel[0])) {
            let place = (h % 2 * 2 + w % 2) * 2 + d % 2;
            for (output, &bias) in bias.iter().enumerate() {
                let coarse = [h / 2, w / 2, d / 2].map(|place| place as isize);
                let products = (0..inputs).map(|input| {
                    let weight = kernel[(input * outputs + output) * 8 + place];
                    plain.at(coarse, input) * f64::from(weight)
                });
                expected.push(f64::from(bias) + products.sum::<f64>());
            }
        }
        let shape = [planes.len(), fine[1], fine[2]];
        let expected = Plain { shape, channels: outputs, values: expected };
        for level in Level::available() {
            let weights = TransposedWeights::pack(level, &kernel, &bias, inputs, outputs);
            let mut found = FeatureMap::new(&arena, shape, outputs);

            weights.apply(level, &arena, &source.source(), found.data_mut(), planes.clone());

            let error = error(&found, &expected);
            prop_assert!(error < 2e-6, "{}: {error:e}", level.name());
        }
    }

    #[test]
    fn stem_is_the_convolution_of_an_image_repeated_on_every_input(
        shape in [1..6_usize, 1..9, 1..40],
        inputs in 1..4_usize,
        outputs in 1..40_usize,
    ) {
        let arena = Arc::default();
        let image = values("image", shape.iter().product());
        let kernel = values("kernel", outputs * inputs * 27);
        let plain = Plain {
            shape,
            channels: 1,
            values: image.iter().map(|&value| f64::from(value)).collect(),
        };
        let expected = convolve(&vec![plain; inputs], &kernel, outputs, 1);
        for level in Level::available() {
            let weights = StemWeights::pack(level, &kernel, outputs, inputs);
            let mut found = FeatureMap::new(&arena, shape, outputs);

            let moments = weights.apply(level, &arena, &image, found.data_mut(), shape);

            let error = error(&found, &expected);
            prop_assert!(error < 2e-6, "{}: {error:e}", level.name());
            check_moments(&moments, &expected);
        }
    }

    #[test]
    fn average_pool_follows_the_definition(
        grid in [1..3_usize, 1..4, 1..4],
        ratio in prop_oneof![Just(1_usize), Just(2), Just(4), Just(8)],
        channels in 1..40_usize,
        pending in any::<bool>(),
    ) {
        let arena = Arc::default();
        let map = map(&arena, "map", grid.map(|length| length * ratio), channels, pending);
        let plain = Plain::of(&map);
        let mut expected = Vec::new();
        for cell in voxels(grid) {
            for channel in 0..channels {
                let inside = voxels([ratio; 3]).map(|offset| {
                    let place =
                        std::array::from_fn(|axis| (cell[axis] * ratio + offset[axis]) as isize);
                    plain.at(place, channel)
                });
                expected.push(inside.sum::<f64>() / ratio.pow(3) as f64);
            }
        }
        for level in Level::available() {
            let found = average_pool(level, &map, ratio);

            prop_assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(&expected) {
                prop_assert!((f64::from(*found) - expected).abs() < 1e-6, "{}", level.name());
            }
        }
    }

    #[test]
    fn masks_are_the_sigmoid_of_the_product_and_come_once(
        shape in [1..4_usize, 1..40, 1..4],
        channels in 1..40_usize,
        targets in 1..70_usize,
        scale in prop_oneof![Just(0.1_f32), Just(10.0)],
    ) {
        let shape = [shape[0], shape[1], 32 * shape[2]];
        let arena = Arc::default();
        let features = map(&arena, "features", shape, channels, true);
        let mut embeddings = values("embeddings", targets * channels);
        for value in &mut embeddings {
            *value *= scale;
        }
        let plain = Plain::of(&features);
        let weights = MaskWeights::pack(&embeddings, channels);
        for level in Level::available() {
            let mut planes = vec![(0, vec![f32::NAN; targets * shape[1] * shape[2]]); shape[0]];

            masks(level, &arena, &features, &weights, &mut planes, &|plane, h, w, strip| {
                plane.0 = h;
                let count = w.len() * shape[2];
                for (target, values) in strip.chunks_exact(count).enumerate() {
                    let start = (target * shape[1] + w.start) * shape[2];
                    for (kept, &value) in plane.1[start..start + count].iter_mut().zip(values) {
                        assert!(kept.is_nan(), "a voxel came twice");
                        *kept = value;
                    }
                }
            });

            for (h, (found_h, plane)) in planes.iter().enumerate() {
                prop_assert_eq!(h, *found_h);
                for (place, &found) in plane.iter().enumerate() {
                    let (target, voxel) = (place / (shape[1] * shape[2]), place % (shape[1] * shape[2]));
                    let at = [h, voxel / shape[2], voxel % shape[2]].map(|place| place as isize);
                    let products = (0..channels).map(|channel| {
                        plain.at(at, channel) * f64::from(embeddings[target * channels + channel])
                    });
                    let expected = 1.0 / (1.0 + (-products.sum::<f64>()).exp());
                    prop_assert!((f64::from(found) - expected).abs() < 1e-5, "{}", level.name());
                }
            }
        }
    }

    #[test]
    fn merged_moments_are_those_of_all_values(
        values in prop::collection::vec(-1e3_f64..1e3, 1..200),
        cut in 0..200_usize,
        offset in -1e6_f64..1e6,
    ) {
        let values: Vec<f64> = values.iter().map(|value| value + offset).collect();
        let of = |values: &[f64]| {
            let count = values.len() as f64;
            let mean = values.iter().sum::<f64>() / count.max(1.0);
            let deviation = values.iter().map(|value| (value - mean).powi(2)).sum();
            Moments { count, mean: vec![mean], deviation: vec![deviation] }
        };
        let (left, right) = values.split_at(cut.min(values.len()));

        let mut merged = Moments::empty(1);
        merged.merge(&of(left));
        merged.merge(&of(right));

        let expected = of(&values);
        prop_assert!((merged.count - expected.count).abs() < 0.5);
        prop_assert!((merged.mean[0] - expected.mean[0]).abs() < 1e-6);
        let scale = 1.0 + expected.deviation[0];
        prop_assert!((merged.deviation[0] - expected.deviation[0]).abs() < 1e-6 * scale);
    }
}

#[test]
fn statistics_survive_a_mean_far_above_the_spread() {
    let shape = [8, 8, 32];
    let image: Vec<f32> = values("image", 8 * 8 * 32).iter().map(|value| 3e3 + value).collect();
    let mut kernel = vec![0.0; 27];
    kernel[13] = 1.0;
    let arena = Arc::default();
    let plain =
        Plain { shape, channels: 1, values: image.iter().map(|&value| f64::from(value)).collect() };
    for level in Level::available() {
        let mut found = FeatureMap::new(&arena, shape, 1);

        let moments = StemWeights::pack(level, &kernel, 1, 1).apply(
            level,
            &arena,
            &image,
            found.data_mut(),
            shape,
        );

        let count = plain.values.len() as f64;
        let mean = plain.values.iter().sum::<f64>() / count;
        let variance = plain.values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count;
        let pending = moments.pending(&[1.0], &[0.0]);
        let expected = 1.0 / (variance + NORM_EPSILON).sqrt();
        assert!((f64::from(pending.scale[0]) - expected).abs() < 1e-5 * expected);
        assert!(pending.scale[1..].iter().chain(&pending.shift[1..]).all(|&value| value == 0.0));
    }
}

#[test]
fn activation_has_the_reference_slope() {
    let arena = Arc::default();
    let mut negative = map(&arena, "map", [1, 1, 1], 1, false);
    negative.data_mut()[0] = -2.0;
    negative.pending = Some(Pending { scale: vec![1.0; 16], shift: vec![0.0; 16] });

    assert_eq!(negative.settled(), [-2.0 * LEAKY_SLOPE]);
    assert!((LEAKY_SLOPE - 0.01).abs() < 1e-9);
}

#[test]
fn arena_lends_a_returned_buffer_again_and_lets_go_when_told() {
    let arena: Arc<Arena> = Arc::default();
    let mut loan = arena.take(1 << 20);
    loan[7] = 1.5;
    drop(loan);

    let same = arena.take((1 << 20) - 10);
    assert!((same[7] - 1.5).abs() < f32::EPSILON);
    drop(same);
    let smaller = arena.take(1 << 18);
    assert!(smaller.iter().all(|&value| value == 0.0), "a much larger buffer was lent");
    drop(smaller);
    arena.release();

    assert!(arena.take(1 << 20).iter().all(|&value| value == 0.0), "the buffer was kept");
}
