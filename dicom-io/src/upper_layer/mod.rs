//! The upper layer (PS3.8) as both sides need it: PDUs from a byte stream, within limits.
//!
//! Associations are negotiated with dicom-ul's PDU types and writer. P-DATA does not go through them: a PDU stays in
//! the receive buffer and its values are handed out as slices. dicom-ul's own association types would accept any
//! stated length on the data path, reject for good only, and copy every value.

mod accept;
mod data_value;
mod request;
mod stream;

pub(crate) use accept::{Acceptance, parse_acceptance};
pub(crate) use data_value::data_values;
pub(crate) use request::{AssociationRequest, parse_request};
pub(crate) use stream::{Link, PduKind, WireError};

/// The DICOM application context (PS3.7 A.2.1).
pub(crate) const APPLICATION_CONTEXT: &str = "1.2.840.10008.3.1.1.1";

/// Bytes in front of a PDU's variable field.
pub(crate) const PDU_HEADER_BYTES: usize = 6;

/// Bytes in front of the fragment in a presentation data value: length, context id, control.
pub(crate) const PDV_HEADER_BYTES: usize = 6;

/// The front of a P-DATA-TF PDU with one data value whose fragment has `length` bytes.
pub(crate) fn data_header(
    context_id: u8,
    control: u8,
    length: usize,
) -> [u8; PDU_HEADER_BYTES + PDV_HEADER_BYTES] {
    let [p0, p1, p2, p3] = ((PDV_HEADER_BYTES + length) as u32).to_be_bytes();
    let [v0, v1, v2, v3] = ((2 + length) as u32).to_be_bytes();
    [4, 0, p0, p1, p2, p3, v0, v1, v2, v3, context_id, control]
}

/// A whole message as P-DATA-TF PDUs: a command, then its data set where it has one, in fragments of at most
/// `max_fragment` bytes.
pub(crate) fn message(
    context_id: u8,
    command: &[u8],
    dataset: &[u8],
    max_fragment: usize,
) -> Vec<u8> {
    let mut bytes = data_header(context_id, COMMAND | LAST, command.len()).to_vec();
    bytes.extend_from_slice(command);
    let mut fragments = dataset.chunks(max_fragment.max(1)).peekable();
    while let Some(fragment) = fragments.next() {
        let control = if fragments.peek().is_none() { LAST } else { 0 };
        bytes.extend_from_slice(&data_header(context_id, control, fragment.len()));
        bytes.extend_from_slice(fragment);
    }
    bytes
}

/// Longest PDU to a peer that names no limit.
const UNLIMITED_PDU_BYTES: u32 = 1 << 20;

/// Shortest limit of a peer that leaves room for anything.
const MIN_SENT_PDU_BYTES: u32 = 128;

/// Longest fragment of a data set that fits the PDUs of a peer and of ours; even, as data sets are.
pub(crate) fn max_fragment_bytes(theirs: u32, ours: u32) -> usize {
    let theirs = match theirs {
        0 => UNLIMITED_PDU_BYTES,
        limit => limit.max(MIN_SENT_PDU_BYTES),
    };
    let pdu = theirs.min(ours.max(MIN_SENT_PDU_BYTES)) as usize;
    (pdu - PDV_HEADER_BYTES) & !1
}

/// Control bits of a data value (PS3.8 E.2): part of a command.
pub(crate) const COMMAND: u8 = 1;

/// Control bits of a data value (PS3.8 E.2): the last fragment.
pub(crate) const LAST: u8 = 2;
