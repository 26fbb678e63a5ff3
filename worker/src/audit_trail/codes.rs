//! Codes of audit messages: DICOM PS3.16 CIDs 400 to 405 and the tables of PS3.15 A.5.1.

/// A coded value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Code {
    pub(super) value: &'static str,
    pub(super) scheme: &'static str,
    pub(super) meaning: &'static str,
}

const fn dcm(value: &'static str, meaning: &'static str) -> Code {
    Code { value, scheme: "DCM", meaning }
}

// Events, CID 400.
pub(super) const APPLICATION_ACTIVITY: Code = dcm("110100", "Application Activity");
pub(super) const AUDIT_LOG_USED: Code = dcm("110101", "Audit Log Used");
pub(super) const INSTANCES_TRANSFERRED: Code = dcm("110104", "DICOM Instances Transferred");
pub(super) const QUERY: Code = dcm("110112", "Query");
pub(super) const SECURITY_ALERT: Code = dcm("110113", "Security Alert");
pub(super) const USER_AUTHENTICATION: Code = dcm("110114", "User Authentication");

// Types of events, CID 401.
pub(super) const APPLICATION_START: Code = dcm("110120", "Application Start");
pub(super) const APPLICATION_STOP: Code = dcm("110121", "Application Stop");
pub(super) const LOGIN: Code = dcm("110122", "Login");
pub(super) const NODE_AUTHENTICATION: Code = dcm("110126", "Node Authentication");
pub(super) const SOFTWARE_CONFIGURATION: Code = dcm("110131", "Software Configuration");

// Roles of participants, CID 402.
pub(super) const APPLICATION: Code = dcm("110150", "Application");
pub(super) const DESTINATION: Code = dcm("110152", "Destination Role ID");
pub(super) const SOURCE: Code = dcm("110153", "Source Role ID");

// Types of identifiers of objects, CID 404 and the table of PS3.15 A.5.1 that RFC 3881 began.
pub(super) const STUDY_INSTANCE_UID: Code = dcm("110180", "Study Instance UID");
pub(super) const NODE_ID: Code = dcm("110182", "Node ID");
pub(super) const PATIENT_NUMBER: Code =
    Code { value: "2", scheme: "RFC-3881", meaning: "Patient Number" };
pub(super) const URI: Code = Code { value: "12", scheme: "RFC-3881", meaning: "URI" };
