//! Zeroed, cache-line-aligned memory on huge pages where the system has them.
#![expect(unsafe_code, reason = "allocation with an alignment and a page size of its own")]

use std::{
    alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error},
    ops::{Deref, DerefMut},
    ptr::NonNull,
    slice,
};

/// Size of a huge page, and the alignment of buffers at least as large.
const HUGE_PAGE: usize = 2 << 20;

/// Alignment of smaller buffers.
const CACHE_LINE: usize = 64;

/// A fixed number of floats, zero at first.
#[derive(Debug)]
pub(crate) struct Buffer {
    start: NonNull<f32>,
    length: usize,
    layout: Layout,
}

// SAFETY: a buffer owns its memory and hands it out only through borrows of itself.
unsafe impl Send for Buffer {}

// SAFETY: as above; a shared borrow only reads.
unsafe impl Sync for Buffer {}

impl Buffer {
    pub(crate) fn zeroed(length: usize) -> Self {
        let bytes = length.max(1) * size_of::<f32>();
        let huge = bytes >= HUGE_PAGE;
        let alignment = if huge { HUGE_PAGE } else { CACHE_LINE };
        let layout = Layout::from_size_align(bytes, alignment)
            .expect("the alignment is a power of two and no map reaches half the address space");
        // SAFETY: the layout's size is not zero.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        let start = start.cast::<f32>();
        if huge {
            advise_huge_pages(start, bytes);
        }
        Self { start, length, layout }
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
        // SAFETY: the memory came from `alloc_zeroed` with this very layout.
        unsafe { dealloc(self.start.as_ptr().cast(), self.layout) }
    }
}

/// Asks for huge pages: first touch of a map on small pages costs as much as a convolution over it.
#[cfg(target_os = "linux")]
fn advise_huge_pages(start: NonNull<f32>, bytes: usize) {
    // SAFETY: the range was just allocated and is owned by the caller; the advice changes the page
    // size behind it, never its content. A refusal leaves small pages, which is only slower.
    let _refused = unsafe { libc::madvise(start.as_ptr().cast(), bytes, libc::MADV_HUGEPAGE) };
}

#[cfg(not(target_os = "linux"))]
fn advise_huge_pages(_start: NonNull<f32>, _bytes: usize) {}
