//! What a server's answer says of the instance that was stored (PS3.18 10.5.3, annex I).

use dicom_types::SopInstanceUid;
use serde_json::Value;

use super::StowResult;
use super::client::Answer;
use crate::dimse::FailureReason;

/// Reads an answer to a request with one instance.
pub(super) fn read(answer: &Answer, sop_instance_uid: &SopInstanceUid) -> StowResult {
    let status = answer.status;
    let reason = failure_reason(&answer.body, sop_instance_uid);
    match (status, reason) {
        (200..300, None) => StowResult::Stored(status),
        (401 | 403, _) => StowResult::Unauthorized(status),
        (408 | 425 | 429 | 500..600, _) => StowResult::Busy(status),
        (415, _) => StowResult::SopClassRefused(status),
        (200..300 | 409, Some(reason)) => match reason.0 {
            0x0122 => StowResult::SopClassRefused(status),
            0xA700..=0xA7FF | 0x0110 | 0x0213 => StowResult::Busy(status),
            _ => StowResult::Rejected(status, Some(reason)),
        },
        _ => StowResult::Rejected(status, reason),
    }
}

/// The Failure Reason of an instance in the Failed SOP Sequence of a response in DICOM JSON. An item without instance
/// is about the only one that was sent.
fn failure_reason(body: &[u8], sop_instance_uid: &SopInstanceUid) -> Option<FailureReason> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let failed = value(&body, "00081198")?.as_array()?;
    let is_ours = |item: &&Value| {
        let uid = value(item, "00081155").and_then(|values| values[0].as_str());
        uid.is_none_or(|uid| uid == sop_instance_uid.as_str())
    };
    let item = failed.iter().find(is_ours)?;
    let reason = value(item, "00081197").and_then(|values| values[0].as_u64());
    let reason = reason.and_then(|reason| u16::try_from(reason).ok());
    Some(reason.map_or(FailureReason::PROCESSING_FAILURE, FailureReason))
}

fn value<'a>(item: &'a Value, tag: &str) -> Option<&'a Value> {
    item.get(tag)?.get("Value")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(status: u16, body: &str) -> StowResult {
        let content_type = String::new();
        let answer = Answer { status, content_type, body: body.to_owned().into() };
        read(&answer, &"2.25.1".parse().unwrap())
    }

    fn failed(uid: &str, reason: u16) -> String {
        format!(
            r#"{{"00081198":{{"vr":"SQ","Value":[{{"00081155":{{"vr":"UI","Value":["{uid}"]}},
                "00081197":{{"vr":"US","Value":[{reason}]}}}}]}}}}"#
        )
    }

    #[test]
    fn an_answer_counts_for_the_instance_that_it_names() {
        assert!(matches!(result(200, "{}"), StowResult::Stored(200)));
        assert!(matches!(result(202, &failed("2.25.2", 0xC000)), StowResult::Stored(202)));
        let refused = result(202, &failed("2.25.1", 0xC000));
        assert!(matches!(refused, StowResult::Rejected(202, Some(FailureReason(0xC000)))));
        assert!(matches!(result(409, &failed("2.25.1", 0x0122)), StowResult::SopClassRefused(409)));
        assert!(matches!(result(409, &failed("2.25.1", 0xA700)), StowResult::Busy(409)));
    }

    #[test]
    fn a_status_alone_leads_to_what_a_sender_should_do_next() {
        assert!(matches!(result(503, "<html>"), StowResult::Busy(503)));
        assert!(matches!(result(401, ""), StowResult::Unauthorized(401)));
        assert!(matches!(result(404, ""), StowResult::Rejected(404, None)));
        assert!(matches!(result(302, ""), StowResult::Rejected(302, None)));
    }
}
