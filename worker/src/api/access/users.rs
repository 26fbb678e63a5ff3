//! The users file: people with passwords, programs with tokens.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use clap::ValueEnum;
use prosector_storage::Sha256Digest;
use serde::Deserialize;

use super::password::{is_hash, token_digest};

/// What somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// See studies, jobs, pictures, deliveries and protocols
    Viewer,
    /// The same, and order, retry, cancel and release jobs
    Operator,
    /// See the same, and search the records, by patient identifiers too
    Auditor,
    /// Everything
    Admin,
}

impl Role {
    /// Whether somebody with this role may do what `needed` may.
    pub(crate) fn may(self, needed: Self) -> bool {
        match self {
            Self::Admin => true,
            Self::Operator => matches!(needed, Self::Viewer | Self::Operator),
            Self::Auditor => matches!(needed, Self::Viewer | Self::Auditor),
            Self::Viewer => needed == Self::Viewer,
        }
    }

    /// The role as it is written.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Auditor => "auditor",
            Self::Admin => "admin",
        }
    }
}

/// Why the users file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UsersFileError {
    /// It is not there, or not ours to read.
    #[error("api.users_file: cannot read {path}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// It is not what a users file looks like.
    #[error("api.users_file: {path}: {message}")]
    Content {
        /// The file.
        path: String,
        /// What is wrong, without any hash.
        message: String,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawUsers {
    #[serde(default, rename = "user")]
    users: Vec<RawUser>,
    #[serde(default, rename = "token")]
    tokens: Vec<RawToken>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawUser {
    name: String,
    role: Role,
    password_hash: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawToken {
    name: String,
    role: Role,
    sha256: String,
}

/// Somebody who may use the page or REST.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) name: String,
    pub(super) role: Role,
}

/// People by name, programs by the digest of their token.
#[derive(Debug, Default)]
pub(super) struct Users {
    people: HashMap<String, (Role, String)>,
    programs: HashMap<Sha256Digest, Known>,
}

impl Users {
    pub(super) fn read(path: &Path) -> Result<Self, UsersFileError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|source| UsersFileError::Read { path: name.clone(), source })?;
        warn_of_readers(path);
        Self::parse(&text).map_err(|message| UsersFileError::Content { path: name, message })
    }

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let raw: RawUsers =
            // The parser's own text shows the line, and with it a hash.
            toml::from_str(text).map_err(|error| error.message().to_owned())?;
        let mut users = Self::default();
        let mut names = HashSet::new();
        for RawUser { name, role, password_hash } in raw.users {
            check_name(&name, &mut names)?;
            if !is_hash(&password_hash) {
                return Err(format!(
                    "user {name}: password_hash is no Argon2id hash: make one with `prosector user hash`"
                ));
            }
            users.people.insert(name, (role, password_hash));
        }
        for RawToken { name, role, sha256 } in raw.tokens {
            check_name(&name, &mut names)?;
            let digest = sha256.parse().map_err(|_| {
                format!(
                    "token {name}: sha256 is no digest: make a token with `prosector user token`"
                )
            })?;
            users.programs.insert(digest, Known { name, role });
        }
        if users.people.is_empty() && users.programs.is_empty() {
            return Err("neither [[user]] nor [[token]]: nobody could use the page".to_owned());
        }
        Ok(users)
    }

    /// Role and password hash of the person called `name`.
    pub(super) fn person(&self, name: &str) -> Option<(Role, String)> {
        self.people.get(name).cloned()
    }

    /// Whose token this is.
    pub(super) fn program(&self, token: &str) -> Option<Known> {
        self.programs.get(&token_digest(token)).cloned()
    }
}

fn check_name(name: &str, names: &mut HashSet<String>) -> Result<(), String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@');
    if !(1..=64).contains(&name.len()) || !name.chars().all(is_plain) {
        return Err(format!("{name:?} is no name: 1 to 64 letters, digits, '-', '_', '.' or '@'"));
    }
    if !names.insert(name.to_owned()) {
        return Err(format!("{name} stands there twice"));
    }
    Ok(())
}

fn warn_of_readers(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;

    let mode = std::fs::metadata(path).map_or(0, |found| found.permissions().mode());
    if mode & 0o007 != 0 {
        tracing::warn!("{} can be read by every user of this machine", path.display());
    }
}
