//! What identifies a result: UIDs and dates that follow from the job alone.

use dicom_types::{FrameOfReferenceUid, SeriesInstanceUid, SopInstanceUid};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::series::Stack;

/// Identity of the objects of one job. The same job gives the same UIDs, dates and bytes whenever it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegIdentity {
    /// Id of the job; every UID is derived from it.
    pub job_id: Uuid,
    /// The moment the job was created, as kept in its row. Written in the source's Timezone Offset From UTC where it
    /// states one, else in the offset that the value carries.
    pub created: OffsetDateTime,
    /// Series Number (0020,0011) of the result.
    pub series_number: u32,
}

impl SegIdentity {
    /// Series Instance UID of the result of `kind` (`seg`, `labelmap`, …).
    ///
    /// # Panics
    /// Never: a derived UID is well formed.
    pub fn series_instance_uid(&self, kind: &str) -> SeriesInstanceUid {
        derived_uid(&self.job_id, &["series", kind])
            .parse()
            .expect("a UID made of a UUID is well formed")
    }

    /// SOP Instance UID of the result of `kind`.
    ///
    /// # Panics
    /// Never: a derived UID is well formed.
    pub fn sop_instance_uid(&self, kind: &str) -> SopInstanceUid {
        derived_uid(&self.job_id, &["instance", kind])
            .parse()
            .expect("a UID made of a UUID is well formed")
    }

    /// Dimension Organization UID of the result of `kind`.
    pub fn dimension_organization_uid(&self, kind: &str) -> String {
        derived_uid(&self.job_id, &["dimension organization", kind])
    }

    /// Tracking UID of the target that is segmented from `prompt`: one finding of one job, the same in every form.
    pub fn tracking_uid(&self, prompt: &str) -> String {
        derived_uid(&self.job_id, &["tracking", prompt])
    }
}

/// Frame of Reference UID of the results of `stack`: that of its slices, or one derived from the series where they have
/// none. All results of such a series lie in the same space, and no result of another series does.
///
/// # Panics
/// Never: a derived UID is well formed.
pub fn frame_of_reference_of(stack: &Stack) -> FrameOfReferenceUid {
    let derived = || derived_frame_of_reference_uid(&stack.series_instance_uid);
    stack.frame_of_reference_uid.clone().unwrap_or_else(derived)
}

fn derived_frame_of_reference_uid(series: &SeriesInstanceUid) -> FrameOfReferenceUid {
    let namespace = Uuid::new_v5(&Uuid::NAMESPACE_OID, series.as_str().as_bytes());
    derived_uid(&namespace, &["frame of reference"])
        .parse()
        .expect("a UID made of a UUID is well formed")
}

/// UID `2.25.` followed by a version 5 UUID as a decimal number (PS3.5 B.2), made of a namespace and the words that
/// say what it names.
pub fn derived_uid(namespace: &Uuid, words: &[&str]) -> String {
    let name = words.join("\0");
    format!("2.25.{}", Uuid::new_v5(namespace, name.as_bytes()).as_u128())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(job: u128) -> SegIdentity {
        SegIdentity {
            job_id: Uuid::from_u128(job),
            created: OffsetDateTime::UNIX_EPOCH,
            series_number: 1,
        }
    }

    #[test]
    fn same_job_gives_the_same_uids_and_each_role_its_own() {
        let uids = |job| {
            let identity = identity(job);
            [
                identity.series_instance_uid("seg").to_string(),
                identity.series_instance_uid("labelmap").to_string(),
                identity.sop_instance_uid("seg").to_string(),
                identity.dimension_organization_uid("seg"),
                identity.tracking_uid("liver"),
                identity.tracking_uid("spleen"),
            ]
        };

        assert_eq!(uids(7), uids(7));
        let mut all: Vec<_> = uids(7).into_iter().chain(uids(8)).collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 12);
    }

    /// `uuid.uuid5(uuid.uuid5(uuid.NAMESPACE_OID, "1.2.3"), "frame of reference").int` of Python.
    #[test]
    fn a_series_without_frame_of_reference_gets_one_of_its_own() {
        let of = |series: &str| derived_frame_of_reference_uid(&series.parse().unwrap());

        assert_eq!(of("1.2.3").as_str(), "2.25.1169614134938814403284563701702700246");
        assert_ne!(of("1.2.3"), of("1.2.4"));
    }

    /// `uuid.uuid5(uuid.UUID(int=7), "series\0seg").int` of Python.
    #[test]
    fn derives_what_other_libraries_derive() {
        assert_eq!(
            derived_uid(&Uuid::from_u128(7), &["series", "seg"]),
            "2.25.303606852164344907338348393753610135638"
        );
    }
}
