//! Writing packs: safetensors files in one pass, and the folder that appears only when it is whole.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::digest::hex;
use super::manifest::{Manifest, PROMPTS_FILE};
use super::prompts::{PromptModality, PromptTable};

/// Why a pack cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WritePackError {
    /// The folder is already there.
    #[error("{path} exists already")]
    Exists {
        /// Where the pack was to go.
        path: PathBuf,
    },
    /// A file or folder cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The manifest does not describe a pack.
    #[error("manifest with invalid values: {}", .problems.join("; "))]
    Manifest {
        /// One line per problem.
        problems: Vec<String>,
    },
    /// The manifest has no TOML form.
    #[error("manifest cannot be written as TOML")]
    Toml(#[from] toml::ser::Error),
}

/// Writes a pack beside its final place and renames it when it is whole.
#[derive(Debug)]
pub struct PackWriter {
    target: PathBuf,
    partial: PathBuf,
    files: BTreeMap<String, String>,
    finished: bool,
}

impl PackWriter {
    /// Starts a pack that will appear at `target`, which must not exist yet.
    ///
    /// # Errors
    /// [`WritePackError::Exists`], or [`WritePackError::Write`] when the folder cannot be made.
    pub fn create(target: &Path) -> Result<Self, WritePackError> {
        if target.exists() {
            return Err(WritePackError::Exists { path: target.to_owned() });
        }
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(format!(".partial-{}", std::process::id()));
        let partial = target.with_file_name(name);
        fs::create_dir_all(&partial)
            .map_err(|source| WritePackError::Write { path: partial.clone(), source })?;
        let files = BTreeMap::new();
        Ok(Self { target: target.to_owned(), partial, files, finished: false })
    }

    /// Adds a file of ready bytes.
    ///
    /// # Errors
    /// [`WritePackError::Write`].
    pub fn add_file(&mut self, name: &str, bytes: &[u8]) -> Result<(), WritePackError> {
        self.add(name, |out| out.write_all(bytes))
    }

    /// Adds a safetensors file of F32 tensors.
    ///
    /// # Errors
    /// [`WritePackError::Write`].
    pub fn add_tensors(
        &mut self,
        name: &str,
        metadata: &BTreeMap<String, String>,
        tensors: &[(String, Vec<usize>, Vec<f32>)],
    ) -> Result<(), WritePackError> {
        let specs: Vec<TensorSpec> = tensors
            .iter()
            .map(|(name, shape, _)| TensorSpec { name, dtype: "F32", width: 4, shape })
            .collect();
        self.add(name, |out| {
            out.write_all(&safetensors_header(metadata, &specs))?;
            for (_, _, values) in tensors {
                write_f32(out, values)?;
            }
            Ok(())
        })
    }

    /// Adds a safetensors file of F32 tensors that are read one at a time; `read` gives the values of a name.
    pub(crate) fn add_f32_tensors(
        &mut self,
        file: &str,
        tensors: &[(String, Vec<usize>)],
        read: impl Fn(&str) -> Vec<f32>,
    ) -> Result<(), WritePackError> {
        let specs: Vec<TensorSpec> = tensors
            .iter()
            .map(|(name, shape)| TensorSpec { name, dtype: "F32", width: 4, shape })
            .collect();
        self.add(file, |out| {
            out.write_all(&safetensors_header(&BTreeMap::new(), &specs))?;
            for (name, _) in tensors {
                write_f32(out, &read(name))?;
            }
            Ok(())
        })
    }

    /// Adds the table of prompts.
    ///
    /// # Errors
    /// [`WritePackError::Write`].
    pub fn add_prompts(&mut self, table: &PromptTable) -> Result<(), WritePackError> {
        let mut metadata = BTreeMap::new();
        let mut tensors = Vec::new();
        for modality in PromptModality::ALL {
            let prompts: Vec<&str> = table.prompts(modality).collect();
            if prompts.is_empty() {
                continue;
            }
            let rows = prompts.iter().filter_map(|prompt| table.get(prompt, modality));
            let values: Vec<f32> = rows.flatten().copied().collect();
            let word = modality.as_str().to_owned();
            tensors.push((word.clone(), vec![prompts.len(), table.width()], values));
            metadata.insert(word, json!(prompts).to_string());
        }
        self.add_tensors(PROMPTS_FILE, &metadata, &tensors)
    }

    /// Adds a file that `fill` writes; its digest is taken on the way.
    pub(crate) fn add(
        &mut self,
        name: &str,
        fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), WritePackError> {
        let path = self.partial.join(name);
        let written = File::create(&path).and_then(|file| {
            let mut out =
                Hashing { inner: BufWriter::with_capacity(1 << 20, file), hasher: Sha256::new() };
            fill(&mut out)?;
            out.inner.flush()?;
            out.inner.get_ref().sync_all()?;
            Ok(hex(&out.hasher.finalize()))
        });
        let digest = written.map_err(|source| WritePackError::Write { path, source })?;
        self.files.insert(name.to_owned(), digest);
        Ok(())
    }

    /// Folder in which the files lie before the pack is whole.
    pub(crate) fn folder(&self) -> &Path {
        &self.partial
    }

    /// Writes the manifest with the digests of all added files and puts the pack in its place.
    ///
    /// # Errors
    /// [`WritePackError`] when the manifest is refused or the folder cannot be written.
    pub fn finish(mut self, mut manifest: Manifest) -> Result<(), WritePackError> {
        manifest.files = std::mem::take(&mut self.files);
        let problems = manifest.problems();
        if !problems.is_empty() {
            return Err(WritePackError::Manifest { problems });
        }
        let text = toml::to_string(&manifest)?;
        self.add("pack.toml", |out| out.write_all(text.as_bytes()))?;
        let path = self.target.clone();
        let renamed = sync_folder(&self.partial)
            .and_then(|()| fs::rename(&self.partial, &self.target))
            .and_then(|()| match self.target.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => sync_folder(parent),
                _ => sync_folder(Path::new(".")),
            });
        renamed.map_err(|source| WritePackError::Write { path, source })?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for PackWriter {
    fn drop(&mut self) {
        if !self.finished {
            // What is left of an unfinished pack is of no use; a folder that stays is harmless.
            let _ = fs::remove_dir_all(&self.partial);
        }
    }
}

/// One tensor of a file to be written.
pub(crate) struct TensorSpec<'a> {
    pub(crate) name: &'a str,
    /// Type as safetensors spells it.
    pub(crate) dtype: &'static str,
    /// Bytes of one value.
    pub(crate) width: usize,
    pub(crate) shape: &'a [usize],
}

/// Length and header of a safetensors file whose data follow in the order of `specs`.
pub(crate) fn safetensors_header(
    metadata: &BTreeMap<String, String>,
    specs: &[TensorSpec<'_>],
) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    if !metadata.is_empty() {
        header.insert("__metadata__".to_owned(), json!(metadata));
    }
    let mut offset = 0;
    for spec in specs {
        let end = offset + spec.shape.iter().product::<usize>() * spec.width;
        let entry =
            json!({ "dtype": spec.dtype, "shape": spec.shape, "data_offsets": [offset, end] });
        header.insert(spec.name.to_owned(), entry);
        offset = end;
    }
    let mut text = serde_json::Value::Object(header).to_string();
    while !text.len().is_multiple_of(8) {
        text.push(' ');
    }
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

pub(crate) fn write_f32(out: &mut dyn Write, values: &[f32]) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(1 << 16);
    for part in values.chunks(1 << 14) {
        buffer.clear();
        for value in part {
            buffer.extend_from_slice(&value.to_le_bytes());
        }
        out.write_all(&buffer)?;
    }
    Ok(())
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

struct Hashing<W> {
    inner: W,
    hasher: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
