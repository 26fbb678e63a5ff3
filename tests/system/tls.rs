//! TLS: DIMSE both ways against DCMTK, where who is not trusted gets no further and certificates are renewed without a
//! restart; and the way to PostgreSQL.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use prosector_model::phantom::Plane;
use test_harness::certificates::{Authority, Certificate};
use test_harness::dcmtk::{self, Peer, Storescp};
use test_harness::postgres::Postgres;
use test_harness::prosector::{AE_TITLE, Prosector};
use test_harness::{free_port, wait_until};

use crate::phantom::{Phantom, Scan};

/// Runs one of DCMTK's senders over TLS.
fn call(program: &str, options: &[&str], port: u16, rest: &[&str]) -> Output {
    let port = port.to_string();
    let mut arguments = options.to_vec();
    arguments.extend(["-aet", "CT1", "-aec", AE_TITLE]);
    arguments.extend_from_slice(if program == "storescu" { &["+sd", "+r"] } else { &[] });
    arguments.extend(["127.0.0.1", &port]);
    arguments.extend_from_slice(rest);
    dcmtk::run(program, "dcmtk", &arguments).unwrap()
}

/// DCMTK's options for a certificate of its own and the authority that it trusts.
fn options<'a>(own: &'a Certificate, trusted: &'a Path) -> [&'a str; 5] {
    let text = |path: &'a Path| path.to_str().unwrap();
    ["+tls", text(&own.key), text(&own.certificate), "+cf", text(trusted)]
}

fn toml_path(path: &Path) -> String {
    format!("{:?}", path.to_str().unwrap())
}

#[test]
fn dcmtk_stores_over_tls_and_peers_without_our_trust_are_refused_counted_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let hospital = Authority::create(folder.path(), "hospital").unwrap();
    let stranger = Authority::create(folder.path(), "stranger").unwrap();
    let ours = hospital.issue("PROSECTOR").unwrap();
    let modality = hospital.issue("CT1").unwrap();
    let other = hospital.issue("MR2").unwrap();
    let unknown = stranger.issue("CT1").unwrap();
    let port = free_port().unwrap();
    let site = format!(
        "[listener.tls]\nbind = \"127.0.0.1:{port}\"\ncertificate = {}\nkey = {}\nclient_ca = {}\n\
         match_ae_title = true\n[completeness]\nquiet = \"1h\"\n",
        toml_path(&ours.certificate),
        toml_path(&ours.key),
        toml_path(&hospital.certificate()),
    );
    let service = Prosector::start(&site).unwrap();
    let source = folder.path().join("study");
    let phantom = Phantom::write(&source, &Scan::ct(60, Plane::Axial));
    let ca = hospital.certificate();
    let good = options(&modality, &ca);

    let echo = call("echoscu", &good, port, &[]);
    let store = call("storescu", &good, port, &[source.to_str().unwrap()]);
    let strange = call("echoscu", &options(&unknown, &ca), port, &[]);
    let anonymous = call("echoscu", &["+tla", "+cf", ca.to_str().unwrap()], port, &[]);
    let named_otherwise = call("echoscu", &options(&other, &ca), port, &[]);
    let clear = call("echoscu", &[], port, &[]);
    let beside = call("echoscu", &[], service.dicom_port(), &[]);

    for (what, output, expected) in [
        ("C-ECHO over TLS", echo, true),
        ("C-STORE over TLS", store, true),
        ("a certificate of an unknown authority", strange, false),
        ("no certificate", anonymous, false),
        ("the certificate of another AE title", named_otherwise, false),
        ("no TLS on the TLS port", clear, false),
        ("no TLS on the clear port", beside, true),
    ] {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.success(), expected, "{what}: {said}");
    }
    let kept = service.json(&["audit", "instances", "--limit", "10000"]).unwrap();
    assert_eq!(kept.as_array().unwrap().len(), phantom.instances);
    let (log, metrics) = (service.log(), service.get("/metrics").unwrap());
    for reason in [
        "certificate of unknown authority",
        "peer shows no certificate",
        "peer does not speak TLS",
        "certificate names another AE title",
    ] {
        assert!(log.contains(reason), "no {reason:?} in {log}");
        let counted = metrics.lines().any(|line| line.contains(reason) && line.ends_with(" 1"));
        assert!(counted, "no {reason:?} in {metrics}");
    }
}

#[test]
fn certificates_are_renewed_without_a_restart_and_a_bad_file_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let before = Authority::create(folder.path(), "before").unwrap();
    let after = Authority::create(folder.path(), "after").unwrap();
    let (ours, renewed) = (before.issue("OURS").unwrap(), after.issue("OURS").unwrap());
    let (old, new) = (before.issue("CT1").unwrap(), after.issue("CT1").unwrap());
    let authorities = folder.path().join("clients.pem");
    std::fs::copy(before.certificate(), &authorities).unwrap();
    // Without a port of its own, TLS takes the place of the clear port.
    let site = format!(
        "[listener.tls]\ncertificate = {}\nkey = {}\nclient_ca = {}\n",
        toml_path(&ours.certificate),
        toml_path(&ours.key),
        toml_path(&authorities),
    );
    let service = Prosector::start(&site).unwrap();
    let port = service.dicom_port();
    let echo = |own: &Certificate, trusted: &Authority| {
        call("echoscu", &options(own, &trusted.certificate()), port, &[]).status.success()
    };
    assert!(echo(&old, &before));
    assert!(!call("echoscu", &[], port, &[]).status.success(), "the clear port is gone");

    renewed.replace(&ours).unwrap();
    std::fs::copy(after.certificate(), &authorities).unwrap();
    wait_until("the renewed certificate", Duration::from_secs(10), || Ok(echo(&new, &after)))
        .unwrap();
    assert!(!echo(&old, &before));

    std::fs::write(&ours.certificate, "no certificate").unwrap();
    wait_until("the complaint", Duration::from_secs(10), || {
        echo(&new, &after);
        Ok(service.log().contains("changed TLS files cannot be used"))
    })
    .unwrap();
    assert!(echo(&new, &after), "the last good certificate stays in force");
}

#[test]
fn results_go_out_over_tls_and_not_to_a_peer_that_is_not_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let hospital = Authority::create(folder.path(), "hospital").unwrap();
    let stranger = Authority::create(folder.path(), "stranger").unwrap();
    let ours = hospital.issue("PROSECTOR").unwrap();
    let received = folder.path().join("received");
    std::fs::create_dir(&received).unwrap();
    let pacs = |own: &Certificate| {
        Storescp::start(&received, &options(own, &hospital.certificate())).unwrap()
    };
    let trusted = pacs(&hospital.issue("PACS").unwrap());
    let untrusted = pacs(&stranger.issue("PACS").unwrap());
    let destination = |name: &str, port: u16, tls: &str| {
        format!(
            "[[destination]]\nname = \"{name}\"\nae_title = \"PACS\"\naddress = \"127.0.0.1:{port}\"\n\
             tls = {{ {tls} }}\nretry = {{ first = \"200ms\", longest = \"1s\" }}\n"
        )
    };
    let ca = format!("ca = {}", toml_path(&hospital.certificate()));
    let own = format!(
        "{ca}, certificate = {}, key = {}",
        toml_path(&ours.certificate),
        toml_path(&ours.key)
    );
    let site = format!(
        "[completeness]\nquiet = \"1s\"\n[[protocol]]\nname = \"phantom\"\nmatch = {{}}\nmodel = \"phantom\"\n\
         targets = [\"@phantom\"]\ndestinations = [\"trusted\", \"untrusted\"]\n{}{}{}{}",
        destination("trusted", trusted.port(), &own),
        destination("untrusted", untrusted.port(), &own),
        destination("we-are-not", trusted.port(), &ca),
        destination(
            "other-name",
            trusted.port(),
            &format!("{own}, server_name = \"pacs.example\"")
        ),
    );
    let service = Prosector::start(&site).unwrap();

    assert!(service.command(&["echo", "trusted"]).unwrap().contains("answers"));
    for (name, reason) in [
        ("untrusted", "certificate of unknown authority"),
        ("we-are-not", "peer refuses our certificate"),
        ("other-name", "certificate for another name"),
    ] {
        let error = format!("{:#}", service.command(&["echo", name]).unwrap_err());
        assert!(error.contains(reason), "{name}: {error}");
    }
    let source = folder.path().join("study");
    Phantom::write(&source, &Scan::ct(61, Plane::Axial));
    dcmtk::dcmsend(Peer { ae_title: AE_TITLE, port: service.dicom_port() }, &source).unwrap();

    wait_until("the result", Duration::from_mins(2), || {
        Ok(std::fs::read_dir(&received)?.count() == 1
            && service.log().contains("destination_tls_failed"))
    })
    .unwrap();
}

#[test]
fn tls_files_that_cannot_be_used_stop_the_start_with_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::create(folder.path(), "hospital").unwrap();
    let (one, other) = (authority.issue("ONE").unwrap(), authority.issue("OTHER").unwrap());
    let text = folder.path().join("text.pem");
    std::fs::write(&text, "no certificate\n").unwrap();
    let absent = folder.path().join("absent.pem");
    let check = |certificate: &Path, key: &Path| {
        let site = format!(
            "[listener.tls]\ncertificate = {}\nkey = {}\n",
            toml_path(certificate),
            toml_path(key)
        );
        format!("{:#}", Prosector::once(&site, &["config", "check"], &[]).unwrap_err())
    };

    for (certificate, key, said) in [
        (&absent, &one.key, "absent.pem: No such file"),
        (&text, &one.key, "text.pem holds no PEM certificate"),
        (&one.certificate, &text, "text.pem holds no unencrypted PEM private key"),
        (&one.certificate, &other.key, "keys may not be consistent"),
    ] {
        let error = check(certificate, key);
        assert!(error.contains("1 problem"), "{error}");
        assert!(error.contains("listener.tls") && error.contains(said), "{error}");
    }
}

#[test]
fn postgresql_is_reached_over_tls_and_its_certificate_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    let hospital = Authority::create(folder.path(), "hospital").unwrap();
    let stranger = Authority::create(folder.path(), "stranger").unwrap();
    let server = Postgres::start_encrypted(&hospital.issue("DB").unwrap()).unwrap();
    let database = server.create_database().unwrap();
    let migrate = |options: &str| {
        let url = format!("{database}?{options}");
        Prosector::once("", &["migrate"], &[("PROSECTOR__STORE__URL", &url)])
    };
    let trusting = |authority: &Authority| {
        format!("sslmode=verify-full&sslrootcert={}", authority.certificate().display())
    };

    migrate(&trusting(&hospital)).unwrap();
    assert!(migrate(&trusting(&stranger)).is_err(), "a certificate of an unknown authority");
    assert!(migrate("sslmode=disable").is_err(), "the server takes encrypted connections alone");
}
