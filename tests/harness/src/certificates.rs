//! Certificate authorities and certificates, made with OpenSSL.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::service::program;

/// A certificate authority of a test; its files lie in the test's folder.
#[derive(Debug)]
pub struct Authority {
    folder: PathBuf,
    name: String,
}

/// A certificate and its key, as PEM files.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its private key, not encrypted.
    pub key: PathBuf,
}

impl Authority {
    /// Makes an authority whose files in `folder` begin with `name`.
    ///
    /// # Errors
    /// When OpenSSL is missing or fails.
    pub fn create(folder: &Path, name: &str) -> Result<Self> {
        let authority = Self { folder: folder.to_owned(), name: name.to_owned() };
        let (key, certificate) = (authority.key(), authority.certificate());
        openssl(&[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
            "-subj",
            &format!("/CN={name} authority"),
            "-keyout",
            &key.to_string_lossy(),
            "-out",
            &certificate.to_string_lossy(),
            "-addext",
            "keyUsage=critical,keyCertSign",
        ])?;
        Ok(authority)
    }

    /// The authority's own certificate.
    pub fn certificate(&self) -> PathBuf {
        self.folder.join(format!("{}-ca.pem", self.name))
    }

    fn key(&self) -> PathBuf {
        self.folder.join(format!("{}-ca.key", self.name))
    }

    /// Issues a certificate for `common_name`, good for servers and clients on loopback addresses.
    ///
    /// # Errors
    /// When OpenSSL fails.
    pub fn issue(&self, common_name: &str) -> Result<Certificate> {
        self.issue_for(common_name, 2)
    }

    /// Issues a certificate that is good for `days`, which may be fewer than none.
    ///
    /// # Errors
    /// When OpenSSL fails.
    pub fn issue_for(&self, common_name: &str, days: i32) -> Result<Certificate> {
        let path = |end: &str| {
            self.folder.join(format!("{}-{}.{end}", self.name, common_name.to_lowercase()))
        };
        let (key, request, certificate, extensions) =
            (path("key"), path("csr"), path("pem"), path("ext"));
        std::fs::write(
            &extensions,
            "basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\n\
             extendedKeyUsage=serverAuth,clientAuth\nsubjectAltName=IP:127.0.0.1,DNS:localhost\n",
        )?;
        openssl(&[
            "req",
            "-new",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-subj",
            &format!("/CN={common_name}"),
            "-keyout",
            &key.to_string_lossy(),
            "-out",
            &request.to_string_lossy(),
        ])?;
        openssl(&[
            "x509",
            "-req",
            "-in",
            &request.to_string_lossy(),
            "-days",
            &days.to_string(),
            "-CA",
            &self.certificate().to_string_lossy(),
            "-CAkey",
            &self.key().to_string_lossy(),
            "-CAcreateserial",
            "-extfile",
            &extensions.to_string_lossy(),
            "-out",
            &certificate.to_string_lossy(),
        ])?;
        Ok(Certificate { certificate, key })
    }
}

impl Certificate {
    /// Puts this certificate and key in the place of another's files.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn replace(&self, other: &Self) -> Result<()> {
        std::fs::copy(&self.key, &other.key)?;
        std::fs::copy(&self.certificate, &other.certificate)?;
        Ok(())
    }
}

fn openssl(arguments: &[&str]) -> Result<()> {
    let output = Command::new(program("openssl", "openssl", &["/usr/bin"])?)
        .args(arguments)
        .output()
        .context("run openssl")?;
    if !output.status.success() {
        bail!("openssl {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
