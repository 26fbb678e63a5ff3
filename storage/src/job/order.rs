//! A job that a person or a program asks for, outside of routing.

use dicom_types::{SeriesInstanceUid, StudyInstanceUid};

use crate::store::sql::values;
use crate::store::{DatabaseError, Store};

use super::settle::{NewJob, insert_job};

/// What became of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ordered {
    /// There is a new job.
    Created,
    /// The same was ordered before: its job is there.
    Known,
    /// Nothing was received of the series.
    UnknownSeries,
}

impl Store {
    /// Makes a job on a series that was received. Unlike a job of routing it takes no other job's place.
    ///
    /// # Errors
    /// Where the database cannot do it.
    pub async fn order_job(
        &self,
        series: &SeriesInstanceUid,
        job: &NewJob,
    ) -> Result<Ordered, DatabaseError> {
        let mut transaction = self.begin().await?;
        let row = transaction
            .row(
                "select study_instance_uid from series where series_instance_uid = $1",
                values![series.as_str()],
            )
            .await?;
        let Some(row) = row else { return Ok(Ordered::UnknownSeries) };
        let study: StudyInstanceUid = row.parse("study_instance_uid")?;
        let is_new = insert_job(&mut transaction, (&study, series), job).await?;
        transaction.commit().await?;
        Ok(if is_new { Ordered::Created } else { Ordered::Known })
    }
}
