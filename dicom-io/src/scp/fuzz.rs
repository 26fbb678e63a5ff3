//! Whole associations made of a fuzzer's bytes.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio_util::sync::CancellationToken;

use super::admission::serve_connection;
use super::listener::Shared;
use super::{
    AssociationInfo, AssociationOutcome, InstanceReceiver, InstanceSink, ReceivedInstance,
    ScpConfig, StoreRequest,
};
use crate::dimse::StoreStatus;

/// Bytes of one data set at most, and in the buffers of the stream.
const LIMIT: usize = 64 * 1024;

/// An association request for CT in explicit little endian, as context 1.
const REQUEST: &[u8] = include_bytes!("../../../tests/fixtures/fuzz/association_request.bin");

#[derive(Debug, Default)]
struct Ledger {
    accepted: AtomicU64,
    ended: AtomicU64,
}

struct Sink {
    written: u64,
}

#[async_trait]
impl InstanceReceiver for Ledger {
    type Sink = Sink;

    async fn association_accepted(&self, _: &AssociationInfo) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    async fn begin(&self, _: &StoreRequest) -> Result<Sink, StoreStatus> {
        Ok(Sink { written: 0 })
    }

    async fn association_ended(&self, _: &AssociationInfo, _: &AssociationOutcome) {
        self.ended.fetch_add(1, Ordering::Relaxed);
    }
}

#[async_trait]
impl InstanceSink for Sink {
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len() as u64;
        Ok(())
    }

    async fn finish(self, received: ReceivedInstance) -> StoreStatus {
        assert_eq!(received.file_bytes, self.written, "bytes were lost on the way");
        assert!(received.dataset_bytes <= LIMIT as u64);
        StoreStatus::Success
    }
}

/// Serves a connection that sends `bytes`, behind a sound association request unless the first byte is odd, and ends.
pub(crate) fn fuzz_association(bytes: &[u8]) {
    let Some((&first, rest)) = bytes.split_first() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime without threads can be made");
    let ledger = Arc::new(Ledger::default());
    let mut config = ScpConfig::for_images("PROSECTOR".parse().expect("a constant"));
    config.limits.max_dataset_bytes = LIMIT as u64;
    config.storage_commitment = true;
    let shared = Arc::new(Shared::new(config, Arc::clone(&ledger), CancellationToken::new()));
    let peer = "127.0.0.1:1".parse().expect("a constant");
    let waiting = shared.wait();
    runtime.block_on(async {
        let (ours, theirs) = duplex(LIMIT);
        let (mut reading, mut writing) = tokio::io::split(ours);
        let sending = async {
            // The listener may close before it has read everything.
            if first % 2 == 0 {
                let _ = writing.write_all(REQUEST).await;
            }
            let _ = writing.write_all(rest).await;
            let _ = writing.shutdown().await;
        };
        let listening = async {
            let mut answers = Vec::new();
            let _ = reading.read_to_end(&mut answers).await;
        };
        tokio::join!(serve_connection(theirs, peer, None, shared, waiting), sending, listening);
    });
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    assert_eq!(count(&ledger.accepted), count(&ledger.ended), "an association has no end");
}
