//! Command sets: group 0000 in implicit VR little endian (PS3.7 6.3.1).

use std::collections::BTreeMap;
use std::fmt;

use super::{STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE, Status};

/// Longest command set that is taken from a peer; real ones have some two hundred bytes.
pub const MAX_COMMAND_BYTES: usize = 16 * 1024;

/// Value of Command Data Set Type (0000,0800) that says that no data set follows.
const NO_DATASET: u16 = 0x0101;

/// Element numbers of group 0000 (PS3.7 table E.1-1).
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Attributes;

impl Attributes {
    /// Command Group Length (0000,0000).
    pub const GROUP_LENGTH: u16 = 0x0000;
    /// Affected SOP Class UID (0000,0002).
    pub const AFFECTED_SOP_CLASS_UID: u16 = 0x0002;
    /// Requested SOP Class UID (0000,0003).
    pub const REQUESTED_SOP_CLASS_UID: u16 = 0x0003;
    /// Command Field (0000,0100).
    pub const COMMAND_FIELD: u16 = 0x0100;
    /// Message ID (0000,0110).
    pub const MESSAGE_ID: u16 = 0x0110;
    /// Message ID Being Responded To (0000,0120).
    pub const MESSAGE_ID_BEING_RESPONDED_TO: u16 = 0x0120;
    /// Move Destination (0000,0600).
    pub const MOVE_DESTINATION: u16 = 0x0600;
    /// Priority (0000,0700).
    pub const PRIORITY: u16 = 0x0700;
    /// Command Data Set Type (0000,0800).
    pub const COMMAND_DATA_SET_TYPE: u16 = 0x0800;
    /// Status (0000,0900).
    pub const STATUS: u16 = 0x0900;
    /// Error Comment (0000,0902).
    pub const ERROR_COMMENT: u16 = 0x0902;
    /// Affected SOP Instance UID (0000,1000).
    pub const AFFECTED_SOP_INSTANCE_UID: u16 = 0x1000;
    /// Requested SOP Instance UID (0000,1001).
    pub const REQUESTED_SOP_INSTANCE_UID: u16 = 0x1001;
    /// Event Type ID (0000,1002).
    pub const EVENT_TYPE_ID: u16 = 0x1002;
    /// Action Type ID (0000,1008).
    pub const ACTION_TYPE_ID: u16 = 0x1008;
    /// Number of Remaining Sub-operations (0000,1020).
    pub const NUMBER_OF_REMAINING_SUBOPERATIONS: u16 = 0x1020;
    /// Number of Completed Sub-operations (0000,1021).
    pub const NUMBER_OF_COMPLETED_SUBOPERATIONS: u16 = 0x1021;
    /// Number of Failed Sub-operations (0000,1022).
    pub const NUMBER_OF_FAILED_SUBOPERATIONS: u16 = 0x1022;
    /// Number of Warning Sub-operations (0000,1023).
    pub const NUMBER_OF_WARNING_SUBOPERATIONS: u16 = 0x1023;
    /// Move Originator Application Entity Title (0000,1030).
    pub const MOVE_ORIGINATOR_AE_TITLE: u16 = 0x1030;
    /// Move Originator Message ID (0000,1031).
    pub const MOVE_ORIGINATOR_MESSAGE_ID: u16 = 0x1031;
}

/// Command Field (0000,0100).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CommandField(pub u16);

impl CommandField {
    /// C-STORE-RQ.
    pub const C_STORE_RQ: Self = Self(0x0001);
    /// C-STORE-RSP.
    pub const C_STORE_RSP: Self = Self(0x8001);
    /// C-FIND-RQ.
    pub const C_FIND_RQ: Self = Self(0x0020);
    /// C-FIND-RSP.
    pub const C_FIND_RSP: Self = Self(0x8020);
    /// C-GET-RQ.
    pub const C_GET_RQ: Self = Self(0x0010);
    /// C-GET-RSP.
    pub const C_GET_RSP: Self = Self(0x8010);
    /// C-MOVE-RQ.
    pub const C_MOVE_RQ: Self = Self(0x0021);
    /// C-MOVE-RSP.
    pub const C_MOVE_RSP: Self = Self(0x8021);
    /// C-ECHO-RQ.
    pub const C_ECHO_RQ: Self = Self(0x0030);
    /// C-ECHO-RSP.
    pub const C_ECHO_RSP: Self = Self(0x8030);
    /// N-EVENT-REPORT-RQ.
    pub const N_EVENT_REPORT_RQ: Self = Self(0x0100);
    /// N-EVENT-REPORT-RSP.
    pub const N_EVENT_REPORT_RSP: Self = Self(0x8100);
    /// N-ACTION-RQ.
    pub const N_ACTION_RQ: Self = Self(0x0130);
    /// N-ACTION-RSP.
    pub const N_ACTION_RSP: Self = Self(0x8130);
    /// C-CANCEL-RQ, which has no response.
    pub const C_CANCEL_RQ: Self = Self(0x0FFF);

    /// Whether this is a response.
    pub fn is_response(self) -> bool {
        self.0 & 0x8000 != 0
    }

    /// The response to this request.
    #[must_use]
    pub fn response(self) -> Self {
        Self(self.0 | 0x8000)
    }
}

impl fmt::Debug for CommandField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04X}H", self.0)
    }
}

/// Priority (0000,0700) of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Priority {
    /// 0000H.
    #[default]
    Medium,
    /// 0001H.
    High,
    /// 0002H.
    Low,
}

impl Priority {
    fn code(self) -> u16 {
        match self {
            Self::Medium => 0,
            Self::High => 1,
            Self::Low => 2,
        }
    }
}

/// Why bytes are no command set. What they hold is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeCommandError {
    /// More than [`MAX_COMMAND_BYTES`].
    #[error("command set exceeds {MAX_COMMAND_BYTES} bytes")]
    TooLong,
    /// The bytes end inside an element.
    #[error("command set ends inside the element at offset {offset}")]
    Truncated {
        /// Offset in the command set.
        offset: usize,
    },
    /// An element outside group 0000.
    #[error("command set has an element of another group at offset {offset}")]
    ForeignGroup {
        /// Offset in the command set.
        offset: usize,
    },
    /// A required element is absent or has another length than its type.
    #[error("command set lacks element (0000,{element:04X}) or has it in another form")]
    Missing {
        /// Element number in group 0000.
        element: u16,
    },
}

/// The elements of a command, by element number.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct CommandSet(BTreeMap<u16, Vec<u8>>);

impl fmt::Debug for CommandSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = self.number(Attributes::COMMAND_FIELD).map(CommandField);
        write!(f, "CommandSet {{ field: {field:?}, elements: {} }}", self.0.len())
    }
}

impl CommandSet {
    /// Starts a request that is followed by a data set or not.
    pub fn request(field: CommandField, message_id: u16, has_dataset: bool) -> Self {
        let mut command = Self::default();
        command.put_number(Attributes::COMMAND_FIELD, field.0);
        command.put_number(Attributes::MESSAGE_ID, message_id);
        command.put_number(Attributes::COMMAND_DATA_SET_TYPE, dataset_type(has_dataset));
        command
    }

    /// A C-ECHO request (PS3.7 9.3.5.1).
    pub fn echo_request(message_id: u16) -> Self {
        let mut command = Self::request(CommandField::C_ECHO_RQ, message_id, false);
        command.put_uid(Attributes::AFFECTED_SOP_CLASS_UID, "1.2.840.10008.1.1");
        command
    }

    /// A C-STORE request (PS3.7 9.3.1.1).
    pub fn store_request(
        message_id: u16,
        sop_class_uid: &str,
        sop_instance_uid: &str,
        priority: Priority,
    ) -> Self {
        let mut command = Self::request(CommandField::C_STORE_RQ, message_id, true);
        command.put_uid(Attributes::AFFECTED_SOP_CLASS_UID, sop_class_uid);
        command.put_uid(Attributes::AFFECTED_SOP_INSTANCE_UID, sop_instance_uid);
        command.put_priority(priority);
        command
    }

    /// An N-ACTION request for storage commitment (PS3.7 10.3.5, PS3.4 J.3.2).
    pub fn commitment_request(message_id: u16) -> Self {
        let mut command = Self::request(CommandField::N_ACTION_RQ, message_id, true);
        command.put_uid(Attributes::REQUESTED_SOP_CLASS_UID, STORAGE_COMMITMENT);
        command.put_uid(Attributes::REQUESTED_SOP_INSTANCE_UID, STORAGE_COMMITMENT_INSTANCE);
        command.put_number(Attributes::ACTION_TYPE_ID, 1);
        command
    }

    /// An N-EVENT-REPORT request of storage commitment (PS3.7 10.3.1, PS3.4 J.3.3).
    pub fn commitment_report(message_id: u16, event_type: u16) -> Self {
        let mut command = Self::request(CommandField::N_EVENT_REPORT_RQ, message_id, true);
        command.put_uid(Attributes::AFFECTED_SOP_CLASS_UID, STORAGE_COMMITMENT);
        command.put_uid(Attributes::AFFECTED_SOP_INSTANCE_UID, STORAGE_COMMITMENT_INSTANCE);
        command.put_number(Attributes::EVENT_TYPE_ID, event_type);
        command
    }

    /// The response to `self`, without data set: its message id, SOP class and instance are repeated.
    #[must_use]
    pub fn response(&self, status: Status) -> Self {
        let field = CommandField(self.number(Attributes::COMMAND_FIELD).unwrap_or_default());
        let mut response = Self::default();
        for (requested, affected) in [
            (Attributes::REQUESTED_SOP_CLASS_UID, Attributes::AFFECTED_SOP_CLASS_UID),
            (Attributes::AFFECTED_SOP_CLASS_UID, Attributes::AFFECTED_SOP_CLASS_UID),
            (Attributes::REQUESTED_SOP_INSTANCE_UID, Attributes::AFFECTED_SOP_INSTANCE_UID),
            (Attributes::AFFECTED_SOP_INSTANCE_UID, Attributes::AFFECTED_SOP_INSTANCE_UID),
        ] {
            if let Some(value) = self.0.get(&requested) {
                response.0.insert(affected, value.clone());
            }
        }
        response.put_number(Attributes::COMMAND_FIELD, field.response().0);
        response.put_number(
            Attributes::MESSAGE_ID_BEING_RESPONDED_TO,
            self.number(Attributes::MESSAGE_ID).unwrap_or_default(),
        );
        response.put_number(Attributes::COMMAND_DATA_SET_TYPE, dataset_type(false));
        response.put_number(Attributes::STATUS, status.0);
        response
    }

    /// Adds Error Comment (0000,0902), cut to the 64 characters that it may have.
    #[must_use]
    pub fn with_error_comment(mut self, comment: &str) -> Self {
        let comment: String = comment
            .chars()
            .map(|character| if (' '..='~').contains(&character) { character } else { '?' })
            .filter(|&character| character != '\\')
            .take(64)
            .collect();
        self.put(Attributes::ERROR_COMMENT, comment.as_bytes(), b' ');
        self
    }

    /// Decodes a whole command set.
    ///
    /// # Errors
    /// [`DecodeCommandError`] for anything but whole elements of group 0000 that include a command field and a data
    /// set type.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeCommandError> {
        if bytes.len() > MAX_COMMAND_BYTES {
            return Err(DecodeCommandError::TooLong);
        }
        let mut command = Self::default();
        let mut offset = 0;
        while offset < bytes.len() {
            let truncated = DecodeCommandError::Truncated { offset };
            let rest = &bytes[offset..];
            let &[group_0, group_1, element_0, element_1, length @ ..] =
                rest.first_chunk::<8>().ok_or(truncated)?;
            if [group_0, group_1] != [0, 0] {
                return Err(DecodeCommandError::ForeignGroup { offset });
            }
            let length = u32::from_le_bytes(length) as usize;
            let value = rest.get(8..8 + length).ok_or(truncated)?;
            command.0.insert(u16::from_le_bytes([element_0, element_1]), value.to_vec());
            offset += 8 + length;
        }
        command.0.remove(&Attributes::GROUP_LENGTH);
        command.require_number(Attributes::COMMAND_FIELD)?;
        command.require_number(Attributes::COMMAND_DATA_SET_TYPE)?;
        Ok(command)
    }

    /// Encodes the command set, group length first.
    pub fn encode(&self) -> Vec<u8> {
        let length: usize = self.0.values().map(|value| 8 + value.len()).sum();
        let mut bytes = Vec::with_capacity(12 + length);
        put_element(&mut bytes, Attributes::GROUP_LENGTH, &(length as u32).to_le_bytes());
        for (&element, value) in &self.0 {
            put_element(&mut bytes, element, value);
        }
        bytes
    }

    /// Command Field (0000,0100); a decoded command has it.
    pub fn field(&self) -> CommandField {
        CommandField(self.number(Attributes::COMMAND_FIELD).unwrap_or_default())
    }

    /// Whether a data set follows the command.
    pub fn has_dataset(&self) -> bool {
        self.number(Attributes::COMMAND_DATA_SET_TYPE) != Some(NO_DATASET)
    }

    /// Status (0000,0900) of a response.
    pub fn status(&self) -> Option<Status> {
        self.number(Attributes::STATUS).map(Status)
    }

    /// A value of 16 bits.
    pub fn number(&self, element: u16) -> Option<u16> {
        let value = self.0.get(&element)?;
        value.first_chunk::<2>().map(|&bytes| u16::from_le_bytes(bytes))
    }

    /// A value of 16 bits that must be there.
    ///
    /// # Errors
    /// [`DecodeCommandError::Missing`] when it is not.
    pub fn require_number(&self, element: u16) -> Result<u16, DecodeCommandError> {
        self.number(element).ok_or(DecodeCommandError::Missing { element })
    }

    /// A text, padding removed; `None` when absent, empty or not UTF-8.
    pub fn text(&self, element: u16) -> Option<&str> {
        let text = std::str::from_utf8(self.0.get(&element)?).ok()?;
        let text = text.trim_matches([' ', '\0']);
        (!text.is_empty()).then_some(text)
    }

    /// Sets a value of 16 bits.
    pub fn put_number(&mut self, element: u16, value: u16) {
        self.0.insert(element, value.to_le_bytes().to_vec());
    }

    /// Sets Priority (0000,0700).
    pub fn put_priority(&mut self, priority: Priority) {
        self.put_number(Attributes::PRIORITY, priority.code());
    }

    /// Sets a unique identifier.
    pub fn put_uid(&mut self, element: u16, uid: &str) {
        self.put(element, uid.as_bytes(), 0);
    }

    /// Sets a text that is padded with a space, such as an AE title.
    pub fn put_text(&mut self, element: u16, text: &str) {
        self.put(element, text.as_bytes(), b' ');
    }

    fn put(&mut self, element: u16, value: &[u8], padding: u8) {
        let mut value = value.to_vec();
        if value.len() % 2 == 1 {
            value.push(padding);
        }
        self.0.insert(element, value);
    }
}

fn dataset_type(has_dataset: bool) -> u16 {
    if has_dataset { 0x0000 } else { NO_DATASET }
}

fn put_element(bytes: &mut Vec<u8>, element: u16, value: &[u8]) {
    bytes.extend_from_slice(&[0, 0]);
    bytes.extend_from_slice(&element.to_le_bytes());
    bytes.extend_from_slice(&(value.len() as u32).to_le_bytes());
    bytes.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_store_request_reads_back_and_its_response_repeats_what_it_answers() {
        let request = CommandSet::store_request(7, "1.2.3", "1.2.3.4", Priority::High);

        let read = CommandSet::decode(&request.encode()).unwrap();
        let response = read.response(Status(0xA700)).with_error_comment("no\\room");

        assert_eq!(read, request);
        assert!(read.has_dataset());
        assert_eq!(response.field(), CommandField::C_STORE_RSP);
        assert_eq!(response.number(Attributes::MESSAGE_ID_BEING_RESPONDED_TO), Some(7));
        assert_eq!(response.text(Attributes::AFFECTED_SOP_INSTANCE_UID), Some("1.2.3.4"));
        assert_eq!(response.text(Attributes::ERROR_COMMENT), Some("noroom"));
        assert!(!response.has_dataset());
    }

    #[test]
    fn refuses_an_element_of_another_group_and_a_length_beyond_the_end() {
        let mut foreign = CommandSet::echo_request(1).encode();
        foreign.extend([8, 0, 0x18, 0, 0, 0, 0, 0]);
        let mut lying = CommandSet::echo_request(1).encode();
        lying.extend([0, 0, 0x18, 0, 0xFF, 0xFF, 0xFF, 0x7F]);

        let foreign = CommandSet::decode(&foreign);
        let lying = CommandSet::decode(&lying);

        assert!(matches!(foreign, Err(DecodeCommandError::ForeignGroup { .. })), "{foreign:?}");
        assert!(matches!(lying, Err(DecodeCommandError::Truncated { .. })), "{lying:?}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_command_set_or_an_error(
            bytes in proptest::collection::vec(any::<u8>(), 0..256),
        ) {
            if let Ok(command) = CommandSet::decode(&bytes) {
                prop_assert_eq!(CommandSet::decode(&command.encode()), Ok(command));
            }
        }

        #[test]
        fn a_damaged_command_set_is_a_command_set_or_an_error(
            position in any::<prop::sample::Index>(),
            value in any::<u8>(),
        ) {
            let mut bytes =
                CommandSet::store_request(7, "1.2.3", "1.2.3.4", Priority::Medium).encode();
            let position = position.index(bytes.len());
            bytes[position] = value;

            if let Ok(command) = CommandSet::decode(&bytes) {
                prop_assert_eq!(CommandSet::decode(&command.encode()), Ok(command));
            }
        }
    }
}
