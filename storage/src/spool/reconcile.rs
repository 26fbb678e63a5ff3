//! What a crash leaves behind, and how it is told from what is needed.

use std::time::Duration;

use crate::store::sql::{Value, places};
use crate::store::{DatabaseError, Store};

use super::folder::blocking;
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
        let incoming = self.incoming();
        let removed = blocking(move || clear_incoming(&incoming)).await?;
        let keys = self.list(age).await?;
        let mut reconciled = Reconciled { removed, ..Reconciled::default() };
        for keys in keys.chunks(500) {
            let unknown = store.unknown_spool_keys(keys).await?;
            reconciled.sound += (keys.len() - unknown.len()) as u64;
            for key in unknown {
                self.set_aside(&key).await?;
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
