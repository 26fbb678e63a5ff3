//! DCMTK's programs, as modalities and as strict readers.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::service::{Service, bound_command, free_port, program, wait_until};

/// `storescp`, writing what it receives to a folder.
#[derive(Debug)]
pub struct Storescp {
    _service: Service,
    port: u16,
}

impl Storescp {
    /// Starts `storescp` on a free port, with options of its own; it takes every called AE title.
    ///
    /// # Errors
    /// When storescp is missing or does not listen.
    pub fn start(received: &Path, options: &[&str]) -> Result<Self> {
        let port = free_port()?;
        let path = program("storescp", "dcmtk", &["/usr/bin"])?;
        let mut command = bound_command(&path.to_string_lossy(), None);
        command.args(options).arg("--output-directory").arg(received).arg(port.to_string());
        command.env("TCP_NODELAY", "1");
        let folder = tempfile::Builder::new().prefix("storescp-").tempdir()?;
        let service = Service::start("storescp", folder, command)?;
        wait_until("storescp to listen", Duration::from_secs(10), || {
            Ok(std::net::TcpStream::connect(("127.0.0.1", port)).is_ok())
        })?;
        Ok(Self { _service: service, port })
    }

    /// Port on the loopback interface.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// Where an application entity listens.
#[derive(Debug, Clone, Copy)]
pub struct Peer<'a> {
    /// Called application entity title.
    pub ae_title: &'a str,
    /// Port on the loopback interface.
    pub port: u16,
}

/// Sends every file below `folder` with `dcmsend`, which proposes for each file the transfer syntax that it has.
///
/// # Errors
/// When dcmsend fails; the message holds what it printed.
pub fn dcmsend(peer: Peer<'_>, folder: &Path) -> Result<String> {
    let port = peer.port.to_string();
    let arguments: [&OsStr; 10] = [
        "--aetitle".as_ref(),
        "MODALITY".as_ref(),
        "--call".as_ref(),
        peer.ae_title.as_ref(),
        "--no-uid-checks".as_ref(),
        "+sd".as_ref(),
        "+r".as_ref(),
        "127.0.0.1".as_ref(),
        port.as_ref(),
        folder.as_ref(),
    ];
    let output = run("dcmsend", "dcmtk", &arguments)?;
    succeed("dcmsend", &output)
}

/// A program that sends, and tells of each file what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// `storescu`, which stops at the first instance that is refused.
    Storescu,
    /// `dcmsend`, which goes on.
    Dcmsend,
}

/// Sends every file below `folder` and returns those that the peer has answered success for, by the sender's own
/// report, however the sending ended.
///
/// # Errors
/// When the program is missing.
pub fn send_what_can(sender: Sender, peer: Peer<'_>, folder: &Path) -> Result<Vec<PathBuf>> {
    let port = peer.port.to_string();
    let folder = folder.to_string_lossy();
    let timeouts = ["-to", "5", "-ta", "20", "-td", "20", "-aec", peer.ae_title];
    let last = ["+sd", "+r", "127.0.0.1", port.as_str(), folder.as_ref()];
    let (name, first, begins, succeeds): (_, &[&str], _, _) = match sender {
        Sender::Storescu => {
            ("storescu", &["-v"], "I: Sending file: ", "I: Received Store Response (Success)")
        }
        Sender::Dcmsend => (
            "dcmsend",
            &["-d", "--no-uid-checks"],
            "D: sending SOP instance from file: ",
            "D: DIMSE Status                  : 0x0000",
        ),
    };
    let output = run(name, "dcmtk", &[first, &timeouts, &last].concat())?;
    let report = [output.stdout, output.stderr].concat();
    let mut sending = None;
    let mut taken = Vec::new();
    for line in String::from_utf8_lossy(&report).lines() {
        if let Some(path) = line.strip_prefix(begins) {
            sending = Some(PathBuf::from(path));
        } else if line.starts_with(succeeds) {
            taken.extend(sending.take());
        }
    }
    Ok(taken)
}

/// Verifies an application entity with C-ECHO.
///
/// # Errors
/// When echoscu fails; the message holds what it printed.
pub fn echoscu(peer: Peer<'_>) -> Result<String> {
    let port = peer.port.to_string();
    let output = run("echoscu", "dcmtk", &["-aec", peer.ae_title, "127.0.0.1", &port])?;
    succeed("echoscu", &output)
}

/// What `dciodvfy` says of an object: its lines on standard error, errors and warnings among them.
///
/// # Errors
/// When dciodvfy is missing.
pub fn dciodvfy(file: &Path) -> Result<String> {
    let output = run("dciodvfy", "dicom3tools", &[file])?;
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Runs a DCMTK or dicom3tools program from its Debian package.
///
/// # Errors
/// When the program is missing.
pub fn run<A: AsRef<OsStr>>(name: &str, package: &str, arguments: &[A]) -> Result<Output> {
    Command::new(program(name, package, &["/usr/bin"])?)
        .args(arguments)
        .env("TCP_NODELAY", "1")
        .output()
        .with_context(|| format!("run {name}"))
}

fn succeed(name: &str, output: &Output) -> Result<String> {
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    if !output.status.success() {
        bail!("{name}: {}: {said}", output.status);
    }
    Ok(said)
}

/// A `storescp` that takes few SOP classes, as an old PACS does.
#[derive(Debug)]
pub struct SelectiveStorescp {
    service: Service,
    port: u16,
}

impl SelectiveStorescp {
    /// Application entity title of the server.
    pub const AE_TITLE: &str = "STORESCP";

    /// Starts a server that accepts presentation contexts of verification and of `sop_classes`, uncompressed, and of
    /// nothing else.
    ///
    /// # Errors
    /// When storescp is missing or does not answer within half a minute.
    pub fn start(sop_classes: &[&str]) -> Result<Self> {
        program("storescp", "dcmtk", &["/usr/bin"])?;
        let folder = tempfile::Builder::new().prefix("storescp-").tempdir()?;
        let mut accepted =
            String::from("PresentationContext1 = VerificationSOPClass\\Uncompressed\n");
        for (class, number) in sop_classes.iter().zip(2..) {
            writeln!(accepted, "PresentationContext{number} = {class}\\Uncompressed")?;
        }
        let settings = format!(
            "[[TransferSyntaxes]]\n[Uncompressed]\nTransferSyntax1 = LittleEndianExplicit\n\
             TransferSyntax2 = LittleEndianImplicit\n\
             [[PresentationContexts]]\n[Accepted]\n{accepted}\
             [[Profiles]]\n[Few]\nPresentationContexts = Accepted\n"
        );
        std::fs::write(folder.path().join("storescp.cfg"), settings)?;
        std::fs::create_dir(folder.path().join("received"))?;
        let port = free_port()?;
        let mut command = bound_command("storescp", None);
        command
            .args(["-v", "--aetitle", Self::AE_TITLE, "--output-directory"])
            .arg(folder.path().join("received"))
            .arg("--config-file")
            .arg(folder.path().join("storescp.cfg"))
            .arg("Few")
            .arg(port.to_string())
            .env("TCP_NODELAY", "1");
        let service = Service::start("storescp", folder, command)?;
        let server = Self { service, port };
        let peer = Peer { ae_title: Self::AE_TITLE, port };
        wait_until("storescp to answer", Duration::from_secs(30), || Ok(echoscu(peer).is_ok()))
            .with_context(|| format!("log of storescp: {}", server.service.log()))?;
        Ok(server)
    }

    /// Port on the loopback interface.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Files that it received, in the order of their names.
    ///
    /// # Errors
    /// When its folder cannot be read.
    pub fn received(&self) -> Result<Vec<PathBuf>> {
        let entries = std::fs::read_dir(self.service.folder().join("received"))?;
        let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
        files.sort();
        Ok(files)
    }
}
