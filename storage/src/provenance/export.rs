//! The ledger as it leaves the database: every entry with the very texts that were sealed.

use serde_json::json;

use crate::store::sql::{Row, values};
use crate::store::{DatabaseError, Store};

use super::chain::StoredEntry;
use super::event::event_columns;
use super::root::hex_text;

/// An entry as one line of JSON. `detail` is a text, since the hash covers its bytes; nothing is made to look better
/// than it is stored, so that an entry that was changed is exported as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportedEntry {
    /// Place in the ledger.
    pub seq: i64,
    /// An object with the columns of the entry, without a line feed.
    pub line: String,
}

impl Store {
    /// Up to `limit` entries behind `after_seq`, in their order; from [`i64::MIN`] on, all.
    ///
    /// # Errors
    /// Where the database cannot answer.
    pub async fn export_ledger(
        &self,
        after_seq: i64,
        limit: u32,
    ) -> Result<Vec<ExportedEntry>, DatabaseError> {
        let rows = self.stored_entries(after_seq, limit).await?;
        rows.iter().map(|row| Ok(exported(&StoredEntry::read(row)?))).collect()
    }

    /// Rows of up to `limit` entries behind `after_seq`, in their order, for [`StoredEntry::read`]: one that cannot be
    /// read hides nothing of those before it.
    pub(super) async fn stored_entries(
        &self,
        after_seq: i64,
        limit: u32,
    ) -> Result<Vec<Row>, DatabaseError> {
        let statement = concat!(
            "select ",
            event_columns!(),
            " from event where seq > $1 order by seq limit $2"
        );
        self.pool.rows(statement, values![after_seq, limit]).await
    }
}

fn exported(stored: &StoredEntry) -> ExportedEntry {
    let [kind, reason, actor, study, series, instance, job, association, destination, detail] =
        &stored.entry.texts;
    let seq = stored.entry.seq;
    let object = json!({
        "seq": seq,
        "recorded_at": stored.entry.recorded_at,
        "kind": kind,
        "reason_code": reason,
        "actor": actor,
        "study_instance_uid": study,
        "series_instance_uid": series,
        "sop_instance_uid": instance,
        "job_id": job,
        "association_id": association,
        "destination": destination,
        "detail": detail,
        "previous_hash": hex_text(&stored.previous_hash),
        "hash": hex_text(&stored.hash),
    });
    ExportedEntry { seq, line: object.to_string() }
}
