//! Third-party readers (pydicom, highdicom) through small checkers in Python.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::service::{Service, bound_command};

/// Runs a checker of `tests/python` and returns what it printed.
///
/// The interpreter is named by `PROSECTOR_TEST_PYTHON`, which the test command sets to one that has the packages of
/// `tests/python/requirements.txt`.
///
/// # Errors
/// When there is no interpreter, or when the checker ends with an error; the message holds what it printed.
pub fn check<A: AsRef<OsStr>>(script: &str, arguments: &[A]) -> Result<String> {
    let output = Command::new(interpreter()?)
        .arg(path(script))
        .args(arguments)
        .output()
        .context("run python")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("{script}: {said}{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(said)
}

/// Starts a script of `tests/python` that serves until it is dropped; what it prints is its log.
///
/// # Errors
/// When there is no interpreter, or the script does not start.
pub fn serve(script: &'static str, arguments: &[&str]) -> Result<Service> {
    let folder = tempfile::Builder::new().prefix("python-").tempdir()?;
    let mut command = bound_command(&interpreter()?.to_string_lossy(), None);
    command.arg(path(script)).args(arguments);
    Service::start(script, folder, command)
}

pub(crate) fn interpreter() -> Result<OsString> {
    std::env::var_os("PROSECTOR_TEST_PYTHON")
        .context("PROSECTOR_TEST_PYTHON is not set: run the tests through ops/test")
}

fn path(script: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../python").join(script)
}

/// Runs `ops/verify_ledger.py`, which needs no package, and returns whether it found the ledger sound, and what it said.
///
/// # Errors
/// When there is no interpreter, or when the script breaks off.
pub fn verify_ledger<A: AsRef<OsStr>>(arguments: &[A]) -> Result<(bool, String)> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../ops/verify_ledger.py");
    let output = Command::new(interpreter()?)
        .arg("-I")
        .arg(path)
        .args(arguments)
        .output()
        .context("run python")?;
    let said = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
    if said.is_empty() {
        bail!("verify_ledger.py: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok((output.status.success(), said))
}
