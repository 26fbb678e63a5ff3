use dicom_types::{GridGeometry, Mask};

use super::*;

fn coarse(plane: Plane) -> Acquisition {
    Acquisition::new(plane).with_spacing_mm([8.0, 6.0, 6.0])
}

fn centroid_mm(grid: &GridGeometry, mask: &Mask) -> [f64; 3] {
    let mut sum = [0.0; 3];
    mask.for_each(|voxel| {
        let position = grid.position_mm(voxel.map(|i| i as f64));
        for (total, at) in sum.iter_mut().zip(position) {
            *total += at;
        }
    });
    sum.map(|total| total / mask.count() as f64)
}

fn volume_ml(grid: &GridGeometry, mask: &Mask) -> f64 {
    mask.count() as f64 * grid.voxel_volume_mm3() / 1000.0
}

#[test]
fn organs_lie_on_the_side_and_at_the_height_that_they_have_in_a_patient() {
    for seed in 0..10 {
        let torso = Torso::random(seed);
        let grid = coarse(Plane::Axial).grid(&torso);

        let centre = |structure| centroid_mm(&grid, &torso.truth(&grid, structure));

        let [midline, _, _] = centre(Structure::Vertebrae);
        let left_of_midline = |structure| centre(structure)[0] - midline;
        assert!(left_of_midline(Structure::Liver) < -20.0, "liver of {seed}");
        assert!(left_of_midline(Structure::RightKidney) < -30.0, "right kidney of {seed}");
        assert!(left_of_midline(Structure::RightLung) < -40.0, "right lung of {seed}");
        assert!(left_of_midline(Structure::Spleen) > 40.0, "spleen of {seed}");
        assert!(left_of_midline(Structure::LeftKidney) > 30.0, "left kidney of {seed}");
        assert!(left_of_midline(Structure::LeftLung) > 40.0, "left lung of {seed}");
        assert!(left_of_midline(Structure::Aorta) > 0.0, "aorta of {seed}");
        let [_, spine_y, _] = centre(Structure::Vertebrae);
        assert!(centre(Structure::Aorta)[1] < spine_y, "aorta in front of the spine of {seed}");
        assert!(centre(Structure::Lung)[2] > centre(Structure::Liver)[2], "lungs of {seed}");
        assert!(centre(Structure::Liver)[2] > centre(Structure::Kidney)[2], "kidneys of {seed}");
    }
}

#[test]
fn organs_have_the_size_that_they_have_in_a_patient() {
    for seed in 0..10 {
        let torso = Torso::random(seed);
        let grid = coarse(Plane::Axial).with_coverage([1.0, 1.0, 1.2]).grid(&torso);

        let volume = |structure| volume_ml(&grid, &torso.truth(&grid, structure));

        let ranges = [
            (Structure::Liver, 600.0..3000.0),
            (Structure::Spleen, 90.0..500.0),
            (Structure::LeftKidney, 80.0..280.0),
            (Structure::RightKidney, 80.0..280.0),
            (Structure::LeftLung, 700.0..5000.0),
            (Structure::Aorta, 80.0..320.0),
        ];
        for (structure, range) in ranges {
            let found = volume(structure);
            assert!(range.contains(&found), "{structure:?} of {seed} has {found} mL");
        }
    }
}

#[test]
fn truth_does_not_depend_on_the_plane_of_the_scan() {
    let torso = Torso::random(3);
    let axial = coarse(Plane::Axial).grid(&torso);
    let oblique = coarse(Plane::Sagittal).with_tilt([1.0, 2.0, 0.5], 20.0).grid(&torso);

    for structure in [Structure::Liver, Structure::LeftKidney, Structure::RightKidney] {
        let one = torso.truth(&axial, structure);
        let other = torso.truth(&oblique, structure);

        let (here, there) = (centroid_mm(&axial, &one), centroid_mm(&oblique, &other));
        let apart = (0..3).map(|i| (here[i] - there[i]).powi(2)).sum::<f64>().sqrt();
        assert!(apart < 2.0, "{structure:?} lies {apart} mm apart");
        let ratio = volume_ml(&axial, &one) / volume_ml(&oblique, &other);
        assert!((0.95..1.05).contains(&ratio), "{structure:?} differs by {ratio}");
    }
}

#[test]
fn unions_hold_both_sides_and_nothing_else() {
    let torso = Torso::random(5);
    let grid = coarse(Plane::Coronal).grid(&torso);
    let count = |structure| torso.truth(&grid, structure).count();

    assert_eq!(count(Structure::Lung), count(Structure::LeftLung) + count(Structure::RightLung));
    assert_eq!(
        count(Structure::Kidney),
        count(Structure::LeftKidney) + count(Structure::RightKidney)
    );
}

#[test]
fn the_same_seeds_give_the_same_scan_and_others_another() {
    let grid = coarse(Plane::Axial).grid(&Torso::random(1));
    let scan = |torso: u64, acquisition| {
        Torso::random(torso).sample(&grid, Contrast::Mr, acquisition).into_values()
    };

    assert_eq!(scan(1, 1), scan(1, 1));
    assert_ne!(scan(1, 1), scan(1, 2));
    assert_ne!(scan(1, 1), scan(2, 1));
}

#[test]
fn ct_values_are_whole_hounsfield_units_of_the_tissue() {
    let torso = Torso::random(11);
    let grid = coarse(Plane::Axial).grid(&torso);

    let volume = torso.sample(&grid, Contrast::Ct, 4);

    let in_16_bits = |v: &f32| v.fract() == 0.0 && (-1024.0..3000.0).contains(v);
    assert!(volume.values().iter().all(in_16_bits));
    let mean = |structure| {
        let mut values = Vec::new();
        let [_, rows, columns] = grid.shape();
        torso
            .truth(&grid, structure)
            .for_each(|[s, r, c]| values.push(volume.values()[(s * rows + r) * columns + c]));
        values.iter().sum::<f32>() / values.len() as f32
    };
    assert!((-900.0..-650.0).contains(&mean(Structure::Lung)));
    assert!((30.0..140.0).contains(&mean(Structure::Liver)));
    assert!((120.0..450.0).contains(&mean(Structure::Vertebrae)));
}

#[test]
fn mr_values_are_positive_and_near_zero_in_air() {
    let torso = Torso::random(12);
    let grid = coarse(Plane::Coronal).grid(&torso);

    let volume = torso.sample(&grid, Contrast::Mr, 9);

    let body = torso.truth(&grid, Structure::Body);
    let [_, rows, columns] = grid.shape();
    let (mut inside, mut outside) = (Vec::new(), Vec::new());
    for (i, &value) in volume.values().iter().enumerate() {
        let voxel = [i / (rows * columns), i / columns % rows, i % columns];
        if body.contains(voxel) { inside.push(value) } else { outside.push(value) }
    }
    let mean = |values: &[f32]| values.iter().sum::<f32>() / values.len() as f32;
    assert!(volume.values().iter().all(|&v| v >= 0.0 && v.fract() == 0.0));
    assert!(mean(&outside) < 0.25 * mean(&inside));
}

#[test]
#[expect(clippy::float_cmp, reason = "axes without a tilt are exact")]
fn a_scan_lies_where_its_plane_says() {
    let torso = Torso::random(2);
    let normals = [
        (Plane::Axial, [0.0, 0.0, 1.0]),
        (Plane::Coronal, [0.0, 1.0, 0.0]),
        (Plane::Sagittal, [-1.0, 0.0, 0.0]),
    ];
    for (plane, normal) in normals {
        assert_eq!(coarse(plane).grid(&torso).plane_normal(), normal, "{plane:?}");
    }
    let grid = coarse(Plane::Axial).with_slices_reversed(true).grid(&torso);
    assert_eq!(grid.steps_mm()[0], [0.0, 0.0, -8.0]);
}

#[test]
fn random_acquisitions_show_most_of_every_organ() {
    for seed in 0..12 {
        let torso = Torso::random(seed);
        let grid = Acquisition::random(seed).with_spacing_mm([8.0, 8.0, 8.0]).grid(&torso);
        let whole = coarse(Plane::Axial).with_coverage([1.0, 1.0, 1.2]).grid(&torso);

        for structure in [Structure::Liver, Structure::Spleen] {
            let seen = volume_ml(&grid, &torso.truth(&grid, structure));
            let all = volume_ml(&whole, &torso.truth(&whole, structure));
            assert!(seen > 0.5 * all, "{structure:?} of {seed}: {seen} of {all} mL");
        }
    }
}

#[test]
fn prompts_name_structures() {
    for structure in Structure::ALL {
        assert_eq!(Structure::from_prompt(structure.prompt()), Some(structure));
        assert_eq!(
            structure.mirrored().and_then(Structure::mirrored),
            structure.mirrored().map(|_| structure)
        );
    }
    assert_eq!(Structure::from_prompt("Left Kidney"), Some(Structure::LeftKidney));
    assert_eq!(Structure::from_prompt("pancreas"), None);
}
