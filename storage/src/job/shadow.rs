//! Candidates beside production: what both made of the same series.

use dicom_types::{SeriesInstanceUid, StudyInstanceUid};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::digest::Sha256Digest;
use crate::spool::SpoolKey;
use crate::store::sql::{Row, values};
use crate::store::{DatabaseError, Store};

use super::{JobId, TargetMeasurement};

/// One of the two jobs on a series.
#[derive(Debug, Clone, PartialEq)]
pub struct ComparedJob {
    /// The job.
    pub job_id: JobId,
    /// Digest of its model pack.
    pub pack_digest: Sha256Digest,
    /// What it found, in the order of the protocol's targets.
    pub targets: Vec<TargetMeasurement>,
    /// Where its masks are, as a binary segmentation; none where it found nothing, made no segmentation, or retention removed
    /// it.
    pub masks: Option<SpoolKey>,
}

/// A series on which production and a candidate have both ended well.
#[derive(Debug, Clone, PartialEq)]
pub struct ShadowPair {
    /// Name of the protocol.
    pub protocol_name: String,
    /// Study of the series.
    pub study_instance_uid: StudyInstanceUid,
    /// The series.
    pub series_instance_uid: SeriesInstanceUid,
    /// The job whose results were sent.
    pub production: ComparedJob,
    /// The job of the shadow lane.
    pub candidate: ComparedJob,
}

/// Where the masks of the job of `alias` are.
macro_rules! masks_of {
    ($alias:literal) => {
        concat!(
            "(select result.spool_key from result \
               where result.job_id = ",
            $alias,
            ".job_id and result.form = 'seg' \
                 and result.purged_at is null \
               order by result.sop_instance_uid limit 1)"
        )
    };
}

impl Store {
    /// Series whose candidate ended at `since` or later beside production, the first one first; of one protocol, or of
    /// all. Jobs that gave way to others are left out.
    ///
    /// # Errors
    /// Where the database cannot answer.
    pub async fn shadow_pairs(
        &self,
        protocol_name: Option<&str>,
        since: OffsetDateTime,
    ) -> Result<Vec<ShadowPair>, DatabaseError> {
        let rows = self
            .pool
            .rows(
                concat!(
                    "select candidate.protocol_name, series.study_instance_uid, candidate.series_instance_uid, \
                            candidate.job_id as candidate_id, candidate.pack_digest as candidate_pack, \
                            production.job_id as production_id, production.pack_digest as production_pack, ",
                    masks_of!("candidate"),
                    " as candidate_masks, ",
                    masks_of!("production"),
                    " as production_masks \
                       from job as candidate \
                       join series on series.series_instance_uid = candidate.series_instance_uid \
                       join job as production \
                         on production.series_instance_uid = candidate.series_instance_uid \
                        and production.protocol_name = candidate.protocol_name \
                        and production.lane = 'production' and production.state in ('done', 'empty') \
                      where candidate.lane = 'shadow' and candidate.state in ('done', 'empty') \
                        and candidate.finished_at >= $1 and (candidate.protocol_name = $2 or $3 = 1) \
                      order by candidate.finished_at, candidate.job_id"
                ),
                values![
                    since,
                    protocol_name.unwrap_or_default(),
                    i64::from(protocol_name.is_none()),
                ],
            )
            .await?;
        let mut pairs = Vec::with_capacity(rows.len());
        for row in &rows {
            pairs.push(ShadowPair {
                protocol_name: row.get("protocol_name")?,
                study_instance_uid: row.parse("study_instance_uid")?,
                series_instance_uid: row.parse("series_instance_uid")?,
                production: self
                    .compared(row, ["production_id", "production_pack", "production_masks"])
                    .await?,
                candidate: self
                    .compared(row, ["candidate_id", "candidate_pack", "candidate_masks"])
                    .await?,
            });
        }
        Ok(pairs)
    }

    async fn compared(
        &self,
        row: &Row,
        [id, pack, masks]: [&str; 3],
    ) -> Result<ComparedJob, DatabaseError> {
        let job_id = JobId::from(row.get::<Uuid>(id)?);
        Ok(ComparedJob {
            job_id,
            pack_digest: row.get(pack)?,
            targets: self.job_targets(job_id).await?,
            masks: row.parse_optional(masks)?,
        })
    }
}
