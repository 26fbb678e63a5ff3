//! Signed roots: the ledger's end at some time, sealed with a key that the database does not know.
//!
//! A root that has left the database makes a later truncation visible, and a database that was restored from an old
//! dump. What is signed (Ed25519, RFC 8032) is the text `prosector ledger root 1`, the number of entries, the hash of
//! the last one in hexadecimal digits and the time of signing, each with a line feed behind it.

use std::fmt::{self, Write as _};
use std::fs::OpenOptions;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ring::rand::SecureRandom as _;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde_json::{Value as Json, json};
use time::OffsetDateTime;

use crate::digest::Sha256Digest;
use crate::store::instant::{from_text, to_text};
use crate::store::sql::{Statement, shape, values};
use crate::store::{DatabaseError, Store};

use super::{Event, EventKind, LedgerRoot};

/// What stands before the 32 bytes of a private key in PKCS #8 (RFC 8410), and before those of a public key.
const PRIVATE_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
const PUBLIC_PREFIX: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// No key file is longer.
const MAX_KEY_BYTES: u64 = 4096;

/// The private key that roots are signed with.
pub struct RootKey {
    pair: Ed25519KeyPair,
}

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RootKey of {}", self.public_key())
    }
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum RootKeyError {
    /// The file cannot be read or made.
    #[error("key file cannot be used")]
    File {
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file holds something else.
    #[error("file holds no Ed25519 key in PEM (PKCS #8)")]
    Content,
    /// The operating system gave no random bytes.
    #[error("no random bytes to be had for a key")]
    Random,
}

impl RootKey {
    /// Reads the key from a PEM file: ours, or one that `openssl genpkey -algorithm ed25519` made.
    ///
    /// # Errors
    /// [`RootKeyError::File`], with the kind `NotFound` where there is none; [`RootKeyError::Content`].
    pub fn open(path: &Path) -> Result<Self, RootKeyError> {
        let seed = pem_bytes(&read_key_file(path)?, "PRIVATE KEY", &PRIVATE_PREFIX);
        Self::from_seed(&seed.ok_or(RootKeyError::Content)?)
    }

    /// Makes a key and its file, which only its owner may read. A file that is there stays as it is.
    ///
    /// # Errors
    /// [`RootKeyError::File`], with the kind `AlreadyExists` where there is one; [`RootKeyError::Random`].
    pub fn create(path: &Path) -> Result<Self, RootKeyError> {
        let mut seed = [0; 32];
        ring::rand::SystemRandom::new().fill(&mut seed).map_err(|_| RootKeyError::Random)?;
        let key = Self::from_seed(&seed)?;
        let text = pem_text("PRIVATE KEY", &PRIVATE_PREFIX, &seed);
        let write = || {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            let mut file =
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            std::io::Write::write_all(&mut file, text.as_bytes())?;
            file.sync_all()
        };
        write().map_err(|source| RootKeyError::File { source })?;
        Ok(key)
    }

    fn from_seed(seed: &[u8; 32]) -> Result<Self, RootKeyError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| RootKeyError::Content)?;
        Ok(Self { pair })
    }

    /// Its public half, which verifies what it signed.
    pub fn public_key(&self) -> RootPublicKey {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.pair.public_key().as_ref());
        RootPublicKey(bytes)
    }

    fn sign(&self, root: LedgerRoot, signed_at: OffsetDateTime) -> SignedRoot {
        let mut signature = [0; 64];
        signature.copy_from_slice(self.pair.sign(message(root, signed_at).as_bytes()).as_ref());
        SignedRoot { root, signed_at, public_key: self.public_key(), signature }
    }
}

/// The public half of a [`RootKey`]: prints as 64 hexadecimal digits, parses from these and from PEM.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RootPublicKey([u8; 32]);

/// A text that is no public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an Ed25519 public key: neither 64 hexadecimal digits nor PEM")]
pub struct ParseRootPublicKeyError;

impl RootPublicKey {
    /// The key as PEM, which other tools read.
    pub fn to_pem(&self) -> String {
        pem_text("PUBLIC KEY", &PUBLIC_PREFIX, &self.0)
    }
}

impl FromStr for RootPublicKey {
    type Err = ParseRootPublicKeyError;

    fn from_str(text: &str) -> Result<Self, ParseRootPublicKeyError> {
        let text = text.trim();
        let bytes = hex(text).or_else(|| pem_bytes(text, "PUBLIC KEY", &PUBLIC_PREFIX));
        bytes.map(Self).ok_or(ParseRootPublicKeyError)
    }
}

impl fmt::Display for RootPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for RootPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A root with its signature.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedRoot {
    /// Where the ledger ended.
    pub root: LedgerRoot,
    /// When it was signed, by the database's clock.
    pub signed_at: OffsetDateTime,
    /// Whose signature it is said to be.
    pub public_key: RootPublicKey,
    signature: [u8; 64],
}

impl fmt::Debug for SignedRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignedRoot {}", self.to_json())
    }
}

/// Why something is no signed root that can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignedRootError {
    /// It has not the form of one.
    #[error(
        "not a signed root: expected an object with seq, hash, signed_at, public_key, signature"
    )]
    Form,
    /// It names a key that is not trusted.
    #[error("root {seq} is signed with a key that is not trusted")]
    Key {
        /// The root.
        seq: u64,
    },
    /// It is not what was signed.
    #[error("root {seq} is not what was signed")]
    Signature {
        /// The root.
        seq: u64,
    },
}

impl SignedRoot {
    /// The root as one line of JSON.
    pub fn to_json(&self) -> String {
        self.object().to_string()
    }

    fn object(&self) -> Json {
        json!({
            "seq": self.root.seq,
            "hash": self.root.hash.to_string(),
            "signed_at": to_text(self.signed_at),
            "public_key": self.public_key.to_string(),
            "signature": hex_text(&self.signature),
        })
    }

    /// Reads what [`SignedRoot::to_json`] wrote. Nothing is verified yet.
    ///
    /// # Errors
    /// [`SignedRootError::Form`].
    pub fn from_json(text: &str) -> Result<Self, SignedRootError> {
        let object: Json = serde_json::from_str(text).map_err(|_| SignedRootError::Form)?;
        Self::from_object(&object).ok_or(SignedRootError::Form)
    }

    fn from_object(object: &Json) -> Option<Self> {
        let text = |name: &str| object.get(name).and_then(Json::as_str);
        Some(Self {
            root: LedgerRoot {
                seq: object.get("seq")?.as_u64()?,
                hash: text("hash")?.parse().ok()?,
            },
            signed_at: from_text(text("signed_at")?)?,
            public_key: text("public_key")?.parse().ok()?,
            signature: hex(text("signature")?)?,
        })
    }

    /// The root, where one of `trusted` signed it.
    ///
    /// # Errors
    /// [`SignedRootError::Key`], [`SignedRootError::Signature`].
    pub fn verify(&self, trusted: &[RootPublicKey]) -> Result<LedgerRoot, SignedRootError> {
        let seq = self.root.seq;
        if !trusted.contains(&self.public_key) {
            return Err(SignedRootError::Key { seq });
        }
        let message = message(self.root, self.signed_at);
        UnparsedPublicKey::new(&ED25519, self.public_key.0)
            .verify(message.as_bytes(), &self.signature)
            .map_err(|_| SignedRootError::Signature { seq })?;
        Ok(self.root)
    }
}

fn message(root: LedgerRoot, signed_at: OffsetDateTime) -> String {
    format!("prosector ledger root 1\n{}\n{}\n{}\n", root.seq, root.hash, to_text(signed_at))
}

impl Store {
    /// Signs the ledger's present end, and records that in the ledger. Nothing is signed where the last root is
    /// younger than `unless_within`, whoever signed it, or where there is no entry.
    ///
    /// # Errors
    /// Where the database cannot do it.
    pub async fn sign_root(
        &self,
        key: &RootKey,
        unless_within: Duration,
    ) -> Result<Option<SignedRoot>, DatabaseError> {
        let mut transaction = self.begin().await?;
        let head = transaction
            .row(
                Statement::Each {
                    postgres: "select seq, hash from ledger_head where head_id = 1 for update",
                    sqlite: "select seq, hash from ledger_head where head_id = 1",
                },
                values![],
            )
            .await?
            .ok_or_else(|| shape("head_id"))?;
        let root = LedgerRoot { seq: head.get::<i64>("seq")? as u64, hash: head.get("hash")? };
        let last = transaction
            .row(
                "select recorded_at from event where kind = 'root_signed' order by seq desc limit 1",
                values![],
            )
            .await?;
        let signed_at = transaction.now();
        let is_young = match last {
            Some(last) => signed_at - last.get::<OffsetDateTime>("recorded_at")? < unless_within,
            None => false,
        };
        if root.seq == 0 || is_young {
            return Ok(None);
        }
        let signed = key.sign(root, signed_at);
        transaction.record(Event::new(EventKind::RootSigned).with(signed.object()));
        transaction.commit().await?;
        Ok(Some(signed))
    }

    /// Roots that were signed after the one over `after_seq` entries, in their order. What they say is only as good
    /// as the database that they are kept in: compare with a copy that left it.
    ///
    /// # Errors
    /// Where the database cannot answer.
    pub async fn signed_roots(&self, after_seq: u64) -> Result<Vec<SignedRoot>, DatabaseError> {
        let rows = self
            .pool
            .rows(
                "select detail from event where kind = 'root_signed' and seq > $1 order by seq",
                values![after_seq],
            )
            .await?;
        let mut roots = Vec::with_capacity(rows.len());
        for row in &rows {
            let detail: String = row.get("detail")?;
            let root = SignedRoot::from_json(&detail).map_err(|_| shape("detail"))?;
            if root.root.seq > after_seq {
                roots.push(root);
            }
        }
        Ok(roots)
    }

    /// Whether the ledger still has the entry that `root` ends with. Far cheaper than a verification, this finds a
    /// ledger that was cut, or restored from an old dump.
    ///
    /// # Errors
    /// Where the database cannot answer.
    pub async fn holds_root(&self, root: LedgerRoot) -> Result<bool, DatabaseError> {
        let row = self.pool.row("select hash from event where seq = $1", values![root.seq]).await?;
        match row {
            Some(row) => Ok(row.get::<Sha256Digest>("hash")? == root.hash),
            None => Ok(root.seq == 0),
        }
    }
}

fn read_key_file(path: &Path) -> Result<String, RootKeyError> {
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_KEY_BYTES).read_to_string(&mut text))
        .map_err(|source| match source.kind() {
        std::io::ErrorKind::InvalidData => RootKeyError::Content,
        _ => RootKeyError::File { source },
    })?;
    Ok(text)
}

fn pem_text(label: &str, prefix: &[u8], bytes: &[u8; 32]) -> String {
    let content = BASE64_STANDARD.encode([prefix, bytes].concat());
    format!("-----BEGIN {label}-----\n{content}\n-----END {label}-----\n")
}

fn pem_bytes(text: &str, label: &str, prefix: &[u8]) -> Option<[u8; 32]> {
    let (_, rest) = text.split_once(&format!("-----BEGIN {label}-----"))?;
    let (content, _) = rest.split_once(&format!("-----END {label}-----"))?;
    let content: String = content.split_whitespace().collect();
    let bytes = BASE64_STANDARD.decode(content).ok()?;
    bytes.strip_prefix(prefix)?.try_into().ok()
}

pub(super) fn hex_text(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; N];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed() -> (RootKey, SignedRoot) {
        let key = RootKey::from_seed(&[7; 32]).unwrap();
        let root = LedgerRoot { seq: 12, hash: Sha256Digest::of(b"entry") };
        let signed = key.sign(root, OffsetDateTime::UNIX_EPOCH);
        (key, signed)
    }

    #[test]
    fn a_root_is_trusted_as_it_was_signed_and_no_other_way() {
        let (key, root) = signed();
        let trusted = [key.public_key()];
        let read = SignedRoot::from_json(&root.to_json()).unwrap();

        assert_eq!(read, root);
        assert_eq!(read.verify(&trusted), Ok(root.root));
        assert_eq!(read.verify(&[]), Err(SignedRootError::Key { seq: 12 }));
        let mut longer = root.clone();
        longer.root.seq = 13;
        let mut later = root.clone();
        later.signed_at += Duration::from_secs(1);
        let mut other = root;
        other.root.hash = Sha256Digest::of(b"other");
        for forged in [longer, later, other] {
            let seq = forged.root.seq;
            assert_eq!(forged.verify(&trusted), Err(SignedRootError::Signature { seq }));
        }
        for text in ["", "{}", "[]", "{\"seq\": 1}", "12:ab"] {
            assert_eq!(SignedRoot::from_json(text), Err(SignedRootError::Form), "{text}");
        }
    }

    #[test]
    fn a_key_file_is_made_once_for_its_owner_alone_and_read_again() {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/root.pem");

        let made = RootKey::create(&path).unwrap();

        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(RootKey::open(&path).unwrap().public_key(), made.public_key());
        let again = RootKey::create(&path).unwrap_err();
        assert!(
            matches!(again, RootKeyError::File { source } if source.kind() == std::io::ErrorKind::AlreadyExists)
        );
        assert_eq!(made.public_key().to_pem().parse(), Ok(made.public_key()));
        std::fs::write(&path, "no key").unwrap();
        assert!(matches!(RootKey::open(&path), Err(RootKeyError::Content)));
    }

    /// RFC 8032, 7.1, test 1: the public key of a secret key.
    #[test]
    fn derives_the_public_key_of_the_standard() {
        let seed = hex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60").unwrap();

        let public_key = RootKey::from_seed(&seed).unwrap().public_key().to_string();

        assert_eq!(public_key, "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
    }
}
