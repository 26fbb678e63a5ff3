//! The solids that a torso is built from.

/// An ellipsoid in any attitude.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ellipsoid {
    centre: [f32; 3],
    /// Rows: the axes of the ellipsoid, each divided by its radius.
    axes: [[f32; 3]; 3],
    /// Square of the largest radius.
    reach: f32,
}

impl Ellipsoid {
    /// `attitude` turns the ellipsoid about its centre.
    pub(super) fn new(centre: [f32; 3], radii: [f32; 3], attitude: Rotation) -> Self {
        let mut axes = attitude.rows();
        for (axis, radius) in axes.iter_mut().zip(radii) {
            *axis = axis.map(|v| v / radius);
        }
        let reach = radii.into_iter().fold(0.0, f32::max).powi(2);
        Self { centre, axes, reach }
    }

    /// Distance from the centre in units of the radius: 1 on the surface, infinite far outside.
    pub(super) fn level(&self, p: [f32; 3]) -> f32 {
        let offset = subtract(p, self.centre);
        if dot(offset, offset) > 2.0 * self.reach {
            return f32::INFINITY;
        }
        let along = self.axes.map(|axis| dot(axis, offset));
        dot(along, along).sqrt()
    }

    pub(super) fn contains(&self, p: [f32; 3]) -> bool {
        self.level(p) <= 1.0
    }
}

/// A vessel along the body: a disc whose centre and radius change linearly with height, with an S-bend, closed by
/// half spheres.
#[derive(Debug, Clone, Copy)]
pub(super) struct Vessel {
    pub(super) bottom: [f32; 3],
    pub(super) top: [f32; 3],
    pub(super) bottom_radius: f32,
    pub(super) top_radius: f32,
    pub(super) bend: f32,
    /// Depth over width of the cross-section.
    pub(super) flatness: f32,
}

impl Vessel {
    pub(super) fn contains(&self, p: [f32; 3]) -> bool {
        let height = self.top[2] - self.bottom[2];
        let t = ((p[2] - self.bottom[2]) / height).clamp(0.0, 1.0);
        let radius = self.bottom_radius + t * (self.top_radius - self.bottom_radius);
        let x = p[0] - self.bottom[0] - t * (self.top[0] - self.bottom[0]);
        let y = p[1] - self.bottom[1] - t * (self.top[1] - self.bottom[1]);
        let reach = radius + self.bend.abs();
        if x.abs() > reach {
            return false;
        }
        let x = x - self.bend * (t * std::f32::consts::TAU).sin();
        let past_the_end = (p[2] - self.top[2]).max(self.bottom[2] - p[2]).max(0.0);
        x * x + (y / self.flatness).powi(2) + past_the_end * past_the_end <= radius * radius
    }
}

/// A rotation about an axis through the origin.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rotation([[f32; 3]; 3]);

impl Rotation {
    pub(super) const NONE: Self = Self([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]);

    /// Rotation by `angle` radians about the unit vector `axis` (Rodrigues' formula).
    pub(super) fn about(axis: [f32; 3], angle: f32) -> Self {
        let [x, y, z] = axis;
        let (s, c) = angle.sin_cos();
        let t = 1.0 - c;
        Self([
            [t * x * x + c, t * x * y - s * z, t * x * z + s * y],
            [t * x * y + s * z, t * y * y + c, t * y * z - s * x],
            [t * x * z - s * y, t * y * z + s * x, t * z * z + c],
        ])
    }

    /// Rotations about x, then y, then z, in degrees.
    pub(super) fn xyz_degrees(angles: [f32; 3]) -> Self {
        let [x, y, z] = angles.map(f32::to_radians);
        let first = Self::about([1.0, 0.0, 0.0], x);
        let second = Self::about([0.0, 1.0, 0.0], y);
        let third = Self::about([0.0, 0.0, 1.0], z);
        third.after(&second.after(&first))
    }

    fn after(&self, first: &Self) -> Self {
        let columns = first.rows();
        Self(columns.map(|column| self.apply(column))).transposed()
    }

    fn transposed(&self) -> Self {
        let m = self.0;
        Self(std::array::from_fn(|row| std::array::from_fn(|column| m[column][row])))
    }

    pub(super) fn apply(&self, v: [f32; 3]) -> [f32; 3] {
        self.0.map(|row| dot(row, v))
    }

    /// The turned axes x, y and z, in this order.
    fn rows(&self) -> [[f32; 3]; 3] {
        self.transposed().0
    }
}

pub(super) fn dot(a: [f32; 3], b: [f32; 3]) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

pub(super) fn subtract(a: [f32; 3], b: [f32; 3]) -> [f32; 3] {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
}

pub(super) fn add_scaled(a: [f32; 3], b: [f32; 3], scale: f32) -> [f32; 3] {
    [a[0] + scale * b[0], a[1] + scale * b[1], a[2] + scale * b[2]]
}
