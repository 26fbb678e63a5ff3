//! Whole associations over a stream in memory, damaged in every way that chance finds.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::time::timeout;

use super::admission::serve_connection;
use super::listener::Shared;
use super::{
    AssociationInfo, AssociationOutcome, InstanceReceiver, InstanceSink, ReceivedInstance,
    ScpConfig, StoreRequest,
};
use crate::dimse::{CommandSet, Priority, StoreStatus};
use crate::upper_layer::{COMMAND, LAST, data_header};

const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
const EXPLICIT: &str = "1.2.840.10008.1.2.1";

/// Keeps digests of what it was given and of what it was told.
#[derive(Debug, Default)]
struct Checker {
    stored: Mutex<u64>,
    ended: Mutex<Vec<AssociationOutcome>>,
    accepted: Mutex<u64>,
}

struct CheckerReceiver(Arc<Checker>);

struct CheckerSink {
    checker: Arc<Checker>,
    file: Vec<u8>,
}

#[async_trait]
impl InstanceReceiver for CheckerReceiver {
    type Sink = CheckerSink;

    async fn association_accepted(&self, _: &AssociationInfo) {
        *self.0.accepted.lock().unwrap() += 1;
    }

    async fn begin(&self, _: &StoreRequest) -> Result<CheckerSink, StoreStatus> {
        Ok(CheckerSink { checker: Arc::clone(&self.0), file: Vec::new() })
    }

    async fn association_ended(&self, _: &AssociationInfo, outcome: &AssociationOutcome) {
        self.0.ended.lock().unwrap().push(outcome.clone());
    }
}

#[async_trait]
impl InstanceSink for CheckerSink {
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.extend_from_slice(bytes);
        Ok(())
    }

    async fn finish(self, received: ReceivedInstance) -> StoreStatus {
        let dataset = &self.file[self.file.len() - received.dataset_bytes as usize..];
        assert_eq!(received.dataset_sha256, <[u8; 32]>::from(Sha256::digest(dataset)));
        assert_eq!(received.file_bytes, self.file.len() as u64);
        *self.checker.stored.lock().unwrap() += 1;
        StoreStatus::Success
    }
}

fn item(kind: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, 0];
    bytes.extend((value.len() as u16).to_be_bytes());
    bytes.extend(value);
    bytes
}

fn pdu(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, 0];
    bytes.extend((body.len() as u32).to_be_bytes());
    bytes.extend(body);
    bytes
}

fn association_request() -> Vec<u8> {
    let mut body = vec![0, 1, 0, 0];
    body.extend(b"PROSECTOR       CHANCE          ");
    body.extend([0; 32]);
    body.extend(item(0x10, b"1.2.840.10008.3.1.1.1"));
    let mut context = vec![1, 0, 0, 0];
    context.extend(item(0x30, CT.as_bytes()));
    context.extend(item(0x40, EXPLICIT.as_bytes()));
    body.extend(item(0x20, &context));
    body.extend(item(0x50, &item(0x51, &16384_u32.to_be_bytes())));
    pdu(1, &body)
}

fn dataset() -> Vec<u8> {
    let mut bytes = Vec::new();
    for (tag, vr, value) in [
        ([8, 0, 0x16, 0], b"UI", "1.2.840.10008.5.1.4.1.1.2\0"),
        ([8, 0, 0x18, 0], b"UI", "2.25.9"),
        ([8, 0, 0x60, 0], b"CS", "CT"),
        ([0x20, 0, 0x0D, 0], b"UI", "2.25.90\0"),
        ([0x20, 0, 0x0E, 0], b"UI", "2.25.91\0"),
    ] {
        bytes.extend(tag);
        bytes.extend(vr);
        bytes.extend((value.len() as u16).to_le_bytes());
        bytes.extend(value.as_bytes());
    }
    bytes.extend([0xE0, 0x7F, 0x10, 0, b'O', b'W', 0, 0, 0, 1, 0, 0]);
    bytes.extend([7; 256]);
    bytes
}

/// The messages of one store operation, the data set in fragments of `size`.
fn store_messages(size: usize) -> Vec<u8> {
    let command = CommandSet::store_request(1, CT, "2.25.9", Priority::Medium).encode();
    let mut bytes = data_header(1, COMMAND | LAST, command.len()).to_vec();
    bytes.extend(&command);
    let dataset = dataset();
    let count = dataset.chunks(size).count();
    for (index, fragment) in dataset.chunks(size).enumerate() {
        let control = if index + 1 == count { LAST } else { 0 };
        bytes.extend(data_header(1, control, fragment.len()));
        bytes.extend(fragment);
    }
    bytes
}

/// Sends `bytes` to the listener's side of a stream, ends the stream, and waits until the association is over.
fn run(bytes: &[u8], piece: usize) -> Arc<Checker> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let checker = Arc::new(Checker::default());
    let mut config = ScpConfig::for_images("PROSECTOR".parse().unwrap());
    config.limits.max_dataset_bytes = 1 << 20;
    let receiver = Arc::new(CheckerReceiver(Arc::clone(&checker)));
    let shared =
        Arc::new(Shared::new(config, receiver, tokio_util::sync::CancellationToken::new()));
    let peer = "127.0.0.1:1".parse().unwrap();
    let waiting = shared.wait();
    runtime.block_on(async {
        let (ours, theirs) = duplex(64 * 1024);
        let (mut reading, mut writing) = tokio::io::split(ours);
        let sending = async {
            for piece in bytes.chunks(piece) {
                if writing.write_all(piece).await.is_err() {
                    break;
                }
            }
            // The listener may have closed already.
            let _ = writing.shutdown().await;
        };
        let listening = async {
            let mut answers = Vec::new();
            let _ = reading.read_to_end(&mut answers).await;
        };
        let all = async {
            tokio::join!(serve_connection(theirs, peer, None, shared, waiting), sending, listening);
        };
        timeout(Duration::from_secs(20), all).await.expect("the association ends");
    });
    checker
}

#[test]
fn the_undamaged_association_stores_whatever_the_size_of_fragments_and_pieces() {
    for size in [2, 50, 1000] {
        for piece in [1, 7, 4096] {
            let mut bytes = association_request();
            bytes.extend(store_messages(size));
            bytes.extend(store_messages(size));
            bytes.extend(pdu(5, &[0; 4]));

            let checker = run(&bytes, piece);

            assert_eq!(*checker.stored.lock().unwrap(), 2);
            let ended = checker.ended.lock().unwrap();
            assert_eq!((ended[0].stored, ended[0].refused), (2, 0));
            assert_eq!(ended[0].end, super::AssociationEnd::Released);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_damaged_association_ends_and_is_reported_once(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        size in 2_usize..400,
        piece in 1_usize..3000,
        skip_request in 0_usize..4,
    ) {
        let mut bytes = association_request();
        // Most damage is to come behind the request, where an association is.
        let first = if skip_request == 0 { 0 } else { bytes.len() };
        bytes.extend(store_messages(size));
        bytes.extend(store_messages(size));
        bytes.extend(pdu(5, &[0; 4]));
        for (index, value) in damage {
            let index = first + index.index(bytes.len() - first);
            bytes[index] = value;
        }
        bytes.truncate(first + cut.index(bytes.len() - first + 1));

        let checker = run(&bytes, piece);

        let ended = checker.ended.lock().unwrap();
        prop_assert_eq!(ended.len() as u64, *checker.accepted.lock().unwrap());
        let reported: u64 = ended.iter().map(|outcome| outcome.stored).sum();
        prop_assert!(*checker.stored.lock().unwrap() >= reported);
    }
}
