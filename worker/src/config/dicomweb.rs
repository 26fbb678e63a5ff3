//! Checks a destination that is a DICOMweb server.

use std::path::PathBuf;

use dicom_io::stow::{BearerToken, StowDestination, StowRoot};
use dicom_io::tls::{ClientTlsFiles, TlsConnector};

use super::compression;
use super::problem::{FieldPath, Problems};
use super::raw::RawDestination;
use super::validate::Timeouts;

/// `url`, the token for it and how it is reached; `tls` is what the destination's own table says.
pub(super) fn destination(
    raw: &RawDestination,
    url: &str,
    tls: Option<TlsConnector>,
    timeouts: Option<Timeouts>,
    path: &FieldPath,
    problems: &mut Problems,
) -> Option<StowDestination> {
    let token = token(raw, path, problems);
    let url_path = path.key("url");
    let root: StowRoot = match url.parse() {
        Ok(root) => root,
        Err(error) => {
            // A password may be part of it.
            problems.error(&url_path, format!("{error}"));
            return None;
        }
    };
    let tls = match (root.is_encrypted(), tls) {
        (true, None) => {
            // The authorities that the system trusts.
            let loaded = TlsConnector::load(ClientTlsFiles::default());
            Some(problems.take(&url_path, loaded)?)
        }
        (false, Some(_)) => {
            problems.error(&path.key("tls"), "needs a url that begins with https");
            None
        }
        (_, tls) => tls,
    };
    if token.is_some() && !root.is_encrypted() {
        problems.warn(&url_path, "the token goes over the network in the clear");
    }
    let compress = compression::of(raw, path, problems);
    let timeouts = timeouts?;
    Some(StowDestination {
        root,
        tls,
        token,
        connect_timeout: timeouts.connect,
        response_timeout: timeouts.response,
        compress,
    })
}

/// The token that is named. One that cannot be had is noted, so that the configuration does not hold.
fn token(raw: &RawDestination, path: &FieldPath, problems: &mut Problems) -> Option<BearerToken> {
    match (&raw.token_file, &raw.token_env) {
        (None, None) => None,
        (Some(file), None) => {
            let read = std::fs::read_to_string(file);
            let read = read.map_err(|error| format!("cannot read {file:?}: {error}"));
            problems.take(&path.key("token_file"), read)?;
            Some(BearerToken::File(PathBuf::from(file)))
        }
        (None, Some(variable)) => {
            let token = std::env::var(variable).unwrap_or_default();
            if token.trim().is_empty() {
                problems.error(&path.key("token_env"), format!("{variable} holds no token"));
                return None;
            }
            Some(BearerToken::Text(token.trim().into()))
        }
        (Some(_), Some(_)) => {
            problems.error(&path.key("token_env"), "token_file is named as well");
            None
        }
    }
}
