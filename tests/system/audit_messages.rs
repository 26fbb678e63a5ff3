//! Audit messages: every kind is valid by the schema of PS3.15 A.5.1 and arrives at a syslog server that others wrote;
//! one that is away for a while misses nothing, and costs nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use prosector_model::phantom::Plane;
use test_harness::certificates::{Authority, Certificate};
use test_harness::dcmtk::{self, Peer, Storescp, dcmsend};
use test_harness::prosector::{AE_TITLE, Prosector, users_file};
use test_harness::syslog::{Rsyslog, validate};
use test_harness::{free_port, wait_until};

use crate::phantom::{Phantom, Scan};

const PATIENT_ID: &str = "CANARY5523";
const ACCESSION: &str = "ACC<7>&1";

/// Certificates of a hospital with an audit repository, and the repository's port.
struct Hospital {
    folder: tempfile::TempDir,
    authority: Authority,
    repository: Certificate,
    ours: Certificate,
    port: u16,
}

impl Hospital {
    fn build() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::create(folder.path(), "hospital").unwrap();
        let repository = authority.issue("ARR").unwrap();
        let ours = authority.issue("PROSECTOR").unwrap();
        Self { authority, repository, ours, port: free_port().unwrap(), folder }
    }

    fn start_repository(&self) -> Rsyslog {
        let received = self.folder.path().join("messages");
        let ca = self.authority.certificate();
        Rsyslog::start(self.port, &self.repository, &ca, &received).unwrap()
    }

    /// `[audit.syslog]` of a site file.
    fn site(&self, more: &str) -> String {
        format!(
            "[audit.syslog]\naddress = \"127.0.0.1:{}\"\n\
             tls = {{ ca = {:?}, certificate = {:?}, key = {:?} }}\n{more}",
            self.port,
            self.authority.certificate().to_str().unwrap(),
            self.ours.certificate.to_str().unwrap(),
            self.ours.key.to_str().unwrap()
        )
    }
}

/// A message as it arrived.
#[derive(Debug)]
struct Arrived {
    number: u64,
    /// `EventID`, `EventTypeCode` and outcome.
    kind: (String, String, String),
    xml: String,
}

/// Reads a line of the server's file, which must begin with a header of RFC 5424.
fn arrived(line: &str) -> Arrived {
    let (header, xml) = line.split_once('\u{feff}').unwrap_or_else(|| panic!("no BOM: {line}"));
    let fields: Vec<&str> = header.trim_end().splitn(7, ' ').collect();
    let &[priority, at, host, app, process, id, data] = fields.as_slice() else {
        panic!("header: {header}")
    };
    assert_eq!((priority, app, id), ("<85>1", "prosector", "IHE+RFC-3881"));
    assert!(at.ends_with('Z') && !host.is_empty() && process.parse::<u32>().is_ok(), "{header}");
    let number = data.strip_prefix("[meta sequenceId=\"").and_then(|d| d.strip_suffix("\"]"));
    let code = |element: &str| {
        let rest = xml.split_once(&format!("<{element} csd-code=\"")).map_or("", |(_, rest)| rest);
        rest.split('"').next().unwrap().to_owned()
    };
    Arrived {
        number: number.unwrap().parse().unwrap(),
        kind: (code("EventID"), code("EventTypeCode"), attribute(xml, "EventOutcomeIndicator")),
        xml: xml.to_owned(),
    }
}

fn attribute(xml: &str, name: &str) -> String {
    let rest = xml.split_once(&format!(" {name}=\"")).map_or("", |(_, rest)| rest);
    rest.split('"').next().unwrap().to_owned()
}

fn check_schema(messages: &[Arrived], folder: &Path) {
    let documents: Vec<PathBuf> = messages
        .iter()
        .enumerate()
        .map(|(index, message)| {
            let path = folder.join(format!("message-{index}.xml"));
            std::fs::write(&path, &message.xml).unwrap();
            path
        })
        .collect();
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/audit-message.rnc");
    validate(&schema, &documents).unwrap();
}

fn curl(arguments: &[&str]) {
    let mut command = Command::new("curl");
    let done = command.args(["--silent", "--output", "/dev/null"]).args(arguments).status();
    assert!(done.unwrap().success());
}

#[test]
fn every_kind_of_audit_message_is_valid_and_arrives_over_tls() {
    let hospital = Hospital::build();
    let repository = hospital.start_repository();
    let folder = tempfile::tempdir().unwrap();
    let received = folder.path().join("received");
    std::fs::create_dir(&received).unwrap();
    let pacs = Storescp::start(&received, &[]).unwrap();
    let users = folder.path().join("users.toml");
    let password = "correct horse battery staple";
    std::fs::write(&users, users_file(&["auditor"], password).unwrap()).unwrap();
    let users = users.to_str().unwrap();
    let tls_port = free_port().unwrap();
    let site = |targets: &str| {
        format!(
            "{}[api]\nusers_file = {users:?}\n[listener]\ncalled_ae_titles = []\n\
             [listener.tls]\nbind = \"127.0.0.1:{tls_port}\"\ncertificate = {:?}\nkey = {:?}\n\
             [completeness]\nquiet = \"1s\"\n\
             [[destination]]\nname = \"pacs\"\nae_title = \"PACS\"\naddress = \"127.0.0.1:{}\"\n\
             [[protocol]]\nname = \"phantom\"\nmatch = {{ modality = \"CT\" }}\nmodel = \"phantom\"\n\
             targets = [{targets}]\ndestinations = [\"pacs\"]\n",
            hospital.site(
                "patient_identifiers = true\nsource_id = \"SEG1\"\nenterprise_site_id = \"ward\"\n"
            ),
            hospital.ours.certificate.to_str().unwrap(),
            hospital.ours.key.to_str().unwrap(),
            pacs.port(),
        )
    };
    let mut service = Prosector::start(&site("\"liver\"")).unwrap();
    let source = folder.path().join("study");
    let scan = Scan::ct(63, Plane::Axial);
    let phantom = Phantom::write_as(&source, &scan, "Canary^Carl", PATIENT_ID, ACCESSION);

    let port = service.dicom_port();
    dcmsend(Peer { ae_title: AE_TITLE, port }, &source).unwrap();
    for port in [port, tls_port] {
        let port = port.to_string();
        let said = dcmtk::run("echoscu", "dcmtk", &["-aec", "OTHER", "127.0.0.1", &port]).unwrap();
        assert!(!said.status.success());
    }
    let sign_in = format!("{}/sign-in", service.url());
    for password in ["wrong", password] {
        let password = format!("password={password}");
        curl(&["--data-urlencode", "name=auditor", "--data-urlencode", &password, &sign_in]);
    }
    service.command(&["audit", "events", "--limit", "5"]).unwrap();
    service.command(&["audit", "studies", "--patient-id", PATIENT_ID]).unwrap();
    std::fs::write(service.folder().join("prosector.toml"), site("\"spleen\"")).unwrap();
    wait_until("the result", Duration::from_mins(2), || {
        Ok(std::fs::read_dir(&received)?.count() > 0
            && service.log().contains("protocols in force"))
    })
    .unwrap();
    service.service().signal("TERM").unwrap();
    service.service().wait(Duration::from_mins(1)).unwrap();

    let log = service.log();
    let messages: Vec<Arrived> = repository.messages().iter().map(|line| arrived(line)).collect();
    check_schema(&messages, folder.path());
    let numbers: Vec<u64> = messages.iter().map(|message| message.number).collect();
    let expected: Vec<u64> = (1..=messages.len() as u64).collect();
    assert_eq!(numbers, expected, "in order, none twice, none missing: {log}");
    let kinds: BTreeSet<[&str; 3]> =
        messages.iter().map(|m| [m.kind.0.as_str(), &m.kind.1, &m.kind.2]).collect();
    for (what, kind) in [
        ("start", ["110100", "110120", "0"]),
        ("stop", ["110100", "110121", "0"]),
        ("instances transferred", ["110104", "", "0"]),
        ("query", ["110112", "", "0"]),
        ("refused node", ["110113", "110126", "4"]),
        ("changed protocols", ["110113", "110131", "0"]),
        ("login", ["110114", "110122", "0"]),
        ("refused login", ["110114", "110122", "4"]),
        ("audit log used", ["110101", "", "0"]),
    ] {
        assert!(kinds.contains(&kind), "no message about {what}: {kinds:?}\n{log}");
    }
    let transfers = || messages.iter().filter(|m| m.kind.0 == "110104");
    let came: u64 = transfers()
        .filter(|m| m.xml.contains("UserID=\"MODALITY\""))
        .map(|m| attribute(&m.xml, "NumberOfInstances").parse::<u64>().unwrap())
        .sum();
    assert_eq!(came, phantom.instances as u64);
    let result = "<SOPClass UID=\"1.2.840.10008.5.1.4.1.1.66.4\" NumberOfInstances=\"1\"/>";
    assert_eq!(transfers().filter(|m| m.xml.contains(result)).count(), 1);
    for message in transfers() {
        assert!(message.xml.contains(&format!("ParticipantObjectID=\"{PATIENT_ID}\"")));
        assert!(message.xml.contains("<Accession Number=\"ACC&lt;7&gt;&amp;1\"/>"), "{message:?}");
        assert!(message.xml.contains(&phantom.study_instance_uid));
        assert!(!message.xml.contains("Carl"), "names are not told");
    }
    let refused = messages.iter().filter(|m| m.kind.1 == "110126").count();
    assert!(refused >= 2, "{refused}: the wrong AE title, and no TLS on the TLS port");
    for value in [PATIENT_ID, ACCESSION, "Carl"] {
        assert!(!log.contains(value), "{value} is in the log");
    }
}

#[test]
fn a_repository_that_is_away_misses_nothing_and_is_told_nothing_about_itself() {
    let hospital = Hospital::build();
    let site = format!(
        "{}[completeness]\nquiet = \"1h\"\n[listener]\ncalled_ae_titles = []\n",
        hospital.site("timeout = \"2s\"\n")
    );
    let mut service = Prosector::start_with(&site, &["listen", "api"], &[]).unwrap();
    let port = service.dicom_port();
    let folder = tempfile::tempdir().unwrap();
    let mut instances = BTreeMap::new();
    let mut send = |seed: u64| {
        let source = folder.path().join(seed.to_string());
        let scan = Scan::ct(seed, Plane::Axial);
        let phantom = Phantom::write_as(&source, &scan, "Canary^Carl", PATIENT_ID, ACCESSION);
        dcmsend(Peer { ae_title: AE_TITLE, port }, &source).unwrap();
        instances.insert(phantom.study_instance_uid, phantom.instances as u64);
    };
    let refused = |count: usize| {
        for _ in 0..count {
            let port = port.to_string();
            dcmtk::run("echoscu", "dcmtk", &["-aec", "OTHER", "127.0.0.1", &port]).unwrap();
        }
    };

    // Nobody is there; the service dies and starts again; then the repository comes, dies, and comes back. Each time, the
    // service has met its absence before the next turn.
    send(64);
    refused(10);
    wait_until("a failure", Duration::from_mins(1), || Ok(failures(&service) > 0)).unwrap();
    service.kill().unwrap();
    service.start_again().unwrap();
    let mut repository = hospital.start_repository();
    send(65);
    refused(10);
    wait_until("first messages", Duration::from_mins(1), || Ok(!repository.messages().is_empty()))
        .unwrap();
    repository.service().kill().unwrap();
    let before = failures(&service);
    send(66);
    refused(10);
    wait_until("one more failure", Duration::from_mins(1), || Ok(failures(&service) > before))
        .unwrap();
    let repository = hospital.start_repository();
    send(67);
    let told = |messages: &[Arrived]| {
        // What was not confirmed came again under its old number.
        let by_number: BTreeMap<u64, &Arrived> = messages.iter().map(|m| (m.number, m)).collect();
        let mut found: BTreeMap<String, u64> = BTreeMap::new();
        for message in by_number.values().filter(|m| m.kind.0 == "110104") {
            let (_, study) = message.xml.rsplit_once("ParticipantObjectID=\"1.2.826").unwrap();
            let study = format!("1.2.826{}", study.split('"').next().unwrap());
            let count: u64 = attribute(&message.xml, "NumberOfInstances").parse().unwrap();
            *found.entry(study).or_default() += count;
        }
        (by_number.keys().copied().collect::<Vec<u64>>(), found)
    };
    let mut messages = Vec::new();
    let waited = wait_until("every instance to be told", Duration::from_mins(2), || {
        messages = repository.messages().iter().map(|line| arrived(line)).collect();
        Ok(told(&messages).1 == instances)
    });
    waited.unwrap_or_else(|error| panic!("{error:#}: {:?}\n{}", told(&messages).1, service.log()));

    let (numbers, _) = told(&messages);
    let expected: Vec<u64> = (1..=numbers.len() as u64).collect();
    assert_eq!(numbers, expected, "no gap");
    let refusals = messages.iter().filter(|m| m.kind.1 == "110126");
    let refusals: BTreeSet<u64> = refusals.map(|m| m.number).collect();
    assert_eq!(refusals.len(), 30);
    let mut all = String::new();
    for message in &messages {
        writeln!(all, "{}", message.xml).unwrap();
    }
    assert!(
        !all.contains(PATIENT_ID) && all.contains("&lt;withheld&gt;"),
        "by default, no identifiers"
    );
    assert!(!all.contains(&format!(":{}", hospital.port)), "nothing about the repository");
    // It is said once the last batch is confirmed, which is after its arrival.
    wait_until("the good news", Duration::from_mins(1), || {
        Ok(service.log().contains("the audit repository takes messages again"))
    })
    .unwrap();
}

/// Batches that did not reach the repository since the service started.
fn failures(service: &Prosector) -> u64 {
    let metrics = service.get("/metrics").unwrap();
    let mut lines = metrics.lines();
    let count = lines.find_map(|line| line.strip_prefix("prosector_audit_failures_total "));
    count.map_or(0, |count| count.parse().unwrap())
}
