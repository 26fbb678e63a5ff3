//! Files that are being written.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use tokio::io::AsyncWriteExt as _;
use uuid::Uuid;

use super::SpoolError;

/// Bytes gathered before they are handed to the file system.
const BUFFER: usize = 256 * 1024;

/// A file in `incoming/` that goes away by itself unless it is put into place.
///
/// It is locked for as long as it is open, so that whoever clears `incoming/` leaves it alone.
#[derive(Debug)]
struct TemporaryFile {
    path: PathBuf,
    is_placed: bool,
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        if !self.is_placed {
            // It may be gone with its folder; whatever is left is cleared at the next start.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// A new file of the spool. Dropped before it is put into place, it leaves nothing behind.
#[derive(Debug)]
pub struct SpoolWriter {
    file: tokio::io::BufWriter<tokio::fs::File>,
    temporary: TemporaryFile,
    size_bytes: u64,
}

/// A file that is written and not yet durable.
#[derive(Debug)]
pub struct FinishedFile {
    file: File,
    temporary: TemporaryFile,
    size_bytes: u64,
}

impl SpoolWriter {
    pub(super) fn create_in(incoming: &Path) -> Result<Self, SpoolError> {
        loop {
            let path = incoming.join(format!("{}.part", Uuid::new_v4()));
            let file = File::create_new(&path).map_err(SpoolError::io("make a file"))?;
            let temporary = TemporaryFile { path, is_placed: false };
            file.lock().map_err(SpoolError::io("lock a file"))?;
            // Between making and locking it, a clearing process may have taken it for a left-over.
            let links = file.metadata().map_err(SpoolError::io("look at a file"))?.nlink();
            if links > 0 {
                let file = tokio::fs::File::from_std(file);
                let file = tokio::io::BufWriter::with_capacity(BUFFER, file);
                return Ok(Self { file, temporary, size_bytes: 0 });
            }
        }
    }

    /// Appends `bytes`.
    ///
    /// # Errors
    /// [`SpoolError::Io`]; the file is then of no use any more.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), SpoolError> {
        self.file.write_all(bytes).await.map_err(SpoolError::io("write a file"))?;
        self.size_bytes += bytes.len() as u64;
        Ok(())
    }

    /// Bytes written so far.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Ends writing. The bytes are handed to the operating system and not durable yet.
    ///
    /// # Errors
    /// [`SpoolError::Io`].
    pub async fn finish(mut self) -> Result<FinishedFile, SpoolError> {
        self.file.flush().await.map_err(SpoolError::io("write a file"))?;
        let file = self.file.into_inner().into_std().await;
        Ok(FinishedFile { file, temporary: self.temporary, size_bytes: self.size_bytes })
    }
}

impl FinishedFile {
    /// Bytes in the file.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Where the bytes are until they are put into place.
    pub(super) fn path(&self) -> &Path {
        &self.temporary.path
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    pub(super) fn rename_to(&mut self, path: &Path) -> io::Result<()> {
        std::fs::rename(&self.temporary.path, path)?;
        self.temporary.is_placed = true;
        Ok(())
    }
}

/// Removes files in `incoming/` that nobody writes any more; returns how many.
pub(super) fn clear_incoming(incoming: &Path) -> Result<u64, SpoolError> {
    let mut removed = 0;
    let entries = std::fs::read_dir(incoming).map_err(SpoolError::io("list a folder"))?;
    for entry in entries {
        let path = entry.map_err(SpoolError::io("list a folder"))?.path();
        let Ok(file) = File::open(&path) else { continue };
        if file.try_lock().is_ok() && std::fs::remove_file(&path).is_ok() {
            removed += 1;
        }
    }
    Ok(removed)
}
