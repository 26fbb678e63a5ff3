//! The upper layer (PS3.8) as both sides need it: PDUs from a byte stream, within limits.
//!
//! Associations are negotiated with dicom-ul's PDU types and writer. P-DATA does not go through them: a PDU stays in
//! the receive buffer and its values are handed out as slices. dicom-ul's own association types would accept any
//! stated length on the data path, reject for good only, and copy every value.

mod data_value;
mod request;
mod stream;

pub(crate) use data_value::data_values;
pub(crate) use request::{AssociationRequest, parse_request};
pub(crate) use stream::{Link, PduKind, WireError};

/// The DICOM application context (PS3.7 A.2.1).
pub(crate) const APPLICATION_CONTEXT: &str = "1.2.840.10008.3.1.1.1";

/// Bytes in front of a PDU's variable field.
pub(crate) const PDU_HEADER_BYTES: usize = 6;

/// Bytes in front of the fragment in a presentation data value: length, context id, control.
pub(crate) const PDV_HEADER_BYTES: usize = 6;
