//! How many slices a second does the listener take, beside DCMTK's storescp?
//!
//! 500 made-up CT slices of 512×512 come from DCMTK's dcmsend over loopback, over one association and over eight. Three
//! receivers in turn, three repetitions, medians: ours without syncing, ours with every instance synced, renamed and
//! its folder synced before success is answered, and `storescp +B`, which syncs nothing.
//!
//! ```text
//! cargo bench -p dicom-io --bench receive
//! ```

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on stops")]
#![expect(clippy::print_stdout, reason = "the table is what it is for")]

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use dicom_io::dimse::StoreStatus;
use dicom_io::scp::{
    InstanceReceiver, InstanceSink, ReceivedInstance, ScpConfig, StoreRequest, serve,
};
use tokio_util::sync::CancellationToken;

#[path = "../tests/it/phantom.rs"]
mod phantom;

const SLICES: u32 = 500;
const SIDE: u16 = 512;
const REPETITIONS: usize = 3;
const ASSOCIATIONS: [u32; 2] = [1, 8];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Receiver {
    Cached,
    Durable,
    Storescp,
}

impl Receiver {
    fn name(self) -> &'static str {
        match self {
            Self::Cached => "prosector, not synced",
            Self::Durable => "prosector, every instance synced",
            Self::Storescp => "storescp +B, not synced",
        }
    }
}

/// Writes instances to a folder.
struct Folder {
    path: PathBuf,
    is_durable: bool,
    next: AtomicU64,
}

struct FolderSink {
    folder: PathBuf,
    path: PathBuf,
    file: File,
    is_durable: bool,
}

#[async_trait]
impl InstanceReceiver for Folder {
    type Sink = FolderSink;

    async fn begin(&self, _request: &StoreRequest) -> Result<FolderSink, StoreStatus> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.path.join(format!("{number}.part"));
        let file = File::create(&path).map_err(|_| StoreStatus::OutOfResources)?;
        Ok(FolderSink { folder: self.path.clone(), path, file, is_durable: self.is_durable })
    }
}

#[async_trait]
impl InstanceSink for FolderSink {
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    async fn finish(self, _received: ReceivedInstance) -> StoreStatus {
        let done = || -> io::Result<()> {
            if self.is_durable {
                self.file.sync_data()?;
            }
            std::fs::rename(&self.path, self.path.with_extension("dcm"))?;
            if self.is_durable {
                File::open(&self.folder)?.sync_all()?;
            }
            Ok(())
        };
        match tokio::task::block_in_place(done) {
            Ok(()) => StoreStatus::Success,
            Err(_) => StoreStatus::OutOfResources,
        }
    }
}

struct Measurement {
    seconds: f64,
    cpu_seconds: f64,
    peak_mib: f64,
}

fn main() {
    // `cargo test --benches` only wants to know that it builds and starts.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let sources = tempfile::tempdir().unwrap();
    let mut bytes = 0;
    for number in 0..SLICES {
        for associations in ASSOCIATIONS {
            let folder = sources.path().join(format!("{associations}/{}", number % associations));
            std::fs::create_dir_all(&folder).unwrap();
            let path = phantom::Slice::ct(number, SIDE).write(&folder);
            if associations == 1 {
                bytes += std::fs::metadata(path).unwrap().len();
            }
        }
    }
    println!(
        "{SLICES} slices of {SIDE}x{SIDE}, {:.0} MB, median of {REPETITIONS}",
        bytes as f64 / 1e6
    );
    println!();
    println!("| receiver | associations | instances/s | MB/s | CPU s/GB | peak MiB |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: |");
    for associations in ASSOCIATIONS {
        let folder = sources.path().join(associations.to_string());
        let mut rows: Vec<(Receiver, Vec<Measurement>)> = Vec::new();
        for receiver in [Receiver::Cached, Receiver::Durable, Receiver::Storescp] {
            rows.push((receiver, Vec::new()));
        }
        // Receivers alternate, so that a change of the machine's mood meets all of them.
        for _ in 0..REPETITIONS {
            for (receiver, measurements) in &mut rows {
                measurements.push(measure(*receiver, &folder, associations));
            }
        }
        for (receiver, mut measurements) in rows {
            measurements.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
            let median = &measurements[REPETITIONS / 2];
            println!(
                "| {} | {associations} | {:.0} | {:.0} | {:.2} | {:.0} |",
                receiver.name(),
                f64::from(SLICES) / median.seconds,
                bytes as f64 / 1e6 / median.seconds,
                median.cpu_seconds / (bytes as f64 / 1e9),
                median.peak_mib,
            );
        }
    }
}

fn measure(receiver: Receiver, sources: &Path, associations: u32) -> Measurement {
    let target = tempfile::tempdir().unwrap();
    match receiver {
        Receiver::Storescp => {
            let port = free_port();
            let mut command = Command::new("/usr/bin/storescp");
            command.args(["+B", "--output-directory"]).arg(target.path());
            if associations > 1 {
                command.arg("--fork");
            }
            command.arg(port.to_string()).env("TCP_NODELAY", "1").stdin(Stdio::null());
            let mut process = command.spawn().expect("DCMTK must be installed");
            wait_for(port);
            let seconds = send(sources, port, associations);
            let (cpu_seconds, peak_mib) = usage(&process.id().to_string());
            process.kill().unwrap();
            process.wait().unwrap();
            Measurement { seconds, cpu_seconds, peak_mib }
        }
        Receiver::Cached | Receiver::Durable => {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap();
            let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
            let port = listener.local_addr().unwrap().port();
            let folder = Folder {
                path: target.path().to_owned(),
                is_durable: receiver == Receiver::Durable,
                next: AtomicU64::new(0),
            };
            let cancel = CancellationToken::new();
            let config = ScpConfig::for_images("PROSECTOR".parse().unwrap());
            let serving = runtime.spawn(serve(
                vec![listener.into()],
                config,
                Arc::new(folder),
                cancel.clone(),
            ));
            let (before, _) = usage("self");
            let seconds = send(sources, port, associations);
            let (after, peak_mib) = usage("self");
            cancel.cancel();
            runtime.block_on(serving).unwrap().unwrap();
            Measurement { seconds, cpu_seconds: after - before, peak_mib }
        }
    }
}

/// Sends every subfolder of `sources` over an association of its own; the seconds until the last has ended.
fn send(sources: &Path, port: u16, associations: u32) -> f64 {
    let started = Instant::now();
    let mut senders: Vec<Child> = (0..associations)
        .map(|index| {
            Command::new("/usr/bin/dcmsend")
                .args(["-aec", "PROSECTOR", "--no-uid-checks", "+sd", "127.0.0.1"])
                .arg(port.to_string())
                .arg(sources.join(index.to_string()))
                .env("TCP_NODELAY", "1")
                .stdin(Stdio::null())
                .spawn()
                .expect("DCMTK must be installed")
        })
        .collect();
    for sender in &mut senders {
        assert!(sender.wait().unwrap().success());
    }
    started.elapsed().as_secs_f64()
}

/// CPU seconds so far, children included, and peak resident memory in MiB of a process.
fn usage(process: &str) -> (f64, f64) {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{process}/{name}")).unwrap();
    let stat = read("stat");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // User and system time of the process; waited-for children only where they are receivers, not our senders.
    let count = if process == "self" { 2 } else { 4 };
    let ticks: f64 = fields[11..11 + count].iter().map(|field| field.parse::<f64>().unwrap()).sum();
    let status = read("status");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak_kib: f64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    (ticks / 100.0, peak_kib / 1024.0)
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn wait_for(port: u16) {
    for _ in 0..500 {
        if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("nobody listens on port {port}");
}
