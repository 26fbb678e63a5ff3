//! The peers of the tests: DCMTK's programs, a listener of ours that keeps everything in memory, raw sockets.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use dicom_io::dimse::StoreStatus;
use dicom_io::scp::{
    AssociationInfo, AssociationOutcome, InstanceReceiver, InstanceSink, ReceivedInstance,
    RejectedAssociation, ScpConfig, StoreRequest, serve,
};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Runs one of DCMTK's programs to its end; a missing program fails the test.
pub(crate) async fn dcmtk(program: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(Path::new("/usr/bin").join(program));
    command.args(arguments).env("TCP_NODELAY", "1").stdin(Stdio::null());
    tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap()
        .unwrap_or_else(|error| panic!("DCMTK must be installed for this test: {error}"))
}

pub(crate) fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// A DCMTK program that listens; killed when dropped.
pub(crate) struct Storescp {
    pub(crate) port: u16,
    process: std::process::Child,
}

impl Storescp {
    /// Starts `storescp` on a free port, writing what it receives to `folder`.
    pub(crate) async fn start(folder: &Path, options: &[&str]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let process = Command::new("/usr/bin/storescp")
            .args(options)
            .args(["--aetitle", "PACS", "--output-directory"])
            .arg(folder)
            .arg(port.to_string())
            .env("TCP_NODELAY", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_or_else(
                |error| panic!("DCMTK must be installed for this test: {error}"),
                |process| Self { port, process },
            );
        for _ in 0..500 {
            if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return process;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("storescp does not listen");
    }
}

impl Drop for Storescp {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// One instance as the receiver got it.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) file: Vec<u8>,
    pub(crate) received: ReceivedInstance,
    pub(crate) request: StoreRequest,
}

/// A receiver that keeps everything in memory and counts what it is told.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) kept: Mutex<Vec<Kept>>,
    pub(crate) refused: Mutex<Vec<StoreStatus>>,
    pub(crate) rejected: Mutex<Vec<RejectedAssociation>>,
    pub(crate) accepted: Mutex<u64>,
    pub(crate) ended: Mutex<Vec<AssociationOutcome>>,
    /// Sinks that were dropped without an end.
    pub(crate) discarded: Mutex<u64>,
    /// Status to answer instead of success.
    pub(crate) answer: Mutex<Option<StoreStatus>>,
    /// Status to answer before the data set.
    pub(crate) refuse: Mutex<Option<StoreStatus>>,
    /// How long storing takes.
    pub(crate) delay: Mutex<Duration>,
    /// Bytes after which the disk is full.
    pub(crate) room: Mutex<Option<usize>>,
}

pub(crate) struct MemorySink {
    memory: Arc<Memory>,
    request: StoreRequest,
    file: Vec<u8>,
    is_finished: bool,
}

impl Drop for MemorySink {
    fn drop(&mut self) {
        if !self.is_finished {
            *self.memory.discarded.lock().unwrap() += 1;
        }
    }
}

pub(crate) struct MemoryReceiver(pub(crate) Arc<Memory>);

#[async_trait]
impl InstanceReceiver for MemoryReceiver {
    type Sink = MemorySink;

    async fn association_accepted(&self, _association: &AssociationInfo) {
        *self.0.accepted.lock().unwrap() += 1;
    }

    async fn association_rejected(&self, rejected: &RejectedAssociation) {
        self.0.rejected.lock().unwrap().push(rejected.clone());
    }

    async fn begin(&self, request: &StoreRequest) -> Result<MemorySink, StoreStatus> {
        if let Some(status) = *self.0.refuse.lock().unwrap() {
            return Err(status);
        }
        Ok(MemorySink {
            memory: Arc::clone(&self.0),
            request: request.clone(),
            file: Vec::new(),
            is_finished: false,
        })
    }

    async fn instance_refused(&self, _request: &StoreRequest, status: StoreStatus) {
        self.0.refused.lock().unwrap().push(status);
    }

    async fn association_ended(&self, _: &AssociationInfo, outcome: &AssociationOutcome) {
        self.0.ended.lock().unwrap().push(outcome.clone());
    }
}

#[async_trait]
impl InstanceSink for MemorySink {
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let room = *self.memory.room.lock().unwrap();
        if room.is_some_and(|room| self.file.len() + bytes.len() > room) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        self.file.extend_from_slice(bytes);
        Ok(())
    }

    async fn finish(mut self, received: ReceivedInstance) -> StoreStatus {
        let delay = *self.memory.delay.lock().unwrap();
        tokio::time::sleep(delay).await;
        self.is_finished = true;
        if let Some(status) = *self.memory.answer.lock().unwrap() {
            return status;
        }
        let kept =
            Kept { file: std::mem::take(&mut self.file), received, request: self.request.clone() };
        self.memory.kept.lock().unwrap().push(kept);
        StoreStatus::Success
    }
}

/// A listener of ours on a free loopback port.
pub(crate) struct Listening {
    pub(crate) address: SocketAddr,
    pub(crate) memory: Arc<Memory>,
    cancel: CancellationToken,
    task: JoinHandle<io::Result<()>>,
}

impl Listening {
    pub(crate) async fn start(config: ScpConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let memory = Arc::new(Memory::default());
        let receiver = Arc::new(MemoryReceiver(Arc::clone(&memory)));
        let cancel = CancellationToken::new();
        #[expect(clippy::disallowed_methods, reason = "the handle is joined in `stop`")]
        let task = tokio::spawn(serve(vec![listener.into()], config, receiver, cancel.clone()));
        Self { address, memory, cancel, task }
    }

    pub(crate) fn port(&self) -> String {
        self.address.port().to_string()
    }

    pub(crate) fn kept(&self) -> Vec<Kept> {
        self.memory.kept.lock().unwrap().clone()
    }

    pub(crate) fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Stops the listener and waits until every association has ended.
    pub(crate) async fn stop(self) -> Arc<Memory> {
        self.cancel.cancel();
        self.task.await.unwrap().unwrap();
        self.memory
    }
}

pub(crate) fn config() -> ScpConfig {
    ScpConfig::for_images("PROSECTOR".parse().unwrap())
}

/// Waits until `condition` holds, for ten seconds at most.
pub(crate) async fn until(mut condition: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("condition not met within ten seconds");
}
