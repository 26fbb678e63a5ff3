//! Verification of the ledger.

use crate::digest::Sha256Digest;
use crate::store::sql::values;
use crate::store::{DatabaseError, Store};

use super::chain::Entry;
use super::event::event_columns;

/// Entries read at a time.
const PAGE: i64 = 2000;

/// The ledger's head at some time, kept outside the database. It makes a later truncation visible.
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
    /// It is another one than the given root or the head has sealed.
    #[error("entry {seq} is another one than was sealed by the root")]
    Replaced {
        /// Place of the entry.
        seq: u64,
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
    /// as it was; where head and tail were cut together, only a `root` kept outside the database tells.
    ///
    /// # Errors
    /// Where the database cannot answer.
    pub async fn verify_ledger(
        &self,
        root: Option<LedgerRoot>,
    ) -> Result<LedgerVerdict, DatabaseError> {
        // Read before the entries: whoever appends meanwhile only makes the ledger longer than this head says.
        let head = self.ledger_root().await?;
        let anchors = [Some(head), root];
        let mut sound: i64 = 0;
        let mut hash = Sha256Digest::from([0; 32]);
        let verdict = |sound: i64, defect| LedgerVerdict { sound: sound as u64, defect };
        loop {
            let rows = self
                .pool
                .rows(
                    concat!(
                        "select ",
                        event_columns!(),
                        " from event where seq > $1 order by seq limit $2"
                    ),
                    values![sound, PAGE],
                )
                .await?;
            for row in &rows {
                let entry = Entry::read(row)?;
                let seq = sound + 1;
                let defect_seq = seq as u64;
                if entry.seq != seq {
                    let defect = LedgerDefect::Missing { seq: defect_seq };
                    return Ok(verdict(sound, Some(defect)));
                }
                if row.get::<Sha256Digest>("previous_hash")? != hash {
                    let defect = LedgerDefect::Unlinked { seq: defect_seq };
                    return Ok(verdict(sound, Some(defect)));
                }
                let sealed = entry.seal(&hash);
                if row.get::<Sha256Digest>("hash")? != sealed {
                    let defect = LedgerDefect::Altered { seq: defect_seq };
                    return Ok(verdict(sound, Some(defect)));
                }
                for anchor in anchors.into_iter().flatten() {
                    if anchor.seq == defect_seq && anchor.hash != sealed {
                        let defect = LedgerDefect::Replaced { seq: defect_seq };
                        return Ok(verdict(sound, Some(defect)));
                    }
                }
                hash = sealed;
                sound = seq;
            }
            if rows.len() < PAGE as usize {
                break;
            }
        }
        let promised = anchors.into_iter().flatten().map(|anchor| anchor.seq).max().unwrap_or(0);
        let is_cut = promised > sound as u64;
        let defect = is_cut.then_some(LedgerDefect::Missing { seq: sound as u64 + 1 });
        Ok(verdict(sound, defect))
    }
}
