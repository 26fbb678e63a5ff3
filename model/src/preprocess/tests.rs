use dicom_types::GridGeometry;

use super::*;
use crate::golden::{Golden, assert_close};

const PUBLISHED: Preprocessing = Preprocessing {
    spacing_mm: [1.0, 1.0, 3.0],
    window: [288, 288, 96],
    ct_clip_hu: [-500.0, 1000.0],
    other_clip_percentiles: [0.5, 99.5],
};

/// The golden volume as DICOM would bring it: axes (i, j, k) as (column, row, slice), affine in LPS.
pub(crate) fn golden_volume(golden: &Golden) -> Volume {
    let raw = golden.floats("raw");
    let affine = golden.numbers("affine");
    let shape = golden.shape("raw");
    let [ni, nj, nk] = [shape[0], shape[1], shape[2]];
    let lps = |column: usize| [-affine[column], -affine[4 + column], affine[8 + column]];
    let geometry = GridGeometry::new([nk, nj, ni], lps(3), [lps(2), lps(1), lps(0)]).unwrap();
    let mut values = Vec::with_capacity(raw.len());
    for k in 0..nk {
        for j in 0..nj {
            values.extend((0..ni).map(|i| raw[(i * nj + j) * nk + k]));
        }
    }
    Volume::new(geometry, values).unwrap()
}

/// Modality and orientation of a golden case, as the worker would state them.
pub(crate) fn golden_settings(golden: &Golden) -> (Modality, OrientationCode) {
    let modality = match golden.text("modality").to_lowercase().as_str() {
        "ct" => Modality::Ct,
        "pet" => Modality::Pt,
        _ => Modality::Mr,
    };
    (modality, golden.text("orientation_code").parse().unwrap())
}

fn assert_affine(what: &str, affine: &Affine, expected: &[f64], tolerance: f64) {
    for row in 0..3 {
        for column in 0..4 {
            let found = if column == 3 { affine.offset[row] } else { affine.linear[row][column] };
            let wanted = expected[row * 4 + column];
            assert!(
                (found - wanted).abs() <= tolerance,
                "{what} [{row}, {column}]: {found} {wanted}"
            );
        }
    }
}

fn agrees_with_the_reference(name: &str) {
    let golden = Golden::open(name);
    let volume = golden_volume(&golden);
    let (modality, code) = golden_settings(&golden);

    let oriented = OrientedGrid::new(volume.geometry(), code);
    assert_eq!(oriented.shape[..], golden.shape("oriented")[1..]);
    assert_eq!(oriented.values(&volume), golden.floats("oriented"));
    assert_affine("oriented", &oriented.affine, &golden.numbers("oriented_affine"), 1e-9);

    let grid = ResampledGrid::new(&oriented, PUBLISHED.spacing_mm).unwrap();
    assert_eq!(grid.shape[..], golden.shape("spaced")[1..]);
    assert_affine("spaced", &grid.affine, &golden.numbers("spaced_affine"), 1e-6);
    let spaced = resample(volume.values(), &oriented, &grid);
    assert_close("spaced", &spaced, &golden.floats("spaced"), 1e-4);

    let (start, end) = foreground_box(&spaced, grid.shape).unwrap();
    assert_eq!(start.map(|v| v as f64)[..], golden.numbers("crop_start"));
    assert_eq!(end.map(|v| v as f64)[..], golden.numbers("crop_end"));

    let prepared = prepare(&volume, modality, code, &PUBLISHED).unwrap();
    let Normalisation { low, high, mean, deviation } = prepared.normalisation;
    for (found, expected) in
        [low, high, mean, deviation].into_iter().zip(golden.numbers("clip_mean_std"))
    {
        assert!((found - expected).abs() <= 1e-5 * expected.abs().max(1.0), "{found} {expected}");
    }
    assert_eq!(prepared.shape[..], golden.shape("normalized")[1..]);
    assert_close("normalised", &prepared.values, &golden.floats("normalized"), 1e-5);
}

#[test]
fn ct_with_both_in_plane_axes_flipped_agrees_with_the_reference() {
    agrees_with_the_reference("pre_ct_lps");
}

#[test]
#[ignore = "needs the folder of PROSECTOR_TEST_SAT"]
fn mr_in_sagittal_storage_order_agrees_with_the_reference() {
    agrees_with_the_reference("pre_mr_perm");
}

#[test]
fn mr_in_asr_orientation_agrees_with_the_reference() {
    agrees_with_the_reference("pre_mr_asr");
}

#[test]
#[ignore = "needs the folder of PROSECTOR_TEST_SAT"]
fn oblique_ct_agrees_with_the_reference() {
    agrees_with_the_reference("pre_ct_oblique");
}

#[test]
#[ignore = "needs the folder of PROSECTOR_TEST_SAT"]
fn ct_close_to_the_target_spacing_is_not_resampled_like_the_reference() {
    agrees_with_the_reference("pre_ct_near");
}

fn axial_volume(values: Vec<f32>) -> Volume {
    let steps = [[0.0, 0.0, 3.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]];
    Volume::new(GridGeometry::new([3, 4, 5], [0.0; 3], steps).unwrap(), values).unwrap()
}

#[test]
fn a_volume_without_foreground_contrast_or_numbers_is_refused() {
    let prepare =
        |values| prepare(&axial_volume(values), Modality::Ct, OrientationCode::Ras, &PUBLISHED);

    assert_eq!(prepare(vec![-1000.0; 60]), Err(PreprocessError::NoForeground));
    assert_eq!(prepare(vec![40.0; 60]), Err(PreprocessError::Constant));
    let mut broken = vec![40.0; 60];
    broken[7] = f32::NAN;
    assert_eq!(prepare(broken), Err(PreprocessError::NotFinite));
}

#[test]
fn one_voxel_thick_volumes_are_prepared() {
    let steps = [[0.0, 0.0, 5.0], [0.0, 0.7, 0.0], [0.7, 0.0, 0.0]];
    let geometry = GridGeometry::new([1, 20, 30], [0.0; 3], steps).unwrap();
    let volume = Volume::new(geometry, (0..600).map(|i| i as f32).collect()).unwrap();

    let prepared = prepare(&volume, Modality::Mr, OrientationCode::Ras, &PUBLISHED).unwrap();

    assert_eq!(prepared.shape[2], 1);
    assert!(prepared.values.iter().all(|value| value.is_finite()));
}

#[test]
fn a_grid_that_would_explode_is_refused() {
    let steps = [[0.0, 0.0, 9e5], [0.0, 9e5, 0.0], [9e5, 0.0, 0.0]];
    let geometry = GridGeometry::new([3, 4, 5], [0.0; 3], steps).unwrap();
    let volume = Volume::new(geometry, vec![1.0; 60]).unwrap();

    let outcome = prepare(&volume, Modality::Ct, OrientationCode::Ras, &PUBLISHED);

    assert!(matches!(outcome, Err(PreprocessError::TooLarge { .. })));
}
