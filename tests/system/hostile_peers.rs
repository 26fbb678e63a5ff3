//! Peers that lie, stall, babble or leave, over real sockets: afterwards the service answers, keeps nothing that it did
//! not understand, and has not grown.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use dicom_io::dimse::{CommandSet, Priority};
use prosector_model::phantom::Plane;
use test_harness::dcmtk::{Peer, dcmsend, echoscu};
use test_harness::prosector::{AE_TITLE, Prosector};

use crate::phantom::{Phantom, Scan};

const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
const EXPLICIT: &str = "1.2.840.10008.1.2.1";
const IMPLICIT: &str = "1.2.840.10008.1.2";
const DEFLATED: &str = "1.2.840.10008.1.2.1.99";
/// Connections that say nothing.
const IDLE: usize = 500;
/// What a listener may hold on top of what it held before: receive buffers of 32 associations at most (256 KiB each and
/// a write buffer of as much), headers within their limits, and the allocator's slack.
const GROWTH_KIB: u64 = 160 * 1024;

/// Short patience, so that a test need not have it; one association for each hostile one and some for others.
const SITE: &str = r#"
[listener]
max_associations = 48
negotiation_timeout = "3s"
idle_timeout = "3s"

[completeness]
quiet = "1h"
"#;

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

/// An association request for CT in `transfer_syntax`, context 1, and verification, context 3.
fn associate(transfer_syntax: &str) -> Vec<u8> {
    let mut body = vec![0, 1, 0, 0];
    body.extend(b"PROSECTOR       HOSTILE         ");
    body.extend([0; 32]);
    body.extend(item(0x10, b"1.2.840.10008.3.1.1.1"));
    for (id, class, syntax) in [(1, CT, transfer_syntax), (3, "1.2.840.10008.1.1", IMPLICIT)] {
        let mut context = vec![id, 0, 0, 0];
        context.extend(item(0x30, class.as_bytes()));
        context.extend(item(0x40, syntax.as_bytes()));
        body.extend(item(0x20, &context));
    }
    body.extend(item(0x50, &item(0x51, &16384_u32.to_be_bytes())));
    pdu(1, &body)
}

/// A P-DATA-TF PDU with one data value: control 3 a whole command, 0 a part of a data set, 2 its end.
fn value(context_id: u8, control: u8, fragment: &[u8]) -> Vec<u8> {
    let mut body = (fragment.len() as u32 + 2).to_be_bytes().to_vec();
    body.extend([context_id, control]);
    body.extend(fragment);
    pdu(4, &body)
}

fn store_command(sop_instance_uid: &str) -> Vec<u8> {
    value(1, 3, &CommandSet::store_request(1, CT, sop_instance_uid, Priority::Medium).encode())
}

/// One explicit little endian element with a length of its own claim.
fn element(tag: [u8; 4], representation: [u8; 2], claimed: u32, value: &[u8]) -> Vec<u8> {
    let mut bytes = [tag[1], tag[0], tag[3], tag[2]].to_vec();
    bytes.extend(representation);
    if matches!(&representation, b"OW" | b"OB" | b"SQ" | b"UN" | b"UT") {
        bytes.extend([0, 0]);
        bytes.extend(claimed.to_le_bytes());
    } else {
        bytes.extend((claimed as u16).to_le_bytes());
    }
    bytes.extend(value);
    bytes
}

fn uid(tag: [u8; 4], uid: &str) -> Vec<u8> {
    let mut value = uid.as_bytes().to_vec();
    if value.len() % 2 == 1 {
        value.push(0);
    }
    element(tag, *b"UI", value.len() as u32, &value)
}

/// The front of a sound CT data set, with UIDs that a case may spoil.
fn front(sop_instance_uid: &str, study: &str, series: &str) -> Vec<u8> {
    [
        uid([0, 8, 0, 0x16], CT),
        uid([0, 8, 0, 0x18], sop_instance_uid),
        uid([0, 0x20, 0, 0x0D], study),
        uid([0, 0x20, 0, 0x0E], series),
    ]
    .concat()
}

/// What follows the association request of one hostile peer.
struct Case {
    name: &'static str,
    transfer_syntax: &'static str,
    bytes: Vec<u8>,
}

fn case(name: &'static str, bytes: Vec<u8>) -> Case {
    Case { name, transfer_syntax: EXPLICIT, bytes }
}

/// A C-STORE whose data set is `dataset`.
fn store(name: &'static str, dataset: &[u8]) -> Case {
    case(name, stored_as("2.25.9", dataset))
}

fn stored_as(sop_instance_uid: &str, dataset: &[u8]) -> Vec<u8> {
    let mut bytes = store_command(sop_instance_uid);
    let pieces: Vec<&[u8]> = dataset.chunks(16_000).collect();
    for (index, piece) in pieces.iter().enumerate() {
        bytes.extend(value(1, if index + 1 == pieces.len() { 2 } else { 0 }, piece));
    }
    bytes
}

/// Everything wrong that one peer can say in one go.
fn corpus() -> Vec<Case> {
    let good = || front("2.25.9", "2.25.1", "2.25.2");
    let mut lying_pdu = vec![4, 0];
    lying_pdu.extend(0xFFFF_FFFF_u32.to_be_bytes());
    let mut lying_value = vec![4, 0, 0, 0, 0, 6];
    lying_value.extend([0xFF, 0xFF, 0xFF, 0xFF, 1, 3]);
    let long_uid = "1.".repeat(30_000) + "1";
    let nested: Vec<u8> = (0..10_000)
        .flat_map(|_| {
            let mut level = element([0, 8, 0x11, 0x15], *b"SQ", u32::MAX, &[]);
            level.extend([0xFE, 0xFF, 0x00, 0xE0, 0xFF, 0xFF, 0xFF, 0xFF]);
            level
        })
        .collect();
    let elements: Vec<u8> =
        (0..400_000_u32).flat_map(|_| element([0, 9, 0, 0x10], *b"LO", 0, &[])).collect();
    let endless_text = element([0, 9, 0x10, 0x10], *b"UT", 0x4000_0000, &vec![b'A'; 4 << 20]);
    let pixels = |claimed| element([0x7F, 0xE0, 0, 0x10], *b"OW", claimed, &[7; 512]);
    let mut cases = vec![
        case("a PDU that announces four gigabytes", lying_pdu),
        case("a data value longer than its PDU", lying_value),
        case("a context that nobody negotiated", {
            let mut command = store_command("2.25.9");
            command[10] = 99;
            command
        }),
        case("a command without end", (0..40).flat_map(|_| value(1, 1, &[0; 4000])).collect()),
        case(
            "a command that is no command",
            value(1, 3, b"nonsense that is long enough to be one"),
        ),
        case("an association request within an association", associate(EXPLICIT)),
        case("a release in the middle of a data set", {
            let mut bytes = store_command("2.25.9");
            bytes.extend(value(1, 0, &good()));
            bytes.extend(pdu(5, &[0; 4]));
            bytes
        }),
        case("a data set that is never ended", {
            let mut bytes = store_command("2.25.9");
            bytes.extend(value(1, 0, &good()));
            bytes
        }),
        store("words for a data set", b"no data set at all, just words that go on for a while"),
        store("a data set that ends within an element", &good()[..good().len() - 7]),
        store("an element of two gigabytes", &[good(), endless_text].concat()),
        store("a sequence within ten thousand sequences", &[good(), nested].concat()),
        store("four hundred thousand elements", &[good(), elements].concat()),
        store("a UID of sixty thousand characters", &{
            let mut dataset = uid([0, 8, 0, 0x16], CT);
            dataset.extend(element([0, 8, 0, 0x18], *b"UI", 60_001, long_uid.as_bytes()));
            dataset
        }),
        store(
            "study and series that are paths",
            &front("2.25.9", "../../../escaped", "/tmp/escaped"),
        ),
        store("series with a NUL and a newline", &front("2.25.9", "2.25.1", "2.25\0\n../escaped")),
        store("pixel data that is shorter than it says", &[good(), pixels(0x7FFF_FFF0)].concat()),
        Case {
            name: "a deflated bomb",
            transfer_syntax: DEFLATED,
            bytes: stored_as("2.25.9", &bomb()),
        },
    ];
    for uid in ["../../../../tmp/escaped", "/etc/passwd", "..", "2.25.9/../../x", "1.2.\u{0}3", ""]
    {
        cases.push(case("an instance UID that is a path", stored_as(uid, &good())));
    }
    cases.push(case("an instance UID without end", stored_as(&"9".repeat(12_000), &good())));
    cases
}

/// A deflated data set of a few megabytes that is gigabytes of one element: stored blocks of DEFLATE make the front,
/// and one run-length block, repeated, the rest.
fn bomb() -> Vec<u8> {
    let front = [
        front("2.25.9", "2.25.1", "2.25.2"),
        element([0, 9, 0x10, 0x10], *b"UT", 0xF000_0000, &[]),
    ]
    .concat();
    let mut bytes = vec![0];
    bytes.extend((front.len() as u16).to_le_bytes());
    bytes.extend((!(front.len() as u16)).to_le_bytes());
    bytes.extend(&front);
    // A block of fixed codes: the literal 'A', then length 258 at distance 1 over and over: 258 bytes for 13 bits.
    let mut bits = Bits::default();
    bits.put(0b010, 3);
    bits.put_code(0x30 + u32::from(b'A'), 8);
    for _ in 0..2_000_000 {
        bits.put_code(0b1100_0101, 8);
        bits.put_code(0, 5);
    }
    bytes.extend(bits.bytes);
    bytes
}

#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    fn put(&mut self, value: u32, count: u32) {
        for bit in 0..count {
            if self.used == 0 {
                self.bytes.push(0);
            }
            let last = self.bytes.last_mut().unwrap();
            *last |= (((value >> bit) & 1) as u8) << self.used;
            self.used = (self.used + 1) % 8;
        }
    }

    /// Codes of DEFLATE begin with their highest bit.
    fn put_code(&mut self, code: u32, length: u32) {
        for bit in (0..length).rev() {
            self.put((code >> bit) & 1, 1);
        }
    }
}

fn connect(service: &Prosector) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", service.dicom_port())).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// Connects, associates and waits for the acceptance.
fn associated(service: &Prosector, transfer_syntax: &str) -> TcpStream {
    let mut stream = connect(service);
    stream.write_all(&associate(transfer_syntax)).unwrap();
    let mut header = [0; 6];
    stream.read_exact(&mut header).unwrap();
    assert_eq!(header[0], 2, "the association is accepted");
    let mut body = vec![0; u32::from_be_bytes(header[2..].try_into().unwrap()) as usize];
    stream.read_exact(&mut body).unwrap();
    stream
}

/// Says `bytes`, ends its side, and listens until the service ends the connection too.
fn say(mut stream: TcpStream, name: &str, bytes: &[u8]) {
    // A service that has had enough may close before everything is said.
    let _ = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
    let start = Instant::now();
    let mut answers = Vec::new();
    let _ = stream.read_to_end(&mut answers);
    assert!(start.elapsed() < Duration::from_secs(15), "{name}: the connection is not let go");
}

/// Resident memory of the service in KiB: now, and at most so far.
fn memory(service: &mut Prosector) -> (u64, u64) {
    let pid = service.service().pid();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    (field("VmRSS:"), field("VmHWM:"))
}

fn answers(service: &Prosector) {
    let peer = Peer { ae_title: AE_TITLE, port: service.dicom_port() };
    echoscu(peer).unwrap();
}

fn files_below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                found.push(entry.path().to_string_lossy().into_owned());
            }
        }
    }
    found
}

/// Sends a study and compares what the service then lists for it.
fn takes_a_study(service: &Prosector, folder: &Path, seed: u64) {
    let source = folder.join(seed.to_string());
    let phantom = Phantom::write(&source, &Scan::ct(seed, Plane::Axial));
    dcmsend(Peer { ae_title: AE_TITLE, port: service.dicom_port() }, &source).unwrap();
    let study = phantom.study_instance_uid.as_str();
    let kept = service.json(&["audit", "instances", "--study", study, "--limit", "10000"]).unwrap();
    assert_eq!(kept.as_array().unwrap().len(), phantom.instances);
}

#[test]
fn hostile_peers_of_every_kind_leave_a_service_that_answers_within_its_memory() {
    let mut service = Prosector::start_with(SITE, &["listen", "api"], &[]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    takes_a_study(&service, folder.path(), 80);
    let (before, _) = memory(&mut service);

    for Case { name, transfer_syntax, bytes } in corpus() {
        say(associated(&service, transfer_syntax), name, &bytes);
    }
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    for first in 0..=32_u8 {
        let noise: Vec<u8> = (0..2000)
            .map(|_| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (random >> 33) as u8
            })
            .collect();
        say(connect(&service), "noise", &[&[first], noise.as_slice()].concat());
        let within = [&[4, 0, 0, 0, 7, 208], noise.as_slice()].concat();
        say(associated(&service, EXPLICIT), "noise in data", &within);
    }
    answers(&service);

    // All at once: connections that say nothing, writers of a byte now and then, readers of nothing.
    let idle: Vec<TcpStream> = (0..IDLE).map(|_| connect(&service)).collect();
    let slow_writers: Vec<_> = (0..8)
        .map(|_| {
            let mut stream = associated(&service, EXPLICIT);
            let bytes = stored_as("2.25.9", &front("2.25.9", "2.25.1", "2.25.2"));
            thread::spawn(move || {
                for byte in bytes.iter().take(40) {
                    let _ = stream.write_all(&[*byte]);
                    thread::sleep(Duration::from_millis(100));
                }
            })
        })
        .collect();
    let echo = value(3, 3, &CommandSet::echo_request(1).encode());
    let slow_readers: Vec<_> = (0..8)
        .map(|_| {
            let mut stream = associated(&service, EXPLICIT);
            stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
            let many = echo.repeat(2000);
            // It asks until nobody takes more of its questions, and never reads an answer.
            thread::spawn(move || {
                for _ in 0..100 {
                    if stream.write_all(&many).is_err() {
                        break;
                    }
                }
                thread::sleep(Duration::from_secs(2));
            })
        })
        .collect();
    answers(&service);
    takes_a_study(&service, folder.path(), 81);
    for thread in slow_writers.into_iter().chain(slow_readers) {
        thread.join().unwrap();
    }
    drop(idle);
    answers(&service);
    takes_a_study(&service, folder.path(), 82);

    let (after, peak) = memory(&mut service);
    println!("resident: {before} KiB before, {after} KiB after, {peak} KiB at most");
    assert!(peak < before + GROWTH_KIB, "{peak} KiB at most, {before} KiB before");
    let spool = service.folder().join("var/spool");
    assert_eq!(files_below(&spool.join("incoming")), Vec::<String>::new());
    let kept = service.json(&["audit", "instances", "--limit", "10000"]).unwrap();
    let keys: Vec<String> = kept
        .as_array()
        .unwrap()
        .iter()
        .map(|row| spool.join(row["spool_key"].as_str().unwrap()).to_string_lossy().into_owned())
        .collect();
    let mut files = files_below(&spool.join("instances"));
    files.retain(|file| !keys.contains(file));
    assert_eq!(files, Vec::<String>::new(), "files without a row");
    let outside = files_below(service.folder());
    assert!(!outside.iter().any(|file| file.contains("escaped")), "{outside:?}");
    assert!(!Path::new("/tmp/escaped").exists());
    assert!(!service.log().contains("panicked"), "{}", service.log());
    assert!(service.command(&["audit", "verify"]).unwrap().contains("entries are sound"));
}
