//! Peers that lie, stall, babble or leave.

use std::time::Duration;

use dicom_io::scp::{AssociationEnd, ScpConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::peer::{Listening, config, dcmtk, text, until};

const CT: &str = "1.2.840.10008.5.1.4.1.1.2";

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

/// An association request for CT in explicit little endian, context 1.
fn associate() -> Vec<u8> {
    let mut body = vec![0, 1, 0, 0];
    body.extend(b"PROSECTOR       ");
    body.extend(b"HOSTILE         ");
    body.extend([0; 32]);
    body.extend(item(0x10, b"1.2.840.10008.3.1.1.1"));
    let mut context = vec![1, 0, 0, 0];
    context.extend(item(0x30, CT.as_bytes()));
    context.extend(item(0x40, b"1.2.840.10008.1.2.1"));
    body.extend(item(0x20, &context));
    body.extend(item(0x50, &item(0x51, &16384_u32.to_be_bytes())));
    pdu(1, &body)
}

fn store_command() -> Vec<u8> {
    dicom_io::dimse::CommandSet::store_request(1, CT, "2.25.9", dicom_io::dimse::Priority::Medium)
        .encode()
}

fn value(control: u8, fragment: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend((fragment.len() as u32 + 2).to_be_bytes());
    bytes.extend([1, control]);
    bytes.extend(fragment);
    bytes
}

async fn connect(listening: &Listening) -> TcpStream {
    TcpStream::connect(listening.address).await.unwrap()
}

/// Connects and associates.
async fn associated(listening: &Listening) -> TcpStream {
    let mut stream = connect(listening).await;
    stream.write_all(&associate()).await.unwrap();
    let (kind, _) = read_pdu(&mut stream).await;
    assert_eq!(kind, 2, "association accepted");
    stream
}

async fn read_pdu(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut header = [0; 6];
    timeout(Duration::from_secs(10), stream.read_exact(&mut header)).await.unwrap().unwrap();
    let length = u32::from_be_bytes([header[2], header[3], header[4], header[5]]);
    let mut body = vec![0; length as usize];
    stream.read_exact(&mut body).await.unwrap();
    (header[0], body)
}

/// What the listener says before it closes.
async fn last_words(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset ends the words as well as a close does.
    let _ = timeout(Duration::from_secs(10), stream.read_to_end(&mut bytes)).await.unwrap();
    bytes
}

async fn still_answers(listening: &Listening) {
    let output = dcmtk("echoscu", &["-aec", "PROSECTOR", "127.0.0.1", &listening.port()]).await;
    assert!(output.status.success(), "{}", text(&output));
}

fn impatient() -> ScpConfig {
    let mut config = config();
    config.timeouts.request = Duration::from_millis(300);
    config.timeouts.stall = Duration::from_millis(300);
    config.timeouts.idle = Duration::from_millis(600);
    config.timeouts.grace = Duration::from_millis(300);
    config
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_bytes_are_answered_with_an_abort() {
    let listening = Listening::start(config()).await;

    for first in [0_u8, 4, 5, 7, 9, b'G', 0xFF] {
        let mut stream = connect(&listening).await;
        let mut bytes = vec![first, 0, 0, 0, 0, 40];
        bytes.extend((0..40).map(|index| first.wrapping_mul(31).wrapping_add(index)));
        stream.write_all(&bytes).await.unwrap();
        let words = last_words(&mut stream).await;
        assert!(words.is_empty() || words[0] == 7, "{first}: {words:?}");
    }

    still_answers(&listening).await;
    assert_eq!(*listening.stop().await.accepted.lock().unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_announced_pdu_of_gigabytes_ends_the_association_at_once() {
    let listening = Listening::start(config()).await;

    let mut before = connect(&listening).await;
    before.write_all(&[1, 0, 0xC0, 0, 0, 0]).await.unwrap();
    let mut within = associated(&listening).await;
    within.write_all(&[4, 0, 0xC0, 0, 0, 0]).await.unwrap();

    assert_eq!(last_words(&mut before).await[..2], [7, 0]);
    assert_eq!(last_words(&mut within).await[..2], [7, 0]);
    let memory = listening.stop().await;
    assert_eq!(memory.ended.lock().unwrap()[0].end, AssociationEnd::ProtocolError);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_value_that_lies_about_its_length_context_or_order_is_aborted() {
    let listening = Listening::start(config()).await;
    let mut other_context = value(3, &store_command());
    other_context[4] = 99;
    let mut interleaved = value(3, &store_command());
    interleaved.extend(value(0, b"data"));
    interleaved.extend(value(3, &store_command()));
    let cases = [
        ("length beyond the PDU", vec![0xFF, 0xFF, 0xFF, 0xFF, 1, 3]),
        ("length below its header", vec![0, 0, 0, 1, 1]),
        ("unknown context", other_context),
        ("data without a command", value(2, b"data")),
        ("command inside a data set", interleaved),
        ("no command set", value(3, b"nonsense")),
        ("command without data set", {
            let mut command = store_command();
            let position = command.windows(4).position(|window| window == [0, 0, 0, 8]).unwrap();
            command[position + 8..position + 10].copy_from_slice(&[1, 1]);
            value(3, &command)
        }),
    ];

    for (name, body) in &cases {
        let mut stream = associated(&listening).await;
        stream.write_all(&pdu(4, body)).await.unwrap();
        let words = last_words(&mut stream).await;
        assert_eq!(words.first(), Some(&7), "{name}: {words:?}");
    }

    still_answers(&listening).await;
    let memory = listening.stop().await;
    let ended = memory.ended.lock().unwrap();
    let errors = ended.iter().filter(|outcome| outcome.end == AssociationEnd::ProtocolError);
    assert_eq!(errors.count(), cases.len());
    assert!(memory.kept.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_never_ends_is_aborted() {
    let listening = Listening::start(config()).await;
    let mut stream = associated(&listening).await;

    for _ in 0..20 {
        if stream.write_all(&pdu(4, &value(1, &[0; 1000]))).await.is_err() {
            break;
        }
    }
    let words = last_words(&mut stream).await;

    assert!(words.is_empty() || words[0] == 7, "{words:?}");
    let memory = listening.stop().await;
    assert_eq!(memory.ended.lock().unwrap()[0].end, AssociationEnd::ProtocolError);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_set_that_cannot_be_understood_is_refused_and_the_association_goes_on() {
    let listening = Listening::start(config()).await;
    let mut stream = associated(&listening).await;
    let mut foreign = Vec::new();
    for (tag, uid) in [
        ([8, 0, 0x16, 0], "1.2.840.10008.5.1.4.1.1.4\0"),
        ([8, 0, 0x18, 0], "2.25.9"),
        ([0x20, 0, 0x0D, 0], "2.25.90\0"),
        ([0x20, 0, 0x0E, 0], "2.25.91\0"),
    ] {
        foreign.extend(tag);
        foreign.extend(b"UI");
        foreign.extend((uid.len() as u16).to_le_bytes());
        foreign.extend(uid.as_bytes());
    }
    let cases = [
        (&b"no data set at all, just words"[..], 0xC000_u16),
        (&[][..], 0xC000),
        (&foreign[..], 0xA900),
    ];

    for (dataset, status) in cases {
        let mut body = value(3, &store_command());
        body.extend(value(2, dataset));
        stream.write_all(&pdu(4, &body)).await.unwrap();
        let (kind, answer) = read_pdu(&mut stream).await;
        assert_eq!(kind, 4);
        let command = dicom_io::dimse::CommandSet::decode(&answer[6..]).unwrap();
        assert_eq!(command.status().unwrap().0, status);
    }
    stream.write_all(&pdu(5, &[0; 4])).await.unwrap();
    assert_eq!(read_pdu(&mut stream).await.0, 6);
    drop(stream);

    let memory = listening.stop().await;
    assert_eq!(memory.ended.lock().unwrap()[0].end, AssociationEnd::Released);
    assert_eq!(memory.ended.lock().unwrap()[0].refused, 3);
    assert!(memory.kept.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_writers_are_let_go_in_every_phase() {
    let listening = Listening::start(impatient()).await;

    let mut silent = connect(&listening).await;
    let mut partial = connect(&listening).await;
    partial.write_all(&associate()[..40]).await.unwrap();
    let mut idle = associated(&listening).await;
    let mut stalled = associated(&listening).await;
    let mut body = value(3, &store_command());
    body.extend(value(0, b"\x08\0"));
    stalled.write_all(&pdu(4, &body)).await.unwrap();

    for stream in [&mut silent, &mut partial, &mut idle, &mut stalled] {
        let words = last_words(stream).await;
        assert!(words.is_empty() || words[0] == 7, "{words:?}");
    }
    let memory = listening.stop().await;
    let ended = memory.ended.lock().unwrap();
    assert_eq!(ended.len(), 2);
    assert!(ended.iter().all(|outcome| outcome.end == AssociationEnd::TimedOut), "{ended:?}");
    assert_eq!(*memory.discarded.lock().unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_idle_connections_do_not_keep_others_out() {
    let listening = Listening::start(config()).await;
    let mut idle = Vec::new();
    for _ in 0..500 {
        idle.push(connect(&listening).await);
    }

    still_answers(&listening).await;

    // The oldest made room.
    assert!(last_words(&mut idle[0]).await.is_empty());
    drop(idle);
    listening.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_that_are_rejected_take_no_place_from_others() {
    let mut config = config();
    config.limits.max_associations = 1;
    let listening = Listening::start(config).await;
    let mut stranger = associate();
    stranger[10..16].copy_from_slice(b"NOBODY");
    let mut lingering = Vec::new();
    for _ in 0..3 {
        let mut stream = connect(&listening).await;
        stream.write_all(&stranger).await.unwrap();
        assert_eq!(read_pdu(&mut stream).await.0, 3, "association rejected");
        lingering.push(stream);
    }

    still_answers(&listening).await;

    drop(lingering);
    listening.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_aborts_whoever_still_sits_there_after_the_grace_period() {
    let listening = Listening::start(impatient()).await;
    let mut lingering = associated(&listening).await;
    let waiting = connect(&listening).await;
    let memory = listening.memory.clone();
    until(|| *memory.accepted.lock().unwrap() == 1).await;

    let (words, memory) = tokio::join!(last_words(&mut lingering), listening.stop());

    assert_eq!(words.first(), Some(&7));
    assert_eq!(memory.ended.lock().unwrap()[0].end, AssociationEnd::ShutDown);
    drop(waiting);
}
