//! The spool in a folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::task::{JoinSet, spawn_blocking};
use uuid::Uuid;

use super::writer::FinishedFile;
use super::{SpoolError, SpoolKey};

/// Files that are synced at the same time.
const PARALLEL_SYNCS: usize = 16;
/// Directories remembered as durable before they are forgotten again.
const KNOWN_DIRECTORIES: usize = 20_000;

/// Files in a folder, each synced and renamed into place.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) root: PathBuf,
    /// Directories whose entry in their parent is known to be durable.
    durable_directories: Mutex<BTreeSet<PathBuf>>,
}

impl Folder {
    /// Opens the folder, making it where it is absent.
    ///
    /// # Errors
    /// [`SpoolError::Io`] where it cannot be made or written.
    pub(super) async fn open(root: PathBuf) -> Result<Self, SpoolError> {
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
        Ok(Self { shared: Arc::new(Shared { root, durable_directories }) })
    }

    pub(super) fn root(&self) -> &Path {
        &self.shared.root
    }

    /// Syncs each file, renames it into place, and syncs the folders once.
    pub(super) async fn commit_batch(
        &self,
        batch: Vec<(FinishedFile, SpoolKey)>,
    ) -> Vec<Result<(), SpoolError>> {
        let count = batch.len();
        let synced = sync_files(batch).await;
        let shared = Arc::clone(&self.shared);
        let placed = blocking(move || Ok(shared.place(synced))).await;
        match placed {
            Ok(outcomes) => outcomes,
            Err(error) => (0..count).map(|_| Err(error.clone())).collect(),
        }
    }

    /// Where the file of `key` is, or would be.
    pub(super) fn path(&self, key: &SpoolKey) -> PathBuf {
        self.shared.root.join(key.as_str())
    }

    pub(super) async fn read(&self, key: &SpoolKey) -> Result<Vec<u8>, SpoolError> {
        match tokio::fs::read(self.path(key)).await {
            Ok(bytes) => Ok(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(SpoolError::Missing { key: key.clone() })
            }
            Err(error) => Err(SpoolError::io("read a file")(error)),
        }
    }

    /// Removes the file under `key` and the folders that are empty then.
    pub(super) async fn remove(&self, key: &SpoolKey) -> Result<(), SpoolError> {
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

    /// Every file in place that is older than `age`.
    pub(super) async fn list(&self, age: Duration) -> Result<Vec<SpoolKey>, SpoolError> {
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            let mut keys = Vec::new();
            for folder in ["instances", "results"] {
                list(&shared.root, &shared.root.join(folder), age, &mut keys)?;
            }
            Ok(keys)
        })
        .await
    }

    /// Moves a file to `set-aside/`, under the same key.
    pub(super) async fn set_aside(&self, key: &SpoolKey) -> Result<(), SpoolError> {
        let shared = Arc::clone(&self.shared);
        let key = key.clone();
        blocking(move || set_aside(&shared, &key)).await
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
                    outcomes[place] = Err(error.clone());
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

    fn remove_empty_folders(&self, file: &Path) {
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
fn sync_directory(path: &Path) -> Result<(), SpoolError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(SpoolError::io("sync a folder"))
}

/// Runs a step that blocks where it may.
pub(super) async fn blocking<T: Send + 'static>(
    step: impl FnOnce() -> Result<T, SpoolError> + Send + 'static,
) -> Result<T, SpoolError> {
    spawn_blocking(step).await.unwrap_or(Err(SpoolError::Stopped))
}

fn list(
    root: &Path,
    folder: &Path,
    age: Duration,
    keys: &mut Vec<SpoolKey>,
) -> Result<(), SpoolError> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).map_err(SpoolError::io("list a folder"))?;
        for entry in entries {
            let entry = entry.map_err(SpoolError::io("list a folder"))?;
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                folders.push(entry.path());
                continue;
            }
            let is_old = metadata.modified().ok().is_none_or(|modified| {
                SystemTime::now().duration_since(modified).is_ok_and(|passed| passed >= age)
            });
            if let (true, Some(key)) = (is_old, key_of(root, &entry.path())) {
                keys.push(key);
            }
        }
    }
    Ok(())
}

fn key_of(root: &Path, path: &Path) -> Option<SpoolKey> {
    path.strip_prefix(root).ok()?.to_str()?.parse().ok()
}

fn set_aside(shared: &Shared, key: &SpoolKey) -> Result<(), SpoolError> {
    let from: PathBuf = shared.root.join(key.as_str());
    let to = shared.root.join("set-aside").join(key.as_str());
    let folder = to.parent().unwrap_or(&shared.root);
    std::fs::create_dir_all(folder).map_err(SpoolError::io("make a folder"))?;
    std::fs::rename(&from, &to).map_err(SpoolError::io("set a file aside"))?;
    sync_directory(folder)?;
    shared.remove_empty_folders(&from);
    Ok(())
}
