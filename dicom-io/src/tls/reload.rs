//! Settings made from files, made again when the files change.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::LoadTlsError;

/// How long a look at the files is good for.
const LOOK: Duration = Duration::from_secs(1);

/// What tells a file that was replaced: its inode, time of change and length; nothing where there is no file.
type Stamp = Option<(u64, SystemTime, u64)>;

/// Where settings come from.
pub(super) trait Source: Send + Sync {
    /// What is made.
    type Made;

    /// The files that they are made of.
    fn files(&self) -> Vec<PathBuf>;

    /// Makes them.
    fn make(&self) -> Result<Self::Made, LoadTlsError>;
}

#[derive(Debug)]
pub(super) struct Reloading<S: Source> {
    source: S,
    state: Mutex<State<S::Made>>,
}

#[derive(Debug)]
struct State<T> {
    made: Arc<T>,
    stamps: Vec<Stamp>,
    looked: Instant,
}

impl<S: Source> Reloading<S> {
    pub(super) fn load(source: S) -> Result<Self, LoadTlsError> {
        let stamps = stamps(&source.files());
        let made = Arc::new(source.make()?);
        let state = Mutex::new(State { made, stamps, looked: Instant::now() });
        Ok(Self { source, state })
    }

    /// The settings as the files have them now. Files that cannot be used leave the old ones in force.
    pub(super) fn current(&self) -> Arc<S::Made> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.looked.elapsed() >= LOOK {
            state.looked = Instant::now();
            let stamps = stamps(&self.source.files());
            if stamps != state.stamps {
                // Noted even where it fails, so that a file that is no good is reported once.
                state.stamps = stamps;
                match self.source.make() {
                    Ok(made) => {
                        state.made = Arc::new(made);
                        tracing::info!("TLS certificates read again");
                    }
                    Err(error) => tracing::error!(
                        error = %error,
                        "changed TLS files cannot be used; the old ones stay in force"
                    ),
                }
            }
        }
        Arc::clone(&state.made)
    }

    pub(super) fn source(&self) -> &S {
        &self.source
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    let stamp = |file: &PathBuf| {
        let metadata = std::fs::metadata(file).ok()?;
        Some((metadata.ino(), metadata.modified().ok()?, metadata.len()))
    };
    files.iter().map(stamp).collect()
}
