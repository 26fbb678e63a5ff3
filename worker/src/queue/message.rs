//! What travels through the broker: a schema version and a job id, nothing else.

use prosector_storage::JobId;
use serde::{Deserialize, Serialize};

const SCHEMA_VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    version: u32,
    job_id: String,
}

/// The message that announces a job.
pub(super) fn encode(job_id: JobId) -> Vec<u8> {
    let message = Message { version: SCHEMA_VERSION, job_id: job_id.to_string() };
    serde_json::to_vec(&message).expect("a number and a text are always JSON")
}

/// The job that a message announces; nothing where it is of another version or not ours at all.
pub(super) fn decode(bytes: &[u8]) -> Option<JobId> {
    let message: Message = serde_json::from_slice(bytes).ok()?;
    if message.version != SCHEMA_VERSION {
        return None;
    }
    message.job_id.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_comes_back_as_the_job_that_it_announced() {
        let job_id: JobId = "2f1e6a52-7a2d-5c1e-9b0a-5d5c1d0f4a11".parse().unwrap();

        let bytes = encode(job_id);

        assert_eq!(decode(&bytes), Some(job_id));
        insta::assert_snapshot!(
            String::from_utf8(bytes).unwrap(),
            @r#"{"version":1,"job_id":"2f1e6a52-7a2d-5c1e-9b0a-5d5c1d0f4a11"}"#
        );
    }

    #[test]
    fn a_message_of_another_version_or_shape_announces_nothing() {
        for bytes in [
            &br#"{"version":2,"job_id":"2f1e6a52-7a2d-5c1e-9b0a-5d5c1d0f4a11"}"#[..],
            br#"{"version":1,"job_id":"liver"}"#,
            br#"{"version":1,"job_id":"2f1e6a52-7a2d-5c1e-9b0a-5d5c1d0f4a11","patient":"x"}"#,
            b"",
            b"\xff",
        ] {
            assert_eq!(decode(bytes), None);
        }
    }
}
