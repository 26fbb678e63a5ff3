//! PostgreSQL from Debian's packages.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::certificates::Certificate;
use crate::service::{Service, bound_command, free_port, give_to, program, wait_until};

const USER: &str = "postgres";

/// A PostgreSQL server on a loopback port, trusting local connections.
#[derive(Debug)]
pub struct Postgres {
    service: Service,
    binaries: PathBuf,
    port: u16,
    is_encrypted: bool,
}

/// The server that the tests of one program share.
///
/// # Panics
/// When PostgreSQL is not installed or does not start: the tests cannot go on without it.
pub fn shared() -> &'static Postgres {
    static SHARED: OnceLock<Postgres> = OnceLock::new();
    SHARED.get_or_init(|| Postgres::start().expect("PostgreSQL starts"))
}

impl Postgres {
    /// Creates a cluster in a temporary folder and starts it.
    ///
    /// # Errors
    /// When PostgreSQL is missing or does not answer within half a minute.
    pub fn start() -> Result<Self> {
        Self::start_as(None)
    }

    /// Starts a server that takes encrypted connections alone, with a certificate of its own.
    ///
    /// # Errors
    /// When PostgreSQL is missing or does not answer within half a minute.
    pub fn start_encrypted(certificate: &Certificate) -> Result<Self> {
        Self::start_as(Some(certificate))
    }

    fn start_as(certificate: Option<&Certificate>) -> Result<Self> {
        let binaries = newest_binaries()?;
        let folder = tempfile::Builder::new().prefix("postgres-").tempdir()?;
        let data = folder.path().join("data");
        give_to(folder.path(), USER)?;
        let made = bound_command(&binaries.join("initdb").to_string_lossy(), Some(USER))
            .args(["--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C", "--username"])
            .arg(USER)
            .arg("--pgdata")
            .arg(&data)
            .output()
            .context("run initdb")?;
        if !made.status.success() {
            bail!("initdb: {}", String::from_utf8_lossy(&made.stderr));
        }
        if let Some(certificate) = certificate {
            let key = data.join("server.key");
            fs::copy(&certificate.certificate, data.join("server.crt"))?;
            fs::copy(&certificate.key, &key)?;
            // PostgreSQL refuses a key that others may read.
            fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
            fs::write(data.join("pg_hba.conf"), "hostssl all all all trust\n")?;
            give_to(&data, USER)?;
        }
        let port = free_port()?;
        let is_encrypted = certificate.is_some();
        let command = server_command(&binaries, folder.path(), port, is_encrypted);
        let service = Service::start("postgres", folder, command)?;
        let server = Self { service, binaries, port, is_encrypted };
        server.wait_until_ready()?;
        Ok(server)
    }

    /// Makes an empty database and returns its URL.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn create_database(&self) -> Result<String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.psql("postgres", &format!("create database {name}"))?;
        Ok(self.url(&name))
    }

    /// URL of a database.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/{database}", self.port)
    }

    /// Runs SQL with `psql` and returns its unaligned output.
    ///
    /// # Errors
    /// When psql fails; the message holds what it printed.
    pub fn psql(&self, database: &str, sql: &str) -> Result<String> {
        let output = Command::new(self.binaries.join("psql"))
            .args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql])
            .arg(self.url(database))
            .output()
            .context("run psql")?;
        if !output.status.success() {
            bail!("psql: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Kills the server with SIGKILL and starts it again on the same data.
    ///
    /// # Errors
    /// When it does not come back.
    pub fn crash_and_restart(&mut self) -> Result<()> {
        self.kill()?;
        self.start_again()
    }

    /// Kills the server with SIGKILL.
    ///
    /// # Errors
    /// When the process cannot be waited for.
    pub fn kill(&mut self) -> Result<()> {
        self.service.kill()
    }

    /// Starts a killed server on its data.
    ///
    /// # Errors
    /// When it does not come back.
    pub fn start_again(&mut self) -> Result<()> {
        self.spawn_again()?;
        self.wait_until_ready()
    }

    /// Starts a killed server on its data without waiting for it, as a supervisor does. It ends by itself where
    /// processes of the killed one are still about.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn spawn_again(&mut self) -> Result<()> {
        let folder = self.service.folder();
        let command = server_command(&self.binaries, folder, self.port, self.is_encrypted);
        self.service.restart(command)
    }

    /// The server's process and its folder.
    pub fn service(&mut self) -> &mut Service {
        &mut self.service
    }

    fn wait_until_ready(&self) -> Result<()> {
        wait_until("PostgreSQL to answer", Duration::from_secs(30), || {
            self.psql("postgres", "select 1").map(|answer| answer == "1")
        })
        .with_context(|| format!("log of PostgreSQL: {}", self.service.log()))
    }
}

fn server_command(binaries: &Path, folder: &Path, port: u16, is_encrypted: bool) -> Command {
    let mut command = bound_command(&binaries.join("postgres").to_string_lossy(), Some(USER));
    command.arg("-D").arg(folder.join("data")).args(["-p", &port.to_string(), "-h", "127.0.0.1"]);
    command.arg("-k").arg(folder).args(["-c", "max_connections=200"]);
    if is_encrypted {
        command.args(["-c", "ssl=on"]);
    }
    command
}

fn newest_binaries() -> Result<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .context("PostgreSQL is not installed: apt-get install postgresql")?
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let version = path.file_name()?.to_str()?.parse().ok()?;
            Some((version, path.join("bin")))
        })
        .collect();
    versions.sort();
    let (_, binaries) =
        versions.pop().context("PostgreSQL is not installed: apt-get install postgresql")?;
    program("postgres", "postgresql", &[&binaries.to_string_lossy()])?;
    Ok(binaries)
}
