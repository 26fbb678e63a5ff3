//! The product, run as a user runs it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::service::{Service, bound_command, free_port, wait_until};

/// A running `prosector serve` with a folder and free ports of its own.
#[derive(Debug)]
pub struct Prosector {
    service: Service,
    dicom_port: u16,
    http_port: u16,
    roles: Vec<String>,
    environment: Vec<(String, String)>,
}

/// Application entity title of the listener.
pub const AE_TITLE: &str = "PROSECTOR";

impl Prosector {
    /// Starts every role of the service with the embedded defaults, after `site` was appended to the site file.
    ///
    /// # Errors
    /// When the service does not become ready within a minute.
    pub fn start(site: &str) -> Result<Self> {
        Self::start_with(site, &[], &[])
    }

    /// Starts some roles of the service, all when none is named, with further environment variables.
    ///
    /// # Errors
    /// When the service does not become ready within a minute, or ends.
    pub fn start_with(site: &str, roles: &[&str], environment: &[(&str, &str)]) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("prosector-").tempdir()?;
        std::fs::write(folder.path().join("prosector.toml"), site)?;
        let (dicom_port, http_port) = (free_port()?, free_port()?);
        let roles: Vec<String> = roles.iter().map(|role| (*role).to_owned()).collect();
        let environment: Vec<(String, String)> = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let command = serve_command(folder.path(), dicom_port, http_port, &roles, &environment)?;
        let service = Service::start("prosector", folder, command)?;
        let mut server = Self { service, dicom_port, http_port, roles, environment };
        server.wait_until_ready()?;
        Ok(server)
    }

    /// Runs one command of the product in a folder of its own, with a site file and environment variables.
    ///
    /// # Errors
    /// When the command fails; the message holds what it printed.
    pub fn once(site: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Result<String> {
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("prosector.toml"), site)?;
        let output = Command::new(binary()?)
            .current_dir(folder.path())
            .args(["--config", "prosector.toml"])
            .args(arguments)
            .envs(environment.iter().copied())
            .output()
            .context("run prosector")?;
        said(arguments, &output)
    }

    /// DICOM port on the loopback interface.
    pub fn dicom_port(&self) -> u16 {
        self.dicom_port
    }

    /// Root of the page and the REST interface.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.http_port)
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.service.pid()
    }

    /// The process and its folder.
    pub fn service(&mut self) -> &mut Service {
        &mut self.service
    }

    /// Working folder: site file, store, spool, results and log.
    pub fn folder(&self) -> &Path {
        self.service.folder()
    }

    /// What the service has logged so far.
    pub fn log(&self) -> String {
        self.service.log()
    }

    /// Kills the service with SIGKILL.
    ///
    /// # Errors
    /// When the process cannot be waited for.
    pub fn kill(&mut self) -> Result<()> {
        self.service.kill()
    }

    /// Starts a killed service on its data.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn start_again(&mut self) -> Result<()> {
        self.spawn_again()?;
        self.wait_until_ready()
    }

    /// Starts a killed service on its data without waiting for it, as a supervisor does.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn spawn_again(&mut self) -> Result<()> {
        let command = serve_command(
            self.service.folder(),
            self.dicom_port,
            self.http_port,
            &self.roles,
            &self.environment,
        )?;
        self.service.restart(command)
    }

    /// Whether every part that the service needs answers at this moment.
    pub fn is_ready(&self) -> bool {
        let request = ureq::get(format!("{}/health/ready", self.url()));
        request.config().timeout_global(Some(Duration::from_secs(1))).build().call().is_ok()
    }

    /// Runs another command of the product with the same site file and returns what it printed.
    ///
    /// # Errors
    /// When the command fails; the message holds what it printed.
    pub fn command(&self, arguments: &[&str]) -> Result<String> {
        let mut all = vec!["--config", "prosector.toml"];
        all.extend_from_slice(arguments);
        let output = Command::new(binary()?)
            .current_dir(self.folder())
            .args(&all)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .output()
            .context("run prosector")?;
        said(arguments, &output)
    }

    /// Runs a command that prints a table and reads it as JSON.
    ///
    /// # Errors
    /// When the command fails or prints something else.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let mut all = arguments.to_vec();
        all.extend_from_slice(&["--format", "json"]);
        Ok(serde_json::from_str(&self.command(&all)?)?)
    }

    /// Downloads a text from the API port.
    ///
    /// # Errors
    /// When the service does not answer.
    pub fn get(&self, path: &str) -> Result<String> {
        let mut answer = ureq::get(format!("{}{path}", self.url())).call()?;
        Ok(answer.body_mut().read_to_string()?)
    }

    /// Downloads bytes from the API port.
    ///
    /// # Errors
    /// When the service does not answer, or refuses.
    pub fn bytes(&self, path: &str) -> Result<Vec<u8>> {
        let mut answer = ureq::get(format!("{}{path}", self.url())).call()?;
        Ok(answer.body_mut().read_to_vec()?)
    }

    /// Sends an object to the API port and reads the object that comes back.
    ///
    /// # Errors
    /// When the service does not answer, or refuses.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let mut answer = ureq::post(format!("{}{path}", self.url())).send_json(body)?;
        Ok(answer.body_mut().read_json()?)
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let url = format!("{}/health/ready", self.url());
        let service = &mut self.service;
        let waited = wait_until("prosector to be ready", Duration::from_mins(1), || {
            if !service.is_running()? {
                return Ok(true);
            }
            Ok(ureq::get(&url).call().is_ok())
        });
        if !self.service.is_running()? {
            bail!("prosector ended: {}", self.log());
        }
        waited.with_context(|| format!("log of prosector: {}", self.log()))
    }
}

/// A users file with a person of each role, called like the role, who signs in with `password`.
///
/// # Errors
/// When `prosector user hash` refuses.
pub fn users_file(roles: &[&str], password: &str) -> Result<String> {
    let mut entries = String::new();
    for &role in roles {
        let arguments = ["user", "hash", role, "--role", role];
        let mut child = Command::new(binary()?)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("run prosector")?;
        child.stdin.take().context("standard input is piped")?.write_all(password.as_bytes())?;
        entries.push_str(&said(&arguments, &child.wait_with_output()?)?);
    }
    Ok(entries)
}

/// What a command printed, or the error that it ended with.
fn said(arguments: &[&str], output: &Output) -> Result<String> {
    if !output.status.success() {
        bail!(
            "prosector {}: {}: {}{}",
            arguments.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The binary under test: named by `PROSECTOR_BINARY`, else the one beside the test program.
///
/// # Errors
/// When it was not built.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("PROSECTOR_BINARY") {
        return Ok(path.into());
    }
    let test_program = std::env::current_exe()?;
    let path = test_program
        .parent()
        .and_then(Path::parent)
        .context("the test program lies in no folder")?
        .join("prosector");
    if !path.is_file() {
        bail!("{} is not built: cargo build --package prosector", path.display());
    }
    Ok(path)
}

/// Runs the product once, with `folder` as its working folder.
///
/// # Errors
/// When it cannot be started.
pub fn run_in(folder: &Path, arguments: &[&str]) -> Result<Output> {
    Command::new(binary()?).current_dir(folder).args(arguments).output().context("run prosector")
}

fn serve_command(
    folder: &Path,
    dicom_port: u16,
    http_port: u16,
    roles: &[String],
    environment: &[(String, String)],
) -> Result<Command> {
    let mut command = bound_command(&binary()?.to_string_lossy(), None);
    command
        .current_dir(folder)
        .env("PROSECTOR__LISTENER__BIND", format!("127.0.0.1:{dicom_port}"))
        .env("PROSECTOR__API__BIND", format!("127.0.0.1:{http_port}"))
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .args(["--config", "prosector.toml", "serve"]);
    for role in roles {
        command.args(["--role", role]);
    }
    Ok(command)
}
