//! rsyslog from Debian's packages as an audit repository, and jing as the judge of what arrives there.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::certificates::Certificate;
use crate::service::{Service, bound_command, program, wait_until};

/// A syslog server over TLS that asks its clients for certificates and adds each message to a file, a line each.
#[derive(Debug)]
pub struct Rsyslog {
    service: Service,
    port: u16,
    received: PathBuf,
}

impl Rsyslog {
    /// Starts a server on `port` with its certificate and the authority of its clients; what arrives is added to
    /// `received`.
    ///
    /// # Errors
    /// When rsyslog or its TLS is missing, or does not listen within half a minute.
    pub fn start(port: u16, own: &Certificate, authority: &Path, received: &Path) -> Result<Self> {
        let path = program("rsyslogd", "rsyslog", &["/usr/sbin"])?;
        let drivers = ["/usr/lib/x86_64-linux-gnu/rsyslog", "/usr/lib/aarch64-linux-gnu/rsyslog"];
        program("lmnsd_gtls.so", "rsyslog-gnutls", &drivers)?;
        let folder = tempfile::Builder::new().prefix("rsyslog-").tempdir()?;
        let settings = format!(
            "global(workDirectory=\"{}\" maxMessageSize=\"64k\" parser.escapeControlCharactersOnReceive=\"off\"\n\
             DefaultNetstreamDriver=\"gtls\" DefaultNetstreamDriverCAFile=\"{}\"\n\
             DefaultNetstreamDriverCertFile=\"{}\" DefaultNetstreamDriverKeyFile=\"{}\")\n\
             module(load=\"imtcp\" StreamDriver.Name=\"gtls\" StreamDriver.Mode=\"1\"\n\
             StreamDriver.AuthMode=\"x509/certvalid\")\n\
             template(name=\"raw\" type=\"string\" string=\"%rawmsg%\\n\")\n\
             input(type=\"imtcp\" port=\"{port}\" address=\"127.0.0.1\")\n\
             action(type=\"omfile\" file=\"{}\" template=\"raw\" asyncWriting=\"off\" flushOnTXEnd=\"on\")\n",
            folder.path().display(),
            authority.display(),
            own.certificate.display(),
            own.key.display(),
            received.display(),
        );
        let configuration = folder.path().join("rsyslog.conf");
        std::fs::write(&configuration, settings)?;
        let mut command = bound_command(&path.to_string_lossy(), None);
        command.arg("-n").arg("-f").arg(&configuration);
        command.arg("-i").arg(folder.path().join("pid"));
        let service = Service::start("rsyslog", folder, command)?;
        let server = Self { service, port, received: received.to_owned() };
        wait_until("rsyslog to listen", Duration::from_secs(30), || {
            Ok(std::net::TcpStream::connect(("127.0.0.1", server.port)).is_ok())
        })
        .with_context(|| format!("log of rsyslog: {}", server.service.log()))?;
        Ok(server)
    }

    /// What has arrived so far, header and all.
    pub fn messages(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.received).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// The process.
    pub fn service(&mut self) -> &mut Service {
        &mut self.service
    }
}

/// Validates documents against a schema in RELAX NG's compact syntax.
///
/// # Errors
/// When jing is missing, or for the documents that are not valid; the message holds what it printed.
pub fn validate(schema: &Path, documents: &[PathBuf]) -> Result<()> {
    let output = Command::new(program("jing", "jing", &["/usr/bin"])?)
        .arg("-c")
        .arg(schema)
        .args(documents)
        .output()
        .context("run jing")?;
    if !output.status.success() {
        bail!(
            "jing: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}
