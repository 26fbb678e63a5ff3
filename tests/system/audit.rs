//! Audit questions by command and over HTTP, on a store that somebody else filled.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use test_harness::postgres;
use test_harness::prosector::Prosector;

const STUDIES: usize = 2000;
const STUDY_7: &str = "1.2.826.0.1.3680043.10.1491.9.7";

/// A service on a database with studies that `storage/benches/million_studies.sql` made.
fn filled() -> Prosector {
    let url = postgres::shared().create_database().unwrap();
    let site = format!("[store]\nurl = \"{url}\"\n");
    Prosector::once(&site, &["migrate"], &[]).unwrap();
    let script =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../storage/benches/million_studies.sql");
    let output = Command::new("psql")
        .args(["-X", "-q", "-v", &format!("studies={STUDIES}"), "-f"])
        .arg(script)
        .arg(&url)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Prosector::start_with(&site, &["api"], &[]).unwrap()
}

fn count(rows: &Value) -> usize {
    rows.as_array().unwrap().len()
}

#[test]
fn the_same_questions_by_command_and_over_http_have_the_same_answers() {
    let service = filled();
    for (question, filter, expected) in [
        ("studies", vec![("study", STUDY_7)], 1),
        ("studies", vec![("ae", "MODALITY_7")], STUDIES / 50),
        ("studies", vec![("state", "held")], STUDIES / 1000),
        ("studies", vec![("since", "2022-01-01"), ("limit", "10000")], 665),
        ("studies", vec![("until", "2020-01-02")], 1),
        ("instances", vec![("study", STUDY_7)], 2),
        ("instances", vec![("ae", "MODALITY_7"), ("limit", "1000")], STUDIES / 50 * 2),
        ("events", vec![("study", STUDY_7)], 1),
        ("events", vec![("kind", "job_done"), ("limit", "10000")], STUDIES / 4),
        ("events", vec![("since", "2022-12-31"), ("until", "2023-01-01")], 1),
        ("events", vec![("since", "2031-01-01"), ("kind", "job_done")], 0),
    ] {
        let mut arguments = vec!["audit", question];
        let flags: Vec<String> = filter.iter().map(|(name, _)| format!("--{name}")).collect();
        for (flag, (_, value)) in flags.iter().zip(&filter) {
            arguments.extend([flag.as_str(), *value]);
        }
        let by_command = service.json(&arguments).unwrap();
        let query: Vec<String> =
            filter.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let path = format!("/api/v1/audit/{question}?{}", query.join("&"));
        let by_http: Value = serde_json::from_str(&service.get(&path).unwrap()).unwrap();

        assert_eq!(by_http["rows"], by_command, "{path}");
        let found = count(&by_command);
        assert!(found.abs_diff(expected) <= 1, "{path}: {found} rows, expected {expected}");
        let csv = service.get(&format!("{path}&format=csv")).unwrap();
        assert_eq!(csv.lines().count(), found + 1, "{path}");
    }
    assert!(service.command(&["audit", "verify"]).unwrap().contains("entries are sound"));
    let refused = service.command(&["audit", "events", "--state", "held"]).unwrap_err();
    assert!(refused.to_string().contains("no --state"), "{refused}");
}

#[test]
fn pages_follow_each_other_without_a_gap() {
    let service = filled();
    let mut found = Vec::new();
    let mut path = "/api/v1/audit/studies?limit=300".to_owned();
    loop {
        let page: Value = serde_json::from_str(&service.get(&path).unwrap()).unwrap();
        let rows = page["rows"].as_array().unwrap();
        found.extend(rows.iter().map(|row| row["study_instance_uid"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/api/v1/audit/studies?limit=300&after={next}");
    }
    assert_eq!(found.len(), STUDIES);
    found.sort();
    found.dedup();
    assert_eq!(found.len(), STUDIES);
}

#[test]
fn a_question_by_identifier_is_posted_and_recorded_and_its_answer_holds_none() {
    let service = filled();
    let asked =
        || count(&service.json(&["audit", "events", "--kind", "identifiers_read"]).unwrap());
    assert_eq!(asked(), 0);

    let refused = service.get("/api/v1/audit/studies?accession=ACCESSION-7").unwrap_err();
    assert!(refused.to_string().contains("400"), "{refused}");
    assert_eq!(asked(), 0);
    for (body, expected) in [
        (serde_json::json!({ "accession": "ACCESSION-7" }), 1),
        (serde_json::json!({ "patient_id": "PATIENT-2" }), 3),
        (serde_json::json!({ "patient_id": "PATIENT-2", "study": STUDY_7 }), 1),
    ] {
        for question in ["studies", "jobs", "events"] {
            let answer = service.post(&format!("/api/v1/audit/{question}"), &body).unwrap();
            assert_eq!(count(&answer["rows"]), expected, "{question} {body}");
            let text = answer.to_string();
            assert!(!text.contains("ACCESSION") && !text.contains("PATIENT"), "{text}");
        }
    }
    assert_eq!(asked(), 9);
    for arguments in [
        ["audit", "studies", "--accession", "ACCESSION-7"],
        ["audit", "events", "--patient-id", "PATIENT-2"],
        ["job", "list", "--patient-id", "PATIENT-2"],
    ] {
        assert!(count(&service.json(&arguments).unwrap()) > 0);
    }
    let events = service.json(&["audit", "events", "--kind", "identifiers_read"]).unwrap();
    assert_eq!(count(&events), 12);
    assert_eq!(events[0]["detail"]["channel"], "api");
    assert_eq!(events[11]["detail"]["question"], "jobs");
    assert!(!events.to_string().contains("PATIENT-"), "{events}");
    let shown = service.json(&["audit", "studies", "--study", STUDY_7, "--identifiers"]).unwrap();
    assert_eq!(shown[0]["patient_id"], "PATIENT-2");
    assert_eq!(shown[0]["accession_number"], "ACCESSION-7");
    let events = service.json(&["audit", "events", "--kind", "identifiers_read"]).unwrap();
    assert_eq!(events[12]["detail"]["shown"], 1);
    assert!(!service.log().contains("PATIENT-") && !service.log().contains("ACCESSION-"));
}
