//! Prometheus' own checker of rules.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::service::program;

/// Runs the unit tests of alert rules in `file`.
///
/// # Errors
/// When promtool is missing, or when a test fails; the message holds what it printed.
pub fn test_rules(file: &Path) -> Result<()> {
    let folder = file.parent().context("the file lies in no folder")?;
    let name = file.file_name().context("the file has no name")?;
    let output = Command::new(program("promtool", "prometheus", &["/usr/bin"])?)
        .current_dir(folder)
        .args(["test", "rules"])
        .arg(name)
        .output()
        .context("run promtool")?;
    if !output.status.success() {
        bail!(
            "promtool: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}
