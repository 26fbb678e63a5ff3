//! Debian's Chromium, without a window.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::service::program;

/// The document of a page after it was loaded, as the browser has it.
///
/// # Errors
/// When Chromium is missing or does not load the page.
pub fn dump_dom(url: &str) -> Result<String> {
    let profile = tempfile::tempdir()?;
    let output = Command::new(program("chromium", "chromium", &["/usr/bin"])?)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"])
        .args(["--disable-background-networking", "--disable-component-update"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(["--timeout=20000", "--dump-dom", url])
        .output()
        .context("run chromium")?;
    if !output.status.success() {
        bail!("chromium: {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
