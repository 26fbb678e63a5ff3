//! The provenance ledger: what happened, in order, each entry sealed by the hash of the one before.
//!
//! Owns the kinds of event, reason codes, the chain and its verification. Events are written by the transaction that
//! changes the state, never on their own account.

mod chain;
mod event;
mod export;
mod reason;
mod root;
mod verify;

pub(crate) use chain::append;
pub use event::{Event, EventKind, ParseEventKindError, RecordedEvent};
pub use export::ExportedEntry;
pub use reason::{ParseReasonCodeError, ReasonCode};
pub use root::{
    ParseRootPublicKeyError, RootKey, RootKeyError, RootPublicKey, SignedRoot, SignedRootError,
};
pub use verify::{LedgerDefect, LedgerRoot, LedgerVerdict};

pub(crate) use event::{event_columns, recorded_event};
