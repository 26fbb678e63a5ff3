//! The configuration: built-in defaults, a site file, the environment, in this order.
//!
//! [`RawConfig`] is what a person writes; [`Config`] is what components receive. Everything that is wrong is reported
//! at once, each at its place.

mod compression;
mod dicomweb;
mod folder;
mod origin;
mod problem;
mod proof;
mod quantity;
mod raw;
mod section;
mod service_url;
mod spool;
mod strict;
pub(crate) mod suggest;
mod tls;
mod validate;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::{Environment, File, FileFormat, Value, ValueKind};
use serde_json::Value as Json;

use crate::protocol::Protocol;
use folder::ProtocolFiles;

pub(crate) use problem::{ConfigError, FieldPath, Problem, Problems};
pub(crate) use raw::{RawConfig, RawPlausibility, RawProtocol};
pub(crate) use section::*;
pub(crate) use service_url::ServiceUrl;
pub(crate) use validate::name;

const DEFAULTS: &str = include_str!("defaults.toml");
const EMBEDDED: &str = include_str!("embedded.toml");

/// A configuration that holds.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// The site file, where there is one.
    pub(crate) file: Option<PathBuf>,
    /// Who may send, and where to.
    pub(crate) listener: Listener,
    /// Where rows are kept.
    pub(crate) store: Store,
    /// How workers hear of jobs.
    pub(crate) queue: Queue,
    /// Wait after which a job gets a turn, whatever its priority.
    pub(crate) ageing: Duration,
    /// Rights to work in hand.
    pub(crate) leases: Leases,
    /// Where received instances are kept.
    pub(crate) spool: Spool,
    /// The web page, REST, metrics and health.
    pub(crate) api: Api,
    /// When a phantom is sent through the service, if ever.
    pub(crate) self_test: Option<SelfTest>,
    /// When a series counts as complete.
    pub(crate) completeness: Completeness,
    /// Where further protocols are.
    pub(crate) routing: Routing,
    /// Model packs and how they run.
    pub(crate) model: Model,
    /// How the ledger is kept honest.
    pub(crate) audit: Audit,
    /// What is logged.
    pub(crate) log: Log,
    /// Where results go.
    pub(crate) destinations: Vec<Destination>,
    /// What to segment in which series, in the order in which series are matched.
    pub(crate) protocols: Vec<Protocol>,
}

impl Config {
    /// The protocol called `name`.
    pub(crate) fn protocol(&self, name: &str) -> Option<&Protocol> {
        self.protocols.iter().find(|protocol| protocol.name == name)
    }

    /// Whether nothing but protocols differs.
    pub(crate) fn is_same_but_for_protocols(&self, other: &Self) -> bool {
        let sections = |config: &Self| {
            let without = Self { protocols: Vec::new(), ..config.clone() };
            format!("{without:?}")
        };
        sections(self) == sections(other)
    }
}

/// A configuration with what should be said about it.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// What holds.
    pub(crate) config: Config,
    /// The same as it would be written, without passwords.
    pub(crate) effective: RawConfig,
    /// What does not stop the start.
    pub(crate) warnings: Vec<Problem>,
    /// Whether the built-in protocol and destination are in use, as nobody named any.
    pub(crate) is_embedded: bool,
}

/// Reads `file`, if there is one, and the environment over the built-in defaults.
///
/// # Errors
/// [`ConfigError`] with everything that is wrong.
pub(crate) fn load(file: Option<&Path>, packs: Packs) -> Result<Loaded, ConfigError> {
    let site = match file {
        Some(path) => Some(SiteFile::read(path)?),
        None => None,
    };
    assemble(site.as_ref(), None, packs)
}

/// Whether the model packs that protocols name must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packs {
    /// They will be used.
    Needed,
    /// The command does without: it imports one, or names its own.
    NotNeeded,
}

/// A site file and its text, in which places are looked up.
#[derive(Debug)]
struct SiteFile {
    path: PathBuf,
    text: String,
}

impl SiteFile {
    fn read(path: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|error| single(path, error.to_string()))?;
        Ok(Self { path: path.to_owned(), text })
    }
}

fn single(file: &Path, message: String) -> ConfigError {
    let problem = Problem { path: FieldPath::root(), message, origin: None };
    ConfigError { file: Some(file.display().to_string()), problems: vec![problem] }
}

/// Joins the layers. `environment` replaces the environment of the process.
fn assemble(
    site: Option<&SiteFile>,
    environment: Option<HashMap<String, String>>,
    packs: Packs,
) -> Result<Loaded, ConfigError> {
    let mut problems = Problems::default();
    let mut tree = layers(site, environment)?;
    if let Some(site) = site {
        refuse_passwords(site, &mut problems);
    }
    let files = ProtocolFiles::append(&mut tree, site, &mut problems);
    let is_embedded = !has_key(&tree, "destination") && !has_key(&tree, "protocol");
    if is_embedded {
        add_embedded(&mut tree);
    }
    let raw: Option<RawConfig> = strict::read(tree, &mut problems);
    let raw = raw.map(|raw| with_url_files(raw, &mut problems));
    let mut config = raw.as_ref().and_then(|raw| validate::config(raw, &mut problems));
    if let (Some(config), Some(site)) = (&mut config, site) {
        config.file = Some(site.path.clone());
    }
    if let (Some(config), Packs::Needed) = (&config, packs) {
        crate::packs::check(config, &mut problems);
    }
    let is_wrong = problems.any();
    let (mut errors, mut warnings) = problems.into_sorted();
    for problems in [&mut errors, &mut warnings] {
        let found = std::mem::take(problems);
        *problems = found.into_iter().map(|problem| placed(site, &files, problem)).collect();
    }
    match (raw, config) {
        (Some(raw), Some(config)) if !is_wrong => {
            Ok(Loaded { config, effective: redacted(raw), warnings, is_embedded })
        }
        _ => {
            let file = site.map(|site| site.path.display().to_string());
            Err(ConfigError { file, problems: errors })
        }
    }
}

fn layers(
    site: Option<&SiteFile>,
    environment: Option<HashMap<String, String>>,
) -> Result<Value, ConfigError> {
    let mut builder =
        config::Config::builder().add_source(File::from_str(DEFAULTS, FileFormat::Toml));
    if let Some(site) = site {
        builder = builder.add_source(File::from_str(&site.text, FileFormat::Toml));
    }
    let variables = Environment::with_prefix("PROSECTOR")
        .prefix_separator("__")
        .separator("__")
        .source(environment);
    match builder.add_source(variables).build() {
        Ok(config) => Ok(config.cache),
        Err(error) => {
            let path = site.map_or(Path::new("environment"), |site| &site.path);
            Err(single(path, parse_error(error)))
        }
    }
}

/// The parser's own text: it shows the line and what was expected there.
fn parse_error(error: config::ConfigError) -> String {
    match error {
        config::ConfigError::FileParse { cause, .. } => cause.to_string().trim_end().to_owned(),
        other => other.to_string(),
    }
}

fn has_key(tree: &Value, key: &str) -> bool {
    matches!(&tree.kind, ValueKind::Table(table) if table.contains_key(key))
}

fn add_embedded(tree: &mut Value) {
    let source = File::from_str(EMBEDDED, FileFormat::Toml);
    let embedded = config::Config::builder()
        .add_source(source)
        .build()
        .expect("the embedded default is read by a test");
    if let (ValueKind::Table(table), ValueKind::Table(added)) =
        (&mut tree.kind, embedded.cache.kind)
    {
        table.extend(added);
    }
}

/// Notes every URL of the site file that carries a password: it belongs into the environment or a file of its own.
fn refuse_passwords(site: &SiteFile, problems: &mut Problems) {
    let source = File::from_str(&site.text, FileFormat::Toml);
    let Ok(mut tree) = config::Config::builder().add_source(source).build() else { return };
    for section in ["store", "queue"] {
        let path = FieldPath::root().key(section).key("url");
        let Some(value) = strict::find(&mut tree.cache, path.steps()) else { continue };
        let ValueKind::String(url) = &value.kind else { continue };
        if ServiceUrl::new(url.as_str()).has_password() {
            let variable = origin::variable(&path).unwrap_or_default();
            let message = format!(
                "a password must not stand in the site file; set {variable}, or name a file in {section}.url_file"
            );
            problems.error(&path, message);
        }
    }
}

/// Replaces each URL by what its file holds, where a file is named.
fn with_url_files(mut raw: RawConfig, problems: &mut Problems) -> RawConfig {
    let sections = [
        ("store", &mut raw.store.url, &raw.store.url_file),
        ("queue", &mut raw.queue.url, &raw.queue.url_file),
    ];
    for (section, url, file) in sections {
        let Some(file) = file else { continue };
        match std::fs::read_to_string(file) {
            Ok(text) => text.trim().clone_into(url),
            Err(error) => {
                let path = FieldPath::root().key(section).key("url_file");
                problems.error(&path, format!("cannot read {file:?}: {error}"));
            }
        }
    }
    raw
}

/// What `config show` prints: without passwords, and the same every time.
fn redacted(mut raw: RawConfig) -> RawConfig {
    for protocol in &mut raw.protocols {
        for table in protocol.matches.iter_mut().chain(&mut protocol.prefer) {
            if let Json::Object(ordered) = in_order(Json::Object(std::mem::take(table))) {
                *table = ordered;
            }
        }
    }
    // Its protocols stand among the others already.
    raw.routing.folder = None;
    raw.store.url = ServiceUrl::new(raw.store.url).redacted();
    raw.queue.url = ServiceUrl::new(raw.queue.url).redacted();
    raw
}

/// The same value with the keys of every table sorted: tables of a site file come in no order.
pub(crate) fn in_order(value: Json) -> Json {
    match value {
        Json::Object(table) => {
            let mut entries: Vec<(String, Json)> = table.into_iter().collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Json::Object(entries.into_iter().map(|(key, value)| (key, in_order(value))).collect())
        }
        Json::Array(list) => Json::Array(list.into_iter().map(in_order).collect()),
        other => other,
    }
}

fn placed(site: Option<&SiteFile>, files: &ProtocolFiles, problem: Problem) -> Problem {
    let mut problem = files.placed(problem);
    if problem.origin.is_none() {
        problem.origin = origin(site, &problem.path);
    }
    problem
}

fn origin(site: Option<&SiteFile>, path: &FieldPath) -> Option<String> {
    let variable = origin::variable(path).filter(|name| std::env::var_os(name).is_some());
    let line = || site.and_then(|site| origin::line(&site.text, path));
    variable.or_else(|| line().map(|line| format!("line {line}")))
}

#[cfg(test)]
mod tests;
