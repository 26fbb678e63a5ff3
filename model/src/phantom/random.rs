//! Reproducible random numbers: a stream for anatomy and a hash for noise.

/// A stream of pseudo-random numbers (`SplitMix64`, Steele, Lea and Flood 2014).
#[derive(Debug, Clone)]
pub(super) struct Stream(u64);

impl Stream {
    /// Starts a stream. `purpose` keeps streams apart that share a seed.
    pub(super) fn new(seed: u64, purpose: u64) -> Self {
        Self(mix(seed ^ mix(purpose)))
    }

    /// A seed for [`normal_pair`].
    pub(super) fn seed(&mut self) -> u64 {
        self.next()
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// Uniform in `[low, high)`.
    pub(super) fn uniform(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * unit(self.next())
    }

    /// True with probability `p`.
    pub(super) fn chance(&mut self, p: f32) -> bool {
        unit(self.next()) < p
    }

    /// A direction, uniform on the sphere.
    pub(super) fn direction(&mut self) -> [f32; 3] {
        let z = self.uniform(-1.0, 1.0);
        let angle = self.uniform(0.0, std::f32::consts::TAU);
        let radius = (1.0 - z * z).sqrt();
        [radius * angle.cos(), radius * angle.sin(), z]
    }
}

/// Two independent normal numbers for voxel `index`, the same whatever the order of evaluation.
pub(super) fn normal_pair(seed: u64, index: u64) -> [f32; 2] {
    let bits = mix(seed.wrapping_add(index.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
    let radius = (-2.0 * (1.0 - unit(bits)).ln()).sqrt();
    let angle = std::f32::consts::TAU * unit(mix(bits));
    [radius * angle.cos(), radius * angle.sin()]
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Uniform in `[0, 1)` with 24 bits.
fn unit(bits: u64) -> f32 {
    (bits >> 40) as f32 * 2f32.powi(-24)
}
