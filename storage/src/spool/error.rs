//! What can go wrong with the spool.

use std::io;
use std::sync::Arc;

use super::SpoolKey;

/// Why the spool did not do something.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SpoolError {
    /// The address is not `file://PATH`.
    #[error("spool address is not file://PATH")]
    Address,
    /// The reserve would be touched. To a C-STORE sender: 0xA700, out of resources.
    #[error("spool has {free_bytes} bytes free and keeps {reserve_bytes}")]
    BelowReserve {
        /// Bytes free.
        free_bytes: u64,
        /// Bytes kept.
        reserve_bytes: u64,
    },
    /// There is no such file.
    #[error("spool has no file {key}")]
    Missing {
        /// What was asked for.
        key: SpoolKey,
    },
    /// The file system refused something.
    #[error("spool could not {step}")]
    Io {
        /// What was being done.
        step: &'static str,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
    /// The service has no such bucket.
    #[error("there is no bucket {bucket}")]
    NoBucket {
        /// Its name.
        bucket: Box<str>,
    },
    /// The service does not know the credentials, or they do not suffice.
    #[error("bucket {bucket} refuses the credentials")]
    Credentials {
        /// Its name.
        bucket: Box<str>,
        /// What the service said.
        source: Arc<object_store::Error>,
    },
    /// The service of the bucket did not answer, or refused something.
    #[error("spool could not {step} its bucket")]
    Bucket {
        /// What was being done.
        step: &'static str,
        /// What the client said.
        source: Arc<object_store::Error>,
    },
    /// A blocking step was stopped with its runtime.
    #[error("spool was shut down while it worked")]
    Stopped,
}

impl SpoolError {
    pub(super) fn io(step: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { step, source: Arc::new(source) }
    }

    pub(super) fn bucket(step: &'static str) -> impl Fn(object_store::Error) -> Self {
        move |source| Self::Bucket { step, source: Arc::new(source) }
    }

    /// Whether the file system is full.
    pub fn is_full(&self) -> bool {
        match self {
            Self::BelowReserve { .. } => true,
            Self::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            Self::Address
            | Self::Missing { .. }
            | Self::NoBucket { .. }
            | Self::Credentials { .. }
            | Self::Bucket { .. }
            | Self::Stopped => false,
        }
    }
}
