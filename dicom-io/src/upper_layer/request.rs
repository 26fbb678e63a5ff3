//! A-ASSOCIATE-RQ as an acceptor reads it: strict where it decides, tolerant of everything it has no use for.

use dicom_ul::pdu::{PresentationContextProposed, RequestorRoles};

/// What an acceptor needs of an association request (PS3.8 9.3.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AssociationRequest {
    pub(crate) protocol_version: u16,
    pub(crate) called_ae_title: String,
    pub(crate) calling_ae_title: String,
    pub(crate) application_context: String,
    pub(crate) presentation_contexts: Vec<PresentationContextProposed>,
    /// Longest P-DATA PDU that the requestor takes; 0 for no limit.
    pub(crate) max_pdu_bytes: u32,
    /// Roles that the requestor proposes for SOP classes (PS3.7 D.3.3.4).
    pub(crate) roles: Vec<(String, RequestorRoles)>,
}

/// The fixed part or an item leaves the PDU, or a context has no abstract syntax.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MalformedRequest;

const FIXED_BYTES: usize = 68;

/// Parses the variable field of an A-ASSOCIATE-RQ.
///
/// Items and sub-items of unknown types are passed over; so is user information behind a sub-item that leaves its item,
/// since nothing in it but the maximum length and roles matters here.
pub(crate) fn parse_request(body: &[u8]) -> Result<AssociationRequest, MalformedRequest> {
    let (fixed, items) = body.split_at_checked(FIXED_BYTES).ok_or(MalformedRequest)?;
    let mut request = AssociationRequest {
        protocol_version: u16::from_be_bytes([fixed[0], fixed[1]]),
        called_ae_title: text(&fixed[4..20]),
        calling_ae_title: text(&fixed[20..36]),
        application_context: String::new(),
        presentation_contexts: Vec::new(),
        max_pdu_bytes: 0,
        roles: Vec::new(),
    };
    for item in items_of(items) {
        let (kind, value) = item?;
        match kind {
            0x10 => request.application_context = text(value),
            0x20 => request.presentation_contexts.push(parse_context(value)?),
            0x50 => {
                for (kind, value) in items_of(value).map_while(Result::ok) {
                    if let (0x51, Some(&length)) = (kind, value.first_chunk::<4>()) {
                        request.max_pdu_bytes = u32::from_be_bytes(length);
                    }
                    if kind == 0x54 {
                        request.roles.extend(parse_roles(value));
                    }
                }
            }
            _ => {}
        }
    }
    Ok(request)
}

fn parse_context(value: &[u8]) -> Result<PresentationContextProposed, MalformedRequest> {
    let (&[id, _, _, _], items) = value.split_first_chunk::<4>().ok_or(MalformedRequest)?;
    let mut abstract_syntax = None;
    let mut transfer_syntaxes = Vec::new();
    for item in items_of(items) {
        match item? {
            (0x30, value) => abstract_syntax = Some(text(value)),
            (0x40, value) => transfer_syntaxes.push(text(value)),
            _ => {}
        }
    }
    let abstract_syntax = abstract_syntax.ok_or(MalformedRequest)?;
    Ok(PresentationContextProposed { id, abstract_syntax, transfer_syntaxes })
}

fn parse_roles(value: &[u8]) -> Option<(String, RequestorRoles)> {
    let (&length, rest) = value.split_first_chunk::<2>()?;
    let (uid, roles) = rest.split_at_checked(usize::from(u16::from_be_bytes(length)))?;
    let &[scu, scp] = roles.first_chunk::<2>()?;
    Some((text(uid), RequestorRoles { scu: scu == 1, scp: scp == 1 }))
}

/// Items of one type byte, one reserved byte and a length of 16 bits.
pub(super) fn items_of(
    mut bytes: &[u8],
) -> impl Iterator<Item = Result<(u8, &[u8]), MalformedRequest>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let item = bytes.split_first_chunk::<4>().and_then(|(&[kind, _, l0, l1], rest)| {
            let length = usize::from(u16::from_be_bytes([l0, l1]));
            let (value, rest) = rest.split_at_checked(length)?;
            Some((kind, value, rest))
        });
        let Some((kind, value, rest)) = item else {
            bytes = &[];
            return Some(Err(MalformedRequest));
        };
        bytes = rest;
        Some(Ok((kind, value)))
    })
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_matches([' ', '\0']).to_owned()
}

#[cfg(test)]
mod tests {
    use dicom_ul::pdu::{AssociationRQ, Pdu, UserVariableItem, write_pdu};
    use proptest::prelude::*;

    use super::*;

    fn request() -> Vec<u8> {
        let request = AssociationRQ {
            protocol_version: 1,
            calling_ae_title: "MODALITY".into(),
            called_ae_title: "PROSECTOR".into(),
            application_context_name: "1.2.840.10008.3.1.1.1".into(),
            presentation_contexts: vec![PresentationContextProposed {
                id: 1,
                abstract_syntax: "1.2.840.10008.1.1".into(),
                transfer_syntaxes: vec!["1.2.840.10008.1.2".into()],
            }],
            user_variables: vec![UserVariableItem::MaxLength(16384)],
        };
        let mut bytes = Vec::new();
        write_pdu(&mut bytes, &Pdu::AssociationRQ(request)).unwrap();
        bytes.split_off(6)
    }

    #[test]
    fn reads_what_dicom_ul_writes() {
        let request = parse_request(&request()).unwrap();

        assert_eq!(request.called_ae_title, "PROSECTOR");
        assert_eq!(request.calling_ae_title, "MODALITY");
        assert_eq!(request.max_pdu_bytes, 16384);
        assert_eq!(request.presentation_contexts[0].abstract_syntax, "1.2.840.10008.1.1");
    }

    #[test]
    fn passes_over_unknown_items_and_damaged_user_information() {
        let mut bytes = request();
        bytes.extend([0x7F, 0, 0, 2, 1, 2]);
        bytes.extend([0x50, 0, 0, 6, 0x58, 0, 0xFF, 0xFF, 1, 1]);

        assert_eq!(parse_request(&bytes), parse_request(&request()));
    }

    proptest! {
        #[test]
        fn any_damage_gives_a_request_or_an_error(
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = request();
            for (index, value) in damage {
                let index = index.index(bytes.len());
                bytes[index] = value;
            }
            bytes.truncate(cut.index(bytes.len() + 1));

            let _ = parse_request(&bytes);
        }
    }
}
