//! A receiving PACS for the demonstration: takes segmentations and keeps them as files.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use dicom_io::dimse::StoreStatus;
use dicom_io::scp::{
    self, InstanceReceiver, InstanceSink, ReceivedInstance, ScpConfig, StoreRequest,
};
use tempfile::NamedTempFile;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Its AE title.
pub(super) const AE_TITLE: &str = "DEMO_PACS";
const SEGMENTATION_STORAGE: &str = "1.2.840.10008.5.1.4.1.1.66.4";

/// A listener that takes segmentations, as long as it lives.
#[derive(Debug)]
pub(super) struct Pacs {
    address: SocketAddr,
    received: Mutex<mpsc::Receiver<PathBuf>>,
    _listening: JoinSet<()>,
}

impl Pacs {
    /// Listens on a free loopback port and keeps files in `folder`.
    pub(super) async fn start(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let socket = TcpListener::bind("127.0.0.1:0").await?;
        let address = socket.local_addr()?;
        let mut config = ScpConfig::for_images(AE_TITLE.parse().context("a title of ours")?);
        config.storage_sop_classes = vec![SEGMENTATION_STORAGE.parse().context("a UID")?];
        let (sender, received) = mpsc::channel(16);
        let receiver = Arc::new(Folder { folder: folder.to_owned(), sender });
        let mut listening = JoinSet::new();
        listening.spawn(async move {
            let served =
                scp::serve(vec![socket.into()], config, receiver, CancellationToken::new()).await;
            if let Err(error) = served {
                tracing::error!(
                    error = format!("{:#}", anyhow::Error::new(error)),
                    "the PACS stand-in broke down"
                );
            }
        });
        Ok(Self { address, received: Mutex::new(received), _listening: listening })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next object that arrives.
    pub(super) async fn next(&self) -> Result<PathBuf> {
        self.received.lock().await.recv().await.context("the PACS stand-in has ended")
    }
}

struct Folder {
    folder: PathBuf,
    sender: mpsc::Sender<PathBuf>,
}

struct File {
    temporary: NamedTempFile,
    folder: PathBuf,
    sender: mpsc::Sender<PathBuf>,
}

#[async_trait]
impl InstanceReceiver for Folder {
    type Sink = File;

    async fn begin(&self, _request: &StoreRequest) -> Result<File, StoreStatus> {
        let temporary =
            NamedTempFile::new_in(&self.folder).map_err(|_| StoreStatus::OutOfResources)?;
        Ok(File { temporary, folder: self.folder.clone(), sender: self.sender.clone() })
    }
}

#[async_trait]
impl InstanceSink for File {
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.temporary.write_all(bytes)
    }

    async fn finish(self, received: ReceivedInstance) -> StoreStatus {
        let path = self.folder.join(format!("{}.dcm", received.header.sop_instance_uid));
        if self.temporary.persist(&path).is_err() {
            return StoreStatus::OutOfResources;
        }
        // Nobody waits any more once the demonstration has what it wants.
        let _ = self.sender.send(path).await;
        StoreStatus::Success
    }
}
