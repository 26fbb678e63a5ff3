//! The files of `ops/` for machines, containers, clusters, broker and database, checked by the programs that read them.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use prosector_model::phantom::Plane;
use test_harness::dcmtk::{Peer, dcmsend};
use test_harness::postgres::Postgres;
use test_harness::prosector::{AE_TITLE, Prosector, binary, run_in};
use test_harness::rabbitmq::RabbitMq;
use test_harness::{python, wait_until};

use crate::phantom::{Phantom, Scan};

fn ops(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../ops").join(file)
}

fn text(file: &str) -> String {
    std::fs::read_to_string(ops(file)).unwrap()
}

#[test]
fn compose_file_and_manifests_hold_to_their_schemas() {
    let said = python::check("check_manifests.py", &[ops("")]).unwrap();

    assert!(said.contains("work.yaml: HorizontalPodAutoscaler prosector-work"), "{said}");
}

#[test]
fn site_files_of_containers_hold() {
    let folder = tempfile::tempdir().unwrap();
    let secrets = folder.path().join("secrets");
    std::fs::create_dir(&secrets).unwrap();
    for name in ["s3_access_key_id", "s3_secret_access_key", "users.toml"] {
        std::fs::write(secrets.join(name), "secret").unwrap();
    }
    for file in ["compose/prosector.toml", "kubernetes/prosector.toml"] {
        let site = text(file).replace("\"/secrets/", &format!("\"{}/", secrets.display()));
        std::fs::write(folder.path().join("site.toml"), site).unwrap();
        let mut command = Command::new(binary().unwrap());
        let checked = command
            .current_dir(folder.path())
            .env("PROSECTOR__API__USERS_FILE", secrets.join("users.toml"))
            .args(["--config", "site.toml", "config", "check"])
            .output()
            .unwrap();

        let said = String::from_utf8_lossy(&checked.stderr).into_owned();
        assert!(checked.status.success(), "{file}: {said}");
    }
    assert!(
        !run_in(folder.path(), &["--config", "site.toml", "config", "check"])
            .unwrap()
            .status
            .success()
    );
}

#[test]
fn the_unit_is_one_for_all_roles_and_for_each() {
    let folder = tempfile::tempdir().unwrap();
    let program = binary().unwrap();
    let unit = text("systemd/prosector.service")
        .replace("/usr/bin/prosector", &program.display().to_string());
    let verify = |name: &str, unit: &str| {
        // As a template the file has the name without the instance.
        let file = name.replace("@work", "@");
        std::fs::write(folder.path().join(&file), unit).unwrap();
        std::fs::write(folder.path().join(name), unit).unwrap();
        let output = Command::new("systemd-analyze")
            .current_dir(folder.path())
            .args(["verify", "--man=no", "--recursive-errors=no"])
            .arg(format!("./{name}"))
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stderr).into_owned() + &format!("{}", output.status)
    };

    for name in ["prosector.service", "prosector@work.service"] {
        let said = verify(name, &unit);
        assert_eq!(said, "exit status: 0", "{name}");
    }
    let said = verify("prosector.service", &unit.replace("ProtectHome=", "ProtectHomes="));
    assert!(said.contains("ProtectHomes"), "{said}");
    for role in ["listen", "work", "deliver", "api"] {
        let settings = text(&format!("systemd/roles/{role}"));
        let roles = settings.lines().find_map(|line| line.strip_prefix("ROLES=")).unwrap();
        assert!(roles.contains(&format!("--role {role}")), "{settings}");
    }
}

#[test]
fn a_broker_with_our_settings_and_definitions_lets_our_user_do_the_work() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let definitions = folder.path().join("definitions.json");
    std::fs::copy(ops("rabbitmq/definitions.json"), &definitions).unwrap();
    let settings = text("rabbitmq/rabbitmq.conf");
    let settings =
        settings.replace("/etc/rabbitmq/definitions.json", &definitions.display().to_string());
    let broker = RabbitMq::start_with(&settings).unwrap();
    broker.ctl(&["change_password", "prosector", "of-the-test"]).unwrap();
    // The harness gives its virtual hosts to the user that our definitions leave out.
    broker.ctl(&["add_user", "guest", "guest"]).unwrap();
    let url = broker.create_vhost().unwrap();
    let (_, address) = url.split_once('@').unwrap();
    let (address, _) = address.split_once('/').unwrap();
    let url = format!("amqp://prosector:of-the-test@{address}/prosector");
    let site = "[completeness]\nquiet = \"500ms\"\n";

    let service =
        Prosector::start_with(site, &[], &[("PROSECTOR__QUEUE__URL", url.as_str())]).unwrap();
    let source = folder.path().join("study");
    Phantom::write(&source, &Scan::ct(95, Plane::Coronal));
    dcmsend(Peer { ae_title: AE_TITLE, port: service.dicom_port() }, &source).unwrap();

    wait_until("the job to be done", Duration::from_mins(2), || {
        Ok(service.json(&["job", "list"])?[0]["state"] == "done")
    })
    .unwrap();
    let ready = service.get("/health/ready").unwrap();
    assert!(ready.contains("\"queue\":\"ok\""), "{ready}");
    assert!(!service.log().contains("queue away"), "{}", service.log());
    let queues = ["list_queues", "-p", "prosector", "name", "type", "policy"];
    let queues = broker.ctl(&queues).unwrap();
    assert!(queues.contains("prosector.dead\tquorum\tprosector-dead"), "{queues}");
}

#[test]
fn postgresql_knows_every_setting() {
    let server = Postgres::start().unwrap();
    let settings = text("postgres/postgresql.conf");
    let lines = settings.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let mut count = 0;

    for line in lines {
        // Refuses names that it does not know and values that they cannot have.
        let (name, value) = line.split_once('=').unwrap();
        let value = value.trim().trim_matches('\'');
        let set = format!("alter system set {} = '{value}'", name.trim());
        server.psql("postgres", &set).unwrap();
        count += 1;
    }

    assert!(count > 15, "{count} settings");
    assert!(server.psql("postgres", "alter system set wall_level = 'replica'").is_err());
}
