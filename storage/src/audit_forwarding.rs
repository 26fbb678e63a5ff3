//! How the audit repository hears of the ledger, whose entries are the outbox of audit messages: what a message tells was
//! committed with what happened, and waiting takes no room.
//!
//! A batch is a stretch of the ledger, and stays the same stretch until it is confirmed, whoever sends it: its messages
//! keep their numbers.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use dicom_types::{SopClassUid, SopInstanceUid, StudyInstanceUid};
use uuid::Uuid;

use crate::intake::{AssociationId, PatientIdentity};
use crate::provenance::{EventKind, RecordedEvent, event_columns, recorded_event};
use crate::store::sql::{Row, Statement, Transaction, Value, places, values};
use crate::store::{DatabaseError, Store};

/// Values in one list of a statement.
const LIST: usize = 500;

/// A stretch of the ledger that is to be told.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditBatch {
    /// Its entries of the kinds that were asked for, in their order.
    pub entries: Vec<AuditEntry>,
    /// Messages confirmed before it.
    pub messages_before: u64,
    /// Entries of the ledger behind it.
    pub behind: u64,
    until_seq: u64,
    forwarder: String,
}

/// An entry of the ledger with what a message about it needs to name.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditEntry {
    /// The entry.
    pub recorded: RecordedEvent,
    /// Its association, where it has one.
    pub association: Option<AuditAssociation>,
    /// SOP class of the result that it is about.
    pub result_sop_class_uid: Option<SopClassUid>,
    /// Whose study it is about, where identifiers may leave.
    pub identities: Vec<PatientIdentity>,
}

/// Who called whom, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditAssociation {
    /// Calling AE title.
    pub calling_ae_title: String,
    /// Called AE title.
    pub called_ae_title: String,
    /// Address of the caller.
    pub peer_address: String,
}

impl Store {
    /// Has audit messages begin with the next entry of the ledger, if they have not begun yet.
    ///
    /// # Errors
    /// Where the database cannot do it.
    pub async fn begin_forwarding(&self) -> Result<(), DatabaseError> {
        let mut transaction = self.begin().await?;
        transaction
            .execute(
                "insert into audit_forwarding (forwarding_id, forwarded_seq, message_count) \
                 select 1, seq, 0 from ledger_head where head_id = 1 \
                 on conflict (forwarding_id) do nothing",
                values![],
            )
            .await?;
        transaction.commit().await
    }

    /// Takes the next stretch of the ledger, up to `limit` entries, unless another process has it; after `claim` anybody
    /// may have it. Entries of other than `kinds` are passed over. `identified`: with patient ids and accession numbers.
    ///
    /// # Errors
    /// Where the database cannot do it.
    pub async fn take_audit_batch(
        &self,
        kinds: &[EventKind],
        limit: u32,
        claim: Duration,
        identified: bool,
    ) -> Result<Option<AuditBatch>, DatabaseError> {
        let mut transaction = self.begin().await?;
        let now = transaction.now();
        let row = transaction
            .row(
                Statement::Each {
                    postgres: "select forwarded_seq, message_count, until_seq, claimed_by, \
                                      coalesce(claimed_until > $1, false) as is_claimed, ledger_head.seq as head_seq \
                                 from audit_forwarding cross join ledger_head \
                                where forwarding_id = 1 \
                                  for update of audit_forwarding",
                    sqlite: "select forwarded_seq, message_count, until_seq, claimed_by, \
                                    coalesce(claimed_until > $1, false) as is_claimed, ledger_head.seq as head_seq \
                               from audit_forwarding cross join ledger_head \
                              where forwarding_id = 1",
                },
                values![now],
            )
            .await?;
        let Some(row) = row else { return Ok(None) };
        let forwarded: i64 = row.get("forwarded_seq")?;
        let head: i64 = row.get("head_seq")?;
        let is_ours = row.get::<Option<String>>("claimed_by")?.as_deref() == Some(&self.actor);
        if forwarded >= head || (row.get::<bool>("is_claimed")? && !is_ours) {
            return Ok(None);
        }
        let begun: Option<i64> = row.get("until_seq")?;
        let until = begun.unwrap_or_else(|| head.min(forwarded + i64::from(limit)));
        transaction
            .execute(
                "update audit_forwarding set until_seq = $1, claimed_by = $2, claimed_until = $3 \
                  where forwarding_id = 1",
                values![until, &self.actor, now + claim],
            )
            .await?;
        let entries = entries(&mut transaction, kinds, forwarded, until, identified).await?;
        transaction.commit().await?;
        Ok(Some(AuditBatch {
            entries,
            messages_before: row.get::<i64>("message_count")? as u64,
            behind: (head - until) as u64,
            until_seq: until as u64,
            forwarder: self.actor.clone(),
        }))
    }

    /// Records that the audit repository has the messages about `batch`, `messages` of them. Nothing happens where another
    /// process has taken the batch meanwhile.
    ///
    /// # Errors
    /// Where the database cannot do it: then the batch is sent again.
    pub async fn confirm_audit_batch(
        &self,
        batch: &AuditBatch,
        messages: u64,
    ) -> Result<(), DatabaseError> {
        let mut transaction = self.begin().await?;
        transaction
            .execute(
                "update audit_forwarding \
                    set forwarded_seq = $1, message_count = message_count + $2, until_seq = null, claimed_by = null, \
                        claimed_until = null \
                  where forwarding_id = 1 and until_seq = $1 and claimed_by = $3",
                values![batch.until_seq, messages, &batch.forwarder],
            )
            .await?;
        transaction.commit().await
    }
}

async fn entries(
    transaction: &mut Transaction,
    kinds: &[EventKind],
    after: i64,
    until: i64,
    identified: bool,
) -> Result<Vec<AuditEntry>, DatabaseError> {
    let mut bound = values![after, until];
    bound.extend(kinds.iter().map(|kind| Value::from(kind.as_str())));
    let statement = format!(
        "select {} from event where seq > $1 and seq <= $2 and kind in {} order by seq",
        event_columns!(),
        places(2, 1, kinds.len())
    );
    let rows = transaction.rows(statement, bound).await?;
    let events: Vec<RecordedEvent> = rows.iter().map(recorded_event).collect::<Result<_, _>>()?;
    let associations = associations(transaction, &events).await?;
    let result_classes = result_classes(transaction, &events).await?;
    let identities =
        if identified { identities(transaction, &events).await? } else { HashMap::new() };
    let entry = |recorded: RecordedEvent| {
        let event = &recorded.event;
        let association = event.association_id.and_then(|id| associations.get(&id).cloned());
        let result = event.sop_instance_uid.as_ref();
        let result_sop_class_uid = result.and_then(|uid| result_classes.get(uid.as_str()).cloned());
        let study = event.study_instance_uid.as_ref();
        let identities = study.and_then(|study| identities.get(study).cloned()).unwrap_or_default();
        AuditEntry { recorded, association, result_sop_class_uid, identities }
    };
    Ok(events.into_iter().map(entry).collect())
}

async fn associations(
    transaction: &mut Transaction,
    events: &[RecordedEvent],
) -> Result<HashMap<AssociationId, AuditAssociation>, DatabaseError> {
    let ids: BTreeSet<Uuid> =
        events.iter().filter_map(|e| e.event.association_id).map(Uuid::from).collect();
    let text = "select association_id, calling_ae_title, called_ae_title, peer_address from association \
                 where association_id in";
    let mut found = HashMap::new();
    for row in listed(transaction, text, ids.into_iter().map(Value::from).collect()).await? {
        let association = AuditAssociation {
            calling_ae_title: row.get("calling_ae_title")?,
            called_ae_title: row.get("called_ae_title")?,
            peer_address: row.get("peer_address")?,
        };
        found.insert(row.get::<Uuid>("association_id")?.into(), association);
    }
    Ok(found)
}

async fn result_classes(
    transaction: &mut Transaction,
    events: &[RecordedEvent],
) -> Result<HashMap<String, SopClassUid>, DatabaseError> {
    let sent = events.iter().filter(|e| e.event.destination.is_some());
    let uids: BTreeSet<&SopInstanceUid> =
        sent.filter_map(|e| e.event.sop_instance_uid.as_ref()).collect();
    let uids = uids.into_iter().map(|uid| Value::from(uid.as_str())).collect();
    let text = "select sop_instance_uid, sop_class_uid from result where sop_instance_uid in";
    let mut found = HashMap::new();
    for row in listed(transaction, text, uids).await? {
        found.insert(row.get("sop_instance_uid")?, row.parse("sop_class_uid")?);
    }
    Ok(found)
}

async fn identities(
    transaction: &mut Transaction,
    events: &[RecordedEvent],
) -> Result<HashMap<StudyInstanceUid, Vec<PatientIdentity>>, DatabaseError> {
    let studies: BTreeSet<&StudyInstanceUid> =
        events.iter().filter_map(|e| e.event.study_instance_uid.as_ref()).collect();
    let text = "select study_instance_uid, patient_id, accession_number from patient_identity \
                 where study_instance_uid in";
    let mut found: HashMap<_, Vec<_>> = HashMap::new();
    let studies = studies.into_iter().map(|uid| Value::from(uid.as_str())).collect();
    for row in listed(transaction, text, studies).await? {
        let identity = PatientIdentity {
            patient_id: row.get::<String>("patient_id")?.into(),
            accession_number: row.get::<String>("accession_number")?.into(),
        };
        found.entry(row.parse("study_instance_uid")?).or_default().push(identity);
    }
    for identities in found.values_mut() {
        let key = |identity: &PatientIdentity| {
            (identity.patient_id.expose().clone(), identity.accession_number.expose().clone())
        };
        identities.sort_by_key(key);
    }
    Ok(found)
}

/// Rows of a statement that ends in `in`, asked for a list of values.
async fn listed(
    transaction: &mut Transaction,
    text: &'static str,
    values: Vec<Value>,
) -> Result<Vec<Row>, DatabaseError> {
    let mut rows = Vec::new();
    for values in values.chunks(LIST) {
        let statement = format!("{text} {}", places(0, 1, values.len()));
        rows.extend(transaction.rows(statement, values.to_vec()).await?);
    }
    Ok(rows)
}
