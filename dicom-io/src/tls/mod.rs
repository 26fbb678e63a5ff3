//! TLS for DIMSE and DICOMweb: the BCP 195 profile (PS3.15 B.12), certificates from PEM files.
//!
//! TLS 1.2 and 1.3 with forward secrecy and authenticated encryption, nothing else; the server prefers 1.3. Files are
//! looked at again when a connection begins, so that renewed certificates count without a restart.

mod acceptor;
mod connector;
mod pem;
mod refusal;
mod reload;

pub use acceptor::{ClientCertificates, ServerTlsFiles, TlsAcceptor, TlsPeer};
pub use connector::{ClientIdentityFiles, ClientTlsFiles, TlsConnector};
pub use pem::LoadTlsError;
pub use refusal::TlsRefusal;

pub(crate) use connector::Transport;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

/// The cipher suites of rustls with ring are those of the profile: ECDHE with AES-GCM or ChaCha20-Poly1305.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
