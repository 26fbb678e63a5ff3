//! What a crash leaves behind, and how it is told from what is needed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::store::sql::{Value, places};
use crate::store::{DatabaseError, Store};

use super::file::{Shared, blocking, sync_directory};
use super::writer::clear_incoming;
use super::{Spool, SpoolError, SpoolKey};

/// What was found and done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// Half-written files removed. Nobody was told that they are safe.
    pub removed: u64,
    /// Files without a row, moved to `set-aside/` under the same key.
    pub set_aside: Vec<SpoolKey>,
    /// Files in place, each with its row.
    pub sound: u64,
}

/// Why files and rows were not compared to the end.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The spool could not be read or changed.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The rows could not be read.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

impl Spool {
    /// Removes half-written files, and sets aside files older than `age` that no row speaks of. For the start.
    ///
    /// Success is answered only after the row, so a file without one was never acknowledged and its sender sends it
    /// again. It is set aside, not removed: after the restore of an older database it is the only copy.
    /// `age` keeps other listeners' files safe, which are in place some milliseconds before their rows.
    ///
    /// # Errors
    /// [`ReconcileError`]; what was done until then stays done.
    pub async fn reconcile(
        &self,
        store: &Store,
        age: Duration,
    ) -> Result<Reconciled, ReconcileError> {
        let shared = Arc::clone(&self.shared);
        let (removed, keys) = blocking(move || {
            let removed = clear_incoming(&shared.root.join("incoming"))?;
            let mut keys = Vec::new();
            for folder in ["instances", "results"] {
                list(&shared.root, &shared.root.join(folder), age, &mut keys)?;
            }
            Ok((removed, keys))
        })
        .await?;
        let mut reconciled = Reconciled { removed, ..Reconciled::default() };
        for keys in keys.chunks(500) {
            let unknown = store.unknown_spool_keys(keys).await?;
            reconciled.sound += (keys.len() - unknown.len()) as u64;
            for key in unknown {
                let shared = Arc::clone(&self.shared);
                let moved = key.clone();
                blocking(move || set_aside(&shared, &moved)).await?;
                reconciled.set_aside.push(key);
            }
        }
        Ok(reconciled)
    }
}

impl Store {
    /// Those of `keys` that no instance, kept conflict or result has.
    async fn unknown_spool_keys(&self, keys: &[SpoolKey]) -> Result<Vec<SpoolKey>, DatabaseError> {
        let places = places(0, 1, keys.len());
        let statement = format!(
            "select spool_key from instance where purged_at is null and spool_key in {places} \
             union all select spool_key from instance_copy where spool_key in {places} \
             union all select spool_key from result where purged_at is null and spool_key in {places}"
        );
        let bound = keys.iter().map(|key| Value::from(key.as_str())).collect();
        let rows = self.pool.rows(statement, bound).await?;
        let mut known = std::collections::HashSet::with_capacity(rows.len());
        for row in &rows {
            known.insert(row.get::<String>("spool_key")?);
        }
        Ok(keys.iter().filter(|key| !known.contains(key.as_str())).cloned().collect())
    }
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
