//! Certificates and keys from PEM files.

use std::io;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Why TLS cannot be set up with the files that were named.
#[derive(Debug, thiserror::Error)]
pub enum LoadTlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file holds no certificate in PEM form.
    #[error("{} holds no PEM certificate", .0.display())]
    NoCertificate(PathBuf),
    /// A file holds no private key in PEM form, or one that is encrypted.
    #[error("{} holds no unencrypted PEM private key", .0.display())]
    NoKey(PathBuf),
    /// A certificate cannot be used, or its key is another one's.
    #[error("{}: {source}", file.display())]
    Unusable {
        /// The certificate's file.
        file: PathBuf,
        /// What is wrong with it.
        source: rustls::Error,
    },
    /// The authorities that clients must be certified by cannot be used.
    #[error("{}: no certificate authority that clients could be checked against", .0.display())]
    NoAuthority(PathBuf),
    /// The system trusts no certificate authority.
    #[error("the system has no trusted certificate authorities; name a file of them")]
    NoSystemAuthorities,
    /// A name that no certificate can have.
    #[error("{0:?} is neither a host name nor an address")]
    ServerName(String),
}

pub(super) fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, LoadTlsError> {
    let bytes = read(file)?;
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match parsed {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(LoadTlsError::NoCertificate(file.to_owned())),
    }
}

pub(super) fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, LoadTlsError> {
    PrivateKeyDer::from_pem_slice(&read(file)?).map_err(|_| LoadTlsError::NoKey(file.to_owned()))
}

/// The authorities in `file`, or those that the system trusts.
pub(super) fn authorities(file: Option<&Path>) -> Result<RootCertStore, LoadTlsError> {
    let mut roots = RootCertStore::empty();
    if let Some(file) = file {
        for certificate in certificates(file)? {
            let unusable = |source| LoadTlsError::Unusable { file: file.to_owned(), source };
            roots.add(certificate).map_err(unusable)?;
        }
    } else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(LoadTlsError::NoSystemAuthorities);
        }
    }
    Ok(roots)
}

fn read(file: &Path) -> Result<Vec<u8>, LoadTlsError> {
    std::fs::read(file).map_err(|source| LoadTlsError::Read { file: file.to_owned(), source })
}
