//! The servers that every other test here leans on.

use test_harness::{orthanc::Orthanc, postgres, rabbitmq};

#[test]
fn postgres_gives_each_test_a_database() {
    let server = postgres::shared();

    let first = server.create_database().unwrap();
    let second = server.create_database().unwrap();

    assert_ne!(first, second);
    let name = first.rsplit('/').next().unwrap();
    assert_eq!(server.psql(name, "select current_database()").unwrap(), name);
}

#[test]
fn rabbitmq_gives_each_test_a_virtual_host() {
    let broker = rabbitmq::shared();

    let url = broker.create_vhost().unwrap();

    let name = url.rsplit('/').next().unwrap();
    assert!(broker.ctl(&["list_vhosts"]).unwrap().lines().any(|line| line == name));
}

#[test]
fn orthanc_answers_on_its_rest_interface() {
    let pacs = Orthanc::start(&[]).unwrap();

    assert_eq!(pacs.get("system").unwrap()["DicomAet"], "ORTHANC");
}
