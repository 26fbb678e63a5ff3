//! One HTTP/1.1 connection to a DICOMweb server.

use std::io;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use uuid::Uuid;

use super::{BearerToken, StowDestination, StowError, StowRoot};
use crate::tls::{TlsRefusal, Transport};

/// Longest answer that is read.
const MAX_ANSWER_BYTES: usize = 4 << 20;

/// DICOM JSON.
pub(super) const DICOM_JSON: &str = "application/dicom+json";

/// Longest bearer token.
const MAX_TOKEN_BYTES: usize = 16 << 10;

/// A connection to a server.
pub(super) struct Client {
    sender: SendRequest<Full<Bytes>>,
    /// Drives the connection, and ends with it.
    _driver: JoinSet<()>,
    destination: StowDestination,
    authorization: Option<header::HeaderValue>,
}

/// A server's answer.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) content_type: String,
    pub(super) body: Bytes,
}

impl Client {
    pub(super) async fn connect(destination: &StowDestination) -> Result<Self, StowError> {
        let authorization = authorization(destination.token.as_ref()).await?;
        let connecting = timeout(destination.connect_timeout, open(destination));
        let transport =
            connecting.await.map_err(|_| StowError::Connect(io::ErrorKind::TimedOut.into()))??;
        let (sender, connection) =
            http1::handshake(TokioIo::new(transport)).await.map_err(|_| StowError::Broken)?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // What ends the connection is seen by the request that was under way.
            let _ = connection.await;
        });
        Ok(Self { sender, _driver: driver, destination: destination.clone(), authorization })
    }

    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Stores one Part 10 file (PS3.18 10.5.1).
    pub(super) async fn store(&mut self, file: Vec<u8>) -> Result<Answer, StowError> {
        let boundary = Uuid::new_v4().simple().to_string();
        let head = format!("--{boundary}\r\nContent-Type: application/dicom\r\n\r\n");
        let tail = format!("\r\n--{boundary}--\r\n");
        let mut body = Vec::with_capacity(head.len() + file.len() + tail.len());
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(&file);
        drop(file);
        body.extend_from_slice(tail.as_bytes());
        let content_type =
            format!("multipart/related; type=\"application/dicom\"; boundary={boundary}");
        let request = self
            .request(Method::POST, "/studies")
            .header(header::CONTENT_TYPE, content_type)
            .body(Full::new(Bytes::from(body)));
        self.ask(request.map_err(|_| StowError::Broken)?, MAX_ANSWER_BYTES).await
    }

    /// Searches for one study, whichever.
    pub(super) async fn search(&mut self) -> Result<Answer, StowError> {
        self.get("/studies?limit=1", DICOM_JSON, None).await
    }

    /// Gets what is `below` the root in one of the media types of `accept`, of at most `max_bytes`.
    pub(super) async fn get(
        &mut self,
        below: &str,
        accept: &str,
        max_bytes: Option<usize>,
    ) -> Result<Answer, StowError> {
        let mut request = self
            .request(Method::GET, below)
            .body(Full::new(Bytes::new()))
            .map_err(|_| StowError::Broken)?;
        let accept = header::HeaderValue::try_from(accept).map_err(|_| StowError::Broken)?;
        request.headers_mut().insert(header::ACCEPT, accept);
        self.ask(request, max_bytes.unwrap_or(MAX_ANSWER_BYTES)).await
    }

    fn request(&self, method: Method, below: &str) -> hyper::http::request::Builder {
        let root: &StowRoot = &self.destination.root;
        let mut request = Request::builder()
            .method(method)
            .uri(root.path(below))
            .header(header::HOST, root.authority())
            .header(header::ACCEPT, DICOM_JSON)
            .header(header::USER_AGENT, concat!("prosector/", env!("CARGO_PKG_VERSION")));
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        request
    }

    async fn ask(
        &mut self,
        request: Request<Full<Bytes>>,
        max_bytes: usize,
    ) -> Result<Answer, StowError> {
        let asking = async {
            self.sender.ready().await.map_err(|error| broken(&error))?;
            let response =
                self.sender.send_request(request).await.map_err(|error| broken(&error))?;
            let status = response.status().as_u16();
            let content_type = response.headers().get(header::CONTENT_TYPE);
            let content_type =
                content_type.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
            let body = Limited::new(response.into_body(), max_bytes).collect().await;
            Ok(Answer {
                status,
                content_type,
                body: body.map_err(|_| StowError::Broken)?.to_bytes(),
            })
        };
        timeout(self.destination.response_timeout, asking).await.map_err(|_| StowError::TimedOut)?
    }
}

/// A server of TLS 1.3 looks at our certificate after it has let us begin.
fn broken(error: &hyper::Error) -> StowError {
    let io = std::error::Error::source(error).and_then(|e| e.downcast_ref::<io::Error>());
    io.and_then(TlsRefusal::of).map_or(StowError::Broken, StowError::Tls)
}

async fn open(destination: &StowDestination) -> Result<Transport, StowError> {
    let root = &destination.root;
    let stream = TcpStream::connect(root.address()).await.map_err(StowError::Connect)?;
    stream.set_nodelay(true).map_err(StowError::Connect)?;
    match (&destination.tls, root.is_encrypted()) {
        (_, false) => Ok(Transport::Clear(stream)),
        (Some(tls), true) => tls.connect(stream, root.host()).await.map_err(StowError::Tls),
        (None, true) => Err(StowError::Tls(TlsRefusal::UnknownAuthority)),
    }
}

async fn authorization(
    token: Option<&BearerToken>,
) -> Result<Option<header::HeaderValue>, StowError> {
    let (text, file) = match token {
        None => return Ok(None),
        Some(BearerToken::Text(text)) => (text.to_string(), std::path::PathBuf::new()),
        Some(BearerToken::File(file)) => {
            let read = tokio::fs::read_to_string(file).await;
            (read.map_err(|_| StowError::Token(file.clone()))?, file.clone())
        }
    };
    let text = text.trim();
    if text.is_empty() || text.len() > MAX_TOKEN_BYTES {
        return Err(StowError::Token(file));
    }
    let mut value = header::HeaderValue::try_from(format!("Bearer {text}"))
        .map_err(|_| StowError::Token(file))?;
    value.set_sensitive(true);
    Ok(Some(value))
}
