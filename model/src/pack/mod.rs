//! Model packs: a folder with a manifest, weights, prompts and, where present, the text encoder.
//!
//! The format is described in `docs/pack-format.md`.

mod architecture;
mod bytes;
mod digest;
mod manifest;
mod prompts;
mod weights;
mod write;

#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use architecture::Architecture;
pub(crate) use bytes::Bytes;
pub use digest::PackDigest;
pub(crate) use digest::sha256_hex;
pub use manifest::{
    Manifest, ManifestError, Preprocessing, Provenance, SourceFile, Text, TextEncoderSizes,
    TextKind,
};
pub(crate) use manifest::{PROBE_FILE, PROMPTS_FILE, TEXT_FILE, TOKENIZER_FILES, WEIGHTS_FILE};
pub use prompts::{PromptModality, PromptTable, PromptTableError};
pub use weights::{Weights, WeightsError};
pub use write::{PackWriter, WritePackError};

/// Longest `pack.toml` that is read.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// Why a pack cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenPackError {
    /// A file cannot be read.
    #[error("cannot read {file} of the pack")]
    Read {
        /// Name inside the pack.
        file: String,
        /// What the system says.
        source: io::Error,
    },
    /// `pack.toml` is refused.
    #[error("pack.toml is refused")]
    Manifest(#[from] ManifestError),
    /// A file that the manifest names is not among those given.
    #[error("{file} is missing")]
    MissingFile {
        /// Name inside the pack.
        file: String,
    },
    /// A file is not the one that the manifest describes.
    #[error("{file} has another digest than the manifest states")]
    Digest {
        /// Name inside the pack.
        file: String,
    },
    /// A file's tensors are not those of the architecture.
    #[error("{file} does not fit the manifest")]
    Tensors {
        /// Name inside the pack.
        file: String,
        /// What is wrong.
        source: WeightsError,
    },
    /// The prompts cannot be read.
    #[error("{PROMPTS_FILE} does not fit the manifest")]
    Prompts(#[from] PromptTableError),
}

/// The text encoder of a pack, not yet loaded.
#[derive(Debug, Clone)]
pub(crate) struct TextFiles {
    pub(crate) weights: Weights,
    pub(crate) tokenizer_file: &'static str,
    pub(crate) tokenizer: Bytes,
}

/// An opened model pack. Clones share the mapped files.
#[derive(Debug, Clone)]
pub struct Pack {
    manifest: Manifest,
    digest: PackDigest,
    weights: Weights,
    prompts: PromptTable,
    text: Option<TextFiles>,
    probe: Option<Weights>,
}

impl Pack {
    /// Opens the pack in folder `dir`: maps its files, checks names, shapes and types of all tensors and the digests of
    /// the small files. The digests of the weights are checked by [`Pack::verify_digests`].
    ///
    /// # Errors
    /// [`OpenPackError`] when a file is missing, or does not fit the manifest.
    pub fn open(dir: &Path) -> Result<Self, OpenPackError> {
        let text = read_manifest(&dir.join("pack.toml"))
            .map_err(|source| OpenPackError::Read { file: "pack.toml".to_owned(), source })?;
        Self::assemble(&text, |name| {
            let path: PathBuf = dir.join(name);
            Bytes::map(&path)
                .map_err(|source| OpenPackError::Read { file: name.to_owned(), source })
        })
    }

    /// Opens a pack whose files are compiled in.
    ///
    /// # Errors
    /// [`OpenPackError`] as for [`Pack::open`].
    pub fn from_static(
        manifest: &str,
        files: &[(&str, &'static [u8])],
    ) -> Result<Self, OpenPackError> {
        Self::assemble(manifest, |name| {
            let found = files.iter().find(|(file, _)| *file == name);
            let (_, bytes) =
                found.ok_or_else(|| OpenPackError::MissingFile { file: name.to_owned() })?;
            Ok(Bytes::Static(bytes))
        })
    }

    fn assemble(
        manifest: &str,
        load: impl Fn(&str) -> Result<Bytes, OpenPackError>,
    ) -> Result<Self, OpenPackError> {
        let (manifest, digest) = Manifest::parse(manifest)?;
        let tensors = |file: &str| {
            let bytes = load(file)?;
            Weights::new(bytes)
                .map_err(|source| OpenPackError::Tensors { file: file.to_owned(), source })
        };
        let weights = tensors(WEIGHTS_FILE)?;
        weights
            .check(&manifest.architecture.tensors(), is_unused_bias)
            .map_err(|source| OpenPackError::Tensors { file: WEIGHTS_FILE.to_owned(), source })?;
        let prompt_tensors = tensors(PROMPTS_FILE)?;
        check_digest(&manifest, PROMPTS_FILE, prompt_tensors.bytes())?;
        let width = manifest.architecture.query_width;
        let prompts = PromptTable::read(&prompt_tensors, width)?;
        let text = match &manifest.text.encoder {
            Some(sizes) => {
                let weights = tensors(TEXT_FILE)?;
                let modalities = manifest.text.modalities.len();
                weights
                    .check(&sizes.tensors(manifest.text.kind, width, modalities), |_| false)
                    .map_err(|source| OpenPackError::Tensors {
                        file: TEXT_FILE.to_owned(),
                        source,
                    })?;
                let listed = |name: &&str| manifest.files.contains_key(*name);
                let tokenizer_file = TOKENIZER_FILES.into_iter().find(listed).ok_or_else(|| {
                    OpenPackError::MissingFile { file: TOKENIZER_FILES[0].to_owned() }
                })?;
                let tokenizer = load(tokenizer_file)?;
                check_digest(&manifest, tokenizer_file, &tokenizer)?;
                Some(TextFiles { weights, tokenizer_file, tokenizer })
            }
            None => None,
        };
        let has_probe = manifest.files.contains_key(PROBE_FILE);
        let probe = if has_probe { Some(tensors(PROBE_FILE)?) } else { None };
        Ok(Self { manifest, digest, weights, prompts, text, probe })
    }

    /// What the pack says about itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Digest over manifest and files: two packs with the same digest compute the same.
    pub fn digest(&self) -> PackDigest {
        self.digest
    }

    /// Tensors of the segmentation network.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Cached embeddings.
    pub fn prompts(&self) -> &PromptTable {
        &self.prompts
    }

    /// Whether free text can be embedded.
    pub fn has_text_encoder(&self) -> bool {
        self.text.is_some()
    }

    pub(crate) fn text_files(&self) -> Option<&TextFiles> {
        self.text.as_ref()
    }

    pub(crate) fn probe_tensors(&self) -> Option<&Weights> {
        self.probe.as_ref()
    }

    /// Recomputes the digest of every file of the pack and compares it with the manifest.
    ///
    /// # Errors
    /// [`OpenPackError::Digest`] for the first file that differs.
    pub fn verify_digests(&self) -> Result<(), OpenPackError> {
        check_digest(&self.manifest, WEIGHTS_FILE, self.weights.bytes())?;
        if let Some(text) = &self.text {
            check_digest(&self.manifest, TEXT_FILE, text.weights.bytes())?;
            check_digest(&self.manifest, text.tokenizer_file, &text.tokenizer)?;
        }
        if let Some(probe) = &self.probe {
            check_digest(&self.manifest, PROBE_FILE, probe.bytes())?;
        }
        // The prompts were checked when the pack was opened, and are in memory since.
        Ok(())
    }
}

/// Whether `name` is the bias of a conv unit: the instance norm behind it removes any constant (so it may be stored and
/// is not read).
pub(crate) fn is_unused_bias(name: &str) -> bool {
    name.starts_with("backbone.") && name.ends_with(".conv.bias")
}

fn check_digest(manifest: &Manifest, file: &str, bytes: &[u8]) -> Result<(), OpenPackError> {
    let expected = manifest.files.get(file);
    if expected.is_none_or(|expected| *expected != sha256_hex(bytes)) {
        return Err(OpenPackError::Digest { file: file.to_owned() });
    }
    Ok(())
}

fn read_manifest(path: &Path) -> io::Result<String> {
    let length = fs::metadata(path)?.len();
    if length > MAX_MANIFEST_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "longer than 1 MiB"));
    }
    fs::read_to_string(path)
}
