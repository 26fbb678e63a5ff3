//! Checks `[spool]`: a folder, or a bucket and the keys to it.

use std::path::PathBuf;
use std::time::Duration;

use prosector_storage::{BucketCredentials, BucketOptions, RetentionPolicy};

use super::ServiceUrl;
use super::problem::{FieldPath, Problems};
use super::quantity::{parse_duration, parse_size};
use super::raw::{RawS3, RawSpool};
use super::section::{Spool, SpoolPlace};

/// Folder for what is on its way to a bucket or from it.
const STAGING: &str = "var/staging";
/// How long the service may be away before a sender is told to come again.
const PATIENCE: Duration = Duration::from_secs(20);

/// `[spool]`
pub(super) fn spool(raw: &RawSpool, path: &FieldPath, problems: &mut Problems) -> Option<Spool> {
    let reserve = problems.take(&path.key("reserve"), parse_size(&raw.reserve));
    let retention = raw.retention.as_ref().map(|raw| {
        let path = path.key("retention");
        let instances = problems.take(&path.key("instances"), parse_duration(&raw.instances));
        let results = problems.take(&path.key("results"), parse_duration(&raw.results));
        Some(RetentionPolicy { instances: instances?, results: results? })
    });
    let place = place(raw, path, problems);
    let retention = match retention {
        Some(checked) => Some(checked?),
        None => None,
    };
    Some(Spool { place: place?, reserve_bytes: reserve?, retention })
}

fn place(raw: &RawSpool, path: &FieldPath, problems: &mut Problems) -> Option<SpoolPlace> {
    let url = ServiceUrl::new(raw.url.as_str());
    let s3_path = path.key("s3");
    match (url.scheme(), url.location()) {
        ("file", location) if !location.is_empty() => {
            if raw.s3.is_some() {
                problems.error(&s3_path, "only an s3:// spool has a service");
            }
            Some(SpoolPlace::Folder(PathBuf::from(location)))
        }
        ("s3", location) => {
            let (bucket, prefix) = location.split_once('/').unwrap_or((location, ""));
            let prefix = prefix.trim_matches('/');
            let is_name = is_bucket_name(bucket);
            if !is_name {
                let message =
                    format!("{bucket:?} is no name of a bucket, as in s3://bucket/prefix");
                problems.error(&path.key("url"), message);
            }
            let is_prefix = prefix.is_empty() || prefix.split('/').all(is_plain_name);
            if !is_prefix {
                let message = format!(
                    "{prefix:?} has something else than names of letters, digits, dots, hyphens and underscores"
                );
                problems.error(&path.key("url"), message);
            }
            let bucket = bucket_options(&raw.s3.clone().unwrap_or_default(), &s3_path, problems)?;
            let names = BucketOptions {
                bucket: location.split('/').next().unwrap_or_default().to_owned(),
                prefix: prefix.to_owned(),
                ..bucket
            };
            (is_name && is_prefix).then_some(SpoolPlace::Bucket(names))
        }
        _ => {
            let message = format!("{url} is neither file://PATH nor s3://BUCKET/PREFIX");
            problems.error(&path.key("url"), message);
            None
        }
    }
}

/// Rules for the names of general purpose buckets, as far as every service keeps them.
fn is_bucket_name(name: &str) -> bool {
    let is_inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-');
    (3..=63).contains(&name.len())
        && name.bytes().all(is_inner)
        && !name.starts_with(['.', '-'])
        && !name.ends_with(['.', '-'])
}

fn is_plain_name(name: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    !name.is_empty() && !name.starts_with('.') && name.bytes().all(is_plain)
}

/// The service, without the names of bucket and prefix.
fn bucket_options(raw: &RawS3, path: &FieldPath, problems: &mut Problems) -> Option<BucketOptions> {
    let mut holds = true;
    if let Some(endpoint) = &raw.endpoint {
        holds = is_address(endpoint, &path.key("endpoint"), problems);
    }
    let id = Reference {
        what: "access_key_id",
        file: raw.access_key_id_file.as_deref(),
        variable: raw.access_key_id_env.as_deref(),
    };
    let secret = Reference {
        what: "secret_access_key",
        file: raw.secret_access_key_file.as_deref(),
        variable: raw.secret_access_key_env.as_deref(),
    };
    let credentials = match (id.is_named(), secret.is_named()) {
        (false, false) => Some(BucketCredentials::OfTheMachine),
        (true, true) => {
            let id = id.read(path, problems);
            let secret = secret.read(path, problems);
            id.zip(secret).map(|(access_key_id, secret_access_key)| BucketCredentials::Key {
                access_key_id,
                secret_access_key,
            })
        }
        (has_id, _) => {
            let missing = if has_id { "secret_access_key_file" } else { "access_key_id_file" };
            problems.error(&path.key(missing), "missing: key and secret go together");
            None
        }
    };
    let staging = raw.staging.as_deref().unwrap_or(STAGING);
    if staging.is_empty() {
        problems.error(&path.key("staging"), "must not be empty");
        holds = false;
    }
    let credentials = credentials?;
    holds.then(|| BucketOptions {
        bucket: String::new(),
        prefix: String::new(),
        endpoint: raw.endpoint.clone(),
        region: raw.region.clone(),
        credentials,
        staging: PathBuf::from(staging),
        patience: PATIENCE,
    })
}

fn is_address(endpoint: &str, path: &FieldPath, problems: &mut Problems) -> bool {
    let rest = endpoint.strip_prefix("https://").or(endpoint.strip_prefix("http://"));
    let host = rest.map(|rest| rest.split('/').next().unwrap_or_default());
    let Some(host) = host.filter(|host| !host.is_empty() && !host.contains(['@', ' '])) else {
        let message = format!(
            "{endpoint:?} is not the address of a service, as in \"https://s3.example:9000\""
        );
        problems.error(path, message);
        return false;
    };
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let is_here = matches!(name, "localhost" | "[::1]") || name.starts_with("127.");
    if endpoint.starts_with("http://") && !is_here {
        problems.warn(path, "images and results travel unencrypted: use https://");
    }
    true
}

/// Where a secret is.
struct Reference<'a> {
    what: &'a str,
    file: Option<&'a str>,
    variable: Option<&'a str>,
}

impl Reference<'_> {
    fn is_named(&self) -> bool {
        self.file.is_some() || self.variable.is_some()
    }

    /// One that cannot be had is noted, so that the configuration does not hold.
    fn read(&self, path: &FieldPath, problems: &mut Problems) -> Option<String> {
        let file_path = path.key(&format!("{}_file", self.what));
        let variable_path = path.key(&format!("{}_env", self.what));
        let (text, place, named) = match (self.file, self.variable) {
            (Some(_), Some(_)) => {
                problems.error(&variable_path, format!("{}_file is named as well", self.what));
                return None;
            }
            (Some(file), None) => {
                let read = std::fs::read_to_string(file);
                let read = read.map_err(|error| format!("cannot read {file:?}: {error}"));
                (problems.take(&file_path, read)?, file_path, format!("{file:?}"))
            }
            (None, variable) => {
                let variable = variable.unwrap_or_default();
                (std::env::var(variable).unwrap_or_default(), variable_path, variable.to_owned())
            }
        };
        if text.trim().is_empty() {
            problems.error(&place, format!("{named} is empty"));
            return None;
        }
        Some(text.trim().to_owned())
    }
}
