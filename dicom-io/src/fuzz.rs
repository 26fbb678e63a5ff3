//! What a fuzzer calls: every way in which bytes of a peer reach a parser, with what must hold whatever they are.
//!
//! No part of the interface: `fuzz/` drives these with libFuzzer, the tests with a short deterministic run. Each takes
//! any bytes and panics where a promise is broken.

use dicom_types::{AeTitle, SopInstanceUid, TransferSyntaxUid};

use crate::dimse::{CommandSet, CommitmentReport, CommitmentRequest};
use crate::header::{HeaderLimits, HeaderReader, read_part10};
use crate::part10::locate_dataset;
use crate::scp::AddressRange;
use crate::upper_layer::{data_values, parse_acceptance, parse_request};

/// What a fuzzer calls with bytes.
pub type Target = fn(&[u8]);

/// Every target by name.
pub const TARGETS: [(&str, Target); 6] = [
    ("pdus", pdus),
    ("association", crate::scp::fuzz_association),
    ("command_sets", command_sets),
    ("data_sets", data_sets),
    ("uids", uids),
    ("pixel_data", crate::series::fuzz_pixel_data),
];

/// Variable fields of association requests, acceptances and P-DATA.
pub fn pdus(bytes: &[u8]) {
    if let Ok(request) = parse_request(bytes) {
        assert!(request.presentation_contexts.len() * 4 <= bytes.len());
    }
    if let Ok(acceptance) = parse_acceptance(bytes) {
        assert!(acceptance.contexts.len() * 4 <= bytes.len());
    }
    let values = data_values(bytes).filter_map(Result::ok);
    let total: usize = values.map(|value| value.fragment.len() + 6).sum();
    assert!(total <= bytes.len(), "values overlap");
}

/// Command sets, and the data sets of storage commitment in both syntaxes.
pub fn command_sets(bytes: &[u8]) {
    if let Ok(command) = CommandSet::decode(bytes) {
        assert_eq!(CommandSet::decode(&command.encode()), Ok(command), "reads back otherwise");
    }
    for syntax in crate::dimse::COMMITMENT_SYNTAXES {
        let uid: TransferSyntaxUid = syntax.parse().expect("constants are well-formed");
        if let Ok(request) = CommitmentRequest::decode(bytes, &uid) {
            assert_eq!(
                CommitmentRequest::decode(&request.encode(syntax), &uid).ok(),
                Some(request)
            );
        }
        // A report may repeat what its peer wrote twice; it must be read, not more.
        let _ = CommitmentReport::decode(bytes, &uid);
    }
}

/// Data sets: the first byte says in which syntax, the second in pieces of how many bytes they come.
pub fn data_sets(bytes: &[u8]) {
    const SYNTAXES: [&str; 5] = [
        "1.2.840.10008.1.2.1",
        "1.2.840.10008.1.2",
        "1.2.840.10008.1.2.2",
        "1.2.840.10008.1.2.1.99",
        "1.2.840.10008.1.2.4.90",
    ];
    let Some((&[syntax, piece], dataset)) = bytes.split_first_chunk() else { return };
    let syntax = SYNTAXES[usize::from(syntax) % SYNTAXES.len()];
    let is_deflated = syntax.ends_with(".99");
    let syntax: TransferSyntaxUid = syntax.parse().expect("constants are well-formed");
    let whole = header_of(dataset, dataset.len().max(1), &syntax);
    let in_pieces = header_of(dataset, usize::from(piece).max(1), &syntax);
    // A damaged deflated stream may break behind the header, before or after the header was seen to be whole.
    assert!(is_deflated || whole == in_pieces, "a header depends on how its bytes were cut");
    let _ = crate::scu::explicit_to_implicit(dataset);
    let _ = locate_dataset(dataset, true);
    let _ = read_part10(dataset, HeaderLimits::for_files());
}

/// The identity that a header gives, or nothing where it is refused.
fn header_of(dataset: &[u8], piece: usize, syntax: &TransferSyntaxUid) -> Option<[String; 4]> {
    let mut reader = HeaderReader::new(syntax.clone(), HeaderLimits::for_receiving()).ok()?;
    for piece in dataset.chunks(piece) {
        if reader.is_complete() {
            break;
        }
        reader.feed(piece).ok()?;
    }
    let header = reader.finish().ok()?;
    Some([
        header.sop_class_uid.to_string(),
        header.sop_instance_uid.to_string(),
        header.study_instance_uid.to_string(),
        header.series_instance_uid.to_string(),
    ])
}

/// Identifiers, titles and addresses: what is taken is what a path or a log line may hold.
pub fn uids(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(uid) = text.parse::<SopInstanceUid>() {
        let is_plain = |byte: u8| byte.is_ascii_digit() || byte == b'.';
        assert!(uid.as_str().len() <= 64 && uid.as_str().bytes().all(is_plain));
        assert!(!uid.as_str().contains("..") && !uid.as_str().starts_with('.'));
        assert_eq!(uid.as_str().parse(), Ok(uid));
    }
    if let Ok(title) = text.parse::<AeTitle>() {
        assert!((1..=16).contains(&title.as_str().len()));
        assert!(!title.as_str().contains(|c: char| c.is_control() || c == '\\'));
    }
    if let Ok(range) = text.parse::<AddressRange>() {
        let _ = range.contains(std::net::Ipv4Addr::LOCALHOST.into());
    }
}
