//! Checks a raw configuration, section by section, and notes everything that is wrong.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Display;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use dicom_types::AeTitle;

use super::problem::{FieldPath, Problems};
use super::quantity::{parse_duration, parse_size};
use super::raw::{
    RawApi, RawAudit, RawAuditSyslog, RawConfig, RawDestination, RawListener, RawLog, RawModel,
    RawQueue, RawRetry, RawSelfTest, RawTimeouts,
};
use super::section::{
    Api, Audit, AuditSyslog, Called, CommitmentAddress, Completeness, Destination, DestinationKind,
    DimseDestination, Leases, Listener, Log, LogFormat, Model, Queue, Retry, Routing, SelfTest,
    Store,
};
use super::{Config, ServiceUrl, compression, dicomweb, proof, spool, suggest, tls};
use crate::protocol::{Forms, Protocol};

/// Smallest PDU that PS3.8 D.1 lets a peer expect to get a header into, with room for data.
const MIN_PDU_BYTES: u64 = 4096;
/// Largest PDU that peers are known to send.
const MAX_PDU_BYTES: u64 = 16 << 20;

/// Shorter leases lapse whenever a database takes a breath.
const SHORTEST_LEASE: Duration = Duration::from_secs(2);

/// In front of the address of a peer that is called over TLS.
const OVER_TLS: &str = "tls://";

/// Checks `raw`; nothing comes back when a problem was noted that leaves a section without a value.
pub(crate) fn config(raw: &RawConfig, problems: &mut Problems) -> Option<Config> {
    let root = FieldPath::root();
    let listener = listener(&raw.listener, &root.key("listener"), problems);
    let store = store(&raw.store.url, &root.key("store").key("url"), problems);
    let queue = queue(&raw.queue.url, &root.key("queue").key("url"), problems);
    let ageing = duration(&raw.queue.ageing, &root.key("queue").key("ageing"), problems);
    let leases = leases(&raw.queue, &root.key("queue"), problems);
    let spool = spool::spool(&raw.spool, &root.key("spool"), problems);
    let api = api(&raw.api, &root.key("api"), problems);
    let self_test = self_test(&raw.self_test, &root.key("self_test"), problems);
    let has_clear_port = raw.listener.tls.as_ref().is_none_or(|tls| tls.bind.is_some());
    if self_test.is_some() && !has_clear_port {
        let message = "needs the clear port; give listener.tls a bind of its own";
        problems.error(&root.key("self_test"), message);
    }
    let quiet_path = root.key("completeness").key("quiet");
    let quiet = duration(&raw.completeness.quiet, &quiet_path, problems);
    let study_path = root.key("completeness").key("study");
    let study = duration(&raw.completeness.study, &study_path, problems);
    // A study is not complete before its series are.
    let study = study.max(quiet);
    let patience_path = root.key("completeness").key("query_patience");
    let query_patience = duration(&raw.completeness.query_patience, &patience_path, problems);
    let model = model(&raw.model, &root.key("model"), problems);
    let our_ae_title = listener.as_ref().map(|listener| &listener.ae_title);
    let audit = audit(&raw.audit, our_ae_title, &root.key("audit"), problems);
    let log = log(&raw.log, &root.key("log"), problems);
    let destinations = destinations(&raw.destinations, our_ae_title, problems);
    if let Some(name) = &raw.completeness.query {
        let path = root.key("completeness").key("query");
        dimse_peer(name, &destinations, &path, problems);
    }
    let names: HashSet<&str> =
        raw.destinations.iter().filter_map(|destination| destination.name.as_deref()).collect();
    let protocols = Protocol::read_all(&raw.protocols, &names, problems);
    if raw.protocols.is_empty() {
        problems
            .warn(&root.key("protocol"), "no protocol: series are received and never segmented");
    }
    Some(Config {
        file: None,
        listener: listener?,
        store: store?,
        queue: queue?,
        ageing: ageing?,
        leases: leases?,
        spool: spool?,
        api: api?,
        self_test,
        completeness: Completeness {
            quiet: quiet?,
            study: study?,
            query: raw.completeness.query.clone(),
            query_patience: query_patience?,
        },
        routing: Routing {
            folder: raw.routing.folder.as_ref().map(PathBuf::from),
            watch: raw.routing.watch.unwrap_or(true),
        },
        model,
        audit: audit?,
        log: log?,
        destinations,
        protocols,
    })
}

/// Notes a name that is no destination which answers C-FIND.
fn dimse_peer(name: &str, destinations: &[Destination], path: &FieldPath, problems: &mut Problems) {
    match destinations.iter().find(|destination| destination.name == name) {
        Some(Destination { kind: DestinationKind::Dimse(_), .. }) => {}
        Some(_) => problems.error(path, "is no destination with an ae_title and an address"),
        None => {
            let known = destinations.iter().map(|destination| destination.name.as_str());
            problems.error(path, format!("no destination {name:?}{}", suggest::hint(name, known)));
        }
    }
}

fn listener(raw: &RawListener, path: &FieldPath, problems: &mut Problems) -> Option<Listener> {
    let ae_title = parsed(&raw.ae_title, &path.key("ae_title"), problems, ToString::to_string);
    let bind = parsed(&raw.bind, &path.key("bind"), problems, address_hint);
    let calling = ae_titles(&raw.calling_ae_titles, &path.key("calling_ae_titles"), problems);
    let called_path = path.key("called_ae_titles");
    let called = if raw.called_ae_titles.iter().any(|title| title == "*") {
        Called::Any
    } else {
        let mut titles = ae_titles(&raw.called_ae_titles, &called_path, problems);
        titles.extend(ae_title.clone());
        Called::These(titles)
    };
    let max_associations = raw.max_associations.unwrap_or_default();
    if max_associations == 0 {
        problems.error(&path.key("max_associations"), "must be at least 1");
    }
    let max_associations_per_peer = raw.max_associations_per_peer.unwrap_or(max_associations);
    if raw.max_associations_per_peer == Some(0) {
        problems.error(&path.key("max_associations_per_peer"), "must be at least 1");
    }
    let peers_path = path.key("peers");
    let ranges = raw.peers.iter().enumerate();
    let peers = ranges
        .filter_map(|(i, text)| parsed(text, &peers_path.index(i), problems, ToString::to_string))
        .collect();
    let pdu_path = path.key("max_pdu");
    let max_pdu = problems.take(&pdu_path, parse_size(&raw.max_pdu));
    let is_sensible = |size: &u64| (MIN_PDU_BYTES..=MAX_PDU_BYTES).contains(size);
    if max_pdu.is_some_and(|size| !is_sensible(&size)) {
        problems.error(&pdu_path, "must lie between 4 KiB and 16 MiB");
    }
    let max_instance = problems.take(&path.key("max_instance"), parse_size(&raw.max_instance));
    let negotiation_timeout =
        duration(&raw.negotiation_timeout, &path.key("negotiation_timeout"), problems);
    let idle_timeout = duration(&raw.idle_timeout, &path.key("idle_timeout"), problems);
    let commitment = commitment_addresses(raw, path, problems);
    let tls = raw.tls.as_ref();
    let tls = tls.and_then(|raw| tls::listener(raw, bind, &path.key("tls"), problems));
    Some(Listener {
        ae_title: ae_title?,
        bind: bind?,
        calling_ae_titles: calling,
        called,
        max_associations,
        max_associations_per_peer,
        peers,
        max_pdu_bytes: max_pdu.filter(is_sensible)? as u32,
        max_instance_bytes: max_instance?,
        negotiation_timeout: negotiation_timeout?,
        idle_timeout: idle_timeout?,
        commitment,
        tls,
    })
}

fn commitment_addresses(
    raw: &RawListener,
    path: &FieldPath,
    problems: &mut Problems,
) -> BTreeMap<AeTitle, CommitmentAddress> {
    let is_encrypted = |address: &String| address.starts_with(OVER_TLS);
    let tls = if raw.commitment_tls.is_some() || raw.commitment.values().any(is_encrypted) {
        let tls = raw.commitment_tls.clone().unwrap_or_default();
        tls::client(&tls, &path.key("commitment_tls"), problems)
    } else {
        None
    };
    let mut addresses = BTreeMap::new();
    for (title, text) in &raw.commitment {
        let path = path.key("commitment").key(title);
        let title = parsed(title, &path, problems, ToString::to_string);
        let address = text.strip_prefix(OVER_TLS).unwrap_or(text).to_owned();
        if !is_host_and_port(&address) {
            let message = format!("{text:?} is not host:port, as in \"10.1.2.3:104\"");
            problems.error(&path, message);
        }
        let tls = if is_encrypted(text) { tls.clone() } else { None };
        addresses.extend(title.map(|title| (title, CommitmentAddress { address, tls })));
    }
    addresses
}

fn store(url: &str, path: &FieldPath, problems: &mut Problems) -> Option<Store> {
    let url = ServiceUrl::new(url);
    let is_known = matches!(url.scheme(), "sqlite" | "postgres" | "postgresql");
    if !is_known || url.location().is_empty() {
        problems
            .error(path, format!("{url} is neither sqlite://PATH nor postgres://HOST/DATABASE"));
        return None;
    }
    Some(Store { url })
}

fn queue(url: &str, path: &FieldPath, problems: &mut Problems) -> Option<Queue> {
    let url = ServiceUrl::new(url);
    match url.scheme() {
        "embedded" => Some(Queue::Embedded),
        "amqp" | "amqps" if !url.location().is_empty() => Some(Queue::Amqp(url)),
        _ => {
            problems.error(path, format!("{url} is none of embedded:, amqp://HOST, amqps://HOST"));
            None
        }
    }
}

fn leases(raw: &RawQueue, path: &FieldPath, problems: &mut Problems) -> Option<Leases> {
    let lease_path = path.key("lease");
    let lasting = duration(&raw.lease, &lease_path, problems);
    let is_too_short = lasting.is_some_and(|lasting| lasting < SHORTEST_LEASE);
    if is_too_short {
        problems.error(&lease_path, "must be at least 2s");
    }
    let attempts = raw.attempts.and_then(NonZeroU32::new);
    if attempts.is_none() {
        problems.error(&path.key("attempts"), "must be at least 1");
    }
    Some(Leases { lasting: lasting.filter(|_| !is_too_short)?, attempts: attempts? })
}

fn api(raw: &RawApi, path: &FieldPath, problems: &mut Problems) -> Option<Api> {
    let bind_path = path.key("bind");
    let bind = parsed(&raw.bind, &bind_path, problems, address_hint);
    if raw.users_file.is_none() && bind.is_some_and(|bind: SocketAddr| !bind.ip().is_loopback()) {
        let message = format!(
            "{} can be reached from other machines, and nobody has to sign in: name the users in api.users_file, or \
             bind to 127.0.0.1",
            raw.bind
        );
        problems.error(&bind_path, message);
    }
    let public_origin = match &raw.public_url {
        None => None,
        Some(url) => {
            let origin = url.trim_end_matches('/');
            let host = origin.strip_prefix("https://").or(origin.strip_prefix("http://"));
            if host.is_none_or(|host| host.is_empty() || host.contains(['/', '@', ' '])) {
                let message = format!(
                    "{url:?} is not a scheme and a host, as in \"https://prosector.example\""
                );
                problems.error(&path.key("public_url"), message);
            }
            Some(origin.to_ascii_lowercase())
        }
    };
    let session_idle = duration(&raw.session_idle, &path.key("session_idle"), problems);
    Some(Api {
        bind: bind?,
        users_file: raw.users_file.as_ref().map(PathBuf::from),
        public_origin,
        session_idle: session_idle?,
    })
}

/// Nothing where there is to be no test, or where the text is wrong.
fn self_test(raw: &RawSelfTest, path: &FieldPath, problems: &mut Problems) -> Option<SelfTest> {
    if raw.at == "off" {
        return None;
    }
    let time = raw.at.split_once(':').and_then(|(hours, minutes)| {
        let is_plain = |text: &str| text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
        if !is_plain(hours) || !is_plain(minutes) {
            return None;
        }
        time::Time::from_hms(hours.parse().ok()?, minutes.parse().ok()?, 0).ok()
    });
    let Some(at) = time else {
        let message =
            format!("{:?} is neither a time of day, as in \"03:00\", nor \"off\"", raw.at);
        problems.error(&path.key("at"), message);
        return None;
    };
    Some(SelfTest { at, holds_jobs: raw.holds_jobs })
}

fn model(raw: &RawModel, path: &FieldPath, problems: &mut Problems) -> Model {
    let threads = raw.threads.and_then(|threads| NonZeroUsize::new(threads as usize));
    let memory_path = path.key("memory");
    let memory_bytes = match raw.memory.as_str() {
        "machine" => None,
        text => problems.take(&memory_path, parse_size(text)),
    };
    if memory_bytes == Some(0) {
        problems.error(&memory_path, "must be more than nothing");
    }
    let scratch = raw.scratch.as_ref().map(PathBuf::from);
    Model { packs: PathBuf::from(&raw.packs), threads, memory_bytes, scratch }
}

fn audit(
    raw: &RawAudit,
    our_ae_title: Option<&AeTitle>,
    path: &FieldPath,
    problems: &mut Problems,
) -> Option<Audit> {
    for (key, value) in [("root_key", &raw.root_key), ("roots", &raw.roots)] {
        if value.is_empty() {
            problems.error(&path.key(key), "must not be empty");
        }
    }
    let root_every = duration(&raw.root_every, &path.key("root_every"), problems);
    let syslog = raw.syslog.as_ref();
    let syslog =
        syslog.and_then(|raw| audit_syslog(raw, our_ae_title, &path.key("syslog"), problems));
    Some(Audit {
        root_key: PathBuf::from(&raw.root_key),
        roots: PathBuf::from(&raw.roots),
        root_every: root_every?,
        syslog,
    })
}

fn audit_syslog(
    raw: &RawAuditSyslog,
    our_ae_title: Option<&AeTitle>,
    path: &FieldPath,
    problems: &mut Problems,
) -> Option<AuditSyslog> {
    let address_path = path.key("address");
    match raw.address.as_deref() {
        None => problems.error(&address_path, "missing"),
        Some(address) if !is_host_and_port(address) => {
            let message = format!("{address:?} is not host:port, as in \"10.1.2.3:6514\"");
            problems.error(&address_path, message);
        }
        Some(_) => {}
    }
    for (key, value) in
        [("source_id", &raw.source_id), ("enterprise_site_id", &raw.enterprise_site_id)]
    {
        let is_token = |text: &String| {
            (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if value.as_ref().is_some_and(|text| !is_token(text)) {
            problems
                .error(&path.key(key), "is not 1 to 64 printable ASCII characters without blanks");
        }
    }
    let timeout = raw.timeout.as_deref().unwrap_or("10s");
    let timeout = duration(timeout, &path.key("timeout"), problems);
    let tls = tls::client(&raw.tls.clone().unwrap_or_default(), &path.key("tls"), problems);
    let source_id = raw.source_id.clone().or_else(|| our_ae_title.map(ToString::to_string));
    Some(AuditSyslog {
        address: raw.address.clone()?,
        tls: tls?,
        patient_identifiers: raw.patient_identifiers.unwrap_or(false),
        source_id: source_id?,
        enterprise_site_id: raw.enterprise_site_id.clone(),
        timeout: timeout?,
    })
}

fn log(raw: &RawLog, path: &FieldPath, problems: &mut Problems) -> Option<Log> {
    let filter = raw.level.parse::<tracing_subscriber::filter::EnvFilter>();
    if filter.is_err() {
        problems.error(
            &path.key("level"),
            format!("{:?} is none of error, warn, info, debug, trace, and no filter", raw.level),
        );
    }
    let format = match raw.format.as_str() {
        "text" => LogFormat::Text,
        "json" => LogFormat::Json,
        other => {
            problems.error(&path.key("format"), format!("{other:?} is neither text nor json"));
            return None;
        }
    };
    Some(Log { level: raw.level.clone(), format })
}

fn destinations(
    raw: &[RawDestination],
    our_ae_title: Option<&AeTitle>,
    problems: &mut Problems,
) -> Vec<Destination> {
    let mut seen = HashSet::new();
    let mut checked = Vec::new();
    for (index, raw) in raw.iter().enumerate() {
        let path = FieldPath::root().key("destination").index(index);
        let name = name(raw.name.as_deref(), &path.key("name"), &mut seen, problems);
        let kind = destination_kind(raw, our_ae_title, &path, problems);
        let retry = retry(&raw.retry.clone().unwrap_or_default(), &path.key("retry"), problems);
        let forms = match raw.forms.as_slice() {
            [] => None,
            words => Forms::read(words, &path.key("forms"), problems),
        };
        let proof = proof::of(raw, &path, problems);
        if let (Some(name), Some(kind), Some(retry)) = (name, kind, retry) {
            checked.push(Destination { name, kind, forms, retry, proof });
        }
    }
    checked
}

fn destination_kind(
    raw: &RawDestination,
    our_ae_title: Option<&AeTitle>,
    path: &FieldPath,
    problems: &mut Problems,
) -> Option<DestinationKind> {
    let kinds =
        [raw.folder.is_some(), raw.url.is_some(), raw.ae_title.is_some() || raw.address.is_some()];
    if kinds.into_iter().filter(|named| *named).count() > 1 {
        problems.error(path, "a destination is a folder, a url, or an ae_title and an address");
    }
    if raw.url.is_none() {
        for (key, value) in [("token_file", &raw.token_file), ("token_env", &raw.token_env)] {
            if value.is_some() {
                problems.error(&path.key(key), "only a destination with a url has a token");
            }
        }
    }
    if raw.commitment == Some(true) && (raw.folder.is_some() || raw.url.is_some()) {
        problems.error(&path.key("commitment"), "only a destination with an ae_title commits");
    }
    let tls = raw.tls.as_ref();
    let tls = tls.and_then(|tls| tls::client(tls, &path.key("tls"), problems));
    if let Some(folder) = &raw.folder {
        if raw.tls.is_some() {
            problems.error(&path.key("tls"), "a folder has no connection to encrypt");
        }
        compression::of(raw, path, problems);
        if folder.is_empty() {
            problems.error(&path.key("folder"), "must not be empty");
        }
        return Some(DestinationKind::Folder(PathBuf::from(folder)));
    }
    // What else is wrong is said, too.
    let timeouts = timeouts(raw, path, problems);
    if let Some(url) = &raw.url {
        let destination = dicomweb::destination(raw, url, tls, timeouts, path, problems)?;
        return Some(DestinationKind::Dicomweb(destination));
    }
    let (Some(ae_title), Some(address)) = (&raw.ae_title, &raw.address) else {
        for (key, value) in [("ae_title", &raw.ae_title), ("address", &raw.address)] {
            let key = path.key(key);
            if value.is_none() {
                problems.error(&key, "missing");
            }
        }
        return None;
    };
    let ae_title = parsed(ae_title, &path.key("ae_title"), problems, ToString::to_string);
    let calling_path = path.key("calling_ae_title");
    let calling_ae_title = match &raw.calling_ae_title {
        Some(title) => parsed(title, &calling_path, problems, ToString::to_string),
        None => our_ae_title.cloned(),
    };
    if !is_host_and_port(address) {
        let message = format!("{address:?} is not host:port, as in \"127.0.0.1:4242\"");
        problems.error(&path.key("address"), message);
    }
    let compress = compression::of(raw, path, problems);
    let timeouts = timeouts?;
    Some(DestinationKind::Dimse(DimseDestination {
        ae_title: ae_title?,
        calling_ae_title: calling_ae_title?,
        address: address.clone(),
        commitment: raw.commitment.unwrap_or_default(),
        commitment_timeout: timeouts.commitment,
        compress,
        tls,
        connect_timeout: timeouts.connect,
        negotiate_timeout: timeouts.negotiate,
        response_timeout: timeouts.response,
    }))
}

/// `timeouts` of a destination.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timeouts {
    pub(super) connect: Duration,
    negotiate: Duration,
    pub(super) response: Duration,
    commitment: Duration,
}

fn timeouts(raw: &RawDestination, path: &FieldPath, problems: &mut Problems) -> Option<Timeouts> {
    let RawTimeouts { connect, negotiate, response, commitment } =
        raw.timeouts.clone().unwrap_or_default();
    let path = path.key("timeouts");
    let mut timeout = |text: Option<String>, key: &str, default: u64| match text {
        Some(text) => duration(&text, &path.key(key), problems),
        None => Some(Duration::from_secs(default)),
    };
    let connect = timeout(connect, "connect", 10);
    let negotiate = timeout(negotiate, "negotiate", 30);
    let response = timeout(response, "response", 120);
    let commitment = timeout(commitment, "commitment", 600);
    Some(Timeouts {
        connect: connect?,
        negotiate: negotiate?,
        response: response?,
        commitment: commitment?,
    })
}

fn retry(raw: &RawRetry, path: &FieldPath, problems: &mut Problems) -> Option<Retry> {
    let mut wait = |text: &Option<String>, key: &str, default: u64| match text {
        Some(text) => duration(text, &path.key(key), problems),
        None => Some(Duration::from_secs(default)),
    };
    let first = wait(&raw.first, "first", 5);
    let longest = wait(&raw.longest, "longest", 600);
    let give_up = wait(&raw.give_up, "give_up", 7 * 86_400);
    let retry = Retry { first: first?, longest: longest?, give_up: give_up? };
    if retry.first > retry.longest {
        problems.error(&path.key("first"), "longer than the longest wait");
    }
    Some(retry)
}

/// A name that others refer to: letters, digits, `-`, `_`, `.`, unique.
pub(crate) fn name(
    raw: Option<&str>,
    path: &FieldPath,
    seen: &mut HashSet<String>,
    problems: &mut Problems,
) -> Option<String> {
    let Some(name) = raw else {
        problems.error(path, "missing");
        return None;
    };
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_plain = (1..=64).contains(&name.len()) && name.chars().all(allowed);
    if !is_plain || name.starts_with('.') {
        let rule =
            "a name has 1 to 64 letters, digits, '-', '_' or '.', and does not start with '.'";
        problems.error(path, format!("{name:?} is no name: {rule}"));
        return None;
    }
    if !seen.insert(name.to_owned()) {
        problems.error(path, format!("{name:?} is taken by an earlier one"));
        return None;
    }
    Some(name.to_owned())
}

fn ae_titles(raw: &[String], path: &FieldPath, problems: &mut Problems) -> Vec<AeTitle> {
    let numbered = raw.iter().enumerate();
    numbered
        .filter_map(|(i, text)| parsed(text, &path.index(i), problems, ToString::to_string))
        .collect()
}

pub(super) fn parsed<T: FromStr>(
    text: &str,
    path: &FieldPath,
    problems: &mut Problems,
    explain: impl Fn(&T::Err) -> String,
) -> Option<T>
where
    T::Err: Display,
{
    match text.parse() {
        Ok(value) => Some(value),
        Err(error) => {
            problems.error(path, format!("{text:?}: {}", explain(&error)));
            None
        }
    }
}

pub(super) fn address_hint(_: &<SocketAddr as FromStr>::Err) -> String {
    "not an IP address and port, as in \"127.0.0.1:11112\" or \"[::]:11112\"".to_owned()
}

fn is_host_and_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let is_bracketed = host.starts_with('[') && host.ends_with(']') && host.len() > 2;
    let is_plain = !host.is_empty() && !host.contains([':', '/', ' ', '@']);
    (is_bracketed || is_plain) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

fn duration(text: &str, path: &FieldPath, problems: &mut Problems) -> Option<Duration> {
    let duration = problems.take(path, parse_duration(text))?;
    if duration.is_zero() {
        problems.error(path, "must be longer than nothing");
        return None;
    }
    Some(duration)
}
