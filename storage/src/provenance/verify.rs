//! Verification of the ledger.

use std::collections::BTreeMap;

use crate::digest::Sha256Digest;
use crate::store::sql::values;
use crate::store::{DatabaseError, Store};

use super::chain::StoredEntry;

/// Entries read at a time.
const PAGE: u32 = 2000;

/// The ledger's end at some time, kept outside the database. It makes a later truncation visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerRoot {
    /// Number of entries.
    pub seq: u64,
    /// Hash of the last one; 32 zero bytes where there is none.
    pub hash: Sha256Digest,
}

/// What is wrong with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LedgerDefect {
    /// Its content is not what was sealed.
    #[error("entry {seq} is not what was sealed")]
    Altered {
        /// Place of the entry.
        seq: u64,
    },
    /// It does not follow the entry before it.
    #[error("entry {seq} does not follow the entry before it")]
    Unlinked {
        /// Place of the entry.
        seq: u64,
    },
    /// It is not there, although a later one is, or although the head or the given root says so.
    #[error("entry {seq} is missing")]
    Missing {
        /// Place where the entry should be.
        seq: u64,
    },
    /// It is another one than a given root or the head has sealed.
    #[error("entry {seq} is another one than was sealed by the root")]
    Replaced {
        /// Place of the entry.
        seq: u64,
    },
    /// It lies before the first entry or behind the last one that the head knows.
    #[error("entry {seq} is none that the ledger's head knows")]
    Surplus {
        /// Place of the entry.
        seq: i64,
    },
}

/// The outcome of a verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerVerdict {
    /// Entries found sound before the first defect, or all.
    pub sound: u64,
    /// The first bad entry.
    pub defect: Option<LedgerDefect>,
}

impl Store {
    /// The ledger's present head, to be kept elsewhere.
    ///
    /// # Errors
    /// Where the database cannot answer.
    pub async fn ledger_root(&self) -> Result<LedgerRoot, DatabaseError> {
        let row = self
            .pool
            .row("select seq, hash from ledger_head where head_id = 1", values![])
            .await?
            .ok_or(DatabaseError::Shape { column: "head_id".to_owned() })?;
        Ok(LedgerRoot { seq: row.get::<i64>("seq")? as u64, hash: row.get("hash")? })
    }

    /// Walks the whole ledger and names the first bad entry.
    ///
    /// Finds updates, deletions, insertions and reorderings. Entries cut off the end are found where the head was left
    /// as it was; where head and tail were cut together, only `roots` kept outside the database tell.
    ///
    /// # Errors
    /// Where the database cannot answer.
    pub async fn verify_ledger(
        &self,
        roots: impl IntoIterator<Item = LedgerRoot>,
    ) -> Result<LedgerVerdict, DatabaseError> {
        let mut walk = Walk::new(roots);
        let mut after = i64::MIN;
        loop {
            let rows = self.stored_entries(after, PAGE).await?;
            for row in &rows {
                let stored = StoredEntry::read(row)?;
                if let Err(defect) = walk.step(&stored) {
                    return Ok(walk.verdict(Some(defect)));
                }
                after = stored.entry.seq;
            }
            if rows.len() == PAGE as usize {
                continue;
            }
            // Read after the entries: where the head is ahead, somebody appended meanwhile, and there is more to read.
            let head = self.ledger_root().await?;
            if rows.is_empty() || head.seq <= walk.sound {
                let defect = walk.end(head).err();
                return Ok(walk.verdict(defect));
            }
        }
    }
}

/// A walk along the chain.
struct Walk {
    roots: BTreeMap<u64, Vec<Sha256Digest>>,
    sound: u64,
    hash: Sha256Digest,
}

impl Walk {
    fn new(roots: impl IntoIterator<Item = LedgerRoot>) -> Self {
        let mut by_seq: BTreeMap<u64, Vec<Sha256Digest>> = BTreeMap::new();
        for root in roots {
            by_seq.entry(root.seq).or_default().push(root.hash);
        }
        Self { roots: by_seq, sound: 0, hash: Sha256Digest::from([0; 32]) }
    }

    /// Goes on to the next entry that is there.
    fn step(&mut self, stored: &StoredEntry) -> Result<(), LedgerDefect> {
        let seq = self.sound + 1;
        let found = stored.entry.seq;
        if found < 1 {
            return Err(LedgerDefect::Surplus { seq: found });
        }
        if found as u64 != seq {
            return Err(LedgerDefect::Missing { seq });
        }
        if stored.previous_hash != self.hash.as_bytes() {
            return Err(LedgerDefect::Unlinked { seq });
        }
        let sealed = stored.entry.seal(&self.hash);
        if stored.hash != sealed.as_bytes() {
            return Err(LedgerDefect::Altered { seq });
        }
        let mut roots = self.roots.get(&seq).into_iter().flatten();
        if roots.any(|root| *root != sealed) {
            return Err(LedgerDefect::Replaced { seq });
        }
        self.hash = sealed;
        self.sound = seq;
        Ok(())
    }

    /// Compares the end of the entries with the head and with the roots that reach further.
    fn end(&self, head: LedgerRoot) -> Result<(), LedgerDefect> {
        let promised = self.roots.keys().copied().chain([head.seq]).max().unwrap_or_default();
        if promised > self.sound {
            return Err(LedgerDefect::Missing { seq: self.sound + 1 });
        }
        if head.seq < self.sound {
            return Err(LedgerDefect::Surplus { seq: head.seq as i64 + 1 });
        }
        if head.hash != self.hash {
            return Err(LedgerDefect::Replaced { seq: self.sound });
        }
        Ok(())
    }

    fn verdict(&self, defect: Option<LedgerDefect>) -> LedgerVerdict {
        LedgerVerdict { sound: self.sound, defect }
    }
}
