//! The configuration as a person writes it: text and numbers, nothing checked but keys and kinds of values.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// All sections of a site file.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawConfig {
    /// Who may send, and where to.
    pub(crate) listener: RawListener,
    /// Where rows are kept.
    pub(crate) store: RawStore,
    /// How workers hear of jobs.
    pub(crate) queue: RawQueue,
    /// Where received instances are kept.
    pub(crate) spool: RawSpool,
    /// The web page, REST, metrics and health.
    pub(crate) api: RawApi,
    /// When a phantom is sent through the service.
    pub(crate) self_test: RawSelfTest,
    /// When a series counts as complete.
    pub(crate) completeness: RawCompleteness,
    /// Where further protocols are.
    pub(crate) routing: RawRouting,
    /// Model packs and how they run.
    pub(crate) model: RawModel,
    /// How the ledger is kept honest.
    pub(crate) audit: RawAudit,
    /// What is logged.
    pub(crate) log: RawLog,
    /// Where results go; default: the folder `var/results`, as long as no destination and no protocol is named.
    #[serde(rename = "destination", skip_serializing_if = "Vec::is_empty")]
    pub(crate) destinations: Vec<RawDestination>,
    /// What to segment in which series; default: CT and MR to the phantom pack, as long as none is named.
    #[serde(rename = "protocol", skip_serializing_if = "Vec::is_empty")]
    pub(crate) protocols: Vec<RawProtocol>,
}

/// `[listener]`
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawListener {
    /// Our AE title, up to 16 characters; default `PROSECTOR`.
    pub(crate) ae_title: String,
    /// Address and port; default `127.0.0.1:11112`, loopback alone.
    pub(crate) bind: String,
    /// AE titles that may call; default empty: any.
    #[serde(deserialize_with = "words")]
    pub(crate) calling_ae_titles: Vec<String>,
    /// AE titles that we answer to beside `ae_title`; default `*`: any.
    #[serde(deserialize_with = "words")]
    pub(crate) called_ae_titles: Vec<String>,
    /// Associations open at the same time; default 32.
    pub(crate) max_associations: Option<u32>,
    /// Associations open at the same time from one address; default: as many as in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_associations_per_peer: Option<u32>,
    /// Addresses and ranges that may connect, such as `10.1.0.0/16`; default empty: any.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "words")]
    pub(crate) peers: Vec<String>,
    /// Largest PDU that we accept; default `128 KiB`.
    pub(crate) max_pdu: String,
    /// Largest instance that we accept; default `4 GiB`.
    pub(crate) max_instance: String,
    /// Longest wait for A-ASSOCIATE-RQ and for the end of a release; default `10s`.
    pub(crate) negotiation_timeout: String,
    /// Longest silence of a peer within an association; default `60s`.
    pub(crate) idle_timeout: String,
    /// Where senders take reports of storage commitment: `AE_TITLE = "host:port"`, or `"tls://host:port"` for TLS.
    /// Those who are not named get theirs over the association on which they asked.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) commitment: BTreeMap<String, String>,
    /// TLS towards those of `commitment` whose address begins with `tls://`; default: authorities that the system
    /// trusts, no certificate of ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) commitment_tls: Option<RawClientTls>,
    /// TLS, beside the clear port or in its place; default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls: Option<RawListenerTls>,
}

/// `[listener.tls]`: the BCP 195 profile of PS3.15 B.12.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawListenerTls {
    /// Address and port of its own, beside the clear port; default: `listener.bind`, in place of the clear port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bind: Option<String>,
    /// PEM file of our certificate, then the intermediate ones.
    pub(crate) certificate: Option<String>,
    /// PEM file of its private key.
    pub(crate) key: Option<String>,
    /// PEM file of the authorities that certify those who may connect; default: nobody is asked for a certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) client_ca: Option<String>,
    /// `required`, or `optional` to let in those who show none; default `required` where `client_ca` is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) client_certificate: Option<String>,
    /// Whether the certificate must carry the calling AE title as common or DNS name; default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) match_ae_title: Option<bool>,
}

/// `[store]`
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawStore {
    /// `sqlite://PATH` or `postgres://…`; default `sqlite://var/prosector.db`. A password may come from the
    /// environment alone.
    pub(crate) url: String,
    /// File that holds the URL, for URLs with a password; replaces `url`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) url_file: Option<String>,
}

/// `[queue]`
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawQueue {
    /// `embedded:`, `amqp://…` or `amqps://…`; default `embedded:`. A password may come from the environment alone.
    pub(crate) url: String,
    /// File that holds the URL, for URLs with a password; replaces `url`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) url_file: Option<String>,
    /// Wait after which a job gets a turn now and then, whatever its priority; default `1h`.
    pub(crate) ageing: String,
    /// Time without a sign of life after which what a worker or deliverer has in hand goes to another; default `60s`.
    pub(crate) lease: String,
    /// Attempts after which a job whose workers died, or that failed for no lasting reason, waits for a person;
    /// default 5.
    pub(crate) attempts: Option<u32>,
}

/// `[spool]`
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawSpool {
    /// `file://PATH` or `s3://BUCKET/PREFIX`; default `file://var/spool`.
    pub(crate) url: String,
    /// Space to leave free on the file system, with a bucket on that of `s3.staging`: below it, instances are refused;
    /// default `1 GiB`.
    pub(crate) reserve: String,
    /// How long bytes are kept that nothing needs; default: for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retention: Option<RawRetention>,
    /// The service of a bucket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) s3: Option<RawS3>,
}

/// `[spool.retention]`: bytes go, rows stay, and never what a job or a delivery still needs.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawRetention {
    /// For received instances, from the last instance of their series on.
    pub(crate) instances: String,
    /// For results, from their making on.
    pub(crate) results: String,
}

/// `[spool.s3]`: the service that has the bucket of `spool.url`. Without a key of its own, the program uses what the
/// machine has: the variables of AWS, or a role of the container or of the machine.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawS3 {
    /// Address of the service, such as `https://s3.example:9000`; default: that of AWS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) endpoint: Option<String>,
    /// Region that requests are signed for; default: `AWS_REGION`, else `us-east-1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) region: Option<String>,
    /// File that holds the access key's id; read at the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) access_key_id_file: Option<String>,
    /// Environment variable that holds the access key's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) access_key_id_env: Option<String>,
    /// File that holds the secret access key; read at the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) secret_access_key_file: Option<String>,
    /// Environment variable that holds the secret access key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) secret_access_key_env: Option<String>,
    /// Folder of this machine for what is on its way to the bucket or from it; default `var/staging`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) staging: Option<String>,
}

/// `[api]`
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawApi {
    /// Address and port; default `127.0.0.1:8080`, loopback alone. Any other address needs `users_file`.
    pub(crate) bind: String,
    /// File with the people and programs that may use the page and REST; default: whoever is on this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) users_file: Option<String>,
    /// Address that browsers see, where a proxy stands in front: `https://prosector.example`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) public_url: Option<String>,
    /// Time without a request after which a person has to sign in again; default `30m`.
    pub(crate) session_idle: String,
}

/// `[self_test]`: a phantom through listener, queue and worker.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawSelfTest {
    /// When: `03:00` in UTC every day, or `off`; default `off`.
    pub(crate) at: String,
    /// Whether jobs that are made after a failed test wait until a person releases them; default no.
    pub(crate) holds_jobs: bool,
}

/// `[completeness]`
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawCompleteness {
    /// Time without a new instance after which a series counts as complete; default `10s`.
    pub(crate) quiet: String,
    /// Time without a new instance after which a study counts as complete, for protocols that take one series of it;
    /// default `60s`, and never less than `quiet`.
    pub(crate) study: String,
    /// Name of a destination that is asked by C-FIND how many instances a series has; default: nobody is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) query: Option<String>,
    /// Time without a new instance after which a series counts as complete though the PACS has more of it; default
    /// `10m`.
    pub(crate) query_patience: String,
}

/// `[routing]`
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawRouting {
    /// Folder of further files with `[[protocol]]`, read in the order of their names after the site
    /// file's own; relative to the site file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) folder: Option<String>,
    /// Whether protocols are read again when their files change; default `true`. SIGHUP always does it.
    pub(crate) watch: Option<bool>,
}

/// `[model]`
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawModel {
    /// Folder of model packs; default `models`. The phantom pack is built in.
    pub(crate) packs: String,
    /// Threads that compute; default 0: one per core.
    pub(crate) threads: Option<u32>,
    /// Memory that a volume may take while it is segmented, such as `24 GiB`, or `machine` for what the machine or its
    /// control group has; default `machine`. A volume that needs more is refused with an estimate.
    pub(crate) memory: String,
    /// Folder for what targets need beyond the memory: a file without name, gone when the volume is done; default: the
    /// spool's folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) scratch: Option<String>,
}

/// `[audit]`
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawAudit {
    /// File with the key that roots of the ledger are signed with, Ed25519 in PEM; default `var/ledger-root.pem`. With
    /// the embedded store it is made where it is missing, else by `prosector audit key`.
    pub(crate) root_key: String,
    /// File that signed roots are added to; default `var/ledger-roots.jsonl`. Keep copies of it elsewhere.
    pub(crate) roots: String,
    /// How often a root is signed; default `24h`.
    pub(crate) root_every: String,
    /// Where audit messages go (IHE ATNA); default: nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) syslog: Option<RawAuditSyslog>,
}

/// `[audit.syslog]`: an audit repository that takes DICOM audit messages (PS3.15 A.5) over syslog with TLS (RFC 5425).
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawAuditSyslog {
    /// Host and port of the repository; the port of syslog over TLS is 6514.
    pub(crate) address: Option<String>,
    /// Authorities, our certificate and its key; default: those whom the system trusts, and no certificate of ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls: Option<RawClientTls>,
    /// Whether messages name patient id and accession number; default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) patient_identifiers: Option<bool>,
    /// `AuditSourceID`; default: the AE title of the listener.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) source_id: Option<String>,
    /// `AuditEnterpriseSiteID`; default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) enterprise_site_id: Option<String>,
    /// Longest wait for the connection, and for the repository to close it; default `10s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) timeout: Option<String>,
}

/// `[log]`
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawLog {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter per module as `tracing` has it; default `info`.
    pub(crate) level: String,
    /// `text` or `json`; default `text`.
    pub(crate) format: String,
}

/// `[[destination]]`: `ae_title` and `address`, or `url`, or `folder`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawDestination {
    /// What protocols call it.
    pub(crate) name: Option<String>,
    /// AE title of the PACS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ae_title: Option<String>,
    /// Host and port of the PACS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) address: Option<String>,
    /// Root of DICOMweb services that take STOW-RS, such as `https://pacs.example.org/dicom-web`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) url: Option<String>,
    /// File that holds the bearer token for `url`; read for each connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token_file: Option<String>,
    /// Environment variable that holds the bearer token for `url`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token_env: Option<String>,
    /// Folder that receives results as files, in place of a PACS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) folder: Option<String>,
    /// Forms of the results that it gets, in place of those of the protocol.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) forms: Vec<String>,
    /// AE title that we call from; default: that of the listener.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) calling_ae_title: Option<String>,
    /// Whether it is asked for storage commitment after each result: a result counts as delivered when it has
    /// committed; default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) commitment: Option<bool>,
    /// Transfer syntaxes that results are offered in before the native one, the preferred one first: `rle` (label maps),
    /// `deflated`; default none. What the destination does not take goes to it as it is.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "words")]
    pub(crate) compress: Vec<String>,
    /// How to make sure that it has a result, where it does not commit: `find` (C-FIND, QIDO-RS), or `read_back` (C-GET,
    /// WADO-RS, and digests compared); a result counts as delivered when that is so; default: its answer is enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) proof: Option<String>,
    /// Encrypts the connection; default: in the clear.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls: Option<RawClientTls>,
    /// How long to wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) timeouts: Option<RawTimeouts>,
    /// What to do when sending fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retry: Option<RawRetry>,
}

/// `tls` of whom we call; an empty table is enough where the system trusts its certificate.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawClientTls {
    /// PEM file of the authorities that certify the other side; default: those that the system trusts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<String>,
    /// PEM file of the certificate that we show.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) certificate: Option<String>,
    /// PEM file of its private key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    /// Name that its certificate must be for; default: its host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) server_name: Option<String>,
}

/// `timeouts` of a destination.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawTimeouts {
    /// Opening the connection; default `10s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) connect: Option<String>,
    /// Negotiating the association; default `30s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) negotiate: Option<String>,
    /// Answer to one C-STORE or C-ECHO; default `120s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) response: Option<String>,
    /// Report of storage commitment, after which it is asked for again; default `10m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) commitment: Option<String>,
}

/// `retry` of a destination: the wait doubles from `first` to `longest`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawRetry {
    /// Wait before the second attempt; default `5s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) first: Option<String>,
    /// Longest wait between attempts; default `10m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) longest: Option<String>,
    /// Time after which a delivery counts as failed; default `7d`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) give_up: Option<String>,
}

/// `[[protocol]]`
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawProtocol {
    /// Letters, digits, `-`, `_` and `.`, unique.
    pub(crate) name: Option<String>,
    /// Which series it takes: a table of conditions that must all hold.
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    pub(crate) matches: Option<Map<String, Value>>,
    /// Name of a folder in `model.packs`, or `phantom`.
    pub(crate) model: Option<String>,
    /// Which of several matching series of a study it takes: `all`, `first` or `best`; default `all`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) choose: Option<String>,
    /// Conditions that make a series more welcome, for `choose = "best"`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) prefer: Vec<Map<String, Value>>,
    /// Name of a pack that runs beside `model` when nothing else waits, and whose results are kept to be compared, never
    /// sent; default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) shadow: Option<String>,
    /// Prompts, SNOMED CT codes, sets (`@ct_abdomen`), or tables with own codes.
    pub(crate) targets: Vec<Value>,
    /// `stat`, `urgent`, `routine` or `backfill`; default `routine`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) priority: Option<String>,
    /// Windows of the day in UTC in one of which its jobs begin, such as `20:00-06:00`; default: at any time.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "words")]
    pub(crate) hours: Vec<String>,
    /// How many of its jobs are begun; default: any number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) limits: Option<RawLimits>,
    /// `RAS`, or `ASR` for sagittal scans of the spine; default `RAS`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) orientation: Option<String>,
    /// `reference`, the published tiling, or `fast`, with fewer windows; default `reference`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mode: Option<String>,
    /// Forms of the result, in order of preference: `seg`, `labelmap`, `sr`, `picture`, `rtstruct`; default `["seg"]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) forms: Vec<String>,
    /// Names of destinations.
    pub(crate) destinations: Vec<String>,
    /// What is expected of the targets, and which findings keep a result back; default: nothing does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) plausibility: Option<RawPlausibility>,
}

/// `plausibility` of a protocol. Targets are named by prompt, synonym or code.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawPlausibility {
    /// Findings that keep a result back until a person releases it: `empty`, `cut_off`, `fragments`, `side`, `volume`,
    /// or `all` alone; default none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) hold: Vec<String>,
    /// Targets that are to be found in every series.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) expected: Vec<String>,
    /// Targets that need not be there, wherever the scan was taken.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) optional: Vec<String>,
    /// Least and largest volume of targets in mL: `{ liver = [800, 2500] }`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) volume_ml: BTreeMap<String, Vec<f64>>,
    /// Parts that targets have: `{ spleen = 2 }`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) parts: BTreeMap<String, u32>,
}

/// `limits` of a protocol.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawLimits {
    /// Jobs that run at the same time, over all workers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) concurrent: Option<u32>,
    /// Jobs that are begun between two midnights, UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) per_day: Option<u32>,
}

/// Reads a list of words, or one text with commas between them: the environment has no lists.
fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct Words;

    impl<'de> Visitor<'de> for Words {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of texts")
        }

        fn visit_str<E>(self, text: &str) -> Result<Vec<String>, E> {
            let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
            Ok(words.map(str::to_owned).collect())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<String>, A::Error> {
            let mut words = Vec::new();
            while let Some(word) = list.next_element()? {
                words.push(word);
            }
            Ok(words)
        }
    }

    deserializer.deserialize_any(Words)
}
