//! The main job with PostgreSQL and RabbitMQ, each role a process of its own.

use prosector_model::phantom::Plane;
use test_harness::dcmtk::{Peer, dcmsend};
use test_harness::orthanc::Orthanc;
use test_harness::prosector::{AE_TITLE, Prosector};
use test_harness::{postgres, rabbitmq};

use crate::pacs::{PHANTOM_PROTOCOL, assert_sound, destination, segmentations};
use crate::phantom::{Phantom, Scan};

#[test]
fn roles_on_postgresql_and_rabbitmq_do_the_main_job() {
    let database = postgres::shared().create_database().unwrap();
    let broker = rabbitmq::shared().create_vhost().unwrap();
    let pacs = Orthanc::start(&[]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool");
    let site = format!(
        "{PHANTOM_PROTOCOL}[spool]\nurl = \"file://{}\"\n{}",
        spool.display(),
        destination(&pacs)
    );
    let environment =
        [("PROSECTOR__STORE__URL", database.as_str()), ("PROSECTOR__QUEUE__URL", broker.as_str())];
    let unprepared = Prosector::start_with(&site, &["listen", "api"], &environment);
    assert!(unprepared.is_err(), "a service without its schema does not start");
    Prosector::once(&site, &["migrate"], &environment).unwrap();

    let listener = Prosector::start_with(&site, &["listen", "api"], &environment).unwrap();
    let _worker = Prosector::start_with(&site, &["work", "api"], &environment).unwrap();
    let _deliverer = Prosector::start_with(&site, &["deliver", "api"], &environment).unwrap();
    let source = folder.path().join("study");
    let phantom = Phantom::write(&source, &Scan::ct(50, Plane::Axial));
    dcmsend(Peer { ae_title: AE_TITLE, port: listener.dicom_port() }, &source).unwrap();

    let received = folder.path().join("received");
    std::fs::create_dir(&received).unwrap();
    let files = segmentations(&pacs, 1, &received);
    phantom.assert_seen(&assert_sound(&files[0], &source));
    let name = database.rsplit('/').next().unwrap();
    let state = postgres::shared().psql(name, "select state from job").unwrap();
    assert_eq!(state, "done");
    let vhost = broker.rsplit('/').next().unwrap();
    let queues =
        rabbitmq::shared().ctl(&["list_queues", "-p", vhost, "name", "type", "messages"]).unwrap();
    let routine = queues.lines().find(|line| line.starts_with("prosector.jobs.routine"));
    assert_eq!(
        routine.map(|line| line.split_whitespace().collect::<Vec<_>>()[1..].to_vec()),
        Some(vec!["quorum", "0"]),
        "{queues}"
    );
}
