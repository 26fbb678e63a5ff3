//! An audit message as XML: the schema of PS3.15 A.5.1.

use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use quick_xml::Writer;
use quick_xml::events::BytesText;
use time::format_description::well_known::Rfc3339;

use super::codes::Code;
use super::message::{
    Action, AuditMessage, Author, NameOrQuery, Object, Outcome, Participant, StudyDescription,
};

/// `AuditSourceTypeCode`: application server process.
const APPLICATION_SERVER: &str = "4";

/// The document of `message`, without a declaration.
///
/// # Errors
/// Never: writing into memory does not fail.
pub(super) fn xml(message: &AuditMessage, author: &Author) -> io::Result<String> {
    let mut writer = Writer::new(Vec::new());
    writer.create_element("AuditMessage").write_inner_content(|inside| {
        event(inside, message)?;
        for participant in &message.participants {
            active_participant(inside, participant)?;
        }
        source(inside, author)?;
        for object in &message.objects {
            participant_object(inside, object)?;
        }
        Ok(())
    })?;
    String::from_utf8(writer.into_inner()).map_err(io::Error::other)
}

fn event<W: Write>(writer: &mut Writer<W>, message: &AuditMessage) -> io::Result<()> {
    let action = match message.action {
        Action::Create => "C",
        Action::Read => "R",
        Action::Execute => "E",
    };
    let outcome = match message.outcome {
        Outcome::Success => "0",
        Outcome::MinorFailure => "4",
        Outcome::SeriousFailure => "8",
    };
    let at = message.at.format(&Rfc3339).map_err(io::Error::other)?;
    let element = writer
        .create_element("EventIdentification")
        .with_attribute(("EventActionCode", action))
        .with_attribute(("EventDateTime", at.as_str()))
        .with_attribute(("EventOutcomeIndicator", outcome));
    element.write_inner_content(|inside| {
        coded(inside, "EventID", message.event)?;
        if let Some(event_type) = message.event_type {
            coded(inside, "EventTypeCode", event_type)?;
        }
        if let Some(description) = &message.outcome_description {
            text(inside, "EventOutcomeDescription", description)?;
        }
        Ok(())
    })?;
    Ok(())
}

fn active_participant<W: Write>(
    writer: &mut Writer<W>,
    participant: &Participant,
) -> io::Result<()> {
    let user_id = allowed(&participant.user_id);
    let alternative = participant.alternative_user_id.as_deref().map(allowed);
    let host = participant.host.as_deref().map(allowed);
    let requestor = if participant.is_requestor { "true" } else { "false" };
    let mut element = writer
        .create_element("ActiveParticipant")
        .with_attribute(("UserID", user_id.as_str()))
        .with_attribute(("UserIsRequestor", requestor));
    if let Some(alternative) = &alternative {
        element = element.with_attribute(("AlternativeUserID", alternative.as_str()));
    }
    if let Some(host) = &host {
        let is_address = host.parse::<std::net::IpAddr>().is_ok();
        element = element
            .with_attribute(("NetworkAccessPointID", host.as_str()))
            .with_attribute(("NetworkAccessPointTypeCode", if is_address { "2" } else { "1" }));
    }
    match participant.role {
        None => element.write_empty()?,
        Some(role) => element.write_inner_content(|inside| coded(inside, "RoleIDCode", role))?,
    };
    Ok(())
}

fn source<W: Write>(writer: &mut Writer<W>, author: &Author) -> io::Result<()> {
    let mut element = writer.create_element("AuditSourceIdentification");
    if let Some(site) = &author.enterprise_site_id {
        element = element.with_attribute(("AuditEnterpriseSiteID", site.as_str()));
    }
    element = element.with_attribute(("AuditSourceID", author.source_id.as_str()));
    element.write_inner_content(|inside| {
        let kind = inside.create_element("AuditSourceTypeCode");
        kind.with_attribute(("csd-code", APPLICATION_SERVER)).write_empty()?;
        Ok(())
    })?;
    Ok(())
}

fn participant_object<W: Write>(writer: &mut Writer<W>, object: &Object) -> io::Result<()> {
    let id = allowed(object.id.expose());
    let mut element = writer
        .create_element("ParticipantObjectIdentification")
        .with_attribute(("ParticipantObjectID", id.as_str()))
        .with_attribute(("ParticipantObjectTypeCode", object.type_code));
    if let Some(role) = object.role {
        element = element.with_attribute(("ParticipantObjectTypeCodeRole", role));
    }
    element.write_inner_content(|inside| {
        coded(inside, "ParticipantObjectIDTypeCode", object.id_type)?;
        match &object.name {
            NameOrQuery::Name(name) => text(inside, "ParticipantObjectName", name)?,
            NameOrQuery::Query(query) => {
                text(inside, "ParticipantObjectQuery", &BASE64.encode(query))?;
            }
        }
        if let Some((kind, value)) = &object.detail {
            let detail = inside.create_element("ParticipantObjectDetail");
            let value = BASE64.encode(value);
            detail.with_attributes([("type", *kind), ("value", value.as_str())]).write_empty()?;
        }
        match &object.study {
            Some(study) => description(inside, study),
            None => Ok(()),
        }
    })?;
    Ok(())
}

fn description<W: Write>(writer: &mut Writer<W>, study: &StudyDescription) -> io::Result<()> {
    let element = writer.create_element("ParticipantObjectDescription");
    element.write_inner_content(|inside| {
        for number in &study.accession_numbers {
            let number = allowed(number.expose());
            let accession = inside.create_element("Accession");
            accession.with_attribute(("Number", number.as_str())).write_empty()?;
        }
        for (uid, instances) in &study.sop_classes {
            let instances = instances.to_string();
            let mut class = inside.create_element("SOPClass");
            if !uid.is_empty() {
                class = class.with_attribute(("UID", uid.as_str()));
            }
            class.with_attribute(("NumberOfInstances", instances.as_str())).write_empty()?;
        }
        Ok(())
    })?;
    Ok(())
}

fn coded<W: Write>(writer: &mut Writer<W>, name: &str, code: Code) -> io::Result<()> {
    let attributes =
        [("csd-code", code.value), ("codeSystemName", code.scheme), ("originalText", code.meaning)];
    writer.create_element(name).with_attributes(attributes).write_empty()?;
    Ok(())
}

fn text<W: Write>(writer: &mut Writer<W>, name: &str, text: &str) -> io::Result<()> {
    writer.create_element(name).write_text_content(BytesText::new(&allowed(text)))?;
    Ok(())
}

/// `text` without the characters that XML 1.0 cannot hold, not even escaped: a peer may have sent them.
fn allowed(text: &str) -> String {
    let is_allowed = |character: &char| matches!(character, '\t' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    text.chars().map(|character| if is_allowed(&character) { character } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_xml_cannot_hold_are_replaced() {
        assert_eq!(allowed("A\u{1}B\nC\u{ffff}"), "A?B?C?");
        assert_eq!(allowed("Müller <&>"), "Müller <&>");
    }
}
