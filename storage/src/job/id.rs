//! A job's identity, derived from what goes into it.

use std::collections::BTreeSet;

use dicom_types::{SeriesInstanceUid, SopInstanceUid};
use uuid::Uuid;

use crate::digest::Sha256Digest;
use crate::ids::id;

/// Namespace of job ids. Never changes: a change would make every job a new one.
const NAMESPACE: Uuid = Uuid::from_u128(0x0c6f_5a0e_4dd1_5b6c_9f1e_6d5b_3a70_81c4);

id! {
    /// Identifier of a job, a UUID of version 5 over its inputs.
    JobId
}

/// What goes into a job.
#[derive(Debug, Clone, Copy)]
pub struct JobInputs<'a> {
    /// The series.
    pub series_instance_uid: &'a SeriesInstanceUid,
    /// The instances of the series that are segmented.
    pub instances: &'a BTreeSet<SopInstanceUid>,
    /// Digest of the protocol's fields that change a result; cosmetic fields are left out.
    pub protocol_digest: &'a Sha256Digest,
    /// Digest of the model pack.
    pub pack_digest: &'a Sha256Digest,
}

impl JobId {
    /// Derives the id: equal inputs, equal id, on every machine and in every version.
    ///
    /// The name under the namespace is the UTF-8 text of series, protocol digest, pack digest and the instances in
    /// ascending order, one a line.
    pub fn derive(inputs: &JobInputs<'_>) -> Self {
        let JobInputs { series_instance_uid, instances, protocol_digest, pack_digest } = inputs;
        let mut name = format!("{series_instance_uid}\n{protocol_digest}\n{pack_digest}\n");
        for instance in *instances {
            name.push_str(instance.as_str());
            name.push('\n');
        }
        Self(Uuid::new_v5(&NAMESPACE, name.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn derive(series: &str, instances: &[&str], protocol: &[u8], pack: &[u8]) -> JobId {
        JobId::derive(&JobInputs {
            series_instance_uid: &series.parse().unwrap(),
            instances: &instances.iter().map(|uid| uid.parse().unwrap()).collect(),
            protocol_digest: &Sha256Digest::of(protocol),
            pack_digest: &Sha256Digest::of(pack),
        })
    }

    #[test]
    fn depends_on_every_input_and_on_no_order() {
        let job = derive("1.2", &["1.2.1", "1.2.2"], b"protocol", b"pack");

        assert_eq!(job, derive("1.2", &["1.2.2", "1.2.1"], b"protocol", b"pack"));
        assert_ne!(job, derive("1.3", &["1.2.1", "1.2.2"], b"protocol", b"pack"));
        assert_ne!(job, derive("1.2", &["1.2.1"], b"protocol", b"pack"));
        assert_ne!(job, derive("1.2", &["1.2.1", "1.2.2"], b"other", b"pack"));
        assert_ne!(job, derive("1.2", &["1.2.1", "1.2.2"], b"protocol", b"other"));
    }

    #[test]
    fn stays_the_same_from_version_to_version() {
        // Python: uuid.uuid5(namespace, series + "\n" + sha256("protocol") + "\n" + sha256("pack") + "\n1.2.1\n1.2.2\n")
        let job = derive("1.2", &["1.2.1", "1.2.2"], b"protocol", b"pack");

        assert_eq!(job.to_string(), "c94f59c5-ed06-58e3-9c80-e540fbb59da4");
    }
}
