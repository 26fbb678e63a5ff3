//! Whether a server has what it was sent, and reading that back: QIDO-RS and WADO-RS of one instance (PS3.18 10.4,
//! 10.6).

use super::client::{Answer, Client, DICOM_JSON};
use super::{StowDestination, StowError};
use crate::read_back::ReadBack;
use crate::scu::SentInstance;

/// Whether `server` has an instance (QIDO-RS).
///
/// # Errors
/// [`StowError`] where the server did not say.
pub async fn has_instance(
    server: &StowDestination,
    sent: &SentInstance,
) -> Result<bool, StowError> {
    let path = format!(
        "/studies/{}/series/{}/instances?SOPInstanceUID={}",
        sent.study_instance_uid, sent.series_instance_uid, sent.sop_instance_uid
    );
    let answer = Client::connect(server).await?.get(&path, DICOM_JSON, None).await?;
    match answer.status {
        204 | 404 => Ok(false),
        200 => {
            let found: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            let is_ours = |item: &serde_json::Value| {
                item["00080018"]["Value"][0].as_str() == Some(sent.sop_instance_uid.as_str())
            };
            Ok(found.as_array().is_some_and(|items| items.iter().any(is_ours)))
        }
        status => Err(StowError::Status(status)),
    }
}

/// Reads an instance back (WADO-RS), of at most `max_bytes`; nothing where the server does not have it.
///
/// # Errors
/// [`StowError`] where the server did not say, or its answer is no instance.
pub async fn get_instance(
    server: &StowDestination,
    sent: &SentInstance,
    max_bytes: usize,
) -> Result<Option<ReadBack>, StowError> {
    let path = format!(
        "/studies/{}/series/{}/instances/{}",
        sent.study_instance_uid, sent.series_instance_uid, sent.sop_instance_uid
    );
    let accept = "multipart/related; type=\"application/dicom\"; transfer-syntax=*";
    let answer = Client::connect(server).await?.get(&path, accept, Some(max_bytes)).await?;
    match answer.status {
        404 | 410 => Ok(None),
        200 => first_part(&answer).and_then(ReadBack::of_file).map(Some).ok_or(StowError::Broken),
        status => Err(StowError::Status(status)),
    }
}

/// The body of the first part of a multipart answer (RFC 2046 5.1).
fn first_part(answer: &Answer) -> Option<&[u8]> {
    let boundary = answer.content_type.split(';').find_map(|parameter| {
        let (name, value) = parameter.trim().split_once('=')?;
        name.eq_ignore_ascii_case("boundary").then(|| value.trim_matches('"'))
    })?;
    let body = &answer.body[..];
    let delimiter = format!("--{boundary}");
    let begin = find(body, delimiter.as_bytes())?;
    let body_start = begin + find(&body[begin..], b"\r\n\r\n")? + 4;
    let end = find(&body[body_start..], format!("\r\n{delimiter}").as_bytes())?;
    Some(&body[body_start..body_start + end])
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(content_type: &str, body: &[u8]) -> Answer {
        let (content_type, body) = (content_type.to_owned(), body.to_vec().into());
        Answer { status: 200, content_type, body }
    }

    #[test]
    fn the_first_part_is_what_stands_between_the_boundaries() {
        let body = b"--b1\r\nContent-Type: application/dicom\r\n\r\nDICM\r\nx\r\n--b1--\r\n";
        for content_type in [
            "multipart/related; type=\"application/dicom\"; boundary=b1",
            "multipart/related; Boundary=\"b1\"; type=\"application/dicom\"",
        ] {
            assert_eq!(first_part(&answer(content_type, body)), Some(&b"DICM\r\nx"[..]));
        }
        assert_eq!(first_part(&answer("multipart/related; boundary=b2", body)), None);
        assert_eq!(first_part(&answer("multipart/related; boundary=b1", &body[..30])), None);
        assert_eq!(first_part(&answer("text/html", b"")), None);
    }
}
