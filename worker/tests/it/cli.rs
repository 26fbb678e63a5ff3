//! Usage, configuration and routing on the command line.

use dicom_types::Modality;
use serde_json::Value;
use tempfile::tempdir;

use crate::program::{prosector, prosector_with};
use crate::series::write_axial;

const SITE: &str = r#"
[[destination]]
name = "pacs"
ae_title = "ORTHANC"
address = "127.0.0.1:4242"

[[protocol]]
name = "ct-abdomen"
match = { modality = "CT", body_part_examined = "ABDOMEN", instances = { min = 20 } }
model = "phantom"
targets = ["liver", "@ct_chest"]
destinations = ["pacs"]

[[protocol]]
name = "any-ct"
match = { modality = "CT" }
model = "phantom"
targets = ["spleen"]
destinations = ["pacs"]
"#;

#[test]
fn what_is_no_command_is_wrong_usage() {
    let folder = tempdir().unwrap();

    assert_eq!(prosector(folder.path(), &["frobnicate"]).code, 2);
    assert_eq!(prosector(folder.path(), &[]).code, 2);
    assert_eq!(prosector(folder.path(), &["--help"]).code, 0);
    assert_eq!(prosector(folder.path(), &["--version"]).code, 0);
}

#[test]
fn the_embedded_default_is_a_valid_configuration() {
    let folder = tempdir().unwrap();

    let run = prosector(folder.path(), &["config", "check"]);

    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    insta::assert_snapshot!(run.stdout);
}

#[test]
fn a_wrong_configuration_ends_every_command_with_2_and_all_problems() {
    let folder = tempdir().unwrap();
    let wrong = "[listener]\nbnd = \"x\"\n[spool]\nreserve = \"much\"\n";
    std::fs::write(folder.path().join("site.toml"), wrong).unwrap();

    for command in [["config", "check"], ["config", "show"], ["protocol", "check"]] {
        let run = prosector(folder.path(), &[command[0], command[1], "--config", "site.toml"]);

        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{command:?}");
        assert!(run.stderr.contains("listener.bnd (line 2)"), "{}", run.stderr);
        assert!(run.stderr.contains("spool.reserve (line 4)"), "{}", run.stderr);
    }
    let absent = prosector(folder.path(), &["config", "check", "--config", "absent.toml"]);
    assert_eq!(absent.code, 2);
    assert!(absent.stderr.contains("absent.toml"), "{}", absent.stderr);
}

#[test]
fn show_prints_what_the_layers_amount_to_without_passwords() {
    let folder = tempdir().unwrap();
    std::fs::write(folder.path().join("site.toml"), SITE).unwrap();
    let variables = [
        ("PROSECTOR__STORE__URL", "postgres://p:s3cret@db/prosector"),
        ("PROSECTOR__LISTENER__BIND", "127.0.0.1:104"),
    ];

    let run =
        prosector_with(folder.path(), &["config", "show", "--config", "site.toml"], &variables);

    assert_eq!(run.code, 0);
    assert!(!run.stdout.contains("s3cret") && !run.stderr.contains("s3cret"));
    insta::assert_snapshot!(run.stdout);
}

#[test]
fn protocols_are_printed_in_three_formats() {
    let folder = tempdir().unwrap();
    std::fs::write(folder.path().join("site.toml"), SITE).unwrap();
    let check = |format| {
        let args = ["protocol", "check", "--config", "site.toml", "--format", format];
        prosector(folder.path(), &args).stdout
    };

    insta::assert_snapshot!(check("table"));
    insta::assert_snapshot!(check("csv"));
    let rows: Value = serde_json::from_str(&check("json")).unwrap();
    assert_eq!(rows[1]["protocol"], "any-ct");
    assert_eq!(rows[1]["targets"], 1);
}

#[test]
fn match_says_for_each_series_which_protocol_takes_it_and_why_others_do_not() {
    let folder = tempdir().unwrap();
    std::fs::write(folder.path().join("site.toml"), SITE).unwrap();
    write_axial(&folder.path().join("in/ct"), "1.2.3.1", Modality::Ct, 24);
    write_axial(&folder.path().join("in/short"), "1.2.3.2", Modality::Ct, 4);
    write_axial(&folder.path().join("in/mr"), "1.2.3.3", Modality::Mr, 4);
    write_axial(&folder.path().join("in/single"), "1.2.3.4", Modality::Ct, 1);
    std::fs::write(folder.path().join("in/README"), "not DICOM").unwrap();

    let run = prosector(folder.path(), &["protocol", "match", "in", "--config", "site.toml"]);

    assert_eq!(run.code, 0);
    assert!(!run.stdout.contains("SENTINEL") && !run.stderr.contains("SENTINEL"));
    insta::with_settings!({ filters => [(r"instance [0-9.]+", "instance [uid]")] }, {
        insta::assert_snapshot!(run.stdout);
    });
}

#[test]
fn an_input_that_is_not_there_is_a_failure() {
    let folder = tempdir().unwrap();

    let run = prosector(folder.path(), &["protocol", "match", "absent"]);

    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("absent"), "{}", run.stderr);
}
