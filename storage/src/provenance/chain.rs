//! The hash chain: how an entry is turned into bytes and sealed.
//!
//! The sealed bytes of an entry are its columns in the order of the table, from `seq` to `detail`, each written as its
//! length in decimal, a colon, its UTF-8 text and a comma; an absent value is a minus sign and a comma. The hash is
//! SHA-256 over the 32 bytes of the previous entry's hash and these bytes. The first entry follows 32 zero bytes.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::digest::Sha256Digest;
use crate::store::DatabaseError;
use crate::store::instant::to_text;
use crate::store::sql::{Row, Statement, Transaction, Value, places, values};

use super::Event;

/// Columns of `event`, and how many rows go into one insert.
const WIDTH: usize = 14;
const ROWS: usize = 100;
/// Entries of a statement that connections keep prepared.
const FEW: usize = 8;

/// The text columns of an entry, exactly as stored.
pub(crate) struct Entry {
    pub(crate) seq: i64,
    /// UTC, as [`to_text`] writes it.
    pub(crate) recorded_at: String,
    /// From `kind` to `detail`, in the order of the table.
    pub(crate) texts: [Option<String>; 10],
}

/// A row of the ledger, whatever somebody may have put into it.
pub(crate) struct StoredEntry {
    pub(crate) entry: Entry,
    pub(crate) previous_hash: Vec<u8>,
    pub(crate) hash: Vec<u8>,
}

impl StoredEntry {
    pub(crate) fn read(row: &Row) -> Result<Self, DatabaseError> {
        let id = |column| row.stored_text(column, |id: Uuid| id.to_string());
        let entry = Entry {
            seq: row.get("seq")?,
            recorded_at: row.stored_text("recorded_at", to_text)?.unwrap_or_default(),
            texts: [
                row.get("kind")?,
                row.get("reason_code")?,
                row.get("actor")?,
                row.get("study_instance_uid")?,
                row.get("series_instance_uid")?,
                row.get("sop_instance_uid")?,
                id("job_id")?,
                id("association_id")?,
                row.get("destination")?,
                row.get("detail")?,
            ],
        };
        Ok(Self { entry, previous_hash: row.get("previous_hash")?, hash: row.get("hash")? })
    }
}

impl Entry {
    fn new(seq: i64, recorded_at: OffsetDateTime, actor: &str, event: &Event) -> Self {
        let texts = [
            Some(event.kind.to_string()),
            event.reason_code.as_ref().map(ToString::to_string),
            Some(actor.to_owned()),
            event.study_instance_uid.as_ref().map(ToString::to_string),
            event.series_instance_uid.as_ref().map(ToString::to_string),
            event.sop_instance_uid.as_ref().map(ToString::to_string),
            event.job_id.map(|id| id.to_string()),
            event.association_id.map(|id| id.to_string()),
            event.destination.clone(),
            Some(event.detail.to_string()),
        ];
        Self { seq, recorded_at: to_text(recorded_at), texts }
    }

    /// The hash that seals this entry behind the one with `previous` hash.
    pub(crate) fn seal(&self, previous: &Sha256Digest) -> Sha256Digest {
        let seq = Some(self.seq.to_string());
        let recorded_at = Some(&self.recorded_at);
        let mut sealed = String::new();
        let texts = self.texts.iter().map(Option::as_ref);
        for text in [seq.as_ref(), recorded_at].into_iter().chain(texts) {
            match text {
                Some(text) => {
                    let _ = write!(sealed, "{}:{text},", text.len());
                }
                None => sealed.push_str("-,"),
            }
        }
        let mut hash = Sha256::new();
        hash.update(previous.as_bytes());
        hash.update(sealed.as_bytes());
        Sha256Digest::from(<[u8; 32]>::from(hash.finalize()))
    }
}

/// Appends `events` in their order, holding the ledger's head until the transaction ends.
pub(crate) async fn append(
    transaction: &mut Transaction,
    actor: &str,
    events: &[Event],
) -> Result<(), DatabaseError> {
    if events.is_empty() {
        return Ok(());
    }
    let head = transaction
        .row(
            Statement::Each {
                postgres: "select seq, hash, recorded_at from ledger_head where head_id = 1 for update",
                sqlite: "select seq, hash, recorded_at from ledger_head where head_id = 1",
            },
            values![],
        )
        .await?
        .ok_or(DatabaseError::Shape { column: "head_id".to_owned() })?;
    let mut seq: i64 = head.get("seq")?;
    let mut hash: Sha256Digest = head.get("hash")?;
    let recorded_at = transaction.now().max(head.get("recorded_at")?);

    // The head is held until the commit, and every process waits for it: as few statements as there can be.
    let chunks = events.chunks(ROWS);
    let last = chunks.len() - 1;
    for (index, events) in chunks.enumerate() {
        let mut bound = Vec::with_capacity(events.len() * WIDTH + 3);
        for event in events {
            seq += 1;
            let entry = Entry::new(seq, recorded_at, actor, event);
            let previous_hash = hash;
            hash = entry.seal(&previous_hash);
            let [kind, reason, actor, study, series, instance, _, _, destination, detail] =
                entry.texts;
            bound.extend(values![seq, recorded_at, kind, reason, actor, study, series, instance]);
            bound.push(Value::Uuid(event.job_id.map(Into::into)));
            bound.push(Value::Uuid(event.association_id.map(Into::into)));
            bound.extend(values![destination, detail, previous_hash, hash]);
        }
        let insert = format!(
            "insert into event (seq, recorded_at, kind, reason_code, actor, study_instance_uid, \
             series_instance_uid, sop_instance_uid, job_id, association_id, destination, detail, previous_hash, hash) \
             values {}",
            places(0, events.len(), WIDTH)
        );
        let advance = |from: usize| {
            let [seq, hash, recorded_at] = [from + 1, from + 2, from + 3];
            format!(
                "update ledger_head set seq = ${seq}, hash = ${hash}, recorded_at = ${recorded_at} where head_id = 1"
            )
        };
        let keep = |text| if events.len() <= FEW { Statement::Kept(text) } else { text.into() };
        let head = values![seq, hash, recorded_at];
        if index < last {
            transaction.execute(insert, bound).await?;
        } else if transaction.is_postgres() {
            let text = format!("with appended as ({insert}) {}", advance(bound.len()));
            bound.extend(head);
            transaction.execute(keep(text), bound).await?;
        } else {
            transaction.execute(keep(insert), bound).await?;
            transaction.execute(Statement::Kept(advance(0)), head).await?;
        }
    }
    Ok(())
}
