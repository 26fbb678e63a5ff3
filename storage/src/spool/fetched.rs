//! Files of the spool as paths.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::SpoolError;

/// Files of the spool on this machine. Copies go away with this value.
#[derive(Debug)]
pub struct LocalFiles {
    paths: Vec<PathBuf>,
    _copies: Option<FetchedFolder>,
}

impl LocalFiles {
    pub(super) fn in_place(paths: Vec<PathBuf>) -> Self {
        Self { paths, _copies: None }
    }

    pub(super) fn copies(paths: Vec<PathBuf>, folder: FetchedFolder) -> Self {
        Self { paths, _copies: Some(folder) }
    }

    /// Their paths, in the order in which they were asked for.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }
}

/// A folder of copies that goes away by itself. It is locked while it is used, so that whoever clears up leaves it
/// alone.
#[derive(Debug)]
pub(super) struct FetchedFolder {
    path: PathBuf,
    _lock: File,
}

impl FetchedFolder {
    pub(super) fn create_in(parent: &Path) -> Result<Self, SpoolError> {
        loop {
            let path = parent.join(Uuid::new_v4().to_string());
            std::fs::create_dir(&path).map_err(SpoolError::io("make a folder"))?;
            // Between making and locking it, a clearing process may have taken it for a left-over.
            let Ok(lock) = File::open(&path) else { continue };
            lock.lock().map_err(SpoolError::io("lock a folder"))?;
            let links = lock.metadata().map_err(SpoolError::io("look at a folder"))?.nlink();
            if links > 0 {
                return Ok(Self { path, _lock: lock });
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for FetchedFolder {
    fn drop(&mut self) {
        // Whatever is left is cleared at the next start.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Removes copies that a process left behind when it was killed.
pub(super) fn clear(parent: &Path) -> Result<(), SpoolError> {
    let entries = std::fs::read_dir(parent).map_err(SpoolError::io("list a folder"))?;
    for entry in entries {
        let path = entry.map_err(SpoolError::io("list a folder"))?.path();
        let Ok(folder) = File::open(&path) else { continue };
        if folder.try_lock().is_ok() {
            let _ = std::fs::remove_dir_all(&path);
        }
    }
    Ok(())
}
