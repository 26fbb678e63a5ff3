//! Mean and variance of every channel, gathered while a map is written.

use super::{
    map::{NORM_EPSILON, Pending},
    simd::{LANES, Lanes, Simd},
};

/// Number, mean and summed squared deviation of a block's values, per padded channel.
#[derive(Debug, Clone)]
pub(crate) struct Moments {
    pub(crate) count: f64,
    pub(crate) mean: Vec<f64>,
    pub(crate) deviation: Vec<f64>,
}

impl Moments {
    pub(crate) fn empty(channels: usize) -> Self {
        Self { count: 0.0, mean: vec![0.0; channels], deviation: vec![0.0; channels] }
    }

    /// Takes in another block. The order of calls decides the last bits, so callers keep to one.
    pub(crate) fn merge(&mut self, other: &Self) {
        let total = self.count + other.count;
        if other.count == 0.0 {
            return;
        }
        let share = other.count / total;
        for channel in 0..self.mean.len() {
            let difference = other.mean[channel] - self.mean[channel];
            self.mean[channel] += difference * share;
            self.deviation[channel] +=
                other.deviation[channel] + difference * difference * self.count * share;
        }
        self.count = total;
    }

    /// The normalisation with learned `weight` and `bias`; padding channels become zero.
    pub(crate) fn pending(&self, weight: &[f32], bias: &[f32]) -> Pending {
        let mut pending =
            Pending { scale: vec![0.0; self.mean.len()], shift: vec![0.0; self.mean.len()] };
        for channel in 0..weight.len() {
            let variance = self.deviation[channel] / self.count;
            let scale = f64::from(weight[channel]) / (variance + NORM_EPSILON).sqrt();
            pending.scale[channel] = scale as f32;
            pending.shift[channel] = (f64::from(bias[channel]) - self.mean[channel] * scale) as f32;
        }
        pending
    }
}

/// Sums of a block's deviations from a value near its mean, for sixteen channels.
///
/// The shift keeps a float32 sum of squares from cancelling where the mean is large against the
/// spread; blocks stay short enough for float32 sums.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tally {
    shift: Lanes,
    sum: Lanes,
    squares: Lanes,
}

/// A [`Tally`] in registers.
#[derive(Clone, Copy)]
pub(crate) struct OpenTally<S: Simd> {
    shift: S::V,
    sum: S::V,
    squares: S::V,
}

impl Tally {
    /// Begins a block one of whose values is `shift`.
    pub(crate) fn new(shift: Lanes) -> Self {
        Self { shift, sum: [0.0; LANES], squares: [0.0; LANES] }
    }

    #[inline(always)]
    pub(crate) fn open<S: Simd>(&self, simd: S) -> OpenTally<S> {
        OpenTally {
            shift: simd.load(&self.shift),
            sum: simd.load(&self.sum),
            squares: simd.load(&self.squares),
        }
    }

    /// Writes the block's moments for channels from `first` on.
    pub(crate) fn close(&self, count: usize, first: usize, moments: &mut Moments) {
        moments.count = count as f64;
        for lane in 0..LANES {
            let (sum, squares) = (f64::from(self.sum[lane]), f64::from(self.squares[lane]));
            let offset = sum / count as f64;
            moments.mean[first + lane] = f64::from(self.shift[lane]) + offset;
            moments.deviation[first + lane] = (squares - sum * offset).max(0.0);
        }
    }
}

impl<S: Simd> OpenTally<S> {
    #[inline(always)]
    pub(crate) fn add(&mut self, simd: S, values: S::V) {
        let offset = simd.sub(values, self.shift);
        self.sum = simd.add(self.sum, offset);
        self.squares = simd.mul_add(offset, offset, self.squares);
    }

    #[inline(always)]
    pub(crate) fn put_back(&self, simd: S, tally: &mut Tally) {
        simd.store(self.sum, &mut tally.sum);
        simd.store(self.squares, &mut tally.squares);
    }
}

/// Moments of finished voxels, `[voxel][stride]`.
#[inline(always)]
pub(crate) fn moments_of<S: Simd>(simd: S, voxels: &[f32], stride: usize, moments: &mut Moments) {
    let count = voxels.len() / stride;
    for first in (0..stride).step_by(LANES) {
        let mut tally = Tally::new(*super::gemm::lanes(voxels, first));
        let mut open = tally.open(simd);
        for voxel in 0..count {
            open.add(simd, simd.load(super::gemm::lanes(voxels, voxel * stride + first)));
        }
        open.put_back(simd, &mut tally);
        tally.close(count, first, moments);
    }
}
