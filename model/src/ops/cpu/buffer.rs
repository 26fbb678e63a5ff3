//! Zeroed, cache-line-aligned memory on huge pages where the system has them.
#![expect(unsafe_code, reason = "allocation with an alignment and a page size of its own")]

use std::{
    alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error},
    ops::{Deref, DerefMut},
    ptr::NonNull,
    slice,
};

/// Alignment of every buffer.
const CACHE_LINE: usize = 64;

/// A fixed number of floats, zero at first.
#[derive(Debug)]
pub(crate) struct Buffer {
    start: NonNull<f32>,
    length: usize,
    memory: Memory,
}

/// Where a buffer's memory came from.
#[derive(Debug)]
enum Memory {
    Heap {
        start: NonNull<u8>,
        layout: Layout,
    },
    #[cfg(target_os = "linux")]
    Mapping {
        _pages: mapping::Mapping,
    },
}

// SAFETY: a buffer owns its memory and hands it out only through borrows of itself.
unsafe impl Send for Buffer {}

// SAFETY: as above; a shared borrow only reads.
unsafe impl Sync for Buffer {}

impl Buffer {
    pub(crate) fn zeroed(length: usize) -> Self {
        let bytes = length.max(1) * size_of::<f32>();
        #[cfg(target_os = "linux")]
        if bytes >= mapping::HUGE_PAGE
            && let Some(pages) = mapping::Mapping::zeroed(bytes)
        {
            return Self {
                start: pages.start(),
                length,
                memory: Memory::Mapping { _pages: pages },
            };
        }
        let layout = Layout::from_size_align(bytes, CACHE_LINE)
            .expect("the alignment is a power of two and no map reaches half the address space");
        // SAFETY: the layout's size is not zero.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        Self { start: start.cast(), length, memory: Memory::Heap { start, layout } }
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: `start` points to `length` initialised floats that live as long as `self`.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `deref`, and `self` is borrowed exclusively.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        match &self.memory {
            // SAFETY: the memory came from `alloc_zeroed` with this very layout.
            Memory::Heap { start, layout } => unsafe { dealloc(start.as_ptr(), *layout) },
            #[cfg(target_os = "linux")]
            Memory::Mapping { .. } => (),
        }
    }
}

#[cfg(target_os = "linux")]
mod mapping {
    //! Anonymous pages from the system, which come zeroed without being touched.

    use std::ptr::{self, NonNull};

    /// Size of a huge page.
    pub(super) const HUGE_PAGE: usize = 2 << 20;

    #[derive(Debug)]
    pub(super) struct Mapping {
        start: NonNull<f32>,
        address: NonNull<libc::c_void>,
        bytes: usize,
    }

    impl Mapping {
        /// At least `bytes` zero bytes from a huge page's boundary on, `None` where the system refuses.
        ///
        /// Huge pages are advised: the first touch of a map on small pages costs as much as a
        /// convolution over it.
        pub(super) fn zeroed(bytes: usize) -> Option<Self> {
            let bytes = bytes.checked_add(HUGE_PAGE)?;
            let (protection, flags) =
                (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            // SAFETY: a new anonymous mapping at an address of the system's choice overlaps nothing.
            let address = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, flags, -1, 0) };
            if address == libc::MAP_FAILED {
                return None;
            }
            let address = NonNull::new(address)?;
            let gap = address.as_ptr().align_offset(HUGE_PAGE);
            // SAFETY: the gap is smaller than the huge page by which the mapping is too long.
            let start = unsafe { address.add(gap) };
            // SAFETY: the range lies in the mapping just made; the advice changes the size of its
            // pages, never their content. A refusal leaves small pages, which is only slower.
            let _refused =
                unsafe { libc::madvise(start.as_ptr(), bytes - gap, libc::MADV_HUGEPAGE) };
            Some(Self { start: start.cast(), address, bytes })
        }

        pub(super) fn start(&self) -> NonNull<f32> {
            self.start
        }
    }

    impl Drop for Mapping {
        fn drop(&mut self) {
            // SAFETY: this mapping was made with that length, and its owner's borrows have ended.
            let _refused = unsafe { libc::munmap(self.address.as_ptr(), self.bytes) };
        }
    }
}
