use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use super::*;
use prosector_model::OrientationCode;
use prosector_storage::Priority;

fn site(text: &str) -> SiteFile {
    SiteFile { path: PathBuf::from("prosector.toml"), text: text.to_owned() }
}

fn load_text(text: &str) -> Result<Loaded, ConfigError> {
    assemble(Some(&site(text)), Some(HashMap::new()), Packs::NotNeeded)
}

fn message(text: &str) -> String {
    load_text(text).unwrap_err().to_string()
}

/// The example of the outside contract.
const CONTRACT: &str = r#"
[listener]
ae_title = "PROSECTOR"
bind = "127.0.0.1:11112"

[store]
url = "sqlite://var/prosector.db"

[queue]
url = "embedded:"

[spool]
url = "file://var/spool"

[api]
bind = "127.0.0.1:8080"

[completeness]
quiet = "10s"

[model]
packs = "models"

[[destination]]
name = "pacs"
ae_title = "ORTHANC"
address = "127.0.0.1:4242"

[[protocol]]
name = "ct-abdomen"
match = { modality = "CT", body_part_examined = ["ABDOMEN", "CHEST"], instances = { min = 20 } }
model = "sat-nano"
targets = ["liver", "spleen", "left kidney", "right kidney"]
priority = "routine"
orientation = "RAS"
forms = ["seg"]
destinations = ["pacs"]
"#;

#[test]
fn nothing_written_means_loopback_and_the_phantom_pack() {
    let loaded = assemble(None, Some(HashMap::new()), Packs::NotNeeded).unwrap();
    let config = &loaded.config;

    assert!(loaded.is_embedded);
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    assert!(config.listener.bind.ip().is_loopback());
    assert!(config.api.bind.ip().is_loopback());
    assert_eq!(config.listener.ae_title.as_str(), "PROSECTOR");
    assert_eq!(config.spool.place, SpoolPlace::Folder(PathBuf::from("var/spool")));
    assert!(matches!(config.queue, Queue::Embedded));
    assert_eq!(config.protocols.len(), 1);
    assert_eq!(config.protocols[0].model, "phantom");
    let DestinationKind::Folder(folder) = &config.destinations[0].kind else { panic!("a PACS") };
    assert_eq!(*folder, PathBuf::from("var/results"));
}

#[test]
fn reads_the_example_of_the_contract() {
    let config = load_text(CONTRACT).unwrap().config;

    assert_eq!(config.listener.bind, "127.0.0.1:11112".parse().unwrap());
    assert_eq!(config.store.url.expose(), "sqlite://var/prosector.db");
    assert_eq!(config.completeness.quiet, Duration::from_secs(10));
    assert_eq!(config.model.packs, PathBuf::from("models"));
    let DestinationKind::Dimse(pacs) = &config.destinations[0].kind else { panic!("a folder") };
    assert_eq!((pacs.ae_title.as_str(), pacs.address.as_str()), ("ORTHANC", "127.0.0.1:4242"));
    assert_eq!(pacs.calling_ae_title.as_str(), "PROSECTOR");
    let protocol = config.protocol("ct-abdomen").unwrap();
    assert_eq!(protocol.priority, Priority::Routine);
    assert_eq!(protocol.orientation, OrientationCode::Ras);
    assert_eq!(protocol.targets.len(), 4);
    assert_eq!(protocol.destinations, ["pacs"]);
}

#[test]
fn reads_the_shipped_example() {
    let loaded = load_text(include_str!("../../../ops/config/prosector.toml")).unwrap();

    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    assert!(!loaded.config.protocols.is_empty());
}

#[test]
fn the_environment_overrides_the_site_file() {
    let variables = [
        ("PROSECTOR__LISTENER__BIND", "127.0.0.1:104"),
        ("PROSECTOR__LISTENER__CALLING_AE_TITLES", "CT1, MR2"),
        ("PROSECTOR__LISTENER__MAX_ASSOCIATIONS", "4"),
        ("PROSECTOR__STORE__URL", "postgres://p:secret@db/prosector"),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));

    let loaded =
        assemble(Some(&site(CONTRACT)), Some(HashMap::from(variables)), Packs::NotNeeded).unwrap();

    let listener = &loaded.config.listener;
    assert_eq!(listener.bind.port(), 104);
    assert_eq!(listener.calling_ae_titles.len(), 2);
    assert_eq!(listener.max_associations, 4);
    assert_eq!(loaded.config.store.url.expose(), "postgres://p:secret@db/prosector");
    assert_eq!(loaded.effective.store.url, "postgres://p:***@db/prosector");
}

#[test]
fn a_misspelt_variable_stops_the_start() {
    let variables = HashMap::from([("PROSECTOR__LISTNER__BIND".to_owned(), "x".to_owned())]);

    let error = assemble(None, Some(variables), Packs::NotNeeded).unwrap_err();

    insta::assert_snapshot!(error, @r#"
    configuration: 1 problem
      listner: unknown key, did you mean "listener"?
    "#);
}

#[test]
fn a_password_in_the_site_file_stops_the_start_and_is_not_repeated() {
    let text =
        "[store]\nurl = \"postgres://p:s3cret@db/x\"\n[queue]\nurl = \"amqp://u:s3cret@mq\"\n";

    let message = message(text);

    assert!(!message.contains("s3cret"));
    insta::assert_snapshot!(message, @r"
    prosector.toml: 2 problems
      queue.url (line 4): a password must not stand in the site file; set PROSECTOR__QUEUE__URL, or name a file in queue.url_file
      store.url (line 2): a password must not stand in the site file; set PROSECTOR__STORE__URL, or name a file in store.url_file
    ");
}

#[test]
fn a_url_may_come_from_a_file_of_its_own() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "postgres://p:s3cret@db/x\n").unwrap();
    let text = format!("[store]\nurl_file = {:?}\n", file.path());

    let loaded = load_text(&text).unwrap();

    assert_eq!(loaded.config.store.url.expose(), "postgres://p:s3cret@db/x");
    assert_eq!(loaded.effective.store.url, "postgres://p:***@db/x");
}

#[test]
fn every_problem_is_reported_at_its_place() {
    let text = include_str!("../../tests/fixtures/wrong_in_many_ways.toml");

    insta::assert_snapshot!(message(text));
}

#[test]
fn text_that_is_not_toml_is_shown_with_its_line() {
    insta::assert_snapshot!(message("[listener]\nbind = 127.0.0.1\n"));
}

#[test]
fn a_destination_without_protocol_does_not_bring_the_phantom_back() {
    let text = "[[destination]]\nname = \"pacs\"\nae_title = \"A\"\naddress = \"h:104\"\n";

    let loaded = load_text(text).unwrap();

    assert!(!loaded.is_embedded);
    assert!(loaded.config.protocols.is_empty());
    assert!(loaded.warnings.iter().any(|w| w.message.contains("no protocol")));
}

#[test]
fn packs_must_be_there_when_they_are_needed() {
    let packs = tempfile::tempdir().unwrap();
    std::fs::create_dir(packs.path().join("sat-nanno")).unwrap();
    std::fs::write(packs.path().join("sat-nanno/pack.toml"), "").unwrap();
    let text = CONTRACT.replace("packs = \"models\"", &format!("packs = {:?}", packs.path()));

    let error = assemble(Some(&site(&text)), Some(HashMap::new()), Packs::Needed).unwrap_err();

    insta::assert_snapshot!(error, @r#"
    prosector.toml: 1 problem
      protocol[0].model (line 32): no model pack "sat-nano", did you mean "sat-nanno"?; there are phantom, sat-nanno
    "#);
}

#[test]
fn what_is_shown_can_be_loaded_again() {
    let loaded = load_text(CONTRACT).unwrap();

    let shown = toml::to_string_pretty(&loaded.effective).unwrap();
    let again = load_text(&shown).unwrap();

    assert_eq!(shown, toml::to_string_pretty(&again.effective).unwrap());
    assert_eq!(again.config.protocols[0].targets, loaded.config.protocols[0].targets);
}

#[test]
fn targets_are_warned_of_where_sat_was_not_trained_on_the_modality() {
    let text = CONTRACT.replace("\"liver\", ", "\"liver\", \"amygdala\", ");

    let loaded = load_text(&text).unwrap();

    insta::assert_snapshot!(loaded.warnings[0], @r#"protocol[0].targets (line 33): SAT was not trained to find "amygdala" in CT"#);
}

/// One wrong thing each, put in place of a part of the example.
#[test]
fn each_wrong_protocol_gets_its_message() {
    let cases = [
        ("\"liver\", ", "\"livr\", "),
        ("\"liver\", ", "\"@ct_abdomn\", "),
        ("\"liver\", ", "\"@ct_abdomen+lesion\", "),
        ("\"liver\", ", "\"999999\", "),
        ("\"liver\", ", "{ prompt = \"my lesion\" }, "),
        (
            "\"liver\", ",
            "{ prompt = \"x\", category = { value = \"\", scheme = \"SCT\", meaning = \"x\" }, type = { value = \"12345678901234567\", scheme = \"99X\", meaning = \"y\" }, rgb = \"red\" }, ",
        ),
        ("\"liver\", ", "true, "),
        ("modality = \"CT\"", "modalty = \"CT\""),
        ("modality = \"CT\"", "modality = []"),
        ("modality = \"CT\"", "rows = \"many\""),
        ("modality = \"CT\"", "modality = { min = 3 }"),
        ("modality = \"CT\"", "series_description = { regex = \"(\" }"),
        ("modality = \"CT\"", "series_description = { glb = \"*\" }"),
        ("modality = \"CT\"", "plane = \"axal\""),
        ("modality = \"CT\"", "any = []"),
        ("modality = \"CT\"", "not = 3"),
        ("modality = \"CT\"", "modality = \"CTT\""),
        ("modality = \"CT\"", "modality = { not = [\"MR\", \"USS\"] }"),
        ("modality = \"CT\"", "patient_sex = \"male\""),
        ("modality = \"CT\"", "patient_position = \"HSF\""),
        ("modality = \"CT\"", "patient_age = \"forty\""),
        ("modality = \"CT\"", "patient_age = { max = -1 }"),
        ("modality = \"CT\"", "contrast = \"maybe\""),
        ("modality = \"CT\"", "contrast_phase = \"venus\""),
        ("modality = \"CT\"", "kernel = [\"soft\", \"shrap\"]"),
        ("modality = \"CT\"", "time_of_day = { min = \"25:00\" }"),
        ("modality = \"CT\"", "study_date = \"31.01.2026\""),
        ("modality = \"CT\"", "study_date = { min = \"2026-02-01\", max = \"2026-01-01\" }"),
        ("modality = \"CT\"", "slices = { max = 0 }"),
        ("modality = \"CT\"", "slices = -3"),
        ("modality = \"CT\"", "coverage_mm = { glob = \"4*\" }"),
        ("modality = \"CT\"", "coverage_mm = { min = 400, max = 40 }"),
        ("modality = \"CT\"", "station_name = \"A_NAME_OF_MORE_THAN_SIXTEEN\""),
        ("modality = \"CT\"", "calling_ae_title = \"A_TITLE_OF_MORE_THAN_SIXTEEN\""),
        ("modality = \"CT\"", "pixel_data = 1"),
        ("priority = \"routine\"", "choose = \"bst\""),
        ("priority = \"routine\"", "prefer = [{ kernel = \"soft\" }]"),
        (
            "priority = \"routine\"",
            "choose = \"best\"\nprefer = [{ kernl = \"soft\" }, { kernel = \"sof\" }]",
        ),
        ("quiet = \"10s\"", "quiet = \"10s\"\n[routing]\nfolder = \"no-such-folder\""),
        ("modality = \"CT\"", "study_time = { min = \"8am\" }"),
        ("min = 20", "min = 20, max = 10"),
        ("instances = { min = 20 }", "instances = { min = \"a lot\" }"),
        ("\"routine\"", "\"rutine\""),
        ("\"routine\"", "\"routine\"\nhours = [\"20:00-6:00\", \"08:00-08:00\", \"22:00-24:00\"]"),
        ("\"routine\"", "\"routine\"\nlimits = { concurent = 2, per_day = 0 }"),
        ("\"routine\"", "\"routine\"\nlimits = { concurrent = 0, per_day = -5 }"),
        ("\"routine\"", "\"routine\"\nlimits = { concurrent = \"two\" }"),
        ("model = \"sat-nano\"", "model = \"sat-nano\"\nshadow = \"sat-nano\""),
        ("model = \"sat-nano\"", "model = \"sat-nano\"\nshadow = [\"sat-pro\"]"),
        ("\"RAS\"", "\"LPS\""),
        ("[\"seg\"]", "[\"segg\"]"),
        ("[\"seg\"]", "[\"seg\", \"seg\"]"),
        ("destinations = [\"pacs\"]", "destinations = [\"pcas\"]"),
        ("name = \"ct-abdomen\"\n", ""),
        ("name = \"ct-abdomen\"\n", "name = \"../x\"\n"),
        ("model = \"sat-nano\"\n", ""),
        ("targets = [\"liver\", \"spleen\", \"left kidney\", \"right kidney\"]\n", ""),
    ];
    let mut table = String::new();
    for (right, wrong) in cases {
        let text = CONTRACT.replacen(right, wrong, 1);
        assert_ne!(text, CONTRACT, "{right}");
        let _ = writeln!(table, "{wrong}\n{}\n", message(&text));
    }

    insta::assert_snapshot!(table);
}

#[test]
fn a_port_that_others_reach_needs_users() {
    for bind in ["0.0.0.0:8080", "[::]:8080", "192.0.2.7:80"] {
        let message = message(&format!("[api]\nbind = \"{bind}\"\n"));
        assert!(message.contains("api.bind") && message.contains("api.users_file"), "{message}");
    }
    for text in [
        "[api]\nbind = \"0.0.0.0:8080\"\nusers_file = \"users.toml\"\n",
        "[api]\nbind = \"127.0.0.2:8080\"\n",
        "[api]\nbind = \"[::1]:8080\"\n",
    ] {
        load_text(text).unwrap();
    }
}

#[test]
fn reads_when_the_self_test_runs() {
    let at = |text: &str| load_text(&format!("[self_test]\nat = \"{text}\"\n"));

    assert_eq!(at("off").unwrap().config.self_test, None);
    let planned = at("03:30").unwrap().config.self_test.unwrap();
    assert_eq!(planned.at, time::macros::time!(3:30));
    assert!(!planned.holds_jobs);
    for text in ["3:30", "24:00", "night", ""] {
        assert!(at(text).unwrap_err().to_string().contains("self_test.at"), "{text}");
    }
}

#[test]
fn a_body_part_that_is_nearly_one_of_the_standard_is_doubted() {
    let loaded = load_text(&CONTRACT.replace("\"CHEST\"]", "\"CHST\", \"XYLOPHONE\"]")).unwrap();

    let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();

    insta::assert_snapshot!(warnings.join("\n"), @r#"protocol[0].match.body_part_examined[1] (line 31): "CHST" is no term of PS3.16 Annex L, did you mean "CHEST"?"#);
}

#[test]
fn protocols_in_a_folder_follow_those_of_the_site_file_and_are_reported_at_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let protocols = folder.path().join("protocols");
    std::fs::create_dir(&protocols).unwrap();
    let protocol = CONTRACT.split_once("[[protocol]]").unwrap().1.to_owned();
    let named = |name: &str| format!("[[protocol]]{}", protocol.replace("ct-abdomen", name));
    std::fs::write(protocols.join("b.toml"), named("of-b") + &named("of-b-too")).unwrap();
    std::fs::write(protocols.join("a.toml"), named("of-a")).unwrap();
    std::fs::write(protocols.join("README"), "not read").unwrap();
    let text = CONTRACT.replace("[model]", "[routing]\nfolder = \"protocols\"\n[model]");
    let site = SiteFile { path: folder.path().join("prosector.toml"), text };
    let load = || assemble(Some(&site), Some(HashMap::new()), Packs::NotNeeded);

    let config = load().unwrap().config;

    let names: Vec<&str> = config.protocols.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["ct-abdomen", "of-a", "of-b", "of-b-too"]);
    assert_eq!(config.routing.folder.as_deref(), Some(protocols.as_path()));

    let wrong = named("of-b") + &named("of-a").replace("\"liver\"", "\"livr\"");
    std::fs::write(protocols.join("b.toml"), wrong + "\n[store]\nurl = \"x\"\n").unwrap();
    std::fs::write(protocols.join("c.toml"), "[[protocol]\n").unwrap();
    let error = load().unwrap_err().to_string();

    for words in [
        "protocol[1].targets[0] (b.toml line ",
        "no class \"livr\" in the vocabulary, did you mean \"liver\"?",
        "store (b.toml line ",
        "a file of protocols holds [[protocol]] alone",
        "protocols/c.toml:\n",
        "protocol[1].name (b.toml line 11): \"of-a\" is taken by an earlier one",
        ": 4 problems",
    ] {
        assert!(error.contains(words), "no {words:?} in {error}");
    }
}

#[test]
fn reads_the_protocols_of_a_large_hospital() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../ops/config/hospital/prosector.toml");
    let site = SiteFile::read(&file).unwrap();

    let loaded = assemble(Some(&site), Some(HashMap::new()), Packs::Needed).unwrap();

    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    assert_eq!(loaded.config.protocols.len(), 20);
}

#[test]
fn a_bucket_is_read_with_references_to_its_keys() {
    let folder = tempfile::tempdir().unwrap();
    let (id, secret) = (folder.path().join("id"), folder.path().join("secret"));
    std::fs::write(&id, "prosector\n").unwrap();
    std::fs::write(&secret, "s3cret\n").unwrap();
    let text = format!(
        "[spool]\nurl = \"s3://images/prosector/\"\n[spool.s3]\nendpoint = \"https://s3.example:9000\"\n\
         access_key_id_file = {id:?}\nsecret_access_key_file = {secret:?}\nstaging = \"/fast/staging\"\n"
    );

    let loaded = load_text(&text).unwrap();

    let SpoolPlace::Bucket(bucket) = &loaded.config.spool.place else { panic!("a folder") };
    assert_eq!((bucket.bucket.as_str(), bucket.prefix.as_str()), ("images", "prosector"));
    assert_eq!(loaded.config.spool.place.to_string(), "s3://images/prosector");
    let key = prosector_storage::BucketCredentials::Key {
        access_key_id: "prosector".to_owned(),
        secret_access_key: "s3cret".to_owned(),
    };
    assert_eq!(bucket.credentials, key);
    assert!(!format!("{:?}", loaded.config).contains("s3cret"));
    assert!(!toml::to_string(&loaded.effective).unwrap().contains("s3cret"));
}

#[test]
fn every_problem_of_a_bucket_is_reported() {
    let wrong = "[spool]\nurl = \"s3://Images/a b\"\n[spool.s3]\nendpoint = \"s3.example\"\n\
                 access_key_id_env = \"PROSECTOR_NO_SUCH_VARIABLE\"\nstaging = \"\"\n";
    let elsewhere = "[spool]\nurl = \"file://var/spool\"\n[spool.s3]\nregion = \"eu\"\n";
    let unread = "[spool]\nurl = \"s3://images\"\n[spool.s3]\naccess_key_id_env = \"NO_SUCH_VARIABLE\"\n\
                  secret_access_key_env = \"NO_SUCH_VARIABLE\"\nsecret_access_key_file = \"x\"\n";

    let said = [wrong, elsewhere, unread].map(message).join("\n");

    for words in [
        "spool.url (line 2): \"Images\" is no name of a bucket",
        "spool.s3.endpoint (line 4): \"s3.example\" is not the address of a service",
        "spool.s3.secret_access_key_file (line 3): missing: key and secret go together",
        "spool.s3.staging (line 6): must not be empty",
        "spool.s3 (line 3): only an s3:// spool has a service",
        "spool.s3.access_key_id_env (line 4): NO_SUCH_VARIABLE is empty",
        "spool.s3.secret_access_key_env (line 5): secret_access_key_file is named as well",
    ] {
        assert!(said.contains(words), "no {words:?} in {said}");
    }
}
