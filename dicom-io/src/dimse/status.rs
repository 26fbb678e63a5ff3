//! Statuses of responses (PS3.7 annex C, PS3.4 table B.2-1).

use std::fmt;

/// Status (0000,0900) of a response, as a peer sent it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Status(pub u16);

impl Status {
    /// Done.
    pub const SUCCESS: Self = Self(0x0000);
    /// An error of ours (PS3.7 C.5.20).
    pub const PROCESSING_FAILURE: Self = Self(0x0110);
    /// The data set cannot be understood, or says something that is out of range (PS3.7 C.5.10).
    pub const INVALID_ARGUMENT: Self = Self(0x0115);
    /// The SOP class is another one's (PS3.7 C.5.18).
    pub const NO_SUCH_SOP_CLASS: Self = Self(0x0118);
    /// The kind of event is unknown (PS3.7 C.5.15).
    pub const NO_SUCH_EVENT: Self = Self(0x0113);
    /// The kind of action is unknown (PS3.7 C.5.11).
    pub const NO_SUCH_ACTION: Self = Self(0x0123);
    /// It is too much (PS3.7 C.5.21).
    pub const RESOURCE_LIMITATION: Self = Self(0x0213);
    /// The operation is unknown (PS3.7 C.5.23).
    pub const UNRECOGNIZED_OPERATION: Self = Self(0x0211);

    /// What the status means for the sender, whatever the service.
    pub fn category(self) -> StatusCategory {
        match self.0 {
            0x0000 => StatusCategory::Success,
            0x0001 | 0x0107 | 0x0116 | 0xB000..=0xBFFF => StatusCategory::Warning,
            0xFE00 => StatusCategory::Cancel,
            0xFF00 | 0xFF01 => StatusCategory::Pending,
            _ => StatusCategory::Failure,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04X}H", self.0)
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Classes of statuses (PS3.7 annex C).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StatusCategory {
    /// Done.
    Success,
    /// Done, with a remark.
    Warning,
    /// Not done.
    Failure,
    /// Ended on request.
    Cancel,
    /// More responses follow.
    Pending,
}

/// What we answer to a C-STORE request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StoreStatus {
    /// 0000H: the instance is durable.
    Success,
    /// A700H: refused for lack of disk, memory or database; the sender should try again later.
    OutOfResources,
    /// A900H: the data set names another SOP class or instance than the command, or another transfer than agreed.
    DatasetMismatch,
    /// C000H: the data set cannot be understood.
    CannotUnderstand,
    /// 0110H: an error of ours that sending again may pass.
    ProcessingFailure,
    /// 0117H: the SOP instance UID of the command is no unique identifier.
    InvalidInstance,
    /// 0122H: the SOP class is not the one negotiated.
    SopClassNotSupported,
    /// 0124H: this sender may not store.
    NotAuthorized,
}

impl StoreStatus {
    /// The status as it goes over the wire.
    pub fn status(self) -> Status {
        Status(match self {
            Self::Success => 0x0000,
            Self::OutOfResources => 0xA700,
            Self::DatasetMismatch => 0xA900,
            Self::CannotUnderstand => 0xC000,
            Self::ProcessingFailure => 0x0110,
            Self::InvalidInstance => 0x0117,
            Self::SopClassNotSupported => 0x0122,
            Self::NotAuthorized => 0x0124,
        })
    }

    /// A short word for metrics and logs: one of a closed set.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::OutOfResources => "out of resources",
            Self::DatasetMismatch => "data set does not match SOP class or instance",
            Self::CannotUnderstand => "cannot understand",
            Self::ProcessingFailure => "processing failure",
            Self::InvalidInstance => "invalid SOP instance",
            Self::SopClassNotSupported => "SOP class not supported",
            Self::NotAuthorized => "not authorized",
        }
    }
}

impl fmt::Display for StoreStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.as_str(), self.status())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_that_we_answer_falls_into_the_category_that_its_sender_expects() {
        assert_eq!(StoreStatus::Success.status().category(), StatusCategory::Success);
        for failure in [
            StoreStatus::OutOfResources,
            StoreStatus::DatasetMismatch,
            StoreStatus::CannotUnderstand,
            StoreStatus::ProcessingFailure,
            StoreStatus::InvalidInstance,
            StoreStatus::SopClassNotSupported,
            StoreStatus::NotAuthorized,
        ] {
            assert_eq!(failure.status().category(), StatusCategory::Failure, "{failure}");
        }
        assert_eq!(Status(0xB007).category(), StatusCategory::Warning);
    }
}
