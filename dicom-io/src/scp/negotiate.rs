//! From an association request to an answer, without any I/O.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use dicom_types::{AeTitle, SopClassUid, TransferSyntaxUid};
use dicom_ul::pdu::{
    AssociationAC, AssociationRJ, AssociationRJResult, AssociationRJServiceProviderASCEReason,
    AssociationRJServiceProviderPresentationReason, AssociationRJServiceUserReason,
    AssociationRJSource, Pdu, PresentationContextProposed, PresentationContextResult,
    PresentationContextResultReason, RequestorRoles, UserVariableItem,
};

use super::policy::{RejectReason, ScpConfig};
use super::receiver::{ContextRefusal, RefusedSopClass};
use crate::dimse::{COMMITMENT_SYNTAXES, STORAGE_COMMITMENT};
use crate::part10::{IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME};
use crate::tls::TlsPeer;
use crate::upper_layer::{APPLICATION_CONTEXT, AssociationRequest};

const VERIFICATION: &str = "1.2.840.10008.1.1";
const IMPLICIT_VR_LITTLE_ENDIAN: &str = "1.2.840.10008.1.2";
/// Transfer syntaxes for C-ECHO, which has no data set.
const VERIFICATION_SYNTAXES: [&str; 3] =
    [IMPLICIT_VR_LITTLE_ENDIAN, "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"];

/// What an accepted presentation context is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AcceptedContext {
    Verification,
    Storage { sop_class_uid: SopClassUid, transfer_syntax_uid: TransferSyntaxUid },
    Commitment { transfer_syntax_uid: TransferSyntaxUid },
}

/// An association that policy admits, and the answer that says so.
#[derive(Debug, Clone)]
pub(super) struct Negotiated {
    pub(super) calling_ae_title: AeTitle,
    pub(super) called_ae_title: AeTitle,
    pub(super) contexts: BTreeMap<u8, AcceptedContext>,
    /// See [`AssociationInfo::refused`](super::AssociationInfo::refused).
    pub(super) refused: Vec<RefusedSopClass>,
    pub(super) answer: Pdu,
    /// Longest PDU that the peer takes; 0 for no limit.
    pub(super) peer_max_pdu_bytes: u32,
}

/// Decides on an association request by everything but the number of associations.
pub(super) fn negotiate(
    config: &ScpConfig,
    request: &AssociationRequest,
    peer: SocketAddr,
    tls: Option<&TlsPeer>,
) -> Result<Negotiated, RejectReason> {
    // PS3.8 9.3.2: only bit 0 is tested.
    if request.protocol_version & 1 == 0 {
        return Err(RejectReason::ProtocolVersion);
    }
    if request.application_context != APPLICATION_CONTEXT {
        return Err(RejectReason::ApplicationContext);
    }
    if !config.admission.peers.admits(peer.ip()) {
        return Err(RejectReason::Address);
    }
    let called_ae_title: AeTitle =
        request.called_ae_title.parse().map_err(|_| RejectReason::CalledAeTitle)?;
    if !config.admission.called_ae_titles.admits(&called_ae_title) {
        return Err(RejectReason::CalledAeTitle);
    }
    let calling_ae_title: AeTitle =
        request.calling_ae_title.parse().map_err(|_| RejectReason::CallingAeTitle)?;
    if !config.admission.calling_ae_titles.admits(&calling_ae_title) {
        return Err(RejectReason::CallingAeTitle);
    }
    let is_of_other = |tls: &TlsPeer| !tls.names(&calling_ae_title);
    if config.admission.certificate_names_caller && tls.is_some_and(is_of_other) {
        return Err(RejectReason::Certificate);
    }

    let mut contexts = BTreeMap::new();
    let mut results = Vec::with_capacity(request.presentation_contexts.len());
    for proposed in &request.presentation_contexts {
        let decision = decide(config, proposed);
        let (reason, transfer_syntax) = match &decision {
            Ok((_, transfer_syntax)) => {
                (PresentationContextResultReason::Acceptance, transfer_syntax.as_str())
            }
            Err(reason) => (reason.clone(), IMPLICIT_VR_LITTLE_ENDIAN),
        };
        results.push(PresentationContextResult {
            id: proposed.id,
            reason,
            transfer_syntax: transfer_syntax.to_owned(),
        });
        if let Ok((context, _)) = decision {
            contexts.insert(proposed.id, context);
        }
    }
    // Neither an asynchronous operations window nor identities, extended negotiation or roles for storage: leaving an
    // item out is the standard's way to decline it (PS3.7 D.3.3).
    let mut user_variables = vec![
        UserVariableItem::MaxLength(config.limits.max_pdu_bytes),
        UserVariableItem::ImplementationClassUID(IMPLEMENTATION_CLASS_UID.to_owned()),
        UserVariableItem::ImplementationVersionName(IMPLEMENTATION_VERSION_NAME.to_owned()),
    ];
    // A PACS that reports storage commitment is the provider on the association that it requests (PS3.4 J.3.3).
    let roles = request.roles.iter().find(|(uid, _)| uid == STORAGE_COMMITMENT);
    if let (true, Some((uid, roles))) = (config.storage_commitment, roles) {
        let roles = RequestorRoles { scu: roles.scu, scp: roles.scp };
        user_variables.push(UserVariableItem::ScuScpRoleSelectionSubItem(uid.clone(), roles));
    }
    let answer = Pdu::AssociationAC(AssociationAC {
        protocol_version: 1,
        calling_ae_title: calling_ae_title.as_str().to_owned(),
        called_ae_title: called_ae_title.as_str().to_owned(),
        application_context_name: APPLICATION_CONTEXT.to_owned(),
        presentation_contexts: results,
        user_variables,
    });
    let refused = refused_sop_classes(config, request, &contexts);
    let peer_max_pdu_bytes = request.max_pdu_bytes;
    Ok(Negotiated {
        calling_ae_title,
        called_ae_title,
        contexts,
        refused,
        answer,
        peer_max_pdu_bytes,
    })
}

fn refused_sop_classes(
    config: &ScpConfig,
    request: &AssociationRequest,
    contexts: &BTreeMap<u8, AcceptedContext>,
) -> Vec<RefusedSopClass> {
    let mut refused: BTreeMap<SopClassUid, RefusedSopClass> = BTreeMap::new();
    for proposed in &request.presentation_contexts {
        let Ok(sop_class_uid) = proposed.abstract_syntax.parse::<SopClassUid>() else { continue };
        let is_accepted = contexts.values().any(|context| {
            matches!(context, AcceptedContext::Storage { sop_class_uid: accepted, .. } if *accepted == sop_class_uid)
        });
        let is_taken = config.storage_sop_classes.contains(&sop_class_uid);
        if is_accepted || !(is_taken || contexts.is_empty()) {
            continue;
        }
        let reason = if is_taken {
            ContextRefusal::TransferSyntaxes
        } else {
            ContextRefusal::AbstractSyntax
        };
        let known = refused.entry(sop_class_uid.clone()).or_insert(RefusedSopClass {
            sop_class_uid,
            transfer_syntax_uids: Vec::new(),
            reason,
        });
        for syntax in proposed.transfer_syntaxes.iter().filter_map(|uid| uid.parse().ok()) {
            if !known.transfer_syntax_uids.contains(&syntax) {
                known.transfer_syntax_uids.push(syntax);
            }
        }
    }
    refused.into_values().collect()
}

fn decide(
    config: &ScpConfig,
    proposed: &PresentationContextProposed,
) -> Result<(AcceptedContext, String), PresentationContextResultReason> {
    let is_valid_id = proposed.id % 2 == 1;
    if !is_valid_id {
        return Err(PresentationContextResultReason::NoReason);
    }
    let no_syntax = PresentationContextResultReason::TransferSyntaxesNotSupported;
    let offers = |uid: &str| proposed.transfer_syntaxes.iter().any(|offered| offered == uid);
    if proposed.abstract_syntax == VERIFICATION {
        let syntax = VERIFICATION_SYNTAXES.into_iter().find(|uid| offers(uid)).ok_or(no_syntax)?;
        return Ok((AcceptedContext::Verification, syntax.to_owned()));
    }
    if config.storage_commitment && proposed.abstract_syntax == STORAGE_COMMITMENT {
        let syntax = COMMITMENT_SYNTAXES.into_iter().find(|uid| offers(uid)).ok_or(no_syntax)?;
        let transfer_syntax_uid =
            syntax.parse().expect("constants of the standard are well-formed");
        return Ok((AcceptedContext::Commitment { transfer_syntax_uid }, syntax.to_owned()));
    }
    let sop_class_uid = config
        .storage_sop_classes
        .iter()
        .find(|uid| uid.as_str() == proposed.abstract_syntax)
        .ok_or(PresentationContextResultReason::AbstractSyntaxNotSupported)?;
    let transfer_syntax_uid = config
        .storage_transfer_syntaxes
        .iter()
        .find(|uid| offers(uid.as_str()))
        .ok_or(no_syntax)?;
    let context = AcceptedContext::Storage {
        sop_class_uid: sop_class_uid.clone(),
        transfer_syntax_uid: transfer_syntax_uid.clone(),
    };
    Ok((context, transfer_syntax_uid.as_str().to_owned()))
}

/// The A-ASSOCIATE-RJ for a reason (PS3.8 table 9-21).
pub(super) fn rejection(reason: RejectReason) -> Pdu {
    use AssociationRJResult::{Permanent, Transient};
    use AssociationRJServiceProviderASCEReason as Acse;
    use AssociationRJServiceProviderPresentationReason as Presentation;
    use AssociationRJServiceUserReason as User;
    use AssociationRJSource::{ServiceProviderASCE, ServiceProviderPresentation, ServiceUser};

    let (result, source) = match reason {
        RejectReason::CalledAeTitle => (Permanent, ServiceUser(User::CalledAETitleNotRecognized)),
        RejectReason::CallingAeTitle | RejectReason::Certificate => {
            (Permanent, ServiceUser(User::CallingAETitleNotRecognized))
        }
        RejectReason::Address => (Permanent, ServiceUser(User::NoReasonGiven)),
        RejectReason::ApplicationContext => {
            (Permanent, ServiceUser(User::ApplicationContextNameNotSupported))
        }
        RejectReason::ProtocolVersion => {
            (Permanent, ServiceProviderASCE(Acse::ProtocolVersionNotSupported))
        }
        RejectReason::TooManyAssociations | RejectReason::TooManyAssociationsOfPeer => {
            (Transient, ServiceProviderPresentation(Presentation::LocalLimitExceeded))
        }
        RejectReason::ShuttingDown => {
            (Transient, ServiceProviderPresentation(Presentation::TemporaryCongestion))
        }
    };
    Pdu::AssociationRJ(AssociationRJ { result, source })
}

#[cfg(test)]
mod tests {
    use PresentationContextResultReason as Reason;

    use super::*;
    use crate::scp::{Admission, AllowList};

    const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
    const SECONDARY_CAPTURE: &str = "1.2.840.10008.5.1.4.1.1.7";

    fn config() -> ScpConfig {
        ScpConfig::for_images("PROSECTOR".parse().unwrap())
    }

    fn peer() -> SocketAddr {
        "192.0.2.1:40000".parse().unwrap()
    }

    fn request(contexts: &[(u8, &str, &[&str])]) -> AssociationRequest {
        AssociationRequest {
            protocol_version: 1,
            called_ae_title: "PROSECTOR".into(),
            calling_ae_title: "MODALITY".into(),
            application_context: APPLICATION_CONTEXT.into(),
            presentation_contexts: contexts
                .iter()
                .map(|&(id, abstract_syntax, transfer_syntaxes)| PresentationContextProposed {
                    id,
                    abstract_syntax: abstract_syntax.into(),
                    transfer_syntaxes: transfer_syntaxes.iter().map(|&uid| uid.into()).collect(),
                })
                .collect(),
            max_pdu_bytes: 0,
            roles: Vec::new(),
        }
    }

    fn results(negotiated: &Negotiated) -> Vec<(u8, PresentationContextResultReason, String)> {
        let Pdu::AssociationAC(answer) = &negotiated.answer else { panic!("no acceptance") };
        answer
            .presentation_contexts
            .iter()
            .map(|result| (result.id, result.reason.clone(), result.transfer_syntax.clone()))
            .collect()
    }

    #[test]
    fn takes_the_syntax_that_we_prefer_of_those_that_the_peer_offers() {
        let lossy_first = ["1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.90"];
        let request = request(&[(1, CT, &lossy_first), (3, VERIFICATION, &["1.2.840.10008.1.2"])]);

        let negotiated = negotiate(&config(), &request, peer(), None).unwrap();

        let accepted = PresentationContextResultReason::Acceptance;
        assert_eq!(results(&negotiated)[0], (1, accepted, "1.2.840.10008.1.2.4.90".into()));
        assert_eq!(negotiated.contexts[&3], AcceptedContext::Verification);
    }

    #[test]
    fn refuses_each_context_that_it_cannot_use_and_keeps_the_others() {
        let request = request(&[
            (1, SECONDARY_CAPTURE, &["1.2.840.10008.1.2"]),
            (3, CT, &["1.2.840.10008.1.2.4.100"]),
            (4, CT, &["1.2.840.10008.1.2"]),
            (5, CT, &["1.2.840.10008.1.2"]),
        ]);

        let negotiated = negotiate(&config(), &request, peer(), None).unwrap();

        let reasons: Vec<_> =
            results(&negotiated).into_iter().map(|(_, reason, _)| reason).collect();
        let expected = [
            Reason::AbstractSyntaxNotSupported,
            Reason::TransferSyntaxesNotSupported,
            Reason::NoReason,
            Reason::Acceptance,
        ];
        assert_eq!(reasons, expected);
        assert_eq!(negotiated.contexts.keys().collect::<Vec<_>>(), [&5]);
        assert_eq!(negotiated.refused, [], "CT images can be sent");
    }

    #[test]
    fn names_the_sop_classes_that_the_peer_cannot_send() {
        const MR: &str = "1.2.840.10008.5.1.4.1.1.4";
        let (mpeg, lossless) = ("1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.4.101");
        let one_of_two =
            request(&[(1, MR, &["1.2.840.10008.1.2"]), (3, CT, &[mpeg]), (5, CT, &[lossless])]);
        let nothing = request(&[(1, SECONDARY_CAPTURE, &["1.2.840.10008.1.2"])]);
        let refused = |request: &AssociationRequest| {
            let negotiated = negotiate(&config(), request, peer(), None).unwrap();
            let refused = negotiated.refused.into_iter();
            let told = |r: RefusedSopClass| {
                (r.sop_class_uid.to_string(), r.transfer_syntax_uids.len(), r.reason)
            };
            refused.map(told).collect::<Vec<_>>()
        };

        assert_eq!(refused(&one_of_two), [(CT.to_owned(), 2, ContextRefusal::TransferSyntaxes)]);
        let class = SECONDARY_CAPTURE.to_owned();
        assert_eq!(refused(&nothing), [(class, 1, ContextRefusal::AbstractSyntax)]);
    }

    #[test]
    fn each_refusal_has_the_reason_of_the_standard() {
        let admission = Admission {
            calling_ae_titles: AllowList::Only(vec!["CT1".parse().unwrap()]),
            peers: AllowList::Only(vec!["192.0.2.0/24".parse().unwrap()]),
            ..config().admission
        };
        let config = ScpConfig { admission, ..config() };
        let good = AssociationRequest { calling_ae_title: "CT1".into(), ..request(&[]) };
        let refusal = |request: &AssociationRequest, peer: &str| {
            negotiate(&config, request, peer.parse().unwrap(), None).map(|_| ()).unwrap_err()
        };
        let here = "192.0.2.9:1";

        assert!(negotiate(&config, &good, here.parse().unwrap(), None).is_ok());
        assert_eq!(refusal(&good, "198.51.100.1:1"), RejectReason::Address);
        let other = AssociationRequest { calling_ae_title: "CT2".into(), ..good.clone() };
        assert_eq!(refusal(&other, here), RejectReason::CallingAeTitle);
        let other = AssociationRequest { called_ae_title: "prosector".into(), ..good.clone() };
        assert_eq!(refusal(&other, here), RejectReason::CalledAeTitle);
        let other = AssociationRequest { calling_ae_title: String::new(), ..good.clone() };
        assert_eq!(refusal(&other, here), RejectReason::CallingAeTitle);
        let other = AssociationRequest { application_context: "1.2".into(), ..good.clone() };
        assert_eq!(refusal(&other, here), RejectReason::ApplicationContext);
        let other = AssociationRequest { protocol_version: 2, ..good };
        assert_eq!(refusal(&other, here), RejectReason::ProtocolVersion);
    }
}
