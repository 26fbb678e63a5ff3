//! Why no encrypted connection came about.

use std::fmt;
use std::io;

use rustls::{AlertDescription, CertificateError, Error};

/// Why a TLS handshake ended without a connection: one of a closed set, free of what the peer sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TlsRefusal {
    /// The peer does not speak TLS on this port.
    NotTls,
    /// The peer offers only versions or cipher suites outside the BCP 195 profile.
    OutsideProfile,
    /// The peer shows no certificate and must.
    NoCertificate,
    /// The peer's certificate was issued by nobody whom we trust.
    UnknownAuthority,
    /// The peer's certificate is not valid any more, or not yet.
    OutsideValidity,
    /// The peer's certificate is for another name.
    OtherName,
    /// The peer's certificate is no good for another reason.
    BadCertificate,
    /// The peer does not accept our certificate, or wants one.
    OursRefused,
    /// The peer ended the handshake with another alert.
    EndedByPeer,
    /// The peer took too long.
    TimedOut,
    /// The connection broke.
    ConnectionLost,
    /// The peer broke the protocol.
    Protocol,
}

impl TlsRefusal {
    /// A short word for metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotTls => "peer does not speak TLS",
            Self::OutsideProfile => "peer offers only TLS versions or suites outside BCP 195",
            Self::NoCertificate => "peer shows no certificate",
            Self::UnknownAuthority => "certificate of unknown authority",
            Self::OutsideValidity => "certificate expired or not yet valid",
            Self::OtherName => "certificate for another name",
            Self::BadCertificate => "bad certificate",
            Self::OursRefused => "peer refuses our certificate",
            Self::EndedByPeer => "handshake ended by peer",
            Self::TimedOut => "handshake timed out",
            Self::ConnectionLost => "connection lost",
            Self::Protocol => "TLS protocol error",
        }
    }

    /// What an error of a stream says about TLS, if it does.
    pub(crate) fn of(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref::<Error>().map(Self::of_rustls)
    }

    /// What ended a handshake.
    pub(super) fn of_handshake(error: &io::Error) -> Self {
        Self::of(error).unwrap_or(Self::ConnectionLost)
    }

    fn of_rustls(error: &Error) -> Self {
        match error {
            Error::InvalidMessage(_) => Self::NotTls,
            Error::PeerIncompatible(_) => Self::OutsideProfile,
            Error::NoCertificatesPresented => Self::NoCertificate,
            Error::InvalidCertificate(error) => match error {
                CertificateError::UnknownIssuer => Self::UnknownAuthority,
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => Self::OutsideValidity,
                CertificateError::NotValidForName
                | CertificateError::NotValidForNameContext { .. } => Self::OtherName,
                _ => Self::BadCertificate,
            },
            Error::AlertReceived(alert) => match alert {
                AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnknownCA
                | AlertDescription::AccessDenied
                | AlertDescription::CertificateRequired => Self::OursRefused,
                AlertDescription::ProtocolVersion | AlertDescription::InsufficientSecurity => {
                    Self::OutsideProfile
                }
                _ => Self::EndedByPeer,
            },
            _ => Self::Protocol,
        }
    }
}

impl fmt::Display for TlsRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
