//! The spool in a folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::{JoinSet, spawn_blocking};
use uuid::Uuid;

use super::SpoolKey;
use super::writer::{FinishedFile, SpoolWriter};

/// Files that are synced at the same time.
const PARALLEL_SYNCS: usize = 16;
/// Directories remembered as durable before they are forgotten again.
const KNOWN_DIRECTORIES: usize = 20_000;

/// How a spool treats its space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolOptions {
    /// Bytes that stay free for the work that was promised: below, nothing new is received.
    pub reserve_bytes: u64,
}

/// Room in the spool's file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes that this process may still use.
    pub free_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
    /// Bytes that stay free.
    pub reserve_bytes: u64,
}

impl Space {
    /// Whether something of `size_bytes` fits above the reserve.
    pub fn admits(&self, size_bytes: u64) -> bool {
        self.free_bytes >= self.reserve_bytes.saturating_add(size_bytes)
    }
}

/// Why the spool did not do something.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The address is not `file://PATH`.
    #[error("spool address is not file://PATH")]
    Address,
    /// The reserve would be touched. To a C-STORE sender: 0xA700, out of resources.
    #[error("spool has {free_bytes} bytes free and keeps {reserve_bytes}")]
    BelowReserve {
        /// Bytes free.
        free_bytes: u64,
        /// Bytes kept.
        reserve_bytes: u64,
    },
    /// There is no such file.
    #[error("spool has no file {key}")]
    Missing {
        /// What was asked for.
        key: SpoolKey,
    },
    /// The file system refused something.
    #[error("spool could not {step}")]
    Io {
        /// What was being done.
        step: &'static str,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
    /// A blocking step was stopped with its runtime.
    #[error("spool was shut down while it worked")]
    Stopped,
}

impl SpoolError {
    pub(super) fn io(step: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { step, source: Arc::new(source) }
    }

    pub(super) fn same(&self) -> Self {
        match self {
            Self::Io { step, source } => Self::Io { step, source: Arc::clone(source) },
            Self::BelowReserve { free_bytes, reserve_bytes } => {
                Self::BelowReserve { free_bytes: *free_bytes, reserve_bytes: *reserve_bytes }
            }
            Self::Missing { key } => Self::Missing { key: key.clone() },
            Self::Address => Self::Address,
            Self::Stopped => Self::Stopped,
        }
    }

    /// Whether the file system is full.
    pub fn is_full(&self) -> bool {
        match self {
            Self::BelowReserve { .. } => true,
            Self::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            Self::Address | Self::Missing { .. } | Self::Stopped => false,
        }
    }
}

/// Bytes: received instances and results. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Spool {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) root: PathBuf,
    options: SpoolOptions,
    /// Directories whose entry in their parent is known to be durable.
    durable_directories: Mutex<BTreeSet<PathBuf>>,
}

impl Spool {
    /// Opens `file://PATH`, making the folder where it is absent. A relative path is taken from the working directory.
    ///
    /// # Errors
    /// [`SpoolError::Address`] for another scheme, [`SpoolError::Io`] where the folder cannot be made or written.
    pub async fn open(url: &str, options: SpoolOptions) -> Result<Self, SpoolError> {
        let path = url.strip_prefix("file://").filter(|path| !path.is_empty());
        let root = PathBuf::from(path.ok_or(SpoolError::Address)?);
        let prepared = root.clone();
        blocking(move || {
            for folder in ["incoming", "instances", "results", "set-aside"] {
                std::fs::create_dir_all(prepared.join(folder))
                    .map_err(SpoolError::io("make its folders"))?;
            }
            sync_directory(&prepared)?;
            if let Some(parent) = prepared.parent().filter(|path| !path.as_os_str().is_empty()) {
                sync_directory(parent)?;
            }
            let probe = prepared.join("incoming").join(format!("probe-{}", Uuid::new_v4()));
            File::create_new(&probe).map_err(SpoolError::io("write a file"))?;
            std::fs::remove_file(&probe).map_err(SpoolError::io("remove a file"))
        })
        .await?;
        let durable_directories = Mutex::default();
        Ok(Self { shared: Arc::new(Shared { root, options, durable_directories }) })
    }

    /// The room in the file system.
    ///
    /// # Errors
    /// Where the file system cannot be asked.
    pub fn space(&self) -> Result<Space, SpoolError> {
        let stat = rustix::fs::statvfs(&self.shared.root)
            .map_err(|errno| SpoolError::io("ask for free space")(errno.into()))?;
        Ok(Space {
            free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
            total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
            reserve_bytes: self.shared.options.reserve_bytes,
        })
    }

    /// Begins a new file, unless the reserve would be touched.
    ///
    /// # Errors
    /// [`SpoolError::BelowReserve`], or [`SpoolError::Io`].
    pub async fn create(&self) -> Result<SpoolWriter, SpoolError> {
        let space = self.space()?;
        if !space.admits(0) {
            return Err(SpoolError::BelowReserve {
                free_bytes: space.free_bytes,
                reserve_bytes: space.reserve_bytes,
            });
        }
        self.create_regardless().await
    }

    /// Begins a new file even where the reserve is touched: results of promised work.
    async fn create_regardless(&self) -> Result<SpoolWriter, SpoolError> {
        let incoming = self.shared.root.join("incoming");
        blocking(move || SpoolWriter::create_in(&incoming)).await
    }

    /// Makes finished files durable under their keys: each is synced, renamed into place, and the folders are synced
    /// once. The outcomes are in the order of `batch`; one file's trouble is not another's.
    ///
    /// Cancel safety: dropped half-way, some files may be in place without a row; see [`Spool::reconcile`].
    pub async fn commit_batch(
        &self,
        batch: Vec<(FinishedFile, SpoolKey)>,
    ) -> Vec<Result<(), SpoolError>> {
        let count = batch.len();
        let synced = sync_files(batch).await;
        let shared = Arc::clone(&self.shared);
        let placed = blocking(move || Ok(shared.place(synced))).await;
        match placed {
            Ok(outcomes) => outcomes,
            Err(error) => (0..count).map(|_| Err(error.same())).collect(),
        }
    }

    /// Stores `bytes` durably under `key`, replacing what was there. The reserve is there for this.
    ///
    /// # Errors
    /// [`SpoolError::Io`].
    pub async fn put(&self, key: &SpoolKey, bytes: &[u8]) -> Result<(), SpoolError> {
        let mut writer = self.create_regardless().await?;
        writer.write(bytes).await?;
        let file = writer.finish().await?;
        self.commit_batch(vec![(file, key.clone())]).await.pop().unwrap_or(Err(SpoolError::Stopped))
    }

    /// Where the file of `key` is, for readers that want a path.
    pub fn path(&self, key: &SpoolKey) -> PathBuf {
        self.shared.root.join(key.as_str())
    }

    /// All bytes under `key`.
    ///
    /// # Errors
    /// [`SpoolError::Missing`] or [`SpoolError::Io`].
    pub async fn read(&self, key: &SpoolKey) -> Result<Vec<u8>, SpoolError> {
        match tokio::fs::read(self.path(key)).await {
            Ok(bytes) => Ok(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(SpoolError::Missing { key: key.clone() })
            }
            Err(error) => Err(SpoolError::io("read a file")(error)),
        }
    }

    /// Removes the file under `key` and the folders that are empty then. Nothing happens where there is none.
    ///
    /// # Errors
    /// [`SpoolError::Io`].
    pub async fn remove(&self, key: &SpoolKey) -> Result<(), SpoolError> {
        let path = self.path(key);
        let shared = Arc::clone(&self.shared);
        blocking(move || match std::fs::remove_file(&path) {
            Ok(()) => {
                shared.remove_empty_folders(&path);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(SpoolError::io("remove a file")(error)),
        })
        .await
    }
}

impl Shared {
    /// Renames synced files to their keys and syncs the folders concerned.
    fn place(
        &self,
        synced: Vec<Result<(FinishedFile, SpoolKey), SpoolError>>,
    ) -> Vec<Result<(), SpoolError>> {
        let mut folders: BTreeMap<PathBuf, Vec<usize>> = BTreeMap::new();
        let mut outcomes = Vec::with_capacity(synced.len());
        for (place, synced) in synced.into_iter().enumerate() {
            let outcome = synced.and_then(|(file, key)| {
                let path = self.root.join(key.as_str());
                let folder = path.parent().unwrap_or(&self.root).to_owned();
                self.place_one(file, &folder, &path)?;
                folders.entry(folder).or_default().push(place);
                Ok(())
            });
            outcomes.push(outcome);
        }
        for (folder, places) in folders {
            if let Err(error) = sync_directory(&folder) {
                for place in places {
                    outcomes[place] = Err(error.same());
                }
            }
        }
        outcomes
    }

    fn place_one(
        &self,
        mut file: FinishedFile,
        folder: &Path,
        path: &Path,
    ) -> Result<(), SpoolError> {
        self.ensure_directory(folder)?;
        match file.rename_to(path) {
            // Retention of another process may have removed the folder as empty, just now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.ensure_directory(folder)?;
                file.rename_to(path).map_err(SpoolError::io("rename a file into place"))
            }
            outcome => outcome.map_err(SpoolError::io("rename a file into place")),
        }
    }

    /// Makes `folder` and its parents up to the root, each durable in its own parent.
    fn ensure_directory(&self, folder: &Path) -> Result<(), SpoolError> {
        let is_known = {
            let known = self.durable_directories.lock().unwrap_or_else(PoisonError::into_inner);
            known.contains(folder) && folder.is_dir()
        };
        if is_known || folder == self.root {
            return Ok(());
        }
        let Some(parent) = folder.parent() else { return Ok(()) };
        self.ensure_directory(parent)?;
        match std::fs::create_dir(folder) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(SpoolError::io("make a folder")(error)),
        }
        sync_directory(parent)?;
        let mut known = self.durable_directories.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_DIRECTORIES {
            known.clear();
        }
        known.insert(folder.to_owned());
        Ok(())
    }

    pub(super) fn remove_empty_folders(&self, file: &Path) {
        // Parts of the fixed layout stay: the root, and the folder under it.
        let depth = self.root.components().count() + 1;
        let mut folder = file.parent();
        while let Some(empty) = folder {
            if empty.components().count() <= depth || std::fs::remove_dir(empty).is_err() {
                return;
            }
            let mut known = self.durable_directories.lock().unwrap_or_else(PoisonError::into_inner);
            known.remove(empty);
            drop(known);
            folder = empty.parent();
        }
    }
}

/// Syncs the files of a batch, several at a time, and keeps their order.
async fn sync_files(
    batch: Vec<(FinishedFile, SpoolKey)>,
) -> Vec<Result<(FinishedFile, SpoolKey), SpoolError>> {
    let count = batch.len();
    let mut outcomes: Vec<_> = (0..count).map(|_| Err(SpoolError::Stopped)).collect();
    let mut lanes: Vec<Vec<(usize, FinishedFile, SpoolKey)>> = Vec::new();
    lanes.resize_with(PARALLEL_SYNCS.min(count), Vec::new);
    for (place, (file, key)) in batch.into_iter().enumerate() {
        let lane = place % lanes.len();
        lanes[lane].push((place, file, key));
    }
    let mut tasks = JoinSet::new();
    for lane in lanes {
        tasks.spawn_blocking(move || {
            let sync = |(place, file, key): (usize, FinishedFile, SpoolKey)| {
                let synced = file.sync().map_err(SpoolError::io("sync a file"));
                (place, synced.map(|()| (file, key)))
            };
            lane.into_iter().map(sync).collect::<Vec<_>>()
        });
    }
    while let Some(lane) = tasks.join_next().await {
        for (place, outcome) in lane.unwrap_or_default() {
            outcomes[place] = outcome;
        }
    }
    outcomes
}

/// Makes the entries of a folder durable.
pub(super) fn sync_directory(path: &Path) -> Result<(), SpoolError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(SpoolError::io("sync a folder"))
}

/// Runs a step that blocks where it may.
pub(super) async fn blocking<T: Send + 'static>(
    step: impl FnOnce() -> Result<T, SpoolError> + Send + 'static,
) -> Result<T, SpoolError> {
    spawn_blocking(step).await.unwrap_or(Err(SpoolError::Stopped))
}
