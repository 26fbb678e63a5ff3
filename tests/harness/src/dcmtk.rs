//! DCMTK's programs, as modalities and as strict readers.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, bail};

use crate::service::program;

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
