//! The ledger by the commands of the product, and by the verifier that shares nothing with them.

use std::path::Path;

use test_harness::prosector::{Prosector, binary};
use test_harness::{postgres, python};

/// A store with a few entries: questions about a patient are recorded one by one.
struct Ledger {
    site: String,
    url: String,
}

impl Ledger {
    fn on(url: &str, folder: &Path) -> Self {
        let audit = folder.join("audit");
        let site = format!(
            "[store]\nurl = \"{url}\"\n[audit]\nroot_key = \"{0}/root.pem\"\nroots = \"{0}/roots.jsonl\"\n",
            audit.display()
        );
        let ledger = Self { site, url: url.to_owned() };
        ledger.run(&["migrate"]).unwrap();
        ledger
    }

    fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        Prosector::once(&self.site, arguments, &[])
    }

    fn append(&self, entries: usize) {
        for _ in 0..entries {
            self.run(&["audit", "studies", "--patient-id", "NOBODY"]).unwrap();
        }
    }

    /// What the independent verifier says of the database.
    fn verified(&self, more: &[&str]) -> (bool, String) {
        let mut arguments = match self.url.strip_prefix("sqlite://") {
            Some(path) => vec!["--sqlite", path],
            None => vec!["--postgres", &self.url],
        };
        arguments.extend(more);
        python::verify_ledger(&arguments).unwrap()
    }
}

fn the_whole_life_of_a_ledger(url: &str, folder: &Path, tamper: impl Fn(&str)) {
    let ledger = Ledger::on(url, folder);
    let unsigned = ledger.run(&["audit", "root"]).unwrap_err().to_string();
    assert!(unsigned.contains("prosector audit key"), "{unsigned}");
    let key = ledger.run(&["audit", "key"]).unwrap().trim().to_owned();
    assert_eq!(ledger.run(&["audit", "key"]).unwrap().trim(), key, "made once");

    ledger.append(3);
    ledger.run(&["audit", "root"]).unwrap();
    ledger.append(2);
    let root = ledger.run(&["audit", "root"]).unwrap();
    assert!(root.contains("\"seq\":6"), "{root}");
    let said = ledger.run(&["audit", "verify"]).unwrap();
    assert!(said.starts_with("7 entries are sound; 2 roots hold"), "{said}");

    let export = folder.join("export.jsonl");
    std::fs::write(&export, ledger.run(&["audit", "export"]).unwrap()).unwrap();
    let roots = folder.join("exported-roots.jsonl");
    std::fs::write(&roots, ledger.run(&["audit", "export", "--roots"]).unwrap()).unwrap();
    let [export, roots] = [&export, &roots].map(|path| path.to_str().unwrap());
    let with_roots = ["--roots", roots, "--public-key", &key];
    // That it was exported is an entry, too.
    let sound = (true, "8 entries are sound".to_owned());
    let mut from_export = vec!["--export", export];
    from_export.extend(with_roots);
    assert_eq!(python::verify_ledger(&from_export).unwrap(), sound);
    assert_eq!(ledger.verified(&with_roots), sound);

    // The tail goes, and the head with it: nothing inside the database tells.
    tamper(
        "update ledger_head set seq = 5, hash = (select hash from event where seq = 5); \
         delete from event where seq > 5",
    );
    assert_eq!(ledger.verified(&[]), (true, "5 entries are sound".to_owned()));
    let cut = (false, "5 entries are sound; entry 6 is missing".to_owned());
    assert_eq!(ledger.verified(&with_roots), cut);
    let said = ledger.run(&["audit", "verify"]).unwrap_err().to_string();
    assert!(said.contains(&cut.1), "{said}");
    let said = ledger.run(&["audit", "verify", "--root", roots]).unwrap_err().to_string();
    assert!(said.contains(&cut.1), "{said}");

    // A root that somebody made up, under their own key.
    let other = Ledger::on(url, &folder.join("other"));
    other.run(&["audit", "key"]).unwrap();
    let forged = folder.join("forged.jsonl");
    std::fs::write(&forged, other.run(&["audit", "root"]).unwrap()).unwrap();
    let forged = forged.to_str().unwrap();
    let said = ledger.run(&["audit", "verify", "--root", forged]).unwrap_err().to_string();
    assert!(said.contains("root 5 is signed with a key that is not trusted"), "{said}");
    let (is_sound, said) = ledger.verified(&["--roots", forged, "--public-key", &key]);
    assert_eq!(
        (is_sound, said.as_str()),
        (false, "root 5 is signed with a key that is not trusted")
    );
}

#[test]
fn the_ledger_on_sqlite_is_signed_exported_and_verified_from_outside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("prosector.db");
    the_whole_life_of_a_ledger(&format!("sqlite://{}", path.display()), folder.path(), |sql| {
        let script = format!(
            "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.executescript('''\
             drop trigger event_is_never_deleted; drop trigger ledger_head_only_advances; {sql};''')"
        );
        let done = std::process::Command::new("python3").args(["-c", &script]).arg(&path).output();
        assert!(done.unwrap().status.success());
    });
}

#[test]
fn the_ledger_on_postgresql_is_signed_exported_and_verified_from_outside() {
    let folder = tempfile::tempdir().unwrap();
    let url = postgres::shared().create_database().unwrap();
    let name = url.rsplit('/').next().unwrap().to_owned();
    the_whole_life_of_a_ledger(&url, folder.path(), |sql| {
        let script = format!(
            "alter table event disable trigger user; alter table ledger_head disable trigger user; {sql}"
        );
        postgres::shared().psql(&name, &script).unwrap();
    });
}

#[test]
fn a_service_signs_roots_and_says_when_the_ledger_is_older_than_they_are() {
    let site = "[audit]\nroot_every = \"300ms\"\n[log]\nformat = \"json\"\n";
    let mut service = Prosector::start(site).unwrap();
    let roots = service.folder().join("var/ledger-roots.jsonl");
    let lines = || std::fs::read_to_string(&roots).map_or(0, |text| text.lines().count());
    test_harness::wait_until(
        "three roots",
        std::time::Duration::from_secs(20),
        || Ok(lines() >= 3),
    )
    .unwrap();
    test_harness::wait_until("the log", std::time::Duration::from_secs(20), || {
        Ok(service.log().contains("root of the ledger signed"))
    })
    .unwrap();
    let said = service.command(&["audit", "verify"]).unwrap();
    assert!(said.contains("roots hold"), "{said}");

    service.kill().unwrap();
    // A store from before: none at all.
    for name in ["prosector.db", "prosector.db-wal", "prosector.db-shm"] {
        std::fs::remove_file(service.folder().join("var").join(name)).ok();
    }
    service.start_again().unwrap();

    test_harness::wait_until("the complaint", std::time::Duration::from_secs(10), || {
        Ok(service.log().contains("it was cut or restored from an old dump"))
    })
    .unwrap();
    assert!(service.command(&["audit", "verify"]).is_err());
}

#[test]
fn many_commands_at_once_keep_the_ledger_whole() {
    let folder = tempfile::tempdir().unwrap();
    let url = postgres::shared().create_database().unwrap();
    let ledger = Ledger::on(&url, folder.path());
    let site = folder.path().join("prosector.toml");
    std::fs::write(&site, &ledger.site).unwrap();

    let mut running: Vec<_> = (0..8)
        .map(|_| {
            std::process::Command::new(binary().unwrap())
                .arg("--config")
                .arg(&site)
                .args(["audit", "studies", "--patient-id", "NOBODY"])
                .stdout(std::process::Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    for command in &mut running {
        assert!(command.wait().unwrap().success());
    }

    assert_eq!(ledger.verified(&[]), (true, "8 entries are sound".to_owned()));
}
