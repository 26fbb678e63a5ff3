//! Checks the TLS tables of a raw configuration; files that cannot be used are problems like any other.

use std::net::SocketAddr;
use std::path::PathBuf;

use dicom_io::tls::{
    ClientCertificates, ClientIdentityFiles, ClientTlsFiles, ServerTlsFiles, TlsAcceptor,
    TlsConnector,
};

use super::problem::{FieldPath, Problems};
use super::raw::{RawClientTls, RawListenerTls};
use super::section::ListenerTls;
use super::validate::{address_hint, parsed};

/// `[listener.tls]`; `clear` is where the clear port is bound.
pub(super) fn listener(
    raw: &RawListenerTls,
    clear: Option<SocketAddr>,
    path: &FieldPath,
    problems: &mut Problems,
) -> Option<ListenerTls> {
    let bind_path = path.key("bind");
    let bind = match &raw.bind {
        Some(text) => Some(parsed(text, &bind_path, problems, address_hint)?),
        None => None,
    };
    if bind.is_some_and(|bind: SocketAddr| Some(bind) == clear && bind.port() > 0) {
        let message = "is listener.bind; leave it out to have TLS in place of the clear port";
        problems.error(&bind_path, message);
    }
    let clients = clients(raw, path, problems);
    let match_ae_title = raw.match_ae_title.unwrap_or_default();
    if match_ae_title && raw.client_ca.is_none() {
        problems.error(&path.key("match_ae_title"), "needs client_ca: nobody shows a certificate");
    }
    let certificate = file(raw.certificate.as_deref(), &path.key("certificate"), problems);
    let key = file(raw.key.as_deref(), &path.key("key"), problems);
    let files = ServerTlsFiles { certificate: certificate?, key: key?, clients: clients? };
    let acceptor = problems.take(path, TlsAcceptor::load(files))?;
    Some(ListenerTls { bind, acceptor, match_ae_title })
}

fn clients(
    raw: &RawListenerTls,
    path: &FieldPath,
    problems: &mut Problems,
) -> Option<ClientCertificates> {
    let key = path.key("client_certificate");
    match (&raw.client_ca, raw.client_certificate.as_deref()) {
        (None, None) => Some(ClientCertificates::NotAsked),
        (None, Some(_)) => {
            problems.error(&key, "needs client_ca, the authorities to check it against");
            None
        }
        (Some(ca), None | Some("required")) => {
            Some(ClientCertificates::Required { authorities: PathBuf::from(ca) })
        }
        (Some(ca), Some("optional")) => {
            Some(ClientCertificates::Optional { authorities: PathBuf::from(ca) })
        }
        (Some(_), Some(other)) => {
            problems.error(&key, format!("{other:?} is neither required nor optional"));
            None
        }
    }
}

/// `tls` of whom we call.
pub(super) fn client(
    raw: &RawClientTls,
    path: &FieldPath,
    problems: &mut Problems,
) -> Option<TlsConnector> {
    let identity = match (&raw.certificate, &raw.key) {
        (None, None) => None,
        (Some(certificate), Some(key)) => Some(ClientIdentityFiles {
            certificate: PathBuf::from(certificate),
            key: PathBuf::from(key),
        }),
        (certificate, _) => {
            let missing = if certificate.is_none() { "certificate" } else { "key" };
            problems.error(&path.key(missing), "missing: certificate and key go together");
            return None;
        }
    };
    let files = ClientTlsFiles {
        authorities: raw.ca.as_ref().map(PathBuf::from),
        identity,
        server_name: raw.server_name.clone(),
    };
    problems.take(path, TlsConnector::load(files))
}

fn file(text: Option<&str>, path: &FieldPath, problems: &mut Problems) -> Option<PathBuf> {
    if text.is_none_or(str::is_empty) {
        problems.error(path, "missing");
        return None;
    }
    text.map(PathBuf::from)
}
