//! The calling side of TLS.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::reload::{Reloading, Source};
use super::{LoadTlsError, TlsRefusal, pem, provider};

/// The PEM files for calling a peer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientTlsFiles {
    /// Who must have issued the peer's certificate; nobody named: whom the system trusts.
    pub authorities: Option<PathBuf>,
    /// What we show a peer that asks.
    pub identity: Option<ClientIdentityFiles>,
    /// The name that the peer's certificate must be for, where it is not the host that is called.
    pub server_name: Option<String>,
}

/// A certificate of ours and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientIdentityFiles {
    /// Our certificate, then the intermediate ones.
    pub certificate: PathBuf,
    /// Its private key, not encrypted.
    pub key: PathBuf,
}

/// Makes encrypted connections to peers.
#[derive(Clone)]
pub struct TlsConnector(Arc<Reloading<ClientTlsFiles>>);

impl TlsConnector {
    /// Reads the files.
    ///
    /// # Errors
    /// [`LoadTlsError`] for the first file that cannot be used, or for a server name that no certificate can have.
    pub fn load(files: ClientTlsFiles) -> Result<Self, LoadTlsError> {
        if let Some(name) = &files.server_name {
            server_name(name).ok_or_else(|| LoadTlsError::ServerName(name.clone()))?;
        }
        Ok(Self(Arc::new(Reloading::load(files)?)))
    }

    /// The client's side of a handshake with whoever answers for `host`, for a protocol other than DICOM's.
    ///
    /// # Errors
    /// Why no encrypted connection came about.
    pub async fn encrypt(
        &self,
        stream: TcpStream,
        host: &str,
    ) -> Result<impl AsyncRead + AsyncWrite + Send + Unpin + use<>, TlsRefusal> {
        self.handshake(stream, host).await
    }

    /// The same, for ours.
    pub(crate) async fn connect(
        &self,
        stream: TcpStream,
        host: &str,
    ) -> Result<Transport, TlsRefusal> {
        Ok(Transport::Encrypted(Box::new(self.handshake(stream, host).await?)))
    }

    async fn handshake(
        &self,
        stream: TcpStream,
        host: &str,
    ) -> Result<TlsStream<TcpStream>, TlsRefusal> {
        let name = self.0.source().server_name.as_deref().unwrap_or(host);
        let name = server_name(name).ok_or(TlsRefusal::OtherName)?;
        let connecting = tokio_rustls::TlsConnector::from(self.0.current()).connect(name, stream);
        connecting.await.map_err(|error| TlsRefusal::of_handshake(&error))
    }
}

/// A host name, or an address with or without brackets.
fn server_name(text: &str) -> Option<ServerName<'static>> {
    let text = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    ServerName::try_from(text.to_owned()).ok()
}

impl Source for ClientTlsFiles {
    type Made = ClientConfig;

    fn files(&self) -> Vec<PathBuf> {
        let identity = self.identity.iter();
        let own = identity.flat_map(|files| [files.certificate.clone(), files.key.clone()]);
        self.authorities.clone().into_iter().chain(own).collect()
    }

    fn make(&self) -> Result<ClientConfig, LoadTlsError> {
        let roots = pem::authorities(self.authorities.as_deref())?;
        let file = self.identity.as_ref().map(|files| files.certificate.clone());
        let unusable =
            |source| LoadTlsError::Unusable { file: file.clone().unwrap_or_default(), source };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_root_certificates(roots);
        match &self.identity {
            None => Ok(builder.with_no_client_auth()),
            Some(files) => {
                let chain = pem::certificates(&files.certificate)?;
                let key = pem::private_key(&files.key)?;
                builder.with_client_auth_cert(chain, key).map_err(unusable)
            }
        }
    }
}

impl fmt::Debug for TlsConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TlsConnector").field(self.0.source()).finish()
    }
}

/// A connection to a peer, in the clear or encrypted.
pub(crate) enum Transport {
    Clear(TcpStream),
    Encrypted(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Encrypted(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Encrypted(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_flush(context),
            Self::Encrypted(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Encrypted(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
