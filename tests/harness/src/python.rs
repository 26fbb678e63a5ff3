//! Third-party readers (pydicom, highdicom) through small checkers in Python.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Runs a checker of `tests/python` and returns what it printed.
///
/// The interpreter is named by `PROSECTOR_TEST_PYTHON`, which the test command sets to one that has the packages of
/// `tests/python/requirements.txt`.
///
/// # Errors
/// When there is no interpreter, or when the checker ends with an error; the message holds what it printed.
pub fn check<A: AsRef<OsStr>>(script: &str, arguments: &[A]) -> Result<String> {
    let interpreter = std::env::var_os("PROSECTOR_TEST_PYTHON")
        .context("PROSECTOR_TEST_PYTHON is not set: run the tests through ops/test")?;
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../python").join(script);
    let output =
        Command::new(interpreter).arg(path).args(arguments).output().context("run python")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("{script}: {said}{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(said)
}
