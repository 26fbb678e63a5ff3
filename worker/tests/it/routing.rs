//! Routing as a hospital meets it: choices among the series of a study, rules tried on the past, rules changed while
//! series arrive.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use dicom_types::Modality;
use serde_json::Value;

use crate::program::prosector;
use crate::service::{Scan, Service, send, write_scan, write_site};

const HOSPITAL: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../ops/config/hospital/prosector.toml");
const COMMON: &str = "[completeness]\nquiet = \"300ms\"\nstudy = \"1s\"\n[[destination]]\nname = \"folder\"\nfolder = \"out\"\n";

fn site(protocols: &str) -> String {
    format!("{COMMON}{protocols}")
}

fn protocol(name: &str, condition: &str, rest: &str) -> String {
    format!(
        "[[protocol]]\nname = \"{name}\"\nmatch = {condition}\nmodel = \"phantom\"\ntargets = [\"liver\"]\n\
         destinations = [\"folder\"]\n{rest}\n"
    )
}

/// Three reconstructions of a study; the second one suits best.
fn reconstructions(folder: &Path, study: &str) -> [Vec<PathBuf>; 3] {
    let scan = |number: u32, spacing_mm, description| {
        write_scan(
            folder,
            &Scan {
                study,
                series: &format!("{study}.{number}"),
                number,
                modality: Modality::Ct,
                description,
                body_part: "ABDOMEN",
                spacing_mm,
                slices: 4,
            },
        )
    };
    [
        scan(2, 5.0, "Abdomen ven. 5.0"),
        scan(3, 1.0, "Abdomen ven. 1.0"),
        scan(4, 1.0, "Abdomen nativ 1.0"),
    ]
}

#[test]
fn the_same_series_is_chosen_whatever_the_order_of_arrival() {
    let rule = protocol("best-ct", "{ modality = \"CT\" }", "choose = \"best\"");
    let mut service = Service::start(&site(&rule), &["listen"]);
    let files = tempfile::tempdir().unwrap();
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    for (number, order) in orders.iter().enumerate() {
        let series = reconstructions(files.path(), &format!("1.2.{number}"));
        for index in order {
            service.send(&series[*index]);
        }
    }

    service.wait("one job for each study", |service| service.jobs().len() == orders.len());

    for job in service.jobs() {
        let study = job["study_instance_uid"].as_str().unwrap();
        assert_eq!(job["series_instance_uid"], format!("{study}.3"), "{job}");
    }
    let why = prosector(service.folder(), &["--config", "site.toml", "why", "1.2.0"]).stdout;
    for words in [
        "series 1.2.0.3 is chosen; score",
        "chosen before 2 others",
        "slices of 5 mm +6",
        "venous phase",
    ] {
        assert!(why.contains(words), "no {words:?} in {why}");
    }
    assert!(!why.contains("SENTINEL"));
}

#[test]
fn a_better_series_that_comes_late_takes_the_place_of_the_chosen_one() {
    let rule = protocol("best-ct", "{ modality = \"CT\" }", "choose = \"best\"");
    let mut service = Service::start(&site(&rule), &["listen"]);
    let files = tempfile::tempdir().unwrap();
    let [thick, thin, native] = reconstructions(files.path(), "1.2.3");
    let chosen = |service: &Service| {
        let jobs = service.jobs();
        jobs.first().map(|job| job["series_instance_uid"].as_str().unwrap().to_owned())
    };

    service.send(&thick);
    service.wait("a job", |service| chosen(service).as_deref() == Some("1.2.3.2"));
    service.send(&thin);
    service.wait("another job", |service| chosen(service).as_deref() == Some("1.2.3.3"));
    service.send(&native);
    service.wait("a third choice", |service| {
        let why = prosector(service.folder(), &["--config", "site.toml", "why", "1.2.3"]).stdout;
        why.contains("chosen before 2 others")
    });

    assert_eq!(chosen(&service).as_deref(), Some("1.2.3.3"));
    assert_eq!(service.jobs().len(), 1);
}

/// Series of several kinds, in studies of three.
fn history(folder: &Path) -> Vec<Vec<PathBuf>> {
    let mut sent = Vec::new();
    for number in 0..24_u32 {
        let study = format!("1.2.{}", number / 3);
        let (modality, part) =
            if number % 5 == 0 { (Modality::Mr, "HEAD") } else { (Modality::Ct, "ABDOMEN") };
        let series = format!("{study}.{number}");
        let scan = Scan {
            study: &study,
            series: &series,
            number,
            modality,
            description: ["Abdomen nativ", "Abdomen ven.", "Abdomen art."][number as usize % 3],
            body_part: if number % 7 == 0 { "CHEST" } else { part },
            spacing_mm: f64::from(1 + number % 4),
            slices: 3 + number as usize % 4,
        };
        sent.push(write_scan(folder, &scan));
    }
    sent
}

fn taken(service: &Service) -> BTreeSet<(String, String)> {
    let word = |job: &Value, key: &str| job[key].as_str().unwrap().to_owned();
    service
        .jobs()
        .iter()
        .map(|job| (word(job, "series_instance_uid"), word(job, "protocol")))
        .collect()
}

/// Waits until every series has settled and every choice was made.
fn wait_for_history(service: &mut Service, series: usize) {
    service.wait("the end of all choices", |service| {
        let studies = service.json(&["audit", "studies"]);
        let studies = studies.as_array().unwrap();
        let count: u64 = studies.iter().map(|study| study["series"].as_u64().unwrap()).sum();
        count == series as u64 && studies.iter().all(|study| study["unsettled_series"] == 0)
    });
    // Choices follow within completeness.study and one look.
    std::thread::sleep(std::time::Duration::from_secs(4));
}

#[test]
fn a_replay_says_what_a_rerun_does() {
    let old = [
        protocol("abdomen", "{ modality = \"CT\", body_part_examined = \"ABDOMEN\" }", ""),
        protocol("thin", "{ slice_spacing_mm = { max = 2 } }", "choose = \"best\""),
        protocol("gone", "{ modality = \"MR\" }", ""),
    ]
    .concat();
    let new = [
        protocol("abdomen", "{ modality = \"CT\", contrast = true, slices = { min = 4 } }", ""),
        protocol(
            "thin",
            "{ slice_spacing_mm = { max = 3 } }",
            "choose = \"best\"\nprefer = [{ contrast_phase = \"arterial\" }]",
        ),
        protocol("first", "{ modality = [\"CT\", \"MR\"] }", "choose = \"first\""),
    ]
    .concat();
    let files = tempfile::tempdir().unwrap();
    let history = history(files.path());
    let mut before = Service::start(&site(&old), &["listen"]);
    for series in &history {
        before.send(series);
    }
    wait_for_history(&mut before, history.len());
    let mut predicted = taken(&before);
    write_site(
        before.folder(),
        &site(&new.replace("choose = \"best\"", "choose = \"best\" # new")),
    );

    let changes = before.json(&["protocol", "replay", "--since", "1d", "--changes"]);
    let sums = before.json(&["protocol", "replay", "--since", "1d"]);

    for change in changes.as_array().unwrap() {
        let word = |key: &str| change[key].as_str().unwrap().to_owned();
        let key = (word("series"), word("protocol"));
        match change["change"].as_str().unwrap() {
            "added" => assert!(predicted.insert(key), "{change}"),
            "removed" => assert!(predicted.remove(&key), "{change}"),
            other => panic!("{other}: the targets are the same"),
        }
    }
    let mut after = Service::start(&site(&new), &["listen"]);
    for series in history.iter().rev() {
        after.send(series);
    }
    wait_for_history(&mut after, history.len());
    assert_eq!(predicted, taken(&after));
    let sum = |key: &str| {
        sums.as_array().unwrap().iter().map(|row| row[key].as_u64().unwrap()).sum::<u64>() as usize
    };
    assert_eq!(sum("after"), predicted.len());
    assert_eq!(sum("before") + sum("added") - sum("removed"), sum("after"));
    assert!(sum("added") > 0 && sum("removed") > 0);
    // What the rules of today make of a stored study is what the replay says of it.
    let matched = after.json(&["protocol", "match", "1.2.1"]);
    for row in matched.as_array().unwrap() {
        let word = |key: &str| row[key].as_str().unwrap().to_owned();
        let key = (word("series"), word("protocol"));
        assert_eq!(row["takes"], predicted.contains(&key), "{row}");
    }
}

#[test]
fn protocols_change_under_load_all_at_once_or_not_at_all() {
    let pair = |targets: [&str; 2]| {
        let of = |name: &str, target: &str| {
            protocol(name, "{ modality = \"CT\" }", "")
                .replace("\"liver\"", &format!("\"{target}\""))
        };
        site(&(of("one", targets[0]) + &of("two", targets[1])))
    };
    let sites = [pair(["liver", "spleen"]), pair(["aorta", "left kidney"])];
    let wrong = sites[1].replace("left kidney", "left kidny");
    let mut service = Service::start(&sites[0], &["listen"]);
    let port = service.port();
    let files = tempfile::tempdir().unwrap();
    let count = 60_u32;
    let sent: Vec<Vec<PathBuf>> = (0..count)
        .map(|number| {
            let (study, series) = (format!("1.2.{number}"), format!("1.2.{number}.1"));
            let scan = Scan {
                study: &study,
                series: &series,
                number,
                modality: Modality::Ct,
                description: "load",
                body_part: "CHEST",
                spacing_mm: 2.0,
                slices: 3,
            };
            write_scan(files.path(), &scan)
        })
        .collect();
    let sender = std::thread::spawn(move || {
        for series in sent {
            send(port, &series);
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    });

    let mut turn = 0;
    while !sender.is_finished() {
        turn += 1;
        let next = if turn % 3 == 0 { &wrong } else { &sites[turn % 2] };
        write_site(service.folder(), next);
        service.signal("HUP");
        std::thread::sleep(std::time::Duration::from_millis(350));
    }
    sender.join().unwrap();
    write_site(service.folder(), &sites[0]);
    service.wait("two jobs for each series", |service| service.jobs().len() == 2 * count as usize);

    let jobs = service.jobs();
    let mut sets = BTreeSet::new();
    for number in 0..count {
        let series = format!("1.2.{number}.1");
        let of_series = jobs.iter().filter(|job| job["series_instance_uid"] == series.as_str());
        let mut revisions: Vec<(&str, &str)> = of_series
            .map(|job| {
                (job["protocol"].as_str().unwrap(), job["protocol_revision"].as_str().unwrap())
            })
            .collect();
        revisions.sort_unstable();
        assert_eq!(revisions.len(), 2, "{series}");
        sets.insert(revisions);
    }
    assert_eq!(sets.len(), 2, "each series was routed by one whole list: {sets:?}");
    let log = service.log();
    assert!(log.contains("protocols refused, the old ones stay in force"), "{log}");
    assert!(log.contains("left kidney"), "{log}");
    let events = service.json(&["audit", "events", "--limit", "10000"]);
    let kinds =
        |kind: &str| events.as_array().unwrap().iter().filter(|e| e["kind"] == kind).count();
    assert!(kinds("protocols_loaded") > 0 && kinds("protocols_refused") > 0);
}

#[test]
fn a_changed_file_is_read_without_a_signal() {
    let mut service = Service::start(&site(&protocol("old", "{}", "")), &["listen"]);
    write_site(service.folder(), &site(&protocol("new", "{}", "")));

    service.wait("the new protocols", |service| service.log().contains("protocols in force"));

    let files = tempfile::tempdir().unwrap();
    service.send(&reconstructions(files.path(), "1.2.3")[0]);
    service.wait("a job", |service| !service.jobs().is_empty());
    assert_eq!(service.jobs()[0]["protocol"], "new");
}

#[test]
fn a_stat_study_overtakes_everything_that_waits() {
    let rules = protocol("routine", "{ body_part_examined = \"CHEST\" }", "")
        + &protocol("stat", "{ body_part_examined = \"HEAD\" }", "priority = \"stat\"");
    let mut service = Service::start(&site(&rules), &["listen"]);
    let files = tempfile::tempdir().unwrap();
    let scan = |number: u32, body_part| {
        let study = format!("1.2.{number}");
        let series = format!("{study}.1");
        let scan = Scan {
            study: &study,
            series: &series,
            number,
            modality: Modality::Ct,
            description: "scan",
            body_part,
            spacing_mm: 8.0,
            slices: 12,
        };
        write_scan(files.path(), &scan)
    };
    let routine: Vec<PathBuf> = (1..=8).flat_map(|number| scan(number, "CHEST")).collect();
    service.send(&routine);
    service.wait("a full queue", |service| service.jobs().len() == 8);
    service.send(&scan(99, "HEAD"));
    service.wait("the urgent job", |service| service.jobs().len() == 9);

    service.restart(&["listen", "work"]);
    service.wait("all jobs", |service| {
        service.jobs().iter().all(|job| job["state"] == "done" || job["state"] == "empty")
    });

    let events = service.json(&["audit", "events", "--limit", "10000"]);
    let mut leases: Vec<&Value> =
        events.as_array().unwrap().iter().filter(|e| e["kind"] == "job_leased").collect();
    leases.sort_by_key(|event| event["seq"].as_u64());
    assert_eq!(leases[0]["series_instance_uid"], "1.2.99.1", "what waited longer went first");
}

#[test]
fn the_protocols_of_a_hospital_are_checked() {
    let here = tempfile::tempdir().unwrap();
    let checked =
        prosector(here.path(), &["--config", HOSPITAL, "protocol", "check", "--format", "json"]);
    assert_eq!((checked.code, checked.stderr.as_str()), (0, ""));
    let checked: Value = serde_json::from_str(&checked.stdout).unwrap();
    assert_eq!(checked.as_array().unwrap().len(), 20);
}

#[test]
#[ignore = "needs the folder of PROSECTOR_TEST_DICOM"]
fn the_protocols_of_a_hospital_are_explained_for_every_real_series() {
    let here = tempfile::tempdir().unwrap();
    let folder = std::env::var_os("PROSECTOR_TEST_DICOM").map(PathBuf::from);
    let folder = folder.filter(|folder| folder.is_dir());
    let folder =
        folder.expect("PROSECTOR_TEST_DICOM names no folder: run without --include-ignored");
    let mut names: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    names.sort();
    let mut table = String::new();
    for name in names {
        let input = name.to_str().unwrap();
        let arguments = ["--config", HOSPITAL, "protocol", "match", input, "--format", "json"];
        let run = prosector(here.path(), &arguments);
        assert_eq!(run.code, 0, "{}", run.stderr);
        let rows: Vec<Value> = serde_json::from_str(&run.stdout).unwrap();
        let mut by_series: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
        for row in &rows {
            let is_explained = row["takes"] == true || row["reason"].as_str() > Some("");
            assert!(is_explained, "{row}");
            by_series.entry(row["series"].to_string()).or_default().push(row);
        }
        let (mut volumes, mut others) = (0, 0);
        let mut taken: BTreeSet<&str> = BTreeSet::new();
        for rows in by_series.values() {
            if rows[0]["protocol"].is_null() {
                others += 1;
                continue;
            }
            volumes += 1;
            assert_eq!(rows.len(), 20);
            let of_series = rows.iter().filter(|row| row["takes"] == true);
            taken.extend(of_series.map(|row| row["protocol"].as_str().unwrap()));
        }
        let folder = name.file_name().unwrap().to_string_lossy();
        writeln!(table, "{folder}: {volumes} volumes, {others} others, taken by {taken:?}")
            .unwrap();
    }

    insta::assert_snapshot!(table);
}
