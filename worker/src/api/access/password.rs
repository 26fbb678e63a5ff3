//! Passwords and tokens: made from the system's randomness, kept as digests alone.

use anyhow::{Context as _, Result};
use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use prosector_storage::Sha256Digest;

/// Characters that a password has at least.
const SHORTEST_PASSWORD: usize = 12;
/// Bytes of a password at most: hashing it costs time.
const LONGEST_PASSWORD: usize = 1024;

/// The Argon2id hash of a password, as a users file keeps it.
///
/// # Errors
/// When the password is too short or too long.
pub(crate) fn hash_password(password: &str) -> Result<String> {
    anyhow::ensure!(
        password.chars().count() >= SHORTEST_PASSWORD,
        "a password has at least {SHORTEST_PASSWORD} characters"
    );
    anyhow::ensure!(
        password.len() <= LONGEST_PASSWORD,
        "the password is longer than {LONGEST_PASSWORD} bytes"
    );
    let salt = random::<16>()?;
    let salt = SaltString::encode_b64(&salt).map_err(|error| anyhow::anyhow!("salt: {error}"))?;
    let hash = Argon2::default()
        .hash_password(password.as_bytes(), &salt)
        .map_err(|error| anyhow::anyhow!("cannot hash the password: {error}"))?;
    Ok(hash.to_string())
}

/// Whether `password` is the one that `hash` was made of.
pub(super) fn is_password(password: &str, hash: &str) -> bool {
    let Ok(hash) = PasswordHash::new(hash) else { return false };
    password.len() <= LONGEST_PASSWORD
        && Argon2::default().verify_password(password.as_bytes(), &hash).is_ok()
}

/// Whether a text is a hash that [`is_password`] can use.
pub(super) fn is_hash(text: &str) -> bool {
    PasswordHash::new(text)
        .is_ok_and(|hash| hash.algorithm.as_str() == "argon2id" && hash.hash.is_some())
}

/// A word of 256 random bits.
///
/// # Errors
/// When the system has no randomness.
pub(crate) fn new_token() -> Result<String> {
    // A digest prints as 64 hexadecimal digits, and that is all that is wanted of it here.
    Ok(Sha256Digest::from(random::<32>()?).to_string())
}

/// What is kept of a token or of a session's name: nobody who reads it can use it.
pub(crate) fn token_digest(token: &str) -> Sha256Digest {
    Sha256Digest::of(token.as_bytes())
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| anyhow::anyhow!("{error}"))
        .context("randomness")?;
    Ok(bytes)
}
