use dicom_types::{GridGeometry, Modality, Volume};
use proptest::prelude::*;

use super::*;
use crate::pack::Preprocessing;
use crate::preprocess::{OrientationCode, prepare};
use crate::sums::sums_of;

/// The rule for one voxel, written down plainly: clamp, then the weighted sum of the eight neighbours.
fn plain_value(values: &[f32], shape: [usize; 3], place: [f64; 3]) -> f64 {
    let is_inside = (0..3).all(|k| place[k] >= -0.5 && place[k] < shape[k] as f64 - 0.5);
    if !is_inside {
        return 0.0;
    }
    let mut sum = 0.0;
    for corner in 0..8 {
        let mut weight = 1.0;
        let mut index = 0;
        for k in 0..3 {
            let clamped = place[k].clamp(0.0, shape[k] as f64 - 1.0);
            let fraction = clamped - clamped.floor();
            let is_far = corner >> k & 1 == 1;
            weight *= if is_far { fraction } else { 1.0 - fraction };
            let neighbour = clamped.floor() as usize + usize::from(is_far);
            index = index * shape[k] + neighbour.min(shape[k] - 1);
        }
        sum += weight * f64::from(values[index]);
    }
    sum
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The expected mask is found by way of patient space, not of axes and flips: any permutation of axes, any
    /// oblique direction and any gantry tilt must end at the same voxels.
    #[test]
    fn masks_lie_where_their_probabilities_lie_in_the_patient(
        permutation in Just([0usize, 1, 2]).prop_shuffle(),
        flips in prop::array::uniform3(any::<bool>()),
        noise in prop::array::uniform9(-0.25f64..0.25),
        origin in prop::array::uniform3(-200.0f64..200.0),
        is_sagittal in any::<bool>(),
        phase in prop::array::uniform3(0.0f64..6.0),
    ) {
        let lengths = [3.1, 1.3, 1.1];
        let mut steps = [[0.0; 3]; 3];
        for axis in 0..3 {
            steps[axis][permutation[axis]] = if flips[axis] { -lengths[axis] } else { lengths[axis] };
        }
        for (step, n) in steps.as_flattened_mut().iter_mut().zip(noise) {
            *step += n;
        }
        let stored_shape = [9, 14, 17];
        let geometry = GridGeometry::new(stored_shape, origin, steps).unwrap();
        let values = (0..geometry.voxels()).map(|i| 50.0 + (i % 7) as f32).collect();
        let volume = Volume::new(geometry, values).unwrap();
        let code = if is_sagittal { OrientationCode::Asr } else { OrientationCode::Ras };
        let settings = Preprocessing {
            spacing_mm: [1.5, 1.4, 2.5],
            window: [32; 3],
            ct_clip_hu: [-500.0, 1000.0],
            other_clip_percentiles: [0.5, 99.5],
        };
        let prepared = prepare(&volume, Modality::Mr, code, &settings).unwrap();
        let shape = prepared.shape;
        let mut values = Vec::new();
        for h in 0..shape[0] { for w in 0..shape[1] { for d in 0..shape[2] {
            let wave = (h as f64 * 0.5 + phase[0]).sin()
                + (w as f64 * 0.4 + phase[1]).sin()
                + (d as f64 * 0.6 + phase[2]).sin();
            values.push((1.0 / (1.0 + (-2.0 * wave).exp())) as f32);
        }}}
        let sums = sums_of(shape, &values);
        let values = sums.dense(0);

        let grid = StoredGrid::new(stored_shape, &prepared.oriented, &prepared.from_oriented);
        let mask = grid.unwrap().mask(&sums, 0);

        let to_oriented = prepared.oriented.affine.inverse().unwrap();
        for s in 0..stored_shape[0] { for r in 0..stored_shape[1] { for c in 0..stored_shape[2] {
            let [x, y, z] = geometry.position_mm([s as f64, r as f64, c as f64]);
            let place = prepared.from_oriented.apply(to_oriented.apply([-x, -y, z]));
            let is_at_the_rim = (0..3).any(|k| {
                (place[k] + 0.5).abs() < 1e-3 || (place[k] + 0.5 - shape[k] as f64).abs() < 1e-3
            });
            let value = plain_value(&values, shape, place);
            if !is_at_the_rim && (value - 0.5).abs() > 1e-3 {
                prop_assert_eq!(mask.contains([s, r, c]), value > 0.5, "at {:?}", [s, r, c]);
            }
        }}}
    }

    /// Noise, so that many values lie close to one half and every fraction counts; straight axes in any order and
    /// direction, or leaning ones.
    #[test]
    fn interpolated_values_are_within_a_hundred_thousandth_of_the_rule(
        along in Just([0usize, 1, 2]).prop_shuffle(),
        steps in prop::array::uniform3(0.15f64..1.9),
        flips in prop::array::uniform3(any::<bool>()),
        offsets in prop::array::uniform3(-2.0f64..2.0),
        lean in prop_oneof![Just(0.0), -0.2f64..0.2],
        seed in any::<u64>(),
    ) {
        let volume = [21, 13, 37];
        let stored = [7, 9, 70];
        let values: Vec<f32> = noise(seed).take(volume.iter().product()).collect();
        let sums = sums_of(volume, &values);
        let values = sums.dense(0);
        let mut to_cropped = Affine { linear: [[lean; 3]; 3], offset: [0.0; 3] };
        for axis in 0..3 {
            let (model, step) = (along[axis], steps[axis]);
            to_cropped.linear[model][axis] = if flips[axis] { -step } else { step };
            to_cropped.offset[model] = offsets[axis];
            if flips[axis] { to_cropped.offset[model] += volume[model] as f64; }
        }
        let from_cropped = to_cropped.inverse();
        prop_assume!(from_cropped.is_some());
        let from_cropped = from_cropped.unwrap();
        let grid = StoredGrid { shape: stored, to_cropped, from_cropped, along };
        let whole = ([0; 3], volume);

        let mask = grid.mask(&sums, 0);
        let straight = Separable::new(&grid, &sums, 0, whole);
        let sheared = Sheared::new(&grid, &sums, 0, whole);

        for s in 0..stored[0] {
            let leaning = sheared.as_ref().and_then(|sheared| sheared.slab(s..s + 1));
            let extent = straight.as_ref().filter(|_| lean == 0.0).map(Separable::extent);
            let upright = extent.as_ref().filter(|extent| extent[0].contains(&s));
            let upright = straight.as_ref().zip(upright).map(|(straight, _)| straight.slab(s..s + 1));
            for r in 0..stored[1] { for c in 0..stored[2] {
                let place = to_cropped.apply([s as f64, r as f64, c as f64]);
                let is_at_the_rim = (0..3).any(|k| {
                    (place[k] + 0.5).abs() < 1e-9 || (place[k] + 0.5 - volume[k] as f64).abs() < 1e-9
                });
                if is_at_the_rim { continue; }
                let expected = plain_value(&values, volume, place);
                if (expected - 0.5).abs() > 1e-5 {
                    prop_assert_eq!(mask.contains([s, r, c]), expected > 0.5, "at {:?}", [s, r, c]);
                }
                let found = sheared.as_ref().zip(leaning.as_ref()).map_or(0.0, |(sheared, slab)| {
                    sheared.value(slab, place)
                });
                prop_assert!((f64::from(found) - expected).abs() <= 1e-5, "{found} {expected}");
                let Some(extent) = &extent else { continue };
                let found = match (&straight, &upright) {
                    (Some(straight), Some(slab)) if extent[1].contains(&r) && extent[2].contains(&c) => {
                        let mut line = vec![0.0; volume[along[2]]];
                        straight.blend(slab, s, r, &mut line);
                        straight.value(&line, c - extent[2].start)
                    }
                    _ => 0.0,
                };
                prop_assert!((f64::from(found) - expected).abs() <= 1e-5, "{found} {expected}");
            }}
        }
    }
}

/// Numbers between zero and one.
fn noise(seed: u64) -> impl Iterator<Item = f32> {
    let mut state = seed;
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 40) as f32 / (1u64 << 24) as f32
    })
}
