//! What an entry of the ledger says as an audit message: PS3.15 A.5.3, event by event.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use dicom_types::Phi;
use prosector_storage::{AuditEntry, EventKind, PatientIdentity};
use serde_json::{Value as Json, json};
use time::OffsetDateTime;

use super::codes::{self, Code};
use crate::config::{Destination, DestinationKind};

/// Kinds of entries that become messages.
pub(super) const KINDS: &[EventKind] = &[
    EventKind::ServiceStarted,
    EventKind::ServiceStopped,
    EventKind::InstancesReceived,
    EventKind::ResultSent,
    EventKind::ResultDelivered,
    EventKind::DeliveryFailed,
    EventKind::ConnectionRefused,
    EventKind::AssociationRejected,
    EventKind::ProtocolsLoaded,
    EventKind::ProtocolsRefused,
    EventKind::SignedIn,
    EventKind::SignInRefused,
    EventKind::IdentifiersRead,
    EventKind::LedgerRead,
];

/// Who writes messages, and whom it sends results to.
#[derive(Debug)]
pub(super) struct Author {
    pub(super) ae_title: String,
    pub(super) source_id: String,
    pub(super) enterprise_site_id: Option<String>,
    pub(super) identifies_patients: bool,
    pub(super) destinations: HashMap<String, Receiver>,
}

/// A destination of results.
#[derive(Debug)]
pub(super) struct Receiver {
    user_id: String,
    host: Option<String>,
}

/// One message (PS3.15 A.5.2).
#[derive(Debug)]
pub(super) struct AuditMessage {
    pub(super) event: Code,
    pub(super) event_type: Option<Code>,
    pub(super) action: Action,
    pub(super) outcome: Outcome,
    /// A reason code of ours, where the outcome was no success.
    pub(super) outcome_description: Option<String>,
    pub(super) at: OffsetDateTime,
    pub(super) participants: Vec<Participant>,
    pub(super) objects: Vec<Object>,
    /// The host and process that recorded the entry.
    pub(super) host: String,
    pub(super) process: String,
}

/// `EventActionCode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Create,
    Read,
    Execute,
}

/// `EventOutcomeIndicator`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Success,
    MinorFailure,
    SeriousFailure,
}

/// `ActiveParticipant`.
#[derive(Debug)]
pub(super) struct Participant {
    pub(super) user_id: String,
    pub(super) alternative_user_id: Option<String>,
    pub(super) is_requestor: bool,
    pub(super) role: Option<Code>,
    /// Machine name or address.
    pub(super) host: Option<String>,
}

/// `ParticipantObjectIdentification`.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) id: Phi<String>,
    pub(super) id_type: Code,
    /// `ParticipantObjectTypeCode`: 1 for a person, 2 for a system object.
    pub(super) type_code: &'static str,
    pub(super) role: Option<&'static str>,
    pub(super) name: NameOrQuery,
    pub(super) detail: Option<(&'static str, String)>,
    pub(super) study: Option<StudyDescription>,
}

/// The schema wants one of both.
#[derive(Debug)]
pub(super) enum NameOrQuery {
    Name(&'static str),
    Query(String),
}

/// `ParticipantObjectDescription` of a study.
#[derive(Debug, Default)]
pub(super) struct StudyDescription {
    pub(super) accession_numbers: BTreeSet<Phi<String>>,
    /// Instances by SOP Class UID.
    pub(super) sop_classes: BTreeMap<String, u64>,
}

/// Names of a destination and what it is in a message.
pub(super) fn receiver(destination: &Destination) -> (String, Receiver) {
    let host = |address: &str| {
        address.rsplit_once(':').map(|(host, _)| host.trim_matches(['[', ']']).to_owned())
    };
    let receiver = match &destination.kind {
        DestinationKind::Dimse(pacs) => {
            Receiver { user_id: pacs.ae_title.to_string(), host: host(&pacs.address) }
        }
        DestinationKind::Dicomweb(_) | DestinationKind::Folder(_) => {
            Receiver { user_id: destination.name.clone(), host: None }
        }
    };
    (destination.name.clone(), receiver)
}

/// The messages about `entries`, in their order. Instances of one study that came over one association are told at once:
/// a sender brings them one by one.
pub(super) fn messages(entries: &[AuditEntry], author: &Author) -> Vec<AuditMessage> {
    let mut arrivals = BTreeMap::new();
    for entry in entries.iter().filter(|entry| is(entry, EventKind::InstancesReceived)) {
        let arrived: &mut Arrival = arrivals.entry(arrival_key(entry)).or_default();
        arrived.add(entry);
    }
    let mut messages = Vec::new();
    for entry in entries {
        if is(entry, EventKind::InstancesReceived) {
            if let Some(arrived) = arrivals.remove(&arrival_key(entry)) {
                messages.extend(received(entry, &arrived, author));
            }
        } else {
            messages.extend(told(entry, author));
        }
    }
    messages
}

fn is(entry: &AuditEntry, kind: EventKind) -> bool {
    entry.recorded.event.kind == kind
}

fn arrival_key(entry: &AuditEntry) -> (Option<String>, Option<String>) {
    let event = &entry.recorded.event;
    (
        event.association_id.map(|id| id.to_string()),
        event.study_instance_uid.as_ref().map(ToString::to_string),
    )
}

/// What one association brought of one study.
#[derive(Debug, Default)]
struct Arrival {
    new: u64,
    sop_classes: BTreeMap<String, u64>,
}

impl Arrival {
    fn add(&mut self, entry: &AuditEntry) {
        let detail = &entry.recorded.event.detail;
        self.new += detail["new"].as_u64().unwrap_or(0);
        for (class, count) in detail["sop_classes"].as_object().into_iter().flatten() {
            *self.sop_classes.entry(class.clone()).or_default() += count.as_u64().unwrap_or(0);
        }
    }
}

/// A message about anything but arrivals; a delivery that was sent and is committed to is told when it was sent.
fn told(entry: &AuditEntry, author: &Author) -> Vec<AuditMessage> {
    let event = &entry.recorded.event;
    let message = match event.kind {
        EventKind::ServiceStarted => activity(entry, author, codes::APPLICATION_START),
        EventKind::ServiceStopped => activity(entry, author, codes::APPLICATION_STOP),
        EventKind::ResultSent | EventKind::ResultDelivered | EventKind::DeliveryFailed => {
            return sent(entry, author);
        }
        EventKind::ConnectionRefused | EventKind::AssociationRejected => refused(entry, author),
        EventKind::ProtocolsLoaded | EventKind::ProtocolsRefused => configured(entry, author),
        EventKind::SignedIn | EventKind::SignInRefused => login(entry, author),
        EventKind::IdentifiersRead if event.detail["question"] != "events" => query(entry, author),
        EventKind::IdentifiersRead | EventKind::LedgerRead => log_used(entry, author),
        _ => return Vec::new(),
    };
    vec![message]
}

/// An actor of the ledger: `role@host#process`, behind the name of a person where one acts.
struct Actor<'a> {
    person: Option<&'a str>,
    process: &'a str,
    host: &'a str,
    pid: &'a str,
}

fn actor(entry: &AuditEntry) -> Actor<'_> {
    let text = entry.recorded.actor.as_str();
    let (person, process) = match text.rsplit_once(" by ") {
        Some((person, process)) => (Some(person), process),
        None => (None, text),
    };
    let place = process.split_once('@').map_or("", |(_, place)| place);
    let (host, pid) = place.split_once('#').unwrap_or((place, ""));
    Actor { person, process, host, pid }
}

impl AuditMessage {
    fn about(entry: &AuditEntry, event: Code, action: Action) -> Self {
        let actor = actor(entry);
        Self {
            event,
            event_type: None,
            action,
            outcome: Outcome::Success,
            outcome_description: None,
            at: entry.recorded.recorded_at,
            participants: Vec::new(),
            objects: Vec::new(),
            host: actor.host.to_owned(),
            process: actor.pid.to_owned(),
        }
    }

    fn of_type(mut self, event_type: Code) -> Self {
        self.event_type = Some(event_type);
        self
    }

    fn with(mut self, participant: Participant) -> Self {
        self.participants.push(participant);
        self
    }

    fn on(mut self, object: Object) -> Self {
        self.objects.push(object);
        self
    }

    fn failed(mut self, outcome: Outcome, entry: &AuditEntry) -> Self {
        self.outcome = outcome;
        let code = entry.recorded.event.reason_code.as_ref();
        self.outcome_description = code.map(ToString::to_string);
        self
    }
}

impl Participant {
    fn new(user_id: impl Into<String>) -> Self {
        Self {
            user_id: user_id.into(),
            alternative_user_id: None,
            is_requestor: false,
            role: None,
            host: None,
        }
    }

    /// The process that recorded the entry.
    fn ours(entry: &AuditEntry, author: &Author) -> Self {
        let actor = actor(entry);
        let titles = format!("AETITLES={}", author.ae_title);
        Self {
            alternative_user_id: Some(titles),
            host: some(actor.host),
            ..Self::new(actor.process)
        }
    }

    /// The person who acts, or where nobody is named, the process.
    fn acting(entry: &AuditEntry) -> Self {
        let actor = actor(entry);
        let host = if actor.person.is_some() { None } else { some(actor.host) };
        Self { host, ..Self::new(actor.person.unwrap_or(actor.process)) }.requesting()
    }

    fn requesting(mut self) -> Self {
        self.is_requestor = true;
        self
    }

    fn being(mut self, role: Code) -> Self {
        self.role = Some(role);
        self
    }

    fn at(mut self, host: Option<&str>) -> Self {
        self.host = host.and_then(some);
        self
    }
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

impl Object {
    /// A thing of the system.
    fn system(id_type: Code, id: impl Into<String>, name: NameOrQuery) -> Self {
        Self {
            id: Phi::new(id.into()),
            id_type,
            type_code: "2",
            role: None,
            name,
            detail: None,
            study: None,
        }
    }
}

/// PS3.15 A.5.3.1.
fn activity(entry: &AuditEntry, author: &Author, event_type: Code) -> AuditMessage {
    AuditMessage::about(entry, codes::APPLICATION_ACTIVITY, Action::Execute)
        .of_type(event_type)
        .with(Participant::ours(entry, author).being(codes::APPLICATION))
}

/// PS3.15 A.5.3.7, as the one who received.
fn received(entry: &AuditEntry, arrived: &Arrival, author: &Author) -> Vec<AuditMessage> {
    let action = if arrived.new > 0 { Action::Create } else { Action::Read };
    let association = entry.association.as_ref();
    let message = || {
        let source = association.map_or("unknown", |a| a.calling_ae_title.as_str());
        let called = association.map_or(author.ae_title.as_str(), |a| a.called_ae_title.as_str());
        AuditMessage::about(entry, codes::INSTANCES_TRANSFERRED, action)
            .with(
                Participant::new(source)
                    .requesting()
                    .being(codes::SOURCE)
                    .at(association.map(|a| a.peer_address.as_str())),
            )
            .with(Participant::new(called).being(codes::DESTINATION).at(Some(actor(entry).host)))
    };
    for_each_patient(entry, author, &arrived.sop_classes, message)
}

/// PS3.15 A.5.3.7, as the one who sent.
fn sent(entry: &AuditEntry, author: &Author) -> Vec<AuditMessage> {
    let event = &entry.recorded.event;
    let name = event.destination.as_deref().unwrap_or("unknown");
    let known = author.destinations.get(name);
    // Of a result that was awaited, committed to or proven, there is no status of its own.
    let was_told_when_sent = event.detail["status"].is_null();
    if event.kind == EventKind::ResultDelivered && was_told_when_sent {
        return Vec::new();
    }
    let class = entry.result_sop_class_uid.as_ref().map(ToString::to_string).unwrap_or_default();
    let sop_classes = BTreeMap::from([(class, 1)]);
    let message = || {
        let ours = Participant::ours(entry, author).requesting().being(codes::SOURCE);
        let theirs = Participant::new(known.map_or(name, |known| known.user_id.as_str()))
            .being(codes::DESTINATION)
            .at(known.and_then(|known| known.host.as_deref()));
        let message = AuditMessage::about(entry, codes::INSTANCES_TRANSFERRED, Action::Create)
            .with(ours)
            .with(theirs);
        if event.kind == EventKind::DeliveryFailed {
            return message.failed(Outcome::SeriousFailure, entry);
        }
        message
    };
    for_each_patient(entry, author, &sop_classes, message)
}

/// One message for each patient that the study came with: a message speaks of one alone.
fn for_each_patient(
    entry: &AuditEntry,
    author: &Author,
    sop_classes: &BTreeMap<String, u64>,
    message: impl Fn() -> AuditMessage,
) -> Vec<AuditMessage> {
    let mut accessions: BTreeMap<Phi<String>, BTreeSet<Phi<String>>> = BTreeMap::new();
    for PatientIdentity { patient_id, accession_number } in &entry.identities {
        let known = accessions.entry(patient_id.clone()).or_default();
        if !accession_number.expose().is_empty() {
            known.insert(accession_number.clone());
        }
    }
    if accessions.is_empty() {
        accessions.insert(Phi::new(String::new()), BTreeSet::new());
    }
    let study = entry.recorded.event.study_instance_uid.as_ref();
    let study = study.map(ToString::to_string).unwrap_or_default();
    let messages = accessions.into_iter().map(|(patient_id, accession_numbers)| {
        let described = StudyDescription { accession_numbers, sop_classes: sop_classes.clone() };
        let mut object =
            Object::system(codes::STUDY_INSTANCE_UID, study.as_str(), NameOrQuery::Name("study"));
        object.role = Some("3");
        object.study = Some(described);
        let id = match patient_id.expose().as_str() {
            "" if author.identifies_patients => Phi::new("<none>".to_owned()),
            "" => Phi::new("<withheld>".to_owned()),
            _ => patient_id,
        };
        // The patient's name is not kept by anything but the instances themselves.
        let name = NameOrQuery::Name("");
        let mut patient = Object::system(codes::PATIENT_NUMBER, "", name);
        patient.id = id;
        patient.type_code = "1";
        patient.role = Some("1");
        message().on(object).on(patient)
    });
    messages.collect()
}

/// PS3.15 A.5.3.11: a node that is not who it should be, or not one of those who may call.
fn refused(entry: &AuditEntry, author: &Author) -> AuditMessage {
    let detail = &entry.recorded.event.detail;
    let address = entry.association.as_ref().map(|a| a.peer_address.as_str());
    let address = address.or(detail["peer_address"].as_str()).unwrap_or("unknown");
    let caller = detail["calling_ae_title"].as_str().unwrap_or(address);
    let code = entry.recorded.event.reason_code.as_ref();
    let mut node =
        Object::system(codes::NODE_ID, address, NameOrQuery::Name("node that was refused"));
    node.detail = code.map(|code| ("Alert Description", code.to_string()));
    AuditMessage::about(entry, codes::SECURITY_ALERT, Action::Execute)
        .of_type(codes::NODE_AUTHENTICATION)
        .with(Participant::ours(entry, author).requesting())
        .with(Participant::new(caller).at(Some(address)))
        .on(node)
        .failed(Outcome::MinorFailure, entry)
}

/// PS3.15 A.5.3.11: what decides over series has changed, or was to.
fn configured(entry: &AuditEntry, author: &Author) -> AuditMessage {
    let event = &entry.recorded.event;
    let detail = &event.detail;
    let revision = detail["revision"].as_str().or(detail["in_force"].as_str()).unwrap_or_default();
    let mut protocols = Object::system(
        codes::URI,
        format!("urn:prosector:protocols:{revision}"),
        NameOrQuery::Name("protocols"),
    );
    protocols.detail = Some(("Alert Description", event.kind.to_string()));
    let message = AuditMessage::about(entry, codes::SECURITY_ALERT, Action::Execute)
        .of_type(codes::SOFTWARE_CONFIGURATION)
        .with(Participant::ours(entry, author).requesting())
        .on(protocols);
    if event.kind == EventKind::ProtocolsRefused {
        return message.failed(Outcome::MinorFailure, entry);
    }
    message
}

/// PS3.15 A.5.3.12.
fn login(entry: &AuditEntry, author: &Author) -> AuditMessage {
    let event = &entry.recorded.event;
    let user = event.detail["user"].as_str().unwrap_or("unknown");
    let message = AuditMessage::about(entry, codes::USER_AUTHENTICATION, Action::Execute)
        .of_type(codes::LOGIN)
        .with(Participant::new(user).requesting())
        .with(Participant::ours(entry, author));
    if event.kind == EventKind::SignInRefused {
        return message.failed(Outcome::MinorFailure, entry);
    }
    message
}

/// PS3.15 A.5.3.10: somebody asked by patient id or accession number. What they asked for stays unsaid.
fn query(entry: &AuditEntry, author: &Author) -> AuditMessage {
    let detail = &entry.recorded.event.detail;
    let question = detail["question"].as_str().unwrap_or("identity");
    let asked = json!({ "question": question, "by": detail["by"], "channel": detail["channel"] });
    let mut object = Object::system(
        codes::URI,
        format!("urn:prosector:question:{question}"),
        NameOrQuery::Query(asked.to_string()),
    );
    object.role = Some("24");
    let message = AuditMessage::about(entry, codes::QUERY, Action::Execute)
        .with(Participant::acting(entry).being(codes::SOURCE))
        .with(Participant::ours(entry, author).being(codes::DESTINATION))
        .on(object);
    match &entry.recorded.event.study_instance_uid {
        Some(study) => {
            let uid = study.to_string();
            let name = NameOrQuery::Name("study");
            let mut object = Object::system(codes::STUDY_INSTANCE_UID, uid, name);
            object.role = Some("3");
            message.on(object)
        }
        None => message,
    }
}

/// PS3.15 A.5.3.2.
fn log_used(entry: &AuditEntry, author: &Author) -> AuditMessage {
    let mut log =
        Object::system(codes::URI, "urn:prosector:ledger", NameOrQuery::Name("Security Audit Log"));
    log.role = Some("13");
    let how = &entry.recorded.event.detail;
    log.detail = (*how != Json::Null).then(|| ("Question", how.to_string()));
    AuditMessage::about(entry, codes::AUDIT_LOG_USED, Action::Read)
        .with(Participant::acting(entry))
        .with(Participant::ours(entry, author))
        .on(log)
}
