//! Recording instances: new ones, duplicates, conflicts, and results of ours that come back.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use dicom_types::{
    Phi, SeriesInstanceUid, SopClassUid, SopInstanceUid, StudyInstanceUid, TransferSyntaxUid,
};
use serde_json::json;

use crate::digest::Sha256Digest;
use crate::provenance::{Event, EventKind, ReasonCode};
use crate::spool::SpoolKey;
use crate::store::sql::{Transaction, Value, places, shape, values};
use crate::store::{DatabaseError, Store};

use super::AssociationId;

/// What identifies the patient of a study; empty where it was absent. Kept in one restricted table.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PatientIdentity {
    /// Patient ID (0010,0020).
    pub patient_id: Phi<String>,
    /// Accession Number (0008,0050).
    pub accession_number: Phi<String>,
}

/// An instance whose bytes are durable in the spool.
#[derive(Debug, Clone, PartialEq)]
pub struct NewInstance {
    /// Its study.
    pub study_instance_uid: StudyInstanceUid,
    /// Its series.
    pub series_instance_uid: SeriesInstanceUid,
    /// Itself.
    pub sop_instance_uid: SopInstanceUid,
    /// Its SOP Class.
    pub sop_class_uid: SopClassUid,
    /// The syntax it was received and is kept in.
    pub transfer_syntax_uid: TransferSyntaxUid,
    /// Modality (0008,0060), as it came.
    pub modality: Option<String>,
    /// Instance Number (0020,0013).
    pub instance_number: Option<i64>,
    /// Digest of its data set.
    pub sha256: Sha256Digest,
    /// Bytes of its data set.
    pub size_bytes: u64,
    /// Where its bytes are.
    pub spool_key: SpoolKey,
    /// The association that brought it.
    pub association_id: Option<AssociationId>,
    /// Whose it is.
    pub identity: PatientIdentity,
    /// Header facts for routing, kept with the first instance of a series in a restricted table.
    pub header_facts: Option<Phi<serde_json::Value>>,
}

/// What an instance turned out to be. All of them are a success to the sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstanceOutcome {
    /// New.
    New,
    /// The same bytes as before, which are under `kept_at`.
    Duplicate {
        /// Where the first copy is.
        kept_at: SpoolKey,
    },
    /// Another instance has its UID. Both are kept; only the first takes part in jobs.
    Conflict {
        /// What differs.
        reason_code: ReasonCode,
    },
    /// A result of ours that came back. Its bytes are not needed.
    OwnResult,
}

impl Store {
    /// Records a batch of instances in one transaction; the outcomes are in the order of `batch`.
    ///
    /// Only new instances change a series: neither a duplicate nor a conflict nor a result of ours makes it unsettled.
    ///
    /// # Errors
    /// Where the database cannot do it; then nothing of the batch is recorded.
    pub async fn record_instances(
        &self,
        batch: &[NewInstance],
    ) -> Result<Vec<InstanceOutcome>, DatabaseError> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let mut transaction = self.begin().await?;
        let own = own_results(&mut transaction, batch).await?;
        let foreign: Vec<&NewInstance> =
            batch.iter().filter(|instance| !own.contains(&instance.sop_instance_uid)).collect();
        upsert_studies(&mut transaction, &foreign).await?;
        insert_identities(&mut transaction, &foreign).await?;
        let studies = insert_series(&mut transaction, &foreign).await?;
        let added = insert_instances(&mut transaction, &foreign, &studies).await?;
        let outcomes = classify(&mut transaction, batch, &own, &added).await?;
        note_copies(&mut transaction, batch, &outcomes).await?;
        advance_series(&mut transaction, batch, &outcomes).await?;
        count_for_associations(&mut transaction, batch).await?;
        transaction.commit().await?;
        Ok(outcomes)
    }
}

/// A place in the batch stands for the instance, because one UID may come twice in it.
type Added = BTreeSet<usize>;

async fn own_results(
    transaction: &mut Transaction,
    batch: &[NewInstance],
) -> Result<BTreeSet<SopInstanceUid>, DatabaseError> {
    let uids: BTreeSet<&str> =
        batch.iter().map(|instance| instance.sop_instance_uid.as_str()).collect();
    let statement = format!(
        "select sop_instance_uid from result where sop_instance_uid in {}",
        places(0, 1, uids.len())
    );
    let rows = transaction.rows(statement, uids.into_iter().map(Value::from).collect()).await?;
    rows.iter().map(|row| row.parse("sop_instance_uid")).collect()
}

async fn upsert_studies(
    transaction: &mut Transaction,
    instances: &[&NewInstance],
) -> Result<(), DatabaseError> {
    let now = transaction.now();
    let studies: BTreeSet<&StudyInstanceUid> =
        instances.iter().map(|instance| &instance.study_instance_uid).collect();
    for study in studies {
        transaction
            .execute(
                "insert into study (study_instance_uid, first_received_at, last_received_at) values ($1, $2, $2) \
                 on conflict (study_instance_uid) do update set last_received_at = excluded.last_received_at",
                values![study.as_str(), now],
            )
            .await?;
    }
    Ok(())
}

async fn insert_identities(
    transaction: &mut Transaction,
    instances: &[&NewInstance],
) -> Result<(), DatabaseError> {
    let now = transaction.now();
    let identities: BTreeSet<(&StudyInstanceUid, &PatientIdentity)> = instances
        .iter()
        .map(|instance| (&instance.study_instance_uid, &instance.identity))
        .collect();
    for (study, identity) in identities {
        let added = transaction
            .execute(
                "insert into patient_identity (study_instance_uid, patient_id, accession_number, recorded_at) \
                 values ($1, $2, $3, $4) \
                 on conflict (study_instance_uid, patient_id, accession_number) do nothing",
                values![
                    study.as_str(),
                    without_nul(identity.patient_id.expose()),
                    without_nul(identity.accession_number.expose()),
                    now,
                ],
            )
            .await?;
        if added == 0 {
            continue;
        }
        let row = transaction
            .row(
                "select count(*) as known from patient_identity where study_instance_uid = $1",
                values![study.as_str()],
            )
            .await?
            .ok_or_else(|| shape("known"))?;
        if row.get::<i64>("known")? > 1 {
            let mut event = Event::new(EventKind::IdentityDiffers);
            event.study_instance_uid = Some(study.clone());
            transaction.record(event);
        }
    }
    Ok(())
}

/// Inserts series that are new, and returns the study that each series of the batch belongs to.
async fn insert_series(
    transaction: &mut Transaction,
    instances: &[&NewInstance],
) -> Result<BTreeMap<SeriesInstanceUid, StudyInstanceUid>, DatabaseError> {
    let now = transaction.now();
    let mut first_of_series: BTreeMap<&SeriesInstanceUid, &NewInstance> = BTreeMap::new();
    for instance in instances {
        first_of_series.entry(&instance.series_instance_uid).or_insert(instance);
    }
    let mut studies = BTreeMap::new();
    for (series, first) in first_of_series {
        let modality = first.modality.as_deref().map(without_nul);
        let modality = modality.filter(|modality| (1..=16).contains(&modality.chars().count()));
        let inserted = transaction
            .execute(
                "insert into series (series_instance_uid, study_instance_uid, modality, first_received_at, \
                 last_received_at) values ($1, $2, $3, $4, $4) \
                 on conflict (series_instance_uid) do nothing",
                values![series.as_str(), first.study_instance_uid.as_str(), modality, now],
            )
            .await?;
        if let (1, Some(facts)) = (inserted, &first.header_facts) {
            transaction
                .execute(
                    "insert into header_fact (series_instance_uid, facts, recorded_at) values ($1, $2, $3)",
                    values![series.as_str(), storable(facts.expose()), now],
                )
                .await?;
        }
        let row = transaction
            .row(
                "select study_instance_uid from series where series_instance_uid = $1",
                values![series.as_str()],
            )
            .await?
            .ok_or_else(|| shape("study_instance_uid"))?;
        studies.insert(series.clone(), row.parse("study_instance_uid")?);
    }
    Ok(studies)
}

/// Inserts instances whose UID is new and whose series is where it was; returns the UIDs inserted.
async fn insert_instances(
    transaction: &mut Transaction,
    instances: &[&NewInstance],
    studies: &BTreeMap<SeriesInstanceUid, StudyInstanceUid>,
) -> Result<BTreeSet<SopInstanceUid>, DatabaseError> {
    const WIDTH: usize = 10;
    let now = transaction.now();
    let mut candidates: BTreeMap<&SopInstanceUid, &NewInstance> = BTreeMap::new();
    for instance in instances {
        let study = studies.get(&instance.series_instance_uid);
        if study == Some(&instance.study_instance_uid) {
            candidates.entry(&instance.sop_instance_uid).or_insert(instance);
        }
    }
    let candidates: Vec<&NewInstance> = candidates.into_values().collect();
    let mut added = BTreeSet::new();
    for candidates in candidates.chunks(200) {
        let mut bound = Vec::with_capacity(candidates.len() * WIDTH);
        for instance in candidates {
            bound.extend(values![
                instance.sop_instance_uid.as_str(),
                instance.series_instance_uid.as_str(),
                instance.sop_class_uid.as_str(),
                instance.transfer_syntax_uid.as_str(),
                instance.instance_number,
                instance.sha256,
                instance.size_bytes,
                instance.spool_key.as_str(),
                now,
                instance.association_id.map(uuid::Uuid::from),
            ]);
        }
        let statement = format!(
            "insert into instance (sop_instance_uid, series_instance_uid, sop_class_uid, transfer_syntax_uid, \
             instance_number, sha256, size_bytes, spool_key, received_at, association_id) values {} \
             on conflict do nothing \
             returning sop_instance_uid",
            places(0, candidates.len(), WIDTH)
        );
        for row in transaction.rows(statement, bound).await? {
            added.insert(row.parse("sop_instance_uid")?);
        }
    }
    Ok(added)
}

struct Kept {
    series_instance_uid: String,
    sha256: Sha256Digest,
    spool_key: SpoolKey,
}

async fn kept_instances(
    transaction: &mut Transaction,
    batch: &[NewInstance],
) -> Result<HashMap<String, Kept>, DatabaseError> {
    let uids: BTreeSet<&str> =
        batch.iter().map(|instance| instance.sop_instance_uid.as_str()).collect();
    let statement = format!(
        "select sop_instance_uid, series_instance_uid, sha256, spool_key from instance \
          where sop_instance_uid in {}",
        places(0, 1, uids.len())
    );
    let rows = transaction.rows(statement, uids.into_iter().map(Value::from).collect()).await?;
    let mut kept = HashMap::with_capacity(rows.len());
    for row in &rows {
        kept.insert(
            row.get("sop_instance_uid")?,
            Kept {
                series_instance_uid: row.get("series_instance_uid")?,
                sha256: row.get("sha256")?,
                spool_key: row.parse("spool_key")?,
            },
        );
    }
    Ok(kept)
}

async fn classify(
    transaction: &mut Transaction,
    batch: &[NewInstance],
    own: &BTreeSet<SopInstanceUid>,
    added: &BTreeSet<SopInstanceUid>,
) -> Result<Vec<InstanceOutcome>, DatabaseError> {
    let kept = kept_instances(transaction, batch).await?;
    let mut first_places = Added::new();
    let mut seen = BTreeSet::new();
    for (place, instance) in batch.iter().enumerate() {
        let is_kept_here = kept
            .get(instance.sop_instance_uid.as_str())
            .is_some_and(|kept| kept.spool_key == instance.spool_key);
        let is_added = added.contains(&instance.sop_instance_uid) && is_kept_here;
        if is_added && seen.insert(&instance.sop_instance_uid) {
            first_places.insert(place);
        }
    }
    let outcome = |(place, instance): (usize, &NewInstance)| {
        if own.contains(&instance.sop_instance_uid) {
            return InstanceOutcome::OwnResult;
        }
        if first_places.contains(&place) {
            return InstanceOutcome::New;
        }
        let Some(kept) = kept.get(instance.sop_instance_uid.as_str()) else {
            return InstanceOutcome::Conflict { reason_code: ReasonCode::CONFLICTING_PARENT };
        };
        if kept.series_instance_uid != instance.series_instance_uid.as_str() {
            return InstanceOutcome::Conflict { reason_code: ReasonCode::CONFLICTING_PARENT };
        }
        if kept.sha256 != instance.sha256 {
            return InstanceOutcome::Conflict { reason_code: ReasonCode::CONFLICTING_DIGEST };
        }
        InstanceOutcome::Duplicate { kept_at: kept.spool_key.clone() }
    };
    Ok(batch.iter().enumerate().map(outcome).collect())
}

async fn note_copies(
    transaction: &mut Transaction,
    batch: &[NewInstance],
    outcomes: &[InstanceOutcome],
) -> Result<(), DatabaseError> {
    let now = transaction.now();
    for (instance, outcome) in batch.iter().zip(outcomes) {
        let (kind, reason_code, spool_key) = match outcome {
            InstanceOutcome::New => continue,
            InstanceOutcome::Duplicate { kept_at } => {
                // The bytes are in the spool again, should they have been purged.
                if *kept_at == instance.spool_key {
                    transaction
                        .execute(
                            "update instance set purged_at = null \
                              where sop_instance_uid = $1 and purged_at is not null",
                            values![instance.sop_instance_uid.as_str()],
                        )
                        .await?;
                }
                ("duplicate", ReasonCode::DUPLICATE_INSTANCE, None)
            }
            InstanceOutcome::Conflict { reason_code } => {
                ("conflict", reason_code.clone(), Some(instance.spool_key.as_str()))
            }
            InstanceOutcome::OwnResult => ("own_result", ReasonCode::OWN_RESULT, None),
        };
        transaction
            .execute(
                "insert into instance_copy (sop_instance_uid, study_instance_uid, series_instance_uid, kind, \
                 reason_code, transfer_syntax_uid, sha256, size_bytes, spool_key, received_at, association_id) \
                 values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
                values![
                    instance.sop_instance_uid.as_str(),
                    instance.study_instance_uid.as_str(),
                    instance.series_instance_uid.as_str(),
                    kind,
                    reason_code.as_str(),
                    instance.transfer_syntax_uid.as_str(),
                    instance.sha256,
                    instance.size_bytes,
                    spool_key,
                    now,
                    instance.association_id.map(uuid::Uuid::from),
                ],
            )
            .await?;
        let kind = match outcome {
            InstanceOutcome::Conflict { .. } => EventKind::InstanceConflict,
            InstanceOutcome::OwnResult => EventKind::OwnResultReturned,
            InstanceOutcome::New | InstanceOutcome::Duplicate { .. } => continue,
        };
        let event = Event::new(kind)
            .because(reason_code)
            .of_series(&instance.study_instance_uid, &instance.series_instance_uid)
            .of_instance(&instance.sop_instance_uid)
            .of_association(instance.association_id)
            .with(json!({ "sha256": instance.sha256.to_string() }));
        transaction.record(event);
    }
    Ok(())
}

/// Counts new instances for their series, which become unsettled, and records one event for each series and
/// association of the batch.
async fn advance_series(
    transaction: &mut Transaction,
    batch: &[NewInstance],
    outcomes: &[InstanceOutcome],
) -> Result<(), DatabaseError> {
    #[derive(Default)]
    struct Arrived {
        new: Vec<String>,
        duplicates: u64,
        sop_classes: BTreeMap<String, u64>,
    }
    let now = transaction.now();
    let mut arrivals: BTreeMap<_, Arrived> = BTreeMap::new();
    for (instance, outcome) in batch.iter().zip(outcomes) {
        let key =
            (&instance.series_instance_uid, &instance.study_instance_uid, instance.association_id);
        let is_told = matches!(outcome, InstanceOutcome::New | InstanceOutcome::Duplicate { .. });
        if is_told {
            let sop_classes = &mut arrivals.entry(key).or_default().sop_classes;
            *sop_classes.entry(instance.sop_class_uid.to_string()).or_default() += 1;
        }
        match outcome {
            InstanceOutcome::New => {
                let line = format!("{} {}\n", instance.sop_instance_uid, instance.sha256);
                arrivals.entry(key).or_default().new.push(line);
            }
            InstanceOutcome::Duplicate { .. } => arrivals.entry(key).or_default().duplicates += 1,
            InstanceOutcome::Conflict { .. } | InstanceOutcome::OwnResult => {}
        }
    }
    for ((series, study, association_id), mut arrived) in arrivals {
        let count = arrived.new.len() as u64;
        if count > 0 {
            transaction
                .execute(
                    "update series set instance_count = instance_count + $1, revision = revision + 1, \
                            last_received_at = $2 \
                      where series_instance_uid = $3",
                    values![count, now, series.as_str()],
                )
                .await?;
        }
        arrived.new.sort_unstable();
        let instances_sha256 = Sha256Digest::of(arrived.new.concat().as_bytes());
        let event = Event::new(EventKind::InstancesReceived)
            .of_series(study, series)
            .of_association(association_id)
            .with(json!({
                "new": count, "duplicates": arrived.duplicates, "sop_classes": arrived.sop_classes,
                "instances_sha256": instances_sha256.to_string(),
            }));
        transaction.record(event);
    }
    Ok(())
}

async fn count_for_associations(
    transaction: &mut Transaction,
    batch: &[NewInstance],
) -> Result<(), DatabaseError> {
    let mut counts: BTreeMap<AssociationId, (u64, u64)> = BTreeMap::new();
    for instance in batch {
        if let Some(id) = instance.association_id {
            let (count, size_bytes) = counts.entry(id).or_default();
            *count += 1;
            *size_bytes += instance.size_bytes;
        }
    }
    for (id, (count, size_bytes)) in counts {
        transaction
            .execute(
                "update association set instance_count = instance_count + $1, received_bytes = received_bytes + $2 \
                  where association_id = $3",
                values![count, size_bytes, *id.as_uuid()],
            )
            .await?;
    }
    Ok(())
}

/// PostgreSQL has no NUL in text; a peer may send one.
fn without_nul(text: &str) -> String {
    text.replace('\0', "")
}

fn storable(facts: &serde_json::Value) -> serde_json::Value {
    use serde_json::Value as Json;
    match facts {
        Json::String(text) => Json::String(without_nul(text)),
        Json::Array(items) => Json::Array(items.iter().map(storable).collect()),
        Json::Object(members) => Json::Object(
            members.iter().map(|(name, value)| (without_nul(name), storable(value))).collect(),
        ),
        other => other.clone(),
    }
}
