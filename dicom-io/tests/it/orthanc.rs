//! Orthanc as sender and as receiver.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use dicom_io::scu::{Destination, InstanceSource, ScuConfig, StoreResult, echo, store};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::peer::{Listening, config};
use crate::phantom::Slice;

/// Orthanc from its Debian package, on free loopback ports, with a database of its own.
struct Orthanc {
    dicom_port: u16,
    http_port: u16,
    process: Child,
}

impl Orthanc {
    async fn start(folder: &Path, listener_port: u16) -> Self {
        let dicom_port = free_port().await;
        let http_port = free_port().await;
        let configuration = format!(
            r#"{{
                "Name": "test",
                "StorageDirectory": "{folder}/storage",
                "IndexDirectory": "{folder}/index",
                "Plugins": [],
                "HttpServerEnabled": true,
                "HttpPort": {http_port},
                "RemoteAccessAllowed": false,
                "AuthenticationEnabled": false,
                "DicomServerEnabled": true,
                "DicomAet": "ORTHANC",
                "DicomPort": {dicom_port},
                "DicomModalities": {{
                    "prosector": ["PROSECTOR", "127.0.0.1", {listener_port}]
                }}
            }}"#,
            folder = folder.display(),
        );
        let path = folder.join("orthanc.json");
        std::fs::write(&path, configuration).unwrap();
        let process = Command::new("/usr/sbin/Orthanc")
            .arg(&path)
            .env("TCP_NODELAY", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_or_else(
                |error| panic!("Orthanc must be installed for this test: {error}"),
                |process| Self { dicom_port, http_port, process },
            );
        for _ in 0..1200 {
            let dicom = TcpStream::connect(("127.0.0.1", dicom_port)).await;
            let http = TcpStream::connect(("127.0.0.1", http_port)).await;
            if dicom.is_ok() && http.is_ok() {
                return process;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("Orthanc does not listen");
    }

    /// The body of the answer to an HTTP request.
    async fn http(&self, method: &str, path: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.http_port)).await.unwrap();
        let request = format!(
            "{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or(answer)
    }
}

impl Drop for Orthanc {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orthanc_keeps_what_we_send_and_sends_it_back_to_us() {
    let folder = tempfile::tempdir().unwrap();
    let sources = tempfile::tempdir().unwrap();
    let listening = Listening::start(config()).await;
    let orthanc = Orthanc::start(folder.path(), listening.address.port()).await;
    let destination = Destination {
        ae_title: "ORTHANC".parse().unwrap(),
        address: format!("127.0.0.1:{}", orthanc.dicom_port),
        calling_ae_title: "PROSECTOR".parse().unwrap(),
        tls: None,
    };
    let instances: Vec<InstanceSource> =
        (1..=5).map(|number| Slice::ct(number, 64).write(sources.path()).into()).collect();

    echo(&destination, &ScuConfig::default()).await.unwrap();
    let sent = store(&destination, &instances, &ScuConfig::default()).await.unwrap();
    let series = orthanc.http("GET", "/series", "").await;
    let series = series.split('"').nth(1).unwrap_or_else(|| panic!("no series: {series}"));
    let answer = orthanc.http("POST", "/modalities/prosector/store", series).await;
    let memory = listening.stop().await;

    assert!(sent.iter().all(|outcome| matches!(outcome.result, StoreResult::Stored)), "{sent:?}");
    assert!(answer.contains("\"FailedInstancesCount\" : 0"), "{answer}");
    let mut received: Vec<_> = memory
        .kept
        .lock()
        .unwrap()
        .iter()
        .map(|kept| kept.received.header.sop_instance_uid.to_string())
        .collect();
    received.sort();
    let expected: Vec<_> = (1..=5).map(|number| format!("2.25.1000.{number}")).collect();
    assert_eq!(received, expected);
}
