//! Draws the organs of a torso.

use super::random::Stream;
use super::shape::{Ellipsoid, Rotation, Vessel, add_scaled};

/// A smooth displacement: `push * sin(vector · p + phase)`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wave {
    pub(super) push: [f32; 3],
    pub(super) vector: [f32; 3],
    pub(super) phase: f32,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Kidney {
    pub(super) solid: Ellipsoid,
    pub(super) hilum: Ellipsoid,
}

pub(super) fn random_wave(r: &mut Stream) -> Wave {
    let amplitude_mm = r.uniform(1.0, 5.5);
    let length_mm = r.uniform(170.0, 400.0);
    Wave {
        push: r.direction().map(|v| v * amplitude_mm),
        vector: r.direction().map(|v| v * std::f32::consts::TAU / length_mm),
        phase: r.uniform(0.0, std::f32::consts::TAU),
    }
}

pub(super) fn random_aorta(r: &mut Stream, midline: f32, before_spine: f32) -> Vessel {
    let bottom_radius = r.uniform(12.0, 14.5);
    let top_radius = bottom_radius * r.uniform(1.05, 1.2);
    let gap = r.uniform(2.0, 4.0);
    Vessel {
        bottom: [midline + r.uniform(9.0, 15.0), before_spine - bottom_radius - gap, -185.0],
        top: [
            midline + r.uniform(13.0, 22.0),
            before_spine - top_radius - gap,
            r.uniform(120.0, 155.0),
        ],
        bottom_radius,
        top_radius,
        bend: r.uniform(-3.0, 3.0),
        flatness: r.uniform(0.92, 1.08),
    }
}

pub(super) fn random_vena_cava(
    r: &mut Stream,
    midline: f32,
    before_spine: f32,
    dome: f32,
) -> Vessel {
    let radius = r.uniform(9.0, 13.0);
    let y = before_spine - radius - r.uniform(0.0, 4.0);
    Vessel {
        bottom: [midline - radius - r.uniform(8.0, 12.0), y, -185.0],
        top: [midline - radius - r.uniform(8.0, 16.0), y - r.uniform(0.0, 15.0), dome],
        bottom_radius: radius,
        top_radius: radius,
        bend: r.uniform(-2.0, 2.0),
        flatness: r.uniform(0.6, 1.0),
    }
}

pub(super) fn random_liver(r: &mut Stream, [a, b]: [f32; 2], under_dome: f32) -> [Ellipsoid; 2] {
    let height = r.uniform(75.0, 98.0);
    let right = Ellipsoid::new(
        [-r.uniform(0.40, 0.50) * a, -r.uniform(-0.02, 0.12) * b, under_dome - 0.8 * height],
        [r.uniform(0.46, 0.54) * a, r.uniform(0.68, 0.8) * b, height],
        Rotation::xyz_degrees([
            r.uniform(-10.0, 10.0),
            r.uniform(-15.0, 10.0),
            r.uniform(-10.0, 10.0),
        ]),
    );
    let left = Ellipsoid::new(
        [-r.uniform(0.0, 0.12) * a, -r.uniform(0.38, 0.5) * b, under_dome - r.uniform(30.0, 45.0)],
        [r.uniform(0.42, 0.52) * a, r.uniform(0.3, 0.4) * b, r.uniform(32.0, 48.0)],
        Rotation::xyz_degrees([0.0, r.uniform(-15.0, 5.0), r.uniform(-10.0, 10.0)]),
    );
    [right, left]
}

/// `side` is 1 on the left of the patient, -1 on the right.
pub(super) fn random_kidney(r: &mut Stream, side: f32, [a, b]: [f32; 2], level: f32) -> Kidney {
    let radii = [r.uniform(25.0, 31.0), r.uniform(22.0, 28.0), r.uniform(48.0, 60.0)];
    let centre = [
        side * r.uniform(0.42, 0.50) * a,
        r.uniform(0.32, 0.44) * b,
        level + r.uniform(-10.0, 10.0),
    ];
    let attitude = Rotation::xyz_degrees([
        r.uniform(0.0, 15.0),
        -side * r.uniform(5.0, 18.0),
        side * r.uniform(-30.0, 30.0),
    ]);
    let inwards = attitude.apply([-side * radii[0], 0.0, 0.0]);
    let hilum = Ellipsoid::new(
        add_scaled(centre, inwards, 1.05),
        [r.uniform(12.0, 17.0), r.uniform(9.0, 13.0), r.uniform(12.0, 18.0)],
        attitude,
    );
    Kidney { solid: Ellipsoid::new(centre, radii, attitude), hilum }
}
