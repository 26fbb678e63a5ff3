//! A service that speaks S3 and keeps its buckets on disk: nanio, from `PyPI`. It checks signatures.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::python;
use crate::service::{Service, bound_command, free_port, wait_until};

/// Id of the one access key.
pub const ACCESS_KEY_ID: &str = "prosector";
/// Its secret.
pub const SECRET_ACCESS_KEY: &str = "S3CR3T-of-the-bucket";

/// An S3 service on a loopback port.
#[derive(Debug)]
pub struct S3 {
    service: Service,
    port: u16,
}

impl S3 {
    /// Starts a service with its buckets in a temporary folder.
    ///
    /// # Errors
    /// When there is no interpreter with the packages of `tests/python/requirements.txt`, or nothing answers.
    pub fn start() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("s3-").tempdir()?;
        let port = free_port()?;
        let command = command(&folder.path().join("data"), port)?;
        let service = Service::start("s3", folder, command)?;
        let server = Self { service, port };
        server.wait_until_ready()?;
        Ok(server)
    }

    /// Address of the service.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Makes a bucket.
    ///
    /// # Errors
    /// When its folder cannot be made.
    pub fn create_bucket(&self, name: &str) -> Result<()> {
        Ok(std::fs::create_dir(self.folder().join(name))?)
    }

    /// The bytes of an object.
    ///
    /// # Errors
    /// When there is none.
    pub fn object(&self, bucket: &str, key: &str) -> Result<Vec<u8>> {
        let path = self.folder().join(bucket).join(key);
        std::fs::read(&path).with_context(|| format!("no object {key} in {bucket}"))
    }

    /// Keys of all objects of a bucket, sorted.
    ///
    /// # Errors
    /// When its folder cannot be read.
    pub fn objects(&self, bucket: &str) -> Result<Vec<String>> {
        let root = self.folder().join(bucket);
        let (mut keys, mut folders) = (Vec::new(), vec![root.clone()]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder)? {
                let path = entry?.path();
                let name = path.strip_prefix(&root)?.to_string_lossy().into_owned();
                if name.starts_with('.') {
                    continue;
                }
                if path.is_dir() {
                    folders.push(path);
                } else {
                    keys.push(name);
                }
            }
        }
        keys.sort();
        Ok(keys)
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
    /// When it does not come back.
    pub fn start_again(&mut self) -> Result<()> {
        self.service.restart(command(&self.folder(), self.port)?)?;
        self.wait_until_ready()
    }

    fn folder(&self) -> PathBuf {
        self.service.folder().join("data")
    }

    fn wait_until_ready(&self) -> Result<()> {
        wait_until("the S3 service to answer", Duration::from_secs(30), || {
            Ok(std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok())
        })
        .with_context(|| format!("log of the S3 service: {}", self.service.log()))
    }
}

fn command(data: &std::path::Path, port: u16) -> Result<Command> {
    std::fs::create_dir_all(data)?;
    let mut command = bound_command(&python::interpreter()?.to_string_lossy(), None);
    command
        .args(["-m", "nanio", "serve", "--host", "127.0.0.1", "--no-access-log", "--port"])
        .arg(port.to_string())
        .arg("--data-dir")
        .arg(data)
        .env("NANIO_ACCESS_KEY", ACCESS_KEY_ID)
        .env("NANIO_SECRET_KEY", SECRET_ACCESS_KEY);
    Ok(command)
}
