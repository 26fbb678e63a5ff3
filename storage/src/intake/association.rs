//! Associations: who connected, when, and how it ended.

use std::net::IpAddr;

use dicom_types::AeTitle;
use serde_json::json;
use uuid::Uuid;

use crate::ids::id;
use crate::provenance::{Event, EventKind, ReasonCode};
use crate::store::sql::values;
use crate::store::{DatabaseError, Store};
use crate::words::words;

id! {
    /// Identifier of an association.
    AssociationId
}

/// An association that a peer asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAssociation {
    /// Name of the listener process, the same after its restart.
    pub listener: String,
    /// Who called.
    pub calling_ae_title: AeTitle,
    /// Whom they called.
    pub called_ae_title: AeTitle,
    /// From where.
    pub peer_address: IpAddr,
}

words! {
    /// How an association stands or ended.
    AssociationOutcome, ParseAssociationOutcomeError;
    /// It goes on.
    Open = "open",
    /// The peer released it.
    Released = "released",
    /// One side aborted it.
    Aborted = "aborted",
    /// The connection broke, or the listener that held it is gone.
    Lost = "lost",
    /// It was refused.
    Rejected = "rejected",
}

/// How an association ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssociationEnd {
    /// Released, aborted or lost.
    pub outcome: AssociationOutcome,
    /// Why, where it was not released.
    pub reason_code: Option<ReasonCode>,
    /// C-STORE requests that were not answered with success.
    pub refused_count: u64,
}

impl Store {
    /// Records that an association was accepted.
    ///
    /// # Errors
    /// Where the database cannot do it: then the association is better refused, transiently.
    pub async fn open_association(
        &self,
        association: &NewAssociation,
    ) -> Result<AssociationId, DatabaseError> {
        let id = AssociationId(Uuid::new_v4());
        let mut transaction = self.begin().await?;
        let now = transaction.now();
        transaction
            .execute(
                "insert into association (association_id, listener, calling_ae_title, called_ae_title, peer_address, \
                 started_at, outcome) values ($1, $2, $3, $4, $5, $6, 'open')",
                values![
                    *id.as_uuid(),
                    &association.listener,
                    association.calling_ae_title.as_str(),
                    association.called_ae_title.as_str(),
                    association.peer_address.to_string(),
                    now,
                ],
            )
            .await?;
        transaction.commit().await?;
        Ok(id)
    }

    /// Records how an association ended. Nothing happens where it had ended before.
    ///
    /// # Errors
    /// Where the database cannot do it.
    pub async fn close_association(
        &self,
        id: AssociationId,
        end: &AssociationEnd,
    ) -> Result<(), DatabaseError> {
        let mut transaction = self.begin().await?;
        let now = transaction.now();
        let closed = transaction
            .row(
                "update association set ended_at = $1, outcome = $2, reason_code = $3, refused_count = $4 \
                  where association_id = $5 and ended_at is null \
                 returning calling_ae_title, called_ae_title, instance_count, received_bytes",
                values![
                    now,
                    end.outcome.as_str(),
                    end.reason_code.as_ref().map(ReasonCode::as_str),
                    end.refused_count,
                    *id.as_uuid(),
                ],
            )
            .await?;
        let Some(row) = closed else { return Ok(()) };
        let mut event = Event::new(EventKind::AssociationEnded).of_association(Some(id));
        event.reason_code.clone_from(&end.reason_code);
        event.detail = json!({
            "outcome": end.outcome.as_str(), "refused": end.refused_count,
            "calling_ae_title": row.get::<String>("calling_ae_title")?,
            "called_ae_title": row.get::<String>("called_ae_title")?,
            "instances": row.get::<i64>("instance_count")?, "size_bytes": row.get::<i64>("received_bytes")?,
        });
        transaction.record(event);
        transaction.commit().await
    }

    /// Records that an association was refused, and why.
    ///
    /// # Errors
    /// Where the database cannot do it.
    pub async fn reject_association(
        &self,
        association: &NewAssociation,
        reason_code: ReasonCode,
    ) -> Result<AssociationId, DatabaseError> {
        let id = AssociationId(Uuid::new_v4());
        let mut transaction = self.begin().await?;
        let now = transaction.now();
        transaction
            .execute(
                "insert into association (association_id, listener, calling_ae_title, called_ae_title, peer_address, \
                 started_at, ended_at, outcome, reason_code) values ($1, $2, $3, $4, $5, $6, $6, 'rejected', $7)",
                values![
                    *id.as_uuid(),
                    &association.listener,
                    association.calling_ae_title.as_str(),
                    association.called_ae_title.as_str(),
                    association.peer_address.to_string(),
                    now,
                    reason_code.as_str(),
                ],
            )
            .await?;
        let event = Event::new(EventKind::AssociationRejected)
            .because(reason_code)
            .of_association(Some(id))
            .with(json!({
                "calling_ae_title": association.calling_ae_title.as_str(),
                "called_ae_title": association.called_ae_title.as_str(),
                "peer_address": association.peer_address.to_string(),
            }));
        transaction.record(event);
        transaction.commit().await?;
        Ok(id)
    }

    /// Ends the associations that `listener` had open when it stopped without a word. For its start.
    ///
    /// # Errors
    /// Where the database cannot do it.
    pub async fn close_lost_associations(&self, listener: &str) -> Result<u64, DatabaseError> {
        let mut transaction = self.begin().await?;
        let now = transaction.now();
        let rows = transaction
            .rows(
                "update association set ended_at = $1, outcome = 'lost', reason_code = $2 \
                  where listener = $3 and ended_at is null \
                 returning association_id, instance_count",
                values![now, ReasonCode::LISTENER_LOST.as_str(), listener],
            )
            .await?;
        for row in &rows {
            let event = Event::new(EventKind::AssociationEnded)
                .because(ReasonCode::LISTENER_LOST)
                .of_association(Some(row.get::<Uuid>("association_id")?.into()))
                .with(json!({ "outcome": "lost", "instances": row.get::<i64>("instance_count")? }));
            transaction.record(event);
        }
        transaction.commit().await?;
        Ok(rows.len() as u64)
    }
}
