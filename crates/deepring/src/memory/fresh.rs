//! [`Fresh`]: memory that was never touched. The kernel makes its pages, and zeroes them, when they are
//! first used. A device's reads use them on the thread that submits, one after the other, so the
//! engine has them made before that by other threads.
//!
//! Of engine memory it is known what is present ([`Presence`]). Of other memory the kernel is asked.

use super::map::presence_of;
use super::presence::Presence;
use crate::sys::memory;
use std::ops::Range;
use std::sync::Arc;

/// Without huge pages, engine memory is made present in grains of this size: one fault is cheaper than
/// handing it to a thread.
const GRAIN_BYTES: u64 = 64 << 10;

/// Looks for memory that is not present. It remembers the mapping that it found last.
#[derive(Default)]
pub(crate) struct Finder {
    last: Option<Arc<Presence>>,
}

/// Memory that is not present.
#[derive(Debug)]
pub(crate) struct Fresh {
    range: Range<u64>,
    /// Of engine memory.
    known: Option<Arc<Presence>>,
}

/// The grain in which engine memory becomes present: what the kernel gives anyway.
fn grain() -> u64 {
    if memory::huge_pages().is_used() { memory::HUGE_PAGE_BYTES as u64 } else { GRAIN_BYTES }
}

impl Finder {
    /// Whether the device would have to wait for pages of this range. Memory that is not the engine's is looked at from
    /// `foreign_min` bytes on, because that takes a system call.
    pub(crate) fn find(&mut self, address: u64, len: u64, foreign_min: u64) -> Option<Fresh> {
        let range = address..address.checked_add(len).filter(|&end| end > address)?;
        if self.last.as_ref().is_none_or(|last| !last.covers(&range)) {
            self.last = presence_of(&range).or(self.last.take());
        }
        let Some(known) = self.last.as_ref().filter(|last| last.covers(&range)) else {
            let is_fresh = len >= foreign_min && !memory::is_resident(&range);
            return is_fresh.then_some(Fresh { range, known: None });
        };
        if known.has(&range) {
            return None;
        }
        // The program can have touched it.
        known.learn(&known.around(&range, grain()));
        let is_fresh = !known.has(&range);
        is_fresh.then(|| Fresh { range, known: Some(Arc::clone(known)) })
    }
}

impl Fresh {
    pub(crate) fn bytes(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// Makes it present. Blocks. What the kernel refuses is left to the transfer, which reports it.
    pub(crate) fn populate(&self) {
        let Some(known) = &self.known else {
            memory::populate(&self.range);
            return;
        };
        let around = known.around(&self.range, grain());
        if memory::populate(&around) {
            known.learn(&around);
        } else {
            // Only bytes of this range: nothing else has them before the device gets them.
            // SAFETY: they are the request's memory, in a mapping of ours, and not in flight yet.
            unsafe { memory::touch_pages(&self.range) };
            known.add(&self.range);
        }
    }
}
