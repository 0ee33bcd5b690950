//! The client's buffers: each reports to the world when it is freed, and whether its surroundings
//! are intact.

use super::world;
use crate::memory::{IoBuf, IoBufMut};
use crate::planted::{PlantedBug, planted};

/// Fills the guards on both sides of a [`GuardedBuffer`].
const GUARD: u8 = 0xa6;
const GUARD_BYTES: usize = 64;
/// Fills a buffer before it is read into. Even, so it is never content, which is odd.
pub(crate) const UNREAD: u8 = 0xee;

/// A buffer at any address, with a guard on both sides.
#[derive(Debug)]
pub(crate) struct GuardedBuffer {
    space: Vec<u8>,
    start: usize,
    len: usize,
    id: u64,
}

impl GuardedBuffer {
    /// `len` bytes for the request `id`, at an address `offset` bytes past a multiple of 4096.
    pub(crate) fn new(id: u64, len: usize, offset: usize) -> Self {
        let mut space = vec![UNREAD; len + 4096 + offset + 2 * GUARD_BYTES];
        let first = space.as_ptr() as usize + GUARD_BYTES;
        let start = first.next_multiple_of(4096) + offset - space.as_ptr() as usize;
        space[start - GUARD_BYTES..start].fill(GUARD);
        space[start + len..start + len + GUARD_BYTES].fill(GUARD);
        world::with(|world| world.live_buffers += 1);
        Self { space, start, len, id }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.space[self.start..self.start + self.len]
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.space[self.start..self.start + self.len]
    }

    pub(crate) fn address(&self) -> u64 {
        self.space.as_ptr() as u64 + self.start as u64
    }

    /// Whether both guards are unchanged.
    pub(crate) fn is_intact(&self) -> bool {
        let before = &self.space[self.start - GUARD_BYTES..self.start];
        let after = &self.space[self.start + self.len..self.start + self.len + GUARD_BYTES];
        before.iter().chain(after).all(|&byte| byte == GUARD)
    }
}

impl Drop for GuardedBuffer {
    fn drop(&mut self) {
        let (id, address, len, intact) = (self.id, self.address(), self.len as u64, self.is_intact());
        world::with(|world| world.buffer_freed(id, address, len, intact));
        if planted(PlantedBug::FreesOnDrop) {
            // The driver would copy to it before the violation ends the run.
            std::mem::forget(std::mem::take(&mut self.space));
        }
        world::panic_sometimes();
    }
}

// SAFETY: the vector is never resized, and its heap block stays in place when the value is moved.
unsafe impl IoBuf for GuardedBuffer {
    fn as_ptr(&self) -> *const u8 {
        self.bytes().as_ptr()
    }
    fn len(&self) -> usize {
        self.len
    }
}

// SAFETY: the value owns its vector.
unsafe impl IoBufMut for GuardedBuffer {
    fn as_mut_ptr(&mut self) -> *mut u8 {
        self.bytes_mut().as_mut_ptr()
    }
}
