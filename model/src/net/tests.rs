//! The network against golden vectors of the reference.
//!
//! A small set lies in the repository; the full set is read from the folder named by
//! `PROSECTOR_TEST_SAT`. Tolerances are largest absolute errors: they leave room for the order of
//! float32 sums, which instance norm over the few voxels of a small case's coarsest level amplifies.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

use candle_core::Tensor;
use safetensors::{Dtype, SafeTensors};

use super::{
    Convolution, GeneratedTensors, InferError, LoadNetworkError, MaskStrip, Network, TensorSource,
    WindowFeatures, positional_table,
};
use crate::{
    generated::generated_input,
    ops::cpu::{FeatureMap, Level},
    pack::{Architecture, Weights, WeightsError},
};

const CONVOLUTIONS: [Convolution; 2] = [Convolution::Direct, Convolution::Winograd];

/// Float tensors of a file, float64 narrowed.
struct Golden(HashMap<String, (Vec<usize>, Vec<f32>)>);

impl Golden {
    fn read(path: &Path) -> Self {
        let bytes =
            std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let mut values = HashMap::new();
        for (name, view) in tensors.tensors() {
            let floats: Vec<f32> = match view.dtype() {
                Dtype::F32 => {
                    let (chunks, _) = view.data().as_chunks::<4>();
                    chunks.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
                }
                Dtype::F64 => {
                    let (chunks, _) = view.data().as_chunks::<8>();
                    chunks.iter().map(|bytes| f64::from_le_bytes(*bytes) as f32).collect()
                }
                _ => continue,
            };
            values.insert(name, (view.shape().to_vec(), floats));
        }
        Self(values)
    }

    fn values(&self, name: &str) -> &[f32] {
        &self.0.get(name).unwrap_or_else(|| panic!("no tensor {name}")).1
    }

    fn shape(&self, name: &str) -> &[usize] {
        &self.0[name].0
    }
}

/// The folder of golden vectors, which tests over it are ignored without.
fn golden_folder() -> PathBuf {
    let folder = std::env::var_os("PROSECTOR_TEST_SAT").map(PathBuf::from);
    folder
        .expect("PROSECTOR_TEST_SAT names no folder: run without --include-ignored")
        .join("golden")
}

/// Everything that the network makes of one image, in the layout of the golden vectors.
struct Run {
    /// `[channel, h, w, d]` by name, with that shape.
    maps: HashMap<String, (Vec<usize>, Vec<f32>)>,
    tokens: Vec<f32>,
    layers: Vec<Vec<f32>>,
    decoded: Vec<f32>,
    embeddings: Vec<f32>,
    /// `[target, h, w, d]`
    probabilities: Vec<f32>,
    features: WindowFeatures,
}

fn run(network: &Network, image: &[f32], shape: [usize; 3], queries: &[f32]) -> Run {
    let mut maps = HashMap::new();
    let mut observe = |name: &str, map: &FeatureMap| {
        let shape = vec![map.channels, map.shape[0], map.shape[1], map.shape[2]];
        maps.insert(name.to_owned(), (shape, channels_first(map)));
    };
    let cancel = AtomicBool::new(false);
    let features = network.encode_observed(image, shape, &cancel, &mut observe).unwrap();
    let mut layers = Vec::new();
    let mut keep = |_: usize, state: &Tensor| layers.push(flat(state));
    let decoded = flat(&network.decoder.decode(queries, &features.memory, &mut keep).unwrap());
    let embeddings = network.mask_embeddings(&features, queries).unwrap();
    let targets = queries.len() / network.architecture.query_width;
    let probabilities = probabilities(network, &features, &embeddings, targets);
    Run {
        maps,
        tokens: features.tokens().unwrap(),
        layers,
        decoded,
        embeddings,
        probabilities,
        features,
    }
}

fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn channels_first(map: &FeatureMap) -> Vec<f32> {
    let settled = map.settled();
    let channels = map.channels;
    (0..channels)
        .flat_map(|channel| settled.iter().skip(channel).step_by(channels).copied())
        .collect()
}

fn probabilities(
    network: &Network,
    features: &WindowFeatures,
    embeddings: &[f32],
    targets: usize,
) -> Vec<f32> {
    let [height, width, depth] = features.shape();
    let mut planes = vec![vec![0.0; targets * width * depth]; height];
    network
        .masks(features, embeddings, &mut planes, |plane, strip: MaskStrip<'_>| {
            let count = strip.w.len() * depth;
            for (target, values) in strip.probabilities.chunks_exact(count).enumerate() {
                let start = (target * width + strip.w.start) * depth;
                plane[start..start + count].copy_from_slice(values);
            }
        })
        .unwrap();
    (0..targets)
        .flat_map(|target| {
            planes.iter().flat_map(move |plane| &plane[target * width * depth..][..width * depth])
        })
        .copied()
        .collect()
}

/// Every `step`-th voxel along each axis from `offset` on, of `[.., h, w, d]`.
fn strided(values: &[f32], shape: &[usize], offset: usize, step: usize) -> Vec<f32> {
    let [height, width, depth] = shape[shape.len() - 3..] else { panic!("a map has three axes") };
    let mut kept = Vec::new();
    for map in values.chunks_exact(height * width * depth) {
        for h in (offset..height).step_by(step) {
            for w in (offset..width).step_by(step) {
                kept.extend(
                    (offset..depth).step_by(step).map(|d| map[(h * width + w) * depth + d]),
                );
            }
        }
    }
    kept
}

/// Mean, deviation, smallest, largest, sum of magnitudes.
fn statistics(values: &[f32]) -> [f64; 5] {
    let count = values.len() as f64;
    let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / count;
    let square = |&value: &f32| (f64::from(value) - mean).powi(2);
    let deviation = (values.iter().map(square).sum::<f64>() / count).sqrt();
    let smallest = values.iter().copied().fold(f32::INFINITY, f32::min);
    let largest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let magnitudes = values.iter().map(|&value| f64::from(value.abs())).sum();
    [mean, deviation, f64::from(smallest), f64::from(largest), magnitudes]
}

fn assert_close(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}: number of values");
    let mut worst = 0.0_f32;
    for (&found, &expected) in found.iter().zip(expected) {
        let difference = (found - expected).abs();
        assert!(!difference.is_nan(), "{what}: not a number");
        worst = worst.max(difference);
    }
    println!("{what}: largest difference {worst:.1e}");
    assert!(worst <= tolerance, "{what}: largest difference {worst:e}, tolerance {tolerance:e}");
}

fn sigmoid(logits: &[f32]) -> Vec<f32> {
    logits.iter().map(|&x| (1.0 / (1.0 + (-f64::from(x)).exp())) as f32).collect()
}

fn tiny_nano() -> Architecture {
    Architecture {
        channels: vec![4, 4, 8, 16, 32, 48],
        encoder_units: 2,
        decoder_units: 2,
        token_hidden: 48,
        query_width: 48,
        query_heads: 8,
        query_feed_forward: 96,
        query_layers: 6,
        mask_hidden: 16,
        input_channels: 3,
    }
}

fn tiny_pro() -> Architecture {
    Architecture {
        channels: vec![6, 6, 12, 16, 24, 32],
        encoder_units: 3,
        decoder_units: 3,
        token_hidden: 64,
        mask_hidden: 24,
        ..tiny_nano()
    }
}

fn nano() -> Architecture {
    Architecture {
        channels: vec![64, 64, 128, 256, 512, 768],
        encoder_units: 2,
        decoder_units: 2,
        token_hidden: 768,
        query_width: 768,
        query_heads: 8,
        query_feed_forward: 2048,
        query_layers: 6,
        mask_hidden: 256,
        input_channels: 3,
    }
}

fn pro() -> Architecture {
    Architecture {
        channels: vec![128, 128, 256, 512, 1024, 1536],
        encoder_units: 3,
        decoder_units: 3,
        token_hidden: 1536,
        mask_hidden: 384,
        ..nano()
    }
}

/// Compares every tensor of the case that a run has, and returns their names.
fn compare(golden: &Golden, batch: usize, run: &Run, tolerance: f32) -> Vec<String> {
    let mut compared = Vec::new();
    let mut check = |name: &str, found: &[f32], tolerance: f32| {
        let Some((shape, expected)) = golden.0.get(name) else { return };
        // Tokens and decoder states are `[row, batch, width]`; everything else has its batch first.
        let expected: Vec<f32> = if name == "tokens" || name.starts_with("qdec") {
            let rows = expected.chunks_exact(shape[2]).skip(batch).step_by(shape[1]);
            rows.flatten().copied().collect()
        } else {
            // `mask_embedding` is `[batch · target, channel]`, maps are `[batch, channel, h, w, d]`.
            expected[batch * found.len()..(batch + 1) * found.len()].to_vec()
        };
        assert_close(name, found, &expected, tolerance);
        compared.push(name.to_owned());
    };
    for (name, (shape, values)) in &run.maps {
        check(name, values, tolerance);
        check(&format!("{name}_s4"), &strided(values, shape, 0, 4), tolerance);
    }
    check("tokens", &run.tokens, tolerance);
    for (layer, state) in run.layers.iter().enumerate() {
        check(&format!("qdec_layer{layer}"), state, tolerance);
    }
    check("qdec_out", &run.decoded, tolerance);
    check("mask_embedding", &run.embeddings, tolerance);
    compared
}

/// Largest difference of probabilities from the sigmoid of golden logits.
fn compare_logits(logits: &[f32], probabilities: &[f32], tolerance: f32) {
    // The sigmoid's slope is at most a quarter.
    assert_close("probabilities", probabilities, &sigmoid(logits), tolerance / 4.0);
}

#[test]
fn follows_the_reference_on_the_vectors_in_the_repository() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    let golden = Golden::read(&folder.join("tiny_nano_a.safetensors"));
    let weights = GeneratedTensors { prefix: "tiny_nano.".to_owned() };
    let image = generated_input("input.tiny_nano_a", 64 * 64 * 32);
    for convolution in CONVOLUTIONS {
        let network = Network::load(&weights, &tiny_nano(), convolution).unwrap();

        let run = run(&network, &image, [64, 64, 32], golden.values("queries.0"));

        let compared = compare(&golden, 0, &run, 1e-4);
        assert!(compared.len() >= 17, "only {compared:?}");
        let probabilities = strided(&run.probabilities, &[64, 64, 32], 0, 4);
        compare_logits(golden.values("logits_s4"), &probabilities, 1e-4);
    }
}

#[test]
#[ignore = "needs the folder of PROSECTOR_TEST_SAT"]
fn follows_the_reference_at_every_stage_of_tiny_networks() {
    let folder = golden_folder();
    for (case, weights, architecture, tolerance) in [
        ("tiny_nano_a", "tiny_nano_weights", tiny_nano(), 1e-4),
        ("tiny_nano_b", "tiny_nano_weights", tiny_nano(), 1e-4),
        ("tiny_pro_a", "tiny_pro_weights", tiny_pro(), 1e-3),
    ] {
        let golden = Golden::read(&folder.join(format!("{case}.safetensors")));
        let weights = std::fs::read(folder.join(format!("{weights}.safetensors"))).unwrap();
        let weights = Weights::from_bytes(weights).unwrap();
        let &[batches, _, h, w, d] = golden.shape("image") else { panic!("image has five axes") };
        let chunks = usize::from(golden.0.contains_key("queries.1")) + 1;
        for level in Level::available() {
            for convolution in CONVOLUTIONS {
                let network =
                    Network::load_at(level, &weights, &architecture, convolution).unwrap();
                for batch in 0..batches {
                    println!("{case}, {}, {convolution:?}, image {batch}", level.name());
                    let image = &golden.values("image")[batch * h * w * d..][..h * w * d];
                    let mut found = Vec::new();
                    for chunk in 0..chunks {
                        let queries = golden.values(&format!("queries.{chunk}"));
                        let run = run(&network, image, [h, w, d], queries);
                        if chunk == chunks - 1 {
                            compare(&golden, batch, &run, tolerance);
                        }
                        found.extend(run.probabilities);
                    }
                    let (name, step) = if golden.0.contains_key("logits") {
                        ("logits", 1)
                    } else {
                        ("logits_s2", 2)
                    };
                    let logits = golden.values(name);
                    let length = logits.len() / batches;
                    let logits = &logits[batch * length..(batch + 1) * length];
                    let found = strided(&found, &[h, w, d], 0, step);
                    compare_logits(logits, &found, tolerance);
                }
            }
        }
    }
}

fn compare_full_width(case: &str, architecture: &Architecture, targets: usize, tolerance: f32) {
    let folder = golden_folder();
    let golden = Golden::read(&folder.join(format!("{case}.safetensors")));
    let weights = GeneratedTensors::default();
    let tensors = architecture.tensors();
    for name in golden.0.keys().filter_map(|name| name.strip_prefix("weight_probe.")) {
        let probe = golden.values(&format!("weight_probe.{name}"));
        let (_, shape) = tensors.iter().find(|(known, _)| known == name).unwrap();
        assert_eq!(&weights.values(name, shape).unwrap()[..8], probe, "{name}");
    }
    let image = generated_input(&format!("input.{case}"), 64 * 64 * 32);
    let queries = generated_input(&format!("queries.{case}.0"), targets * architecture.query_width);
    let network = Network::load(&weights, architecture, Convolution::Winograd).unwrap();

    let run = run(&network, &image, [64, 64, 32], &queries);

    let flat = |name: &str| golden.values(name).to_vec();
    assert_close("tokens", &run.tokens, &flat("tokens"), tolerance);
    assert_close("qdec_out", &run.decoded, &flat("qdec_out"), tolerance);
    assert_close("mask_embedding", &run.embeddings, &flat("mask_embedding"), tolerance);
    assert_close("enc5", &run.maps["enc5"].1, &flat("enc5"), tolerance);
    let (shape, features) = &run.maps["dec4"];
    assert_close("dec4", &strided(features, shape, 3, 8), &flat("dec4_s8"), tolerance);
    let found = strided(&run.probabilities, &[64, 64, 32], 1, 4);
    compare_logits(golden.values("logits_s4"), &found, tolerance);
    for (name, (_, values)) in &run.maps {
        let found = statistics(values);
        let expected = golden.values(&format!("{name}_stats"));
        for (index, (&found, &expected)) in found.iter().zip(expected).enumerate() {
            let scale = if index == 4 { values.len() as f64 } else { 1.0 };
            let difference = (found - f64::from(expected)).abs() / scale;
            assert!(difference <= f64::from(tolerance), "{name} statistic {index}: {difference:e}");
        }
    }
    assert_eq!(run.features.shape(), [64, 64, 32]);
}

#[test]
#[ignore = "needs the folder of PROSECTOR_TEST_SAT"]
fn follows_the_reference_at_the_width_of_nano() {
    compare_full_width("nano_full_a", &nano(), 4, 1e-3);
}

#[test]
#[ignore = "needs the folder of PROSECTOR_TEST_SAT"]
fn follows_the_reference_at_the_width_of_pro() {
    compare_full_width("pro_full_a", &pro(), 3, 1.5e-2);
}

#[test]
#[ignore = "needs the folder of PROSECTOR_TEST_SAT"]
fn positional_table_is_the_references() {
    let folder = golden_folder();
    let golden = Golden::read(&folder.join("pos_embedding.safetensors"));

    let (large, small) = (positional_table([9, 9, 3], 768), positional_table([2, 3, 1], 48));

    assert_close("9x9x3", &large, golden.values("pos_768_9x9x3"), 1e-6);
    assert_close("2x3x1", &small, golden.values("pos_48_2x3x1"), 1e-6);
}

#[test]
fn gives_the_same_bits_for_any_number_of_threads() {
    let weights = GeneratedTensors::default();
    let network = Network::load(&weights, &tiny_nano(), Convolution::Winograd).unwrap();
    let image = generated_input("image", 96 * 64 * 32);
    let queries = generated_input("queries", 5 * 48);
    let results: Vec<Vec<u32>> = [1, 2, 5]
        .into_iter()
        .map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let run = pool.install(|| run(&network, &image, [96, 64, 32], &queries));
            run.probabilities.iter().chain(&run.decoded).map(|value| value.to_bits()).collect()
        })
        .collect();

    assert!(results[0] == results[1] && results[1] == results[2]);
}

/// Generated tensors without the one of this name.
struct Without(&'static str);

impl TensorSource for Without {
    fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, WeightsError> {
        if name == self.0 {
            return Err(WeightsError::Missing { name: name.to_owned() });
        }
        GeneratedTensors::default().values(name, shape)
    }
}

#[test]
fn needs_every_tensor_of_the_architecture() {
    let name = "backbone.decoder.stages.2.convs.1.norm.bias";

    let error = Network::load(&Without(name), &tiny_nano(), Convolution::Direct).unwrap_err();

    let LoadNetworkError::Weights { source: WeightsError::Missing { name: missing } } = error
    else {
        panic!("{error}");
    };
    assert_eq!(missing, name);
}

#[test]
fn refuses_windows_that_do_not_fit_the_token_grid() {
    let network =
        Network::load(&GeneratedTensors::default(), &tiny_nano(), Convolution::Winograd).unwrap();
    let cancel = AtomicBool::new(false);
    for (values, shape) in [(32 * 32 * 16, [32, 32, 16]), (0, [0, 32, 32]), (9, [32, 32, 32])] {
        let result = network.encode(&vec![0.0; values], shape, &cancel);

        assert!(matches!(result, Err(InferError::WindowShape { .. })), "{shape:?}");
    }
}

#[test]
fn stops_when_cancelled() {
    let network =
        Network::load(&GeneratedTensors::default(), &tiny_nano(), Convolution::Winograd).unwrap();
    let cancel = AtomicBool::new(true);

    let result = network.encode(&vec![0.0; 32 * 32 * 32], [32, 32, 32], &cancel);

    assert!(matches!(result, Err(InferError::Cancelled)));
}
