//! An instance to be sent: where its bytes are, and what must be known before they are read.

use std::io::{self, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;

use dicom_types::{SopClassUid, SopInstanceUid, TransferSyntaxUid};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::transcode;
use crate::compression::Compression;
use crate::header::{self, HeaderLimits, ReadHeaderError};
use crate::part10::{self, ReadMetaError};

/// A Part 10 file to be sent.
#[derive(Debug, Clone)]
pub enum InstanceSource {
    /// A file, streamed.
    File(PathBuf),
    /// A file in memory.
    Bytes(Arc<[u8]>),
}

impl From<PathBuf> for InstanceSource {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl From<Vec<u8>> for InstanceSource {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes.into())
    }
}

/// Why an instance cannot be sent for reasons of our own.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableInstance {
    /// The file cannot be read.
    #[error("cannot read the file")]
    Io(#[from] io::Error),
    /// The file is no Part 10 file.
    #[error("file meta information is unusable")]
    Meta(#[from] ReadMetaError),
    /// The meta group names no instance, and the data set does not either.
    #[error("header cannot be read")]
    Header(#[from] ReadHeaderError),
}

/// What an association must be asked for.
#[derive(Debug, Clone)]
pub(super) struct InstanceFacts {
    pub(super) sop_class_uid: SopClassUid,
    pub(super) sop_instance_uid: SopInstanceUid,
    pub(super) transfer_syntax_uid: TransferSyntaxUid,
    dataset_offset: u64,
}

/// Longest prefix that is read to find the meta group.
const PREFIX_STEP_BYTES: usize = 4 * 1024;

/// Files of this size are read at once, longer ones in pieces.
const WHOLE_READ_BYTES: u64 = 4 << 20;

impl InstanceSource {
    /// Reads what identifies the instance.
    pub(super) async fn facts(&self) -> Result<InstanceFacts, UnreadableInstance> {
        let start = match self {
            Self::Bytes(bytes) => {
                part10::locate_dataset(bytes, true)?.ok_or(ReadMetaError::Truncated)?
            }
            Self::File(path) => {
                let mut file = File::open(path).await?;
                let mut prefix = Vec::new();
                loop {
                    let length = prefix.len();
                    prefix.resize(length + PREFIX_STEP_BYTES, 0);
                    let read = file.read(&mut prefix[length..]).await?;
                    prefix.truncate(length + read);
                    if let Some(start) = part10::locate_dataset(&prefix, read == 0)? {
                        break start;
                    }
                    if read == 0 {
                        return Err(ReadMetaError::Truncated.into());
                    }
                }
            }
        };
        let dataset_offset = start.offset as u64;
        if let (Some(sop_class_uid), Some(sop_instance_uid)) =
            (start.sop_class_uid, start.sop_instance_uid)
        {
            return Ok(InstanceFacts {
                sop_class_uid,
                sop_instance_uid,
                transfer_syntax_uid: start.transfer_syntax_uid,
                dataset_offset,
            });
        }
        let header = match self.clone() {
            Self::Bytes(bytes) => header::read_part10(&bytes[..], HeaderLimits::for_files())?,
            Self::File(path) => tokio::task::spawn_blocking(move || header::read_file(&path))
                .await
                .map_err(io::Error::other)??,
        };
        Ok(InstanceFacts {
            sop_class_uid: header.sop_class_uid,
            sop_instance_uid: header.sop_instance_uid,
            transfer_syntax_uid: header.transfer_syntax_uid,
            dataset_offset,
        })
    }

    /// Reads the whole file, and which instance it holds.
    pub(crate) async fn read(
        &self,
    ) -> Result<(SopClassUid, SopInstanceUid, Vec<u8>), UnreadableInstance> {
        let facts = self.facts().await?;
        let bytes = match self {
            Self::Bytes(bytes) => bytes.to_vec(),
            Self::File(path) => tokio::fs::read(path).await?,
        };
        Ok((facts.sop_class_uid, facts.sop_instance_uid, bytes))
    }

    /// Opens the data set as it is.
    pub(super) async fn open(&self, facts: &InstanceFacts) -> io::Result<DatasetBytes> {
        match self {
            Self::Bytes(bytes) => Ok(DatasetBytes::Memory {
                bytes: Arc::clone(bytes),
                position: facts.dataset_offset as usize,
            }),
            Self::File(path) => {
                let mut file = File::open(path).await?;
                let length = file.metadata().await?.len();
                if length <= WHOLE_READ_BYTES {
                    let bytes: Arc<[u8]> = tokio::fs::read(path).await?.into();
                    let position = facts.dataset_offset as usize;
                    return Ok(DatasetBytes::Memory { bytes, position });
                }
                file.set_max_buf_size(1 << 20);
                file.seek(SeekFrom::Start(facts.dataset_offset)).await?;
                let remaining = length.saturating_sub(facts.dataset_offset);
                Ok(DatasetBytes::File { file, remaining })
            }
        }
    }

    /// Opens an object of ours in a transfer syntax that takes less room.
    pub(super) async fn open_compressed(
        &self,
        compression: Compression,
    ) -> io::Result<DatasetBytes> {
        let bytes = self.whole().await?;
        let compressing = tokio::task::spawn_blocking(move || compression.dataset(&bytes));
        let compressed = compressing.await.map_err(io::Error::other)?;
        let bytes = compressed.map_err(io::Error::other)?;
        Ok(DatasetBytes::Memory { bytes: bytes.into(), position: 0 })
    }

    async fn whole(&self) -> io::Result<Arc<[u8]>> {
        Ok(match self {
            Self::Bytes(bytes) => Arc::clone(bytes),
            Self::File(path) => tokio::fs::read(path).await?.into(),
        })
    }

    /// Opens an explicit little endian data set as implicit little endian, values unchanged.
    pub(super) async fn open_as_implicit(&self, facts: &InstanceFacts) -> io::Result<DatasetBytes> {
        let bytes = self.whole().await?;
        let offset = facts.dataset_offset as usize;
        let transcoding = tokio::task::spawn_blocking(move || {
            transcode::explicit_to_implicit(bytes.get(offset..).unwrap_or_default())
        });
        let transcoded = transcoding.await.map_err(io::Error::other)?;
        let bytes = transcoded.map_err(io::Error::other)?;
        Ok(DatasetBytes::Memory { bytes: bytes.into(), position: 0 })
    }
}

/// A data set, read once from front to back.
#[derive(Debug)]
pub(super) enum DatasetBytes {
    Memory { bytes: Arc<[u8]>, position: usize },
    File { file: File, remaining: u64 },
}

impl DatasetBytes {
    /// Bytes still to be read.
    pub(super) fn remaining(&self) -> u64 {
        match self {
            Self::Memory { bytes, position } => bytes.len().saturating_sub(*position) as u64,
            Self::File { remaining, .. } => *remaining,
        }
    }

    /// Fills `target`, which is no longer than what remains.
    pub(super) async fn read_exact(&mut self, target: &mut [u8]) -> io::Result<()> {
        match self {
            Self::Memory { bytes, position } => {
                let end = *position + target.len();
                let source = bytes.get(*position..end).ok_or(io::ErrorKind::UnexpectedEof)?;
                target.copy_from_slice(source);
                *position = end;
            }
            Self::File { file, remaining } => {
                file.read_exact(target).await?;
                *remaining -= target.len() as u64;
            }
        }
        Ok(())
    }
}
