//! Nothing about a patient leaves in a log line, message, metric or page, nor in the store outside its restricted
//! tables.

use prosector_model::phantom::Plane;
use test_harness::dcmtk::{Peer, dcmsend};
use test_harness::postgres;
use test_harness::prosector::{AE_TITLE, Prosector};

use crate::main_job::wait_for_decision;
use crate::phantom::{Phantom, Scan};

/// Values that occur nowhere else.
const NAME: &str = "Zwetschgenbaum^Quirin";
const PATIENT_ID: &str = "CANARY7431";
const ACCESSION: &str = "ACC9927QX";

#[test]
fn patient_attributes_are_in_their_restricted_table_and_nowhere_else() {
    let server = postgres::shared();
    let database = server.create_database().unwrap();
    let environment = [("PROSECTOR__STORE__URL", database.as_str())];
    let site = "[completeness]\nquiet = \"1s\"\n[log]\nlevel = \"trace,h2=info,sqlx=debug\"\n\
                [[destination]]\nname = \"folder\"\nfolder = \"out\"\n\
                [[protocol]]\nname = \"phantom\"\nmatch = { modality = \"CT\" }\nmodel = \"phantom\"\n\
                targets = [\"liver\"]\ndestinations = [\"folder\"]\n";
    Prosector::once(site, &["migrate"], &environment).unwrap();
    let service = Prosector::start_with(site, &[], &environment).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let scan = Scan::ct(60, Plane::Coronal);
    let phantom = Phantom::write_as(folder.path(), &scan, NAME, PATIENT_ID, ACCESSION);

    dcmsend(Peer { ae_title: AE_TITLE, port: service.dicom_port() }, folder.path()).unwrap();
    wait_for_decision(&service, &phantom.series_instance_uid);
    let study = format!("/studies/{}", phantom.study_instance_uid);
    let matched = format!("/protocols?series={}", phantom.series_instance_uid);
    let pages = [
        "/",
        &study,
        "/jobs",
        "/deliveries",
        &matched,
        "/audit",
        "/metrics",
        "/health/ready",
        "/api/v1/overview",
        "/api/v1/studies",
        "/api/v1/jobs",
        "/api/v1/deliveries",
        "/api/v1/events",
    ]
    .map(|path| service.get(path).unwrap())
    .join("\n");

    for (channel, text) in [("log", service.log()), ("pages", pages)] {
        for value in [NAME, "Zwetschgenbaum", PATIENT_ID, ACCESSION] {
            assert!(!text.contains(value), "{value} is in the {channel}");
        }
    }
    let name = database.rsplit('/').next().unwrap();
    let tables = server
        .psql(
            name,
            "select table_name from information_schema.tables where table_schema = 'public' \
                     and table_type = 'BASE TABLE'",
        )
        .unwrap();
    let mut holding = Vec::new();
    for table in tables.lines() {
        let count = server
            .psql(name, &format!(
                "select count(*) from {table} t where t::text ~ '{PATIENT_ID}|{ACCESSION}|Zwetschgenbaum'"
            ))
            .unwrap();
        if count != "0" {
            holding.push(table.to_owned());
        }
    }
    assert_eq!(holding, ["patient_identity"]);
    // Found by the identifier that only that table holds, which the ledger records.
    let why = service.command(&["why", ACCESSION]).unwrap();
    assert!(why.contains(&phantom.study_instance_uid), "{why}");
}
