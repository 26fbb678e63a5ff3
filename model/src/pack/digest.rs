//! Digests of files and of a whole pack.

use std::fmt;
use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use super::manifest::PROBE_FILE;

/// SHA-256 over the canonical form of a manifest, and through it over every file of the pack.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PackDigest([u8; 32]);

impl PackDigest {
    pub(crate) fn of_manifest(table: &toml::Table) -> Self {
        let mut table = table.clone();
        // The self test has numbers of the machine that made it and changes no result.
        if let Some(files) = table.get_mut("files").and_then(toml::Value::as_table_mut) {
            files.remove(PROBE_FILE);
        }
        let mut hasher = Sha256::new();
        feed_table(&mut hasher, &table);
        Self(hasher.finalize().into())
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for PackDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for PackDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PackDigest({self})")
    }
}

/// SHA-256 of `bytes` in lower-case hexadecimal.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes every write");
        text
    })
}

pub(crate) fn is_sha256_hex(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn feed_table(hasher: &mut Sha256, table: &toml::Table) {
    let mut keys: Vec<&String> = table.keys().collect();
    keys.sort();
    hasher.update(b"t");
    hasher.update((keys.len() as u64).to_le_bytes());
    for key in keys {
        feed_text(hasher, key);
        feed(hasher, &table[key]);
    }
}

fn feed(hasher: &mut Sha256, value: &toml::Value) {
    match value {
        toml::Value::Table(table) => feed_table(hasher, table),
        toml::Value::Array(values) => {
            hasher.update(b"a");
            hasher.update((values.len() as u64).to_le_bytes());
            for value in values {
                feed(hasher, value);
            }
        }
        toml::Value::String(text) => {
            hasher.update(b"s");
            feed_text(hasher, text);
        }
        toml::Value::Integer(number) => {
            hasher.update(b"i");
            hasher.update(number.to_le_bytes());
        }
        toml::Value::Float(number) => {
            hasher.update(b"f");
            hasher.update(number.to_bits().to_le_bytes());
        }
        toml::Value::Boolean(truth) => hasher.update([b'b', u8::from(*truth)]),
        toml::Value::Datetime(moment) => {
            hasher.update(b"d");
            feed_text(hasher, &moment.to_string());
        }
    }
}

fn feed_text(hasher: &mut Sha256, text: &str) {
    hasher.update((text.len() as u64).to_le_bytes());
    hasher.update(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelling_of_the_manifest_does_not_change_the_digest() {
        let plain: toml::Table =
            toml::from_str("a = 1\nb = { c = \"x\", d = [1.0, 2.0] }").unwrap();
        let other: toml::Table = toml::from_str("# note\n[b]\nd = [ 1.0, 2e0 ]\nc = 'x'\n")
            .map(|mut table: toml::Table| {
                table.insert("a".into(), toml::Value::Integer(1));
                table
            })
            .unwrap();

        assert_eq!(PackDigest::of_manifest(&plain), PackDigest::of_manifest(&other));
    }

    #[test]
    fn a_changed_value_changes_the_digest() {
        let one: toml::Table = toml::from_str("a = [\"xy\", \"z\"]").unwrap();
        let two: toml::Table = toml::from_str("a = [\"x\", \"yz\"]").unwrap();

        assert_ne!(PackDigest::of_manifest(&one), PackDigest::of_manifest(&two));
    }
}
