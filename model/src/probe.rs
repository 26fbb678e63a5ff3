//! The self test of a pack: an image made by rule, and what the network said about it when the pack was written.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use crate::generated::generated_input;
use crate::net::{Convolution, InferError, LoadNetworkError, Network};
use crate::pack::{
    Architecture, OpenPackError, PROBE_FILE, Pack, PackWriter, PromptModality, WeightsError,
    WritePackError,
};
use crate::text::{EmbedError, LoadTextEncoderError, TextEncoder};

/// Largest difference of a probability that passes: rounding on another machine stays far below, a broken kernel or
/// file far above.
const PROBABILITY_TOLERANCE: f32 = 1e-2;
/// Largest difference of a value of an embedding that passes, relative to the largest value.
const EMBEDDING_TOLERANCE: f32 = 1e-3;
/// Queries of a probe.
const QUERIES: usize = 2;
/// Voxels that are compared for each query.
const SAMPLES: usize = 512;
/// Cached prompts that are embedded again.
const PROMPTS: usize = 4;

/// What a verification compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Verification {
    /// Files whose digests are those of the manifest.
    pub files: usize,
    /// Largest difference between the network's probabilities and those of the probe; nothing where the pack has no
    /// probe.
    pub probe_difference: Option<f32>,
    /// Largest difference between cached embeddings and those that the text encoder makes, relative to their largest
    /// value; nothing where the pack has no text encoder or no cached prompt.
    pub embedding_difference: Option<f32>,
}

/// Why a pack is not fit for use.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A file is not the one that the manifest describes.
    #[error("the files are not those of the manifest")]
    Files(#[from] OpenPackError),
    /// The network cannot be built.
    #[error("cannot build the network")]
    Network(#[from] LoadNetworkError),
    /// The text encoder cannot be built.
    #[error("cannot build the text encoder")]
    Text(#[from] LoadTextEncoderError),
    /// The probe is not as the format describes it.
    #[error("{PROBE_FILE} does not fit the pack")]
    Probe(#[source] WeightsError),
    /// The probe's window is not one of this network.
    #[error("{PROBE_FILE} states no window of this network")]
    ProbeShape,
    /// The network failed.
    #[error("the network failed on the probe")]
    Infer(#[from] InferError),
    /// The network computes something else than when the pack was written.
    #[error(
        "probabilities differ by {difference} from those of the probe, allowed are \
         {PROBABILITY_TOLERANCE}"
    )]
    Differs {
        /// Largest difference.
        difference: f32,
    },
    /// A cached prompt cannot be embedded.
    #[error("the text encoder failed")]
    Embed(#[from] EmbedError),
    /// The text encoder computes something else than when the pack was written.
    #[error("cached embeddings differ by {difference}, allowed are {EMBEDDING_TOLERANCE}")]
    EmbeddingDiffers {
        /// Largest difference, relative to the largest value.
        difference: f32,
    },
}

impl Pack {
    /// Recomputes the digest of every file, runs the network on the pack's probe and embeds some cached prompts again.
    ///
    /// # Errors
    /// [`VerifyError`] with the first thing that differs.
    pub fn verify(&self, convolution: Convolution) -> Result<Verification, VerifyError> {
        self.verify_digests()?;
        Ok(Verification {
            files: self.manifest().files.len(),
            probe_difference: self.probe_difference(convolution)?,
            embedding_difference: self.embedding_difference()?,
        })
    }

    fn probe_difference(&self, convolution: Convolution) -> Result<Option<f32>, VerifyError> {
        let Some(probe) = self.probe_tensors() else { return Ok(None) };
        let architecture = &self.manifest().architecture;
        let shape: Option<[usize; 3]> =
            probe.metadata().get("shape").and_then(|text| serde_json::from_str(text).ok());
        let edge = architecture.token_edge();
        let window = self.manifest().preprocessing.window;
        let shape = shape
            .filter(|shape| (0..3).all(|k| shape[k].is_multiple_of(edge) && shape[k] <= window[k]))
            .filter(|shape| !shape.contains(&0))
            .ok_or(VerifyError::ProbeShape)?;
        let sizes = |name| probe.shape(name).and_then(|shape| <[usize; 2]>::try_from(shape).ok());
        let [queries, _] = sizes("queries").ok_or(VerifyError::ProbeShape)?;
        let [_, samples] = sizes("probabilities").ok_or(VerifyError::ProbeShape)?;
        let rows = probe
            .values("queries", &[queries, architecture.query_width])
            .map_err(VerifyError::Probe)?;
        let expected =
            probe.values("probabilities", &[queries, samples]).map_err(VerifyError::Probe)?;
        let network = Network::load(self.weights(), architecture, convolution)?;
        let found = probabilities(&network, shape, &rows, samples)?;
        let difference = largest_difference(&found, &expected);
        if difference > PROBABILITY_TOLERANCE {
            return Err(VerifyError::Differs { difference });
        }
        Ok(Some(difference))
    }

    fn embedding_difference(&self) -> Result<Option<f32>, VerifyError> {
        let Some(encoder) = TextEncoder::load(self)? else { return Ok(None) };
        let mut worst = None;
        for modality in PromptModality::ALL {
            for prompt in self.prompts().prompts(modality).take(PROMPTS) {
                let Some(cached) = self.prompts().get(prompt, modality) else { continue };
                let found = encoder.embed(prompt, modality)?;
                let scale = cached.iter().fold(f32::MIN_POSITIVE, |most, v| most.max(v.abs()));
                let difference = largest_difference(&found, cached) / scale;
                if difference > EMBEDDING_TOLERANCE {
                    return Err(VerifyError::EmbeddingDiffers { difference });
                }
                worst = Some(difference.max(worst.unwrap_or(0.0)));
            }
        }
        Ok(worst)
    }
}

/// Why a probe cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum MakeProbeError {
    /// The network failed on the probe's image.
    #[error("the network failed on the probe")]
    Infer(#[from] InferError),
    /// The file cannot be written.
    #[error(transparent)]
    Write(#[from] WritePackError),
}

impl PackWriter {
    /// Adds the self test: what `network` says about the probe's image in a window that is no larger than `window`.
    ///
    /// # Errors
    /// [`MakeProbeError`].
    pub fn add_probe(
        &mut self,
        network: &Network,
        window: [usize; 3],
    ) -> Result<(), MakeProbeError> {
        let shape = probe_shape(network.architecture(), window);
        let width = network.architecture().query_width;
        let mut queries = Vec::with_capacity(QUERIES * width);
        for query in 0..QUERIES {
            queries.extend(generated_input(&format!("probe.query.{query}"), width));
        }
        let found = probabilities(network, shape, &queries, SAMPLES)?;
        let metadata = BTreeMap::from([("shape".to_owned(), serde_json::json!(shape).to_string())]);
        let tensors = [
            ("queries".to_owned(), vec![QUERIES, width], queries),
            ("probabilities".to_owned(), vec![QUERIES, SAMPLES], found),
        ];
        self.add_tensors(PROBE_FILE, &metadata, &tensors)?;
        Ok(())
    }
}

/// A small window: several tokens along H and W, so that the coarsest instance norm has something to average.
fn probe_shape(architecture: &Architecture, window: [usize; 3]) -> [usize; 3] {
    let edge = architecture.token_edge();
    let tokens = [3, 3, 1];
    std::array::from_fn(|k| window[k].min(tokens[k] * edge))
}

/// Probabilities of the probe's image at `samples` voxels evenly spaced over the window, `[query][sample]`.
fn probabilities(
    network: &Network,
    shape: [usize; 3],
    queries: &[f32],
    samples: usize,
) -> Result<Vec<f32>, InferError> {
    let voxels: usize = shape.iter().product();
    let image = generated_input("probe.image", voxels);
    let features = network.encode(&image, shape, &AtomicBool::new(false))?;
    let embeddings = network.mask_embeddings(&features, queries)?;
    let targets = queries.len() / network.architecture().query_width;
    let [height, width, depth] = shape;
    let place = |sample: usize| (2 * sample + 1) * voxels / (2 * samples);
    let found = Mutex::new(vec![f32::NAN; targets * samples]);
    let mut planes = vec![(); height];
    network.masks(&features, &embeddings, &mut planes, |(), strip| {
        let first = (strip.h * width + strip.w.start) * depth;
        let count = strip.w.len() * depth;
        let inside = (0..samples).filter(|&s| (first..first + count).contains(&place(s)));
        let mut found = found.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for sample in inside {
            for target in 0..targets {
                found[target * samples + sample] =
                    strip.probabilities[target * count + place(sample) - first];
            }
        }
    })?;
    Ok(found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
}

/// Infinite where a value is not a number.
fn largest_difference(found: &[f32], expected: &[f32]) -> f32 {
    let differences = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, |worst, d| if d.is_nan() { f32::INFINITY } else { worst.max(d) })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::generated::generated_tensor;
    use crate::net::GeneratedTensors;
    use crate::pack::{
        Manifest, Preprocessing, PromptTable, Provenance, Text, TextKind, WEIGHTS_FILE,
    };

    const WINDOW: [usize; 3] = [16, 16, 8];

    fn small() -> Manifest {
        Manifest {
            format: 1,
            name: "small".to_owned(),
            licence: "made for a test".to_owned(),
            architecture: Architecture {
                input_channels: 1,
                channels: vec![4, 4, 8],
                encoder_units: 1,
                decoder_units: 2,
                token_hidden: 12,
                query_width: 12,
                query_heads: 2,
                query_layers: 1,
                query_feed_forward: 16,
                mask_hidden: 8,
            },
            preprocessing: Preprocessing {
                spacing_mm: [1.0, 1.0, 3.0],
                window: WINDOW,
                ct_clip_hu: [-500.0, 1000.0],
                other_clip_percentiles: [0.5, 99.5],
            },
            text: Text {
                kind: TextKind::Ours,
                modalities: ["ct", "mri", "us", "pet"].map(str::to_owned).to_vec(),
                encoder: None,
            },
            provenance: Provenance { created_by: "test".to_owned(), sources: Vec::new() },
            files: BTreeMap::new(),
        }
    }

    /// A pack of generated weights, with the self test of the network whose weights have `prefix`.
    fn pack_with_probe_of(dir: &Path, prefix: &str) -> Pack {
        let manifest = small();
        let named = |(name, shape): (String, Vec<usize>)| {
            let values = generated_tensor(&name, &shape);
            (name, shape, values)
        };
        let tensors: Vec<_> = manifest.architecture.tensors().into_iter().map(named).collect();
        let source = GeneratedTensors { prefix: prefix.to_owned() };
        let network = Network::load(&source, &manifest.architecture, Convolution::Direct).unwrap();
        let mut writer = PackWriter::create(dir).unwrap();
        writer.add_tensors(WEIGHTS_FILE, &BTreeMap::new(), &tensors).unwrap();
        writer.add_prompts(&PromptTable::new(12)).unwrap();
        writer.add_probe(&network, WINDOW).unwrap();
        writer.finish(manifest).unwrap();
        Pack::open(dir).unwrap()
    }

    #[test]
    fn the_network_of_a_pack_passes_its_own_probe() {
        let folder = tempfile::tempdir().unwrap();
        let pack = pack_with_probe_of(&folder.path().join("pack"), "");

        let verification = pack.verify(Convolution::Winograd).unwrap();

        assert_eq!(verification.files, 3);
        assert!(verification.probe_difference.is_some_and(|difference| difference < 1e-3));
        assert_eq!(verification.embedding_difference, None);
    }

    #[test]
    fn a_network_that_computes_something_else_fails_its_probe() {
        let folder = tempfile::tempdir().unwrap();
        let pack = pack_with_probe_of(&folder.path().join("pack"), "other.");

        let outcome = pack.verify(Convolution::Winograd);

        assert!(matches!(outcome, Err(VerifyError::Differs { .. })), "{outcome:?}");
    }

    #[test]
    fn the_probe_does_not_change_the_digest_of_a_pack() {
        let folder = tempfile::tempdir().unwrap();

        let one = pack_with_probe_of(&folder.path().join("one"), "");
        let two = pack_with_probe_of(&folder.path().join("two"), "other.");

        assert_ne!(one.manifest().files[PROBE_FILE], two.manifest().files[PROBE_FILE]);
        assert_eq!(one.digest(), two.digest());
    }
}
