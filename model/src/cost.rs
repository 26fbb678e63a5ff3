//! What a pack costs: parameters, arithmetic and memory, from its sizes alone.

use crate::pack::{Architecture, Manifest};

/// Cost of running a network, counted in multiply-adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Parameters that the network reads.
    pub parameters: u64,
    /// Multiply-adds of one window without any target.
    pub macs_per_window: u64,
    /// Multiply-adds that every target adds to a window.
    pub macs_per_target: u64,
    /// Bytes of the network's parameters in float32.
    pub weight_bytes: u64,
    /// Estimate of the bytes that one window needs beside the parameters: one map at full resolution, which layers write
    /// over in place, an eighth of it for what they are ahead, and two maps of every coarser level.
    pub window_bytes: u64,
}

impl Cost {
    /// Multiply-adds per second that a core with AVX2 is taken to do before one was measured, counted by the direct
    /// algorithm; half of what the benchmarks found.
    pub const ASSUMED_MACS_PER_SECOND: f64 = 80e9;

    /// Cost of the network and window that `manifest` describes.
    pub fn of(manifest: &Manifest) -> Self {
        let architecture = &manifest.architecture;
        let window = manifest.preprocessing.window;
        let parameters = architecture
            .tensors()
            .iter()
            .map(|(_, shape)| shape.iter().map(|&extent| extent as u64).product::<u64>())
            .sum();
        let [finest, rest] = map_bytes(architecture, window);
        Self {
            parameters,
            macs_per_window: vision(architecture, window) + tokens(architecture, window),
            macs_per_target: target(architecture, window),
            weight_bytes: 4 * parameters,
            window_bytes: finest + finest / 8 + rest,
        }
    }
}

/// Voxels of the grid of encoder stage `stage`.
fn voxels(window: [usize; 3], stage: usize) -> u64 {
    window.iter().map(|&extent| (extent >> stage) as u64).product()
}

/// Multiply-adds of `units` conv units, the first of which has `inputs` channels.
fn conv_units(units: usize, inputs: usize, outputs: usize, voxels: u64) -> u64 {
    let (units, inputs, outputs) = (units as u64, inputs as u64, outputs as u64);
    voxels * 27 * outputs * (inputs + (units - 1) * outputs)
}

fn vision(architecture: &Architecture, window: [usize; 3]) -> u64 {
    let channels = &architecture.channels;
    let mut macs = 0;
    // The copies of the image are folded into one channel.
    let mut inputs = 1;
    for (stage, &outputs) in channels.iter().enumerate() {
        macs += conv_units(architecture.encoder_units, inputs, outputs, voxels(window, stage));
        inputs = outputs;
    }
    for stage in (0..channels.len() - 1).rev() {
        let (coarse, fine) = (channels[stage + 1], channels[stage]);
        macs += voxels(window, stage) * (coarse * fine) as u64;
        macs += conv_units(architecture.decoder_units, 2 * fine, fine, voxels(window, stage));
    }
    macs
}

/// Token projection, keys and values.
fn tokens(architecture: &Architecture, window: [usize; 3]) -> u64 {
    let count = voxels(window, architecture.channels.len() - 1);
    let [input, hidden, width, layers] = [
        architecture.token_input(),
        architecture.token_hidden,
        architecture.query_width,
        architecture.query_layers,
    ]
    .map(|size| size as u64);
    count * (input * hidden + hidden * width + layers * 2 * width * width)
}

fn target(architecture: &Architecture, window: [usize; 3]) -> u64 {
    let count = voxels(window, architecture.channels.len() - 1);
    let [width, feed_forward, layers, mask, features] = [
        architecture.query_width,
        architecture.query_feed_forward,
        architecture.query_layers,
        architecture.mask_hidden,
        architecture.feature_width(),
    ]
    .map(|size| size as u64);
    // Query and output projection, scores and weighted sum, feed-forward network.
    let layer = 2 * width * width + 2 * count * width + 2 * width * feed_forward;
    layers * layer + width * mask + mask * features + voxels(window, 0) * features
}

/// Bytes of the finest map, and of an encoder and a decoder map at all coarser levels.
fn map_bytes(architecture: &Architecture, window: [usize; 3]) -> [u64; 2] {
    let mut maps = architecture
        .channels
        .iter()
        .enumerate()
        .map(|(stage, &channels)| 4 * channels as u64 * voxels(window, stage));
    let finest = maps.next().unwrap_or_default();
    [finest, 2 * maps.sum::<u64>()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nano() -> Architecture {
        Architecture {
            input_channels: 3,
            channels: vec![64, 64, 128, 256, 512, 768],
            encoder_units: 2,
            decoder_units: 2,
            token_hidden: 768,
            query_width: 768,
            query_heads: 8,
            query_layers: 6,
            query_feed_forward: 2048,
            mask_hidden: 256,
        }
    }

    // The expected numbers were counted by hooks on the reference's modules: 4602 GMAC with a stem of three channels,
    // of which folding it saves 27.5; 0.510 GMAC of the mask product and 0.028 of the query decoder for each query.
    #[test]
    fn the_cost_of_a_published_window_is_that_of_the_reference() {
        let window = [288, 288, 96];

        let vision = vision(&nano(), window) as f64 / 1e9;
        let target = target(&nano(), window) as f64 / 1e9;

        assert!((vision - (4602.0 - 27.5)).abs() < 2.0, "{vision} GMAC");
        assert!((target - 0.538).abs() < 0.01, "{target} GMAC");
    }

    #[test]
    fn the_full_map_of_a_published_window_takes_two_gigabytes() {
        let [finest, _] = map_bytes(&nano(), [288, 288, 96]);

        let gigabytes = finest as f64 / 1e9;

        assert!((gigabytes - 2.04).abs() < 0.01, "{gigabytes} GB");
    }
}
