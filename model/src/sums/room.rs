//! Where sums live: in memory up to a limit, beyond it in a file that has no name.
#![expect(unsafe_code, reason = "mapping a file is unsafe by nature")]

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use memmap2::MmapMut;

/// Bytes of the file that are mapped at a time.
const EXTENT: usize = 4 << 20;

/// How much memory sums may take, and the folder of the file that holds the rest.
#[derive(Debug)]
pub(crate) struct Room {
    memory_bytes: u64,
    folder: PathBuf,
    taken: AtomicU64,
    file: Mutex<Option<(File, u64)>>,
}

impl Room {
    /// Room for `memory_bytes` in memory; what goes beyond lies in a file without name in `folder`, which vanishes with
    /// the last mapping of it, however the process ends.
    pub(crate) fn new(memory_bytes: u64, folder: PathBuf) -> Self {
        Self { memory_bytes, folder, taken: AtomicU64::new(0), file: Mutex::new(None) }
    }

    /// Whether `bytes` more may be taken from memory; counts them if so.
    pub(crate) fn take_memory(&self, bytes: u64) -> bool {
        let fits = |taken: u64| (taken + bytes <= self.memory_bytes).then_some(taken + bytes);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    /// The folder of the file.
    pub(crate) fn folder(&self) -> &std::path::Path {
        &self.folder
    }

    /// Bytes of the file.
    pub(crate) fn spilled_bytes(&self) -> u64 {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.as_ref().map_or(0, |(_, length)| *length)
    }

    /// The next piece of the file, all zero.
    ///
    /// # Errors
    /// When the file cannot be made, or its file system has no space left: the space is reserved here, so that writing
    /// to the mapping cannot run out of it.
    pub(crate) fn extent(&self) -> io::Result<Extent> {
        let mut guard = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if guard.is_none() {
            *guard = Some((tempfile::tempfile_in(&self.folder)?, 0));
        }
        let (file, length) = guard.as_mut().expect("it was just put there");
        reserve(file, *length)?;
        let mut options = memmap2::MmapOptions::new();
        options.offset(*length).len(EXTENT);
        // SAFETY: the file has no name and its handle stays here, so nobody else can change or truncate it; every range
        // is mapped once, because the length only grows.
        let map = unsafe { options.map_mut(&*file)? };
        *length += EXTENT as u64;
        Ok(Extent { map })
    }
}

#[cfg(target_os = "linux")]
fn reserve(file: &File, offset: u64) -> io::Result<()> {
    let flags = rustix::fs::FallocateFlags::empty();
    Ok(rustix::fs::fallocate(file, flags, offset, EXTENT as u64)?)
}

/// Elsewhere the file is written with zeros.
#[cfg(not(target_os = "linux"))]
fn reserve(file: &File, offset: u64) -> io::Result<()> {
    use std::io::{Seek as _, Write as _};
    let mut file = file;
    file.seek(io::SeekFrom::Start(offset))?;
    file.write_all(&vec![0; EXTENT])
}

/// A mapped piece of the file.
#[derive(Debug)]
pub(crate) struct Extent {
    map: MmapMut,
}

impl Extent {
    /// Values in an extent.
    pub(crate) const VALUES: usize = EXTENT / size_of::<f32>();

    pub(crate) fn values(&self) -> &[f32] {
        // SAFETY: every bit pattern is a float, and the borrow is that of the mapping.
        let (before, values, _) = unsafe { self.map.align_to::<f32>() };
        debug_assert!(before.is_empty(), "a mapping starts on a page");
        values
    }

    pub(crate) fn values_mut(&mut self) -> &mut [f32] {
        // SAFETY: every bit pattern is a float and a float is any bytes, and the borrow is that of the mapping.
        let (before, values, _) = unsafe { self.map.align_to_mut::<f32>() };
        debug_assert!(before.is_empty(), "a mapping starts on a page");
        values
    }

    /// Takes the pages out of this process's memory; the kernel keeps or writes them as it has room.
    pub(crate) fn release(&self) {
        #[cfg(target_os = "linux")]
        {
            // SAFETY: the mapping is shared and backed by a file: the next access finds what was written.
            let released = unsafe { self.map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
            // Advice that is not taken costs memory, not correctness.
            drop(released);
        }
    }
}
