//! The ledger itself: verified, exported, and its end signed.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use prosector_storage::{LedgerRoot, RootPublicKey, Store};

use super::{Outcome, UsageError, output};
use crate::config;
use crate::ledger_roots::{self, read_roots};

/// Entries read at a time.
const PAGE: u32 = 1000;

#[derive(Debug, Args)]
pub(super) struct Verify {
    /// Root that was noted earlier: `SEQ:HASH`, or a file of signed roots; tells whether the ledger was cut since, or
    /// restored from an old dump. Default: the file `audit.roots`, where there is one
    #[arg(long, value_name = "SEQ:HASH|FILE", value_parser = parse_root)]
    root: Vec<Root>,
    /// Key that roots must be signed with: 64 hexadecimal digits or a PEM file. Default: that of `audit.root_key`
    #[arg(long, value_name = "KEY", value_parser = parse_key)]
    public_key: Vec<RootPublicKey>,
}

#[derive(Debug, Clone)]
enum Root {
    Noted(LedgerRoot),
    Signed(PathBuf),
}

pub(super) async fn verify(
    store: &Store,
    arguments: &Verify,
    audit: &config::Audit,
) -> Result<Outcome> {
    let roots = match roots(arguments, audit)? {
        Ok(roots) => roots,
        Err(forged) => {
            output::print(&format!("{forged}\n"))?;
            return Ok(Outcome::Failed);
        }
    };
    let verdict = store.verify_ledger(roots.iter().copied()).await?;
    if let Some(defect) = verdict.defect {
        output::print(&format!("{} entries are sound; {defect}\n", verdict.sound))?;
        return Ok(Outcome::Failed);
    }
    let head = store.ledger_root().await?;
    output::print(&format!(
        "{} entries are sound; {} roots hold; root {}:{}\n",
        verdict.sound,
        roots.len(),
        head.seq,
        head.hash
    ))?;
    Ok(Outcome::Done)
}

/// The roots to compare with, or why one of them cannot be trusted.
fn roots(
    arguments: &Verify,
    audit: &config::Audit,
) -> Result<Result<Vec<LedgerRoot>, prosector_storage::SignedRootError>> {
    let mut trusted = arguments.public_key.clone();
    if trusted.is_empty() {
        trusted.extend(ledger_roots::public_key(audit)?);
    }
    let mut wanted = arguments.root.clone();
    if wanted.is_empty() && audit.roots.is_file() {
        if trusted.is_empty() {
            tracing::warn!(
                "signed roots are left out: no --public-key, and no key at audit.root_key"
            );
        } else {
            wanted.push(Root::Signed(audit.roots.clone()));
        }
    }
    let mut roots = Vec::new();
    for root in wanted {
        match root {
            Root::Noted(root) => roots.push(root),
            Root::Signed(path) => {
                if trusted.is_empty() {
                    let message = "signed roots need the --public-key that they are signed with";
                    return Err(UsageError(message.to_owned()).into());
                }
                for signed in read_roots(&path)? {
                    match signed.verify(&trusted) {
                        Ok(root) => roots.push(root),
                        Err(forged) => return Ok(Err(forged)),
                    }
                }
            }
        }
    }
    Ok(Ok(roots))
}

/// Records that entries were read to answer `question`. A ledger that cannot be written to, a restored copy say, can be
/// read all the same.
pub(super) async fn note_reading(store: &Store, question: &str) {
    if let Err(error) = store.note_ledger_reading(question, "cli").await {
        tracing::warn!(
            error = format!("{:#}", anyhow::Error::new(error)),
            "not recorded that the ledger was read"
        );
    }
}

pub(super) async fn export(store: &Store) -> Result<()> {
    note_reading(store, "export").await;
    let mut after_seq = i64::MIN;
    loop {
        let entries = store.export_ledger(after_seq, PAGE).await?;
        let Some(last) = entries.last() else { return Ok(()) };
        after_seq = last.seq;
        let lines: Vec<&str> = entries.iter().map(|entry| entry.line.as_str()).collect();
        output::print(&(lines.join("\n") + "\n"))?;
    }
}

pub(super) async fn export_roots(store: &Store) -> Result<()> {
    for root in store.signed_roots(0).await? {
        output::print(&(root.to_json() + "\n"))?;
    }
    Ok(())
}

pub(super) async fn sign(store: &Store, audit: &config::Audit) -> Result<Outcome> {
    match ledger_roots::sign_now(store, audit).await? {
        Some(signed) => {
            output::print(&(signed.to_json() + "\n"))?;
            Ok(Outcome::Done)
        }
        None => Err(UsageError("the ledger has no entry to sign yet".to_owned()).into()),
    }
}

pub(super) fn show_key(audit: &config::Audit, pem: bool) -> Result<()> {
    let key = ledger_roots::open_or_create_key(audit)?.public_key();
    output::print(&if pem { key.to_pem() } else { format!("{key}\n") })
}

fn parse_root(text: &str) -> Result<Root> {
    let noted = text.split_once(':').and_then(|(seq, hash)| {
        Some(LedgerRoot { seq: seq.parse().ok()?, hash: hash.parse().ok()? })
    });
    match noted {
        Some(root) => Ok(Root::Noted(root)),
        None if std::path::Path::new(text).is_file() => Ok(Root::Signed(text.into())),
        None => anyhow::bail!("neither SEQ:HASH nor a file"),
    }
}

fn parse_key(text: &str) -> Result<RootPublicKey> {
    if let Ok(key) = text.parse() {
        return Ok(key);
    }
    let content =
        std::fs::read_to_string(text).context("neither 64 hexadecimal digits nor a file")?;
    Ok(content.parse()?)
}
