//! From checkpoint files in the published layout to a model pack.
//!
//! Strict where the reference is lenient: every tensor that inference reads must be there with its exact shape, names
//! that only training needs are left out by name, and any other name is an error. The published files carry the
//! optimiser's state: the file is mapped, tensors are converted one at a time, and the rest is never read.

mod checkpoint;
mod names;
mod sizes;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::net::{Convolution, LoadNetworkError, Network};
use crate::pack::{
    Architecture, Bytes, Manifest, OpenPackError, Pack, PackWriter, Preprocessing, PromptModality,
    PromptTable, Provenance, SourceFile, Text, TextKind, Weights, WritePackError,
};
use crate::probe::MakeProbeError;
use crate::text::{EmbedError, LoadTextEncoderError, TextEncoder};
use checkpoint::Checkpoint;
pub use checkpoint::ReadCheckpointError;
use names::{Kept, Naming};
pub use sizes::InferSizesError;

const TOKENIZER_NAMES: [&str; 2] = ["tokenizer.json", "vocab.txt"];

/// What to import, and into what.
#[derive(Debug, Clone)]
pub struct ImportOptions<'a> {
    /// Segmentation checkpoint, a `.pth` file.
    pub checkpoint: &'a Path,
    /// Text encoder checkpoint and its tokenizer: `vocab.txt`, `tokenizer.json`, or a folder that holds one.
    pub text: Option<TextSource<'a>>,
    /// Window of the network, `[H, W, D]`; the published ones have 288, 288, 96.
    pub window: [usize; 3],
    /// Name of the pack.
    pub name: &'a str,
    /// What the operator knows about the licence of the weights.
    pub licence: &'a str,
    /// Prompts to embed now, so that a worker needs no text encoder for them.
    pub prompts: &'a [(String, PromptModality)],
    /// Folder of the pack, which must not exist yet.
    pub output: &'a Path,
}

/// The text side of an import.
#[derive(Debug, Clone, Copy)]
pub struct TextSource<'a> {
    /// Text encoder checkpoint, a `.pth` file.
    pub checkpoint: &'a Path,
    /// Tokenizer file, or a folder with one.
    pub tokenizer: &'a Path,
    /// Kind of the encoder; `ours` is recognised, and may then be left out.
    pub kind: Option<TextKind>,
}

/// What an import did.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportReport {
    /// Sizes that were read off the tensors.
    pub architecture: Architecture,
    /// Parameters of the network.
    pub parameters: u64,
    /// Names that were left out, by the reason.
    pub left_out: BTreeMap<&'static str, usize>,
    /// Prompts embedded.
    pub prompts: usize,
}

/// Why a checkpoint did not become a pack.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A checkpoint cannot be read.
    #[error("cannot read checkpoint {path}")]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ReadCheckpointError,
    },
    /// The tensors are not those of a plain SAT network or of a known text encoder.
    #[error("{path} is not the checkpoint that is expected here")]
    Sizes {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        source: InferSizesError,
    },
    /// Tensors that are missing, misshapen or unknown.
    #[error("{path}: {}", .problems.join("; "))]
    Tensors {
        /// The file.
        path: PathBuf,
        /// One line for each.
        problems: Vec<String>,
    },
    /// The tokenizer cannot be found or read.
    #[error("no vocab.txt or tokenizer.json at {path}")]
    Tokenizer {
        /// Where it was looked for.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: Option<std::io::Error>,
    },
    /// The pack cannot be written.
    #[error(transparent)]
    Write(#[from] WritePackError),
    /// The pack that was written does not open: the text encoder and the network do not belong together, say.
    #[error("the pack that was written does not open")]
    Open(#[from] OpenPackError),
    /// The network cannot be built of the tensors.
    #[error("cannot build the network")]
    Network(#[from] LoadNetworkError),
    /// The self test cannot be made.
    #[error("cannot add the self test")]
    Probe(#[from] MakeProbeError),
    /// The text encoder cannot be used.
    #[error("cannot load the text encoder")]
    Text(#[from] LoadTextEncoderError),
    /// A prompt cannot be embedded.
    #[error("cannot embed the prompt {prompt:?}")]
    Embed {
        /// The prompt.
        prompt: String,
        /// Why.
        source: EmbedError,
    },
}

/// Imports a checkpoint. The folder appears only when the pack is whole.
///
/// # Errors
/// [`ImportError`] with everything that does not fit.
pub fn import(options: &ImportOptions<'_>) -> Result<ImportReport, ImportError> {
    let vision = Source::open(options.checkpoint, Naming::Segmentation)?;
    let architecture = sizes::architecture(&vision.kept).map_err(|e| vision.misfit(e))?;
    vision.check(&architecture.tensors())?;
    let mut left_out = vision.kept.left_out.clone();

    let mut writer = PackWriter::create(options.output)?;
    vision.write(&mut writer, "weights.safetensors", &architecture.tensors())?;
    let mut sources = vec![vision.source_file()];
    let mut text = Text {
        kind: TextKind::Ours,
        modalities: PromptModality::ALL.map(|modality| modality.as_str().to_owned()).to_vec(),
        encoder: None,
    };
    if let Some(source) = options.text {
        let tower = Source::open(source.checkpoint, Naming::TextEncoder)?;
        let (kind, encoder, modalities) =
            sizes::text(&tower.kept, source.kind).map_err(|e| tower.misfit(e))?;
        let tensors = encoder.tensors(kind, architecture.query_width, modalities);
        tower.check(&tensors)?;
        tower.write(&mut writer, "text.safetensors", &tensors)?;
        let (name, bytes) = read_tokenizer(source.tokenizer)?;
        writer.add_file(name, &bytes)?;
        sources.push(tower.source_file());
        for (reason, count) in &tower.kept.left_out {
            *left_out.entry(reason).or_default() += count;
        }
        let known = ["ct", "mri", "us", "pet", "microscopy"];
        text.kind = kind;
        text.modalities = known.iter().take(modalities).map(|word| (*word).to_owned()).collect();
        text.encoder = Some(encoder);
    }
    let manifest = Manifest {
        format: 1,
        name: options.name.to_owned(),
        licence: options.licence.to_owned(),
        architecture: architecture.clone(),
        preprocessing: Preprocessing {
            spacing_mm: [1.0, 1.0, 3.0],
            window: options.window,
            ct_clip_hu: [-500.0, 1000.0],
            other_clip_percentiles: [0.5, 99.5],
        },
        text,
        provenance: Provenance {
            created_by: concat!("prosector ", env!("CARGO_PKG_VERSION")).to_owned(),
            sources,
        },
        files: BTreeMap::new(),
    };
    let prompts = embed(options, &writer, &manifest)?;
    writer.add_prompts(&prompts)?;
    let problems = manifest.problems_of_sizes();
    if !problems.is_empty() {
        return Err(WritePackError::Manifest { problems }.into());
    }
    add_probe(&mut writer, &manifest)?;
    writer.finish(manifest)?;
    let pack = Pack::open(options.output)?;
    Ok(ImportReport {
        parameters: pack.weights().parameters(),
        architecture,
        left_out,
        prompts: prompts.len(),
    })
}

/// Runs the network that was just written on the probe, the plain way.
fn add_probe(writer: &mut PackWriter, manifest: &Manifest) -> Result<(), ImportError> {
    let path = writer.folder().join("weights.safetensors");
    let weights = Bytes::map(&path)
        .map_err(|source| OpenPackError::Read { file: "weights.safetensors".to_owned(), source })?;
    let misfit = |source| OpenPackError::Tensors { file: "weights.safetensors".to_owned(), source };
    let weights = Weights::new(weights).map_err(misfit)?;
    let network = Network::load(&weights, &manifest.architecture, Convolution::Direct)?;
    writer.add_probe(&network, manifest.preprocessing.window)?;
    Ok(())
}

/// Embeds the prompts with the text encoder that was just written.
fn embed(
    options: &ImportOptions<'_>,
    writer: &PackWriter,
    manifest: &Manifest,
) -> Result<PromptTable, ImportError> {
    let mut table = PromptTable::new(manifest.architecture.query_width);
    let Some(source) = options.text else { return Ok(table) };
    let (tokenizer_file, tokenizer) = read_tokenizer(source.tokenizer)?;
    let weights = writer.folder().join("text.safetensors");
    let encoder = TextEncoder::from_files(manifest, &weights, tokenizer_file, &tokenizer)?;
    for (prompt, modality) in options.prompts {
        let row = encoder
            .embed(&prompt.to_lowercase(), *modality)
            .map_err(|source| ImportError::Embed { prompt: prompt.clone(), source })?;
        table.insert(prompt, *modality, row);
    }
    Ok(table)
}

fn read_tokenizer(path: &Path) -> Result<(&'static str, Vec<u8>), ImportError> {
    let failed = |source| ImportError::Tokenizer { path: path.to_owned(), source };
    if path.is_dir() {
        let found = TOKENIZER_NAMES.iter().find(|name| path.join(name).is_file());
        let name = found.ok_or_else(|| failed(None))?;
        return Ok((name, std::fs::read(path.join(name)).map_err(|e| failed(Some(e)))?));
    }
    let bytes = std::fs::read(path).map_err(|e| failed(Some(e)))?;
    let is_json = path.extension().is_some_and(|extension| extension == "json");
    Ok((if is_json { "tokenizer.json" } else { "vocab.txt" }, bytes))
}

/// A checkpoint with the names that count.
struct Source {
    path: PathBuf,
    checkpoint: Checkpoint,
    kept: Kept,
}

impl Source {
    fn open(path: &Path, naming: Naming) -> Result<Self, ImportError> {
        let checkpoint = Checkpoint::open(path)
            .map_err(|source| ImportError::Checkpoint { path: path.to_owned(), source })?;
        let kept = names::sort(&checkpoint, naming);
        Ok(Self { path: path.to_owned(), checkpoint, kept })
    }

    fn misfit(&self, source: InferSizesError) -> ImportError {
        ImportError::Sizes { path: self.path.clone(), source }
    }

    /// Compares what is there with what is needed, both ways.
    fn check(&self, needed: &[(String, Vec<usize>)]) -> Result<(), ImportError> {
        let needed: BTreeMap<&str, &[usize]> =
            needed.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())).collect();
        let mut problems = Vec::new();
        for (name, shape) in &needed {
            match self.kept.shapes.get(*name) {
                None => problems.push(format!("{name} is missing")),
                Some(found) if found != shape => {
                    problems.push(format!("{name} has shape {found:?}, expected {shape:?}"));
                }
                Some(_) => {}
            }
        }
        for name in self.kept.shapes.keys().filter(|name| !needed.contains_key(name.as_str())) {
            problems.push(format!("{name} is unknown"));
        }
        if problems.is_empty() {
            return Ok(());
        }
        Err(ImportError::Tensors { path: self.path.clone(), problems })
    }

    /// Writes the tensors one at a time, in float32.
    fn write(
        &self,
        writer: &mut PackWriter,
        file: &str,
        tensors: &[(String, Vec<usize>)],
    ) -> Result<(), ImportError> {
        let stored = |name: &str| &self.kept.stored[name];
        writer.add_f32_tensors(file, tensors, |name| self.checkpoint.read(stored(name)))?;
        Ok(())
    }

    fn source_file(&self) -> SourceFile {
        let name = self.path.file_name().unwrap_or_default();
        SourceFile {
            file: name.to_string_lossy().into_owned(),
            sha256: self.checkpoint.sha256(),
            note: None,
        }
    }
}
