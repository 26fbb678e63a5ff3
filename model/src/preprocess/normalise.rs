//! Cropping to the foreground and normalising its intensities.

use rayon::prelude::*;

/// Values that one task sums; fixed, so that sums do not depend on the number of threads.
const CHUNK: usize = 1 << 16;

/// Half-open box of the voxels above zero of `values` `[H, W, D]`; nothing when there is none.
pub(crate) fn foreground_box(
    values: &[f32],
    [_, w, d]: [usize; 3],
) -> Option<([usize; 3], [usize; 3])> {
    let planes: Vec<Option<[usize; 4]>> = values
        .par_chunks(w * d)
        .map(|plane| {
            let mut bounds: Option<[usize; 4]> = None;
            for (b, row) in plane.chunks_exact(d).enumerate() {
                let Some(first) = row.iter().position(|&value| value > 0.0) else { continue };
                let last = row.iter().rposition(|&value| value > 0.0).unwrap_or(first);
                let [b0, _, c0, c1] = bounds.unwrap_or([b, b, first, last]);
                bounds = Some([b0, b, c0.min(first), c1.max(last)]);
            }
            bounds
        })
        .collect();
    let mut found: Option<([usize; 3], [usize; 3])> = None;
    for (a, plane) in planes.into_iter().enumerate() {
        let Some([b0, b1, c0, c1]) = plane else { continue };
        let (start, end) = found.get_or_insert(([a, b0, c0], [a, b1, c1]));
        *start = [start[0], start[1].min(b0), start[2].min(c0)];
        *end = [a, end[1].max(b1), end[2].max(c1)];
    }
    found.map(|(start, end)| (start, end.map(|last| last + 1)))
}

/// The part of `values` `[H, W, D]` inside the box.
pub(crate) fn crop(
    values: Vec<f32>,
    shape: [usize; 3],
    start: [usize; 3],
    end: [usize; 3],
) -> Vec<f32> {
    if start == [0; 3] && end == shape {
        return values;
    }
    let size: [usize; 3] = std::array::from_fn(|k| end[k] - start[k]);
    let mut cropped = vec![0.0; size.iter().product()];
    cropped.par_chunks_mut(size[1] * size[2]).enumerate().for_each(|(a, plane)| {
        for (b, row) in plane.chunks_exact_mut(size[2]).enumerate() {
            let first = ((start[0] + a) * shape[1] + start[1] + b) * shape[2] + start[2];
            row.copy_from_slice(&values[first..first + size[2]]);
        }
    });
    cropped
}

/// Range to which values are clipped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Clip {
    /// A fixed range.
    Range([f64; 2]),
    /// Percentiles of the values themselves.
    Percentiles([f64; 2]),
}

/// What was done to the intensities.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Normalisation {
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) mean: f64,
    pub(crate) deviation: f64,
}

impl Normalisation {
    /// The normalised value at a share of the range that values were clipped to.
    pub(crate) fn level(&self, share: f64) -> f32 {
        let value = self.low + share * (self.high - self.low);
        ((value - self.mean) / self.deviation) as f32
    }
}

/// Clips, subtracts the mean and divides by the population standard deviation. Nothing when the clipped values are all
/// the same.
pub(crate) fn normalise(values: &mut [f32], clip: Clip) -> Option<Normalisation> {
    let [low, high] = match clip {
        Clip::Range(range) => range,
        Clip::Percentiles(percentiles) => interpolated_percentiles(values, percentiles),
    };
    let clipped = |value: f32| f64::from(value).clamp(low, high);
    let count = values.len() as f64;
    let sum_of = |term: &(dyn Fn(f32) -> f64 + Sync)| -> f64 {
        let partial: Vec<f64> =
            values.par_chunks(CHUNK).map(|part| part.iter().map(|&v| term(v)).sum()).collect();
        partial.iter().sum()
    };
    let mean = sum_of(&clipped) / count;
    let variance = sum_of(&|value| (clipped(value) - mean).powi(2)) / count;
    let deviation = variance.sqrt();
    // Of equal values the mean may be off by a rounding error.
    let has_contrast = deviation > 1e-12 * low.abs().max(high.abs());
    if !has_contrast {
        return None;
    }
    values.par_chunks_mut(CHUNK).for_each(|part| {
        for value in part {
            *value = ((clipped(*value) - mean) / deviation) as f32;
        }
    });
    Some(Normalisation { low, high, mean, deviation })
}

/// Percentiles with linear interpolation between order statistics.
fn interpolated_percentiles(values: &[f32], percentiles: [f64; 2]) -> [f64; 2] {
    let mut ordered = values.to_vec();
    percentiles.map(|percentile| {
        let position = percentile / 100.0 * (ordered.len() - 1) as f64;
        let below = position.floor() as usize;
        let (_, &mut low, rest) = ordered.select_nth_unstable_by(below, f32::total_cmp);
        let high = rest.iter().copied().min_by(f32::total_cmp).unwrap_or(low);
        let fraction = position - below as f64;
        f64::from(low) + (f64::from(high) - f64::from(low)) * fraction
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_box_holds_exactly_the_positive_voxels() {
        let shape = [4, 5, 6];
        let mut values = vec![-1.0; 120];
        values[(5 + 3) * 6 + 4] = 0.5;
        values[(2 * 5 + 1) * 6 + 5] = 1e-13;

        assert_eq!(foreground_box(&values, shape), Some(([1, 1, 4], [3, 4, 6])));
        assert_eq!(foreground_box(&[0.0; 120], shape), None);
    }

    #[test]
    fn percentiles_interpolate_between_neighbours() {
        let values: Vec<f32> = (0..11).rev().map(|i| i as f32 * 10.0).collect();

        let [low, high] = interpolated_percentiles(&values, [5.0, 99.5]);

        assert!((low - 5.0).abs() < 1e-9 && (high - 99.5).abs() < 1e-9, "{low} {high}");
    }

    #[test]
    fn equal_values_have_no_normalisation() {
        let mut values = vec![0.1; 1000];

        assert_eq!(normalise(&mut values, Clip::Percentiles([0.5, 99.5])), None);
        assert_eq!(normalise(&mut [5000.0, 2000.0], Clip::Range([-500.0, 1000.0])), None);
    }
}
