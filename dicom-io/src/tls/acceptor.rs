//! The listening side of TLS.

use std::fmt::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use dicom_types::AeTitle;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::server::TlsStream;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::reload::{Reloading, Source};
use super::{LoadTlsError, TlsRefusal, pem, provider};

/// The PEM files of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTlsFiles {
    /// Our certificate, then the intermediate ones.
    pub certificate: PathBuf,
    /// Its private key, not encrypted.
    pub key: PathBuf,
    /// What peers must show.
    pub clients: ClientCertificates,
}

/// Whether those who connect must show a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientCertificates {
    /// They are not asked.
    NotAsked,
    /// They may; one that is shown must be good.
    Optional {
        /// Who must have issued it.
        authorities: PathBuf,
    },
    /// They must.
    Required {
        /// Who must have issued it.
        authorities: PathBuf,
    },
}

/// Makes encrypted connections of accepted ones.
#[derive(Clone)]
pub struct TlsAcceptor(Arc<Reloading<ServerTlsFiles>>);

/// What TLS says of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsPeer {
    /// Version of the protocol: `TLS 1.2` or `TLS 1.3`.
    pub version: &'static str,
    /// SHA-256 over its certificate, where it showed one.
    pub certificate_sha256: Option<[u8; 32]>,
    /// Common name and DNS names of its certificate.
    names: Vec<String>,
}

impl TlsAcceptor {
    /// Reads the files.
    ///
    /// # Errors
    /// [`LoadTlsError`] for the first file that cannot be used.
    pub fn load(files: ServerTlsFiles) -> Result<Self, LoadTlsError> {
        Ok(Self(Arc::new(Reloading::load(files)?)))
    }

    /// The server's side of a handshake, with the certificates that the files hold now.
    pub(crate) async fn accept<S>(&self, stream: S) -> Result<(TlsStream<S>, TlsPeer), TlsRefusal>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let accepting = tokio_rustls::TlsAcceptor::from(self.0.current()).accept(stream);
        let stream = accepting.await.map_err(|error| TlsRefusal::of_handshake(&error))?;
        let (_, connection) = stream.get_ref();
        let version = match connection.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLS 1.3",
            _ => "TLS 1.2",
        };
        let certificate = connection.peer_certificates().and_then(<[_]>::first);
        let peer = TlsPeer {
            version,
            certificate_sha256: certificate.map(|der| Sha256::digest(der).into()),
            names: certificate.map(names).unwrap_or_default(),
        };
        Ok((stream, peer))
    }
}

impl TlsPeer {
    /// Whether the certificate's common name or one of its DNS names is `title`.
    pub fn names(&self, title: &AeTitle) -> bool {
        self.names.iter().any(|name| name == title.as_str())
    }

    /// The digest of the certificate in hexadecimal digits, empty where there is none.
    pub fn fingerprint(&self) -> String {
        self.certificate_sha256.iter().flatten().fold(String::new(), |mut text, byte| {
            // Writing to a text does not fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    let mut names: Vec<String> = common.map(str::to_owned).collect();
    if let Ok(Some(alternative)) = certificate.subject_alternative_name() {
        let dns = alternative.value.general_names.iter().filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        });
        names.extend(dns);
    }
    names
}

impl Source for ServerTlsFiles {
    type Made = ServerConfig;

    fn files(&self) -> Vec<PathBuf> {
        let mut files = vec![self.certificate.clone(), self.key.clone()];
        match &self.clients {
            ClientCertificates::NotAsked => {}
            ClientCertificates::Optional { authorities }
            | ClientCertificates::Required { authorities } => files.push(authorities.clone()),
        }
        files
    }

    fn make(&self) -> Result<ServerConfig, LoadTlsError> {
        let chain = pem::certificates(&self.certificate)?;
        let key = pem::private_key(&self.key)?;
        let unusable = |source| LoadTlsError::Unusable { file: self.certificate.clone(), source };
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(unusable)?;
        let builder = match &self.clients {
            ClientCertificates::NotAsked => builder.with_no_client_auth(),
            ClientCertificates::Optional { authorities }
            | ClientCertificates::Required { authorities } => {
                let roots = Arc::new(pem::authorities(Some(authorities))?);
                let mut verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
                if matches!(self.clients, ClientCertificates::Optional { .. }) {
                    verifier = verifier.allow_unauthenticated();
                }
                let verifier =
                    verifier.build().map_err(|_| LoadTlsError::NoAuthority(authorities.clone()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        builder.with_single_cert(chain, key).map_err(unusable)
    }
}

impl fmt::Debug for TlsAcceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TlsAcceptor").field(self.0.source()).finish()
    }
}
