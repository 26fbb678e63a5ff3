//! Buffers that outlive the maps in them.

use std::{
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, PoisonError},
};

use super::buffer::Buffer;

/// Keeps the buffers of dropped maps for the maps of the next layer or window.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    free: Mutex<Vec<Buffer>>,
}

/// A buffer on loan; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Loan {
    /// Present until the drop.
    buffer: Option<Buffer>,
    length: usize,
    arena: Arc<Arena>,
}

impl Arena {
    /// At least `length` floats, of any content.
    pub(crate) fn take(self: &Arc<Self>, length: usize) -> Loan {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |buffer: &Buffer| buffer.len() >= length && buffer.len() / 5 * 4 <= length;
        let best = free.iter().enumerate().filter(|(_, buffer)| fits(buffer));
        let best = best.min_by_key(|(_, buffer)| buffer.len()).map(|(index, _)| index);
        let kept = best.map(|index| free.swap_remove(index));
        drop(free);
        let buffer = kept.unwrap_or_else(|| Buffer::zeroed(length));
        Loan { buffer: Some(buffer), length, arena: Arc::clone(self) }
    }

    /// Returns every free buffer to the system.
    pub(crate) fn release(&self) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Deref for Loan {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        let buffer = self.buffer.as_ref().expect("the buffer leaves only in drop");
        &buffer[..self.length]
    }
}

impl DerefMut for Loan {
    fn deref_mut(&mut self) -> &mut [f32] {
        let buffer = self.buffer.as_mut().expect("the buffer leaves only in drop");
        &mut buffer[..self.length]
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let Some(buffer) = self.buffer.take() else { return };
        self.arena.free.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
    }
}
