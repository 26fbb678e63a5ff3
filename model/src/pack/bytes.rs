//! The bytes of one file of a pack: mapped, compiled in, or owned.
#![expect(unsafe_code, reason = "mapping a file is unsafe by nature")]

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;

/// Bytes of a file; clones share them.
#[derive(Debug, Clone)]
pub(crate) enum Bytes {
    Mapped(Arc<Mmap>),
    Static(&'static [u8]),
    Owned(Arc<Vec<u8>>),
}

impl Bytes {
    /// Maps the file at `path`. An empty file gives no bytes.
    pub(crate) fn map(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        if file.metadata()?.len() == 0 {
            return Ok(Self::Static(&[]));
        }
        // SAFETY: the mapping is private and read-only, and lives as long as its owner. Another process that truncates
        // the file meanwhile could stop this one with SIGBUS; packs and checkpoints are written once (a pack under
        // another name, then renamed into place) and are not changed in place by any code of ours.
        let map = unsafe { Mmap::map(&file)? };
        Ok(Self::Mapped(Arc::new(map)))
    }

    /// Tells the kernel that the pages of `range` will not be read again soon.
    pub(crate) fn release(&self, offset: usize, len: usize) {
        #[cfg(target_os = "linux")]
        if let Self::Mapped(map) = self {
            const PAGE: usize = 4096;
            let start = offset.next_multiple_of(PAGE);
            let end = (offset + len) / PAGE * PAGE;
            if start < end && end <= map.len() {
                // SAFETY: dropping clean pages of a read-only file mapping loses nothing: the next access reads them
                // from the file again, with the same content under the assumption made in `map`.
                let advised = unsafe {
                    map.unchecked_advise_range(
                        memmap2::UncheckedAdvice::DontNeed,
                        start,
                        end - start,
                    )
                };
                debug_assert!(advised.is_ok(), "a range inside the mapping");
            }
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (offset, len);
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Static(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }
}
