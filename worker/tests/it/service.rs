//! The service in a process of its own, and a modality that sends to it.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dicom_io::scu::{self, Destination, InstanceSource, ScuConfig, StoreDisposition};
use dicom_io::synthetic::{SyntheticSeries, write_series};
use dicom_types::{GridGeometry, Modality, Volume};
use serde_json::Value;
use tempfile::TempDir;

use crate::program::prosector;

/// A running `prosector serve`; it ends with the test.
pub(crate) struct Service {
    child: Child,
    folder: TempDir,
    port: u16,
    http_port: u16,
}

impl Service {
    /// Starts the roles with `site` as the site file, on ports of their own.
    pub(crate) fn start(site: &str, roles: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let free_port = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (port, http_port) = (free_port(), free_port());
        write_site(folder.path(), site);
        let child = launch(folder.path(), port, http_port, roles);
        let mut service = Self { child, folder, port, http_port };
        service.wait("the listener", |_| TcpStream::connect(("127.0.0.1", port)).is_ok());
        service
    }

    /// Ends the service and starts it again in the same place with other roles, the listener among them.
    pub(crate) fn restart(&mut self, roles: &[&str]) {
        self.signal("TERM");
        assert!(self.child.wait().unwrap().success(), "{}", self.log());
        self.child = launch(self.folder.path(), self.port, self.http_port, roles);
        let port = self.port;
        self.wait("the listener", |_| TcpStream::connect(("127.0.0.1", port)).is_ok());
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Sends a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Waits until `condition` holds.
    pub(crate) fn wait(&mut self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        let start = Instant::now();
        while !condition(self) {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "the service ended: {}", self.log());
            assert!(start.elapsed() < Duration::from_mins(5), "no {what}: {}", self.log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// What another command prints as JSON, with the site file in `folder`.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let mut all = vec!["--config", "site.toml"];
        all.extend_from_slice(arguments);
        all.extend_from_slice(&["--format", "json"]);
        let run = prosector(self.folder(), &all);
        assert_eq!(run.code, 0, "{}", run.stderr);
        serde_json::from_str(&run.stdout).unwrap()
    }

    /// Every job that has not given way to another one.
    pub(crate) fn jobs(&self) -> Vec<Value> {
        let jobs = self.json(&["job", "list", "--limit", "1000"]);
        let all = jobs.as_array().unwrap().iter();
        all.filter(|job| job["state"] != "superseded").cloned().collect()
    }

    /// Sends files as a modality would.
    pub(crate) fn send(&self, files: &[PathBuf]) {
        send(self.port, files);
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Starts the roles in a process whose output goes to the end of a file `log`.
fn launch(folder: &Path, port: u16, http_port: u16, roles: &[&str]) -> Child {
    let log = File::options().create(true).append(true).open(folder.join("log")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_prosector"));
    command
        .current_dir(folder)
        .env("PROSECTOR__LISTENER__BIND", format!("127.0.0.1:{port}"))
        .env("PROSECTOR__API__BIND", format!("127.0.0.1:{http_port}"))
        .args(["--config", "site.toml", "serve"]);
    for role in roles {
        command.args(["--role", role]);
    }
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

/// Replaces the site file at once, as a careful editor does.
pub(crate) fn write_site(folder: &Path, site: &str) {
    let fresh = folder.join(".site.toml.new");
    std::fs::write(&fresh, site).unwrap();
    std::fs::rename(fresh, folder.join("site.toml")).unwrap();
}

/// Sends files to a service on `port`, and again what it could not keep at the moment, as a modality does.
pub(crate) fn send(port: u16, files: &[PathBuf]) {
    let destination = Destination {
        ae_title: "PROSECTOR".parse().unwrap(),
        address: format!("127.0.0.1:{port}"),
        calling_ae_title: "CT_ER1".parse().unwrap(),
        tls: None,
    };
    let instances: Vec<InstanceSource> = files.iter().map(|path| path.clone().into()).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let patience = ScuConfig::default();
    for _ in 0..10 {
        let sent = runtime.block_on(scu::store(&destination, &instances, &patience)).unwrap();
        let is_kept = |outcome: &scu::StoreOutcome| {
            outcome.result.disposition() == StoreDisposition::Delivered
        };
        if sent.iter().all(is_kept) {
            return;
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    panic!("the service does not keep {}", files[0].display());
}

/// A small axial series.
#[derive(Clone, Copy)]
pub(crate) struct Scan<'a> {
    pub(crate) study: &'a str,
    pub(crate) series: &'a str,
    pub(crate) number: u32,
    pub(crate) modality: Modality,
    pub(crate) description: &'a str,
    pub(crate) body_part: &'a str,
    pub(crate) spacing_mm: f64,
    pub(crate) slices: usize,
}

/// Writes a series to a folder of its own below `folder` and returns its files.
pub(crate) fn write_scan(folder: &Path, scan: &Scan<'_>) -> Vec<PathBuf> {
    let steps = [[0.0, 0.0, scan.spacing_mm], [0.0, 8.0, 0.0], [8.0, 0.0, 0.0]];
    let geometry = GridGeometry::new([scan.slices, 12, 12], [-48.0, -48.0, 0.0], steps).unwrap();
    let values = (0..geometry.voxels()).map(|i| (i % 700) as f32).collect();
    let volume = Volume::new(geometry, values).unwrap();
    let series = SyntheticSeries {
        modality: scan.modality,
        study_instance_uid: scan.study.parse().unwrap(),
        series_instance_uid: scan.series.parse().unwrap(),
        frame_of_reference_uid: "1.2.3.9".parse().unwrap(),
        patient_name: "SENTINEL^NAME",
        patient_id: "SENTINEL-ID",
        accession_number: "SENTINEL-ACC",
        series_number: scan.number,
        description: scan.description,
        body_part_examined: scan.body_part,
        date: "20260102",
    };
    let folder = folder.join(scan.series);
    std::fs::create_dir_all(&folder).unwrap();
    let mut files = Vec::new();
    for (number, instance) in write_series(&volume, &series).unwrap().iter().enumerate() {
        let file = folder.join(format!("{number:03}.dcm"));
        std::fs::write(&file, &instance.bytes).unwrap();
        files.push(file);
    }
    files
}
