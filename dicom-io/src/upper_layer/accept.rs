//! A-ASSOCIATE-AC as a requestor reads it.

use super::request::{MalformedRequest, items_of, text};

/// What a requestor needs of an acceptance (PS3.8 9.3.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Acceptance {
    pub(crate) contexts: Vec<ContextResult>,
    /// Longest P-DATA PDU that the acceptor takes; 0 for no limit.
    pub(crate) max_pdu_bytes: u32,
}

/// The answer to one proposed presentation context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContextResult {
    pub(crate) id: u8,
    /// Result/Reason: 0 acceptance, 3 abstract syntax and 4 transfer syntaxes not supported.
    pub(crate) result: u8,
    /// Only meaningful for an accepted context; some peers leave it out otherwise.
    pub(crate) transfer_syntax: String,
}

/// Parses the variable field of an A-ASSOCIATE-AC, passing over whatever is of no use here.
pub(crate) fn parse_acceptance(body: &[u8]) -> Result<Acceptance, MalformedRequest> {
    let (_fixed, items) = body.split_at_checked(68).ok_or(MalformedRequest)?;
    let mut acceptance = Acceptance { contexts: Vec::new(), max_pdu_bytes: 0 };
    for item in items_of(items) {
        match item? {
            (0x21, value) => {
                let (&[id, _, result, _], items) =
                    value.split_first_chunk::<4>().ok_or(MalformedRequest)?;
                let transfer_syntax = items_of(items)
                    .map_while(Result::ok)
                    .find(|(kind, _)| *kind == 0x40)
                    .map(|(_, value)| text(value))
                    .unwrap_or_default();
                acceptance.contexts.push(ContextResult { id, result, transfer_syntax });
            }
            (0x50, value) => {
                for (kind, value) in items_of(value).map_while(Result::ok) {
                    if let (0x51, Some(&length)) = (kind, value.first_chunk::<4>()) {
                        acceptance.max_pdu_bytes = u32::from_be_bytes(length);
                    }
                }
            }
            _ => {}
        }
    }
    Ok(acceptance)
}

#[cfg(test)]
mod tests {
    use dicom_ul::pdu::{
        AssociationAC, Pdu, PresentationContextResult, PresentationContextResultReason,
        UserVariableItem, write_pdu,
    };
    use proptest::prelude::*;

    use super::*;

    fn acceptance() -> Vec<u8> {
        let answer = AssociationAC {
            protocol_version: 1,
            calling_ae_title: "PROSECTOR".into(),
            called_ae_title: "PACS".into(),
            application_context_name: "1.2.840.10008.3.1.1.1".into(),
            presentation_contexts: vec![PresentationContextResult {
                id: 1,
                reason: PresentationContextResultReason::Acceptance,
                transfer_syntax: "1.2.840.10008.1.2.1".into(),
            }],
            user_variables: vec![UserVariableItem::MaxLength(32768)],
        };
        let mut bytes = Vec::new();
        write_pdu(&mut bytes, &Pdu::AssociationAC(answer)).unwrap();
        bytes.split_off(6)
    }

    #[test]
    fn reads_what_dicom_ul_writes_and_a_refused_context_without_transfer_syntax() {
        let mut bytes = acceptance();
        bytes.extend([0x21, 0, 0, 4, 3, 0, 3, 0]);

        let acceptance = parse_acceptance(&bytes).unwrap();

        assert_eq!(acceptance.max_pdu_bytes, 32768);
        assert_eq!(acceptance.contexts[0].transfer_syntax, "1.2.840.10008.1.2.1");
        let refused = ContextResult { id: 3, result: 3, transfer_syntax: String::new() };
        assert_eq!(acceptance.contexts[1], refused);
    }

    proptest! {
        #[test]
        fn any_damage_gives_an_acceptance_or_an_error(
            index in any::<prop::sample::Index>(),
            value in any::<u8>(),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = acceptance();
            let index = index.index(bytes.len());
            bytes[index] = value;
            bytes.truncate(cut.index(bytes.len() + 1));

            let _ = parse_acceptance(&bytes);
        }
    }
}
