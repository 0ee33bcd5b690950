//! [`Map`]: one mapping of whole huge pages, and the list of all that exist.

use super::presence::Presence;
use crate::error::{Error, Result};
use crate::sys::memory;
use crate::sys::process::Process;
use std::collections::BTreeMap;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::{Arc, PoisonError, RwLock};

/// The mappings of all pools of the process, by their start.
static MAPS: RwLock<BTreeMap<u64, Arc<Presence>>> = RwLock::new(BTreeMap::new());

/// Whether all of the range is memory of an engine, which a forked child does not inherit.
pub(crate) fn is_engine_memory(address: u64, len: u64) -> bool {
    presence_of(&(address..address + len)).is_some()
}

/// What is known about the pages of this range; `None` unless all of it is memory of an engine, which
/// a forked child does not inherit.
pub(super) fn presence_of(range: &Range<u64>) -> Option<Arc<Presence>> {
    let maps = MAPS.read().unwrap_or_else(PoisonError::into_inner);
    let (_, presence) = maps.range(..=range.start).next_back()?;
    presence.covers(range).then(|| Arc::clone(presence))
}

/// The kernel has the pages of this memory of an engine, or may take them.
pub(crate) fn forget(start: NonNull<u8>, bytes: usize) {
    let start = start.as_ptr() as u64;
    let range = start..start + bytes as u64;
    if let Some(presence) = presence_of(&range) {
        presence.forget(&range);
    }
}

/// One mapping of whole huge pages.
pub(super) struct Map {
    pub(super) start: NonNull<u8>,
    pub(super) bytes: usize,
    /// A forked child does not inherit the mapping, and can have another one at its address.
    process: Process,
}

// SAFETY: a mapping is plain memory. The value owns it, on any thread.
unsafe impl Send for Map {}
// SAFETY: a shared `Map` gives only its address.
unsafe impl Sync for Map {}

impl Map {
    pub(super) fn new(bytes: usize) -> Result<Self> {
        let mapped = memory::map(bytes).map_err(|errno| Error::os(errno, "mmap").range(0, bytes as u64, 0))?;
        if mapped.private {
            let start = mapped.start.as_ptr() as u64;
            let presence = Arc::new(Presence::new(start..start + bytes as u64));
            MAPS.write().unwrap_or_else(PoisonError::into_inner).insert(start, presence);
        }
        Ok(Self { start: mapped.start, bytes, process: Process::current() })
    }

    /// Whether this process is a child of the one that made the mapping.
    pub(super) fn is_parents(&self) -> bool {
        self.process.is_parent()
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        if self.is_parents() {
            return;
        }
        let presence = MAPS.write().unwrap_or_else(PoisonError::into_inner).remove(&(self.start.as_ptr() as u64));
        if let Some(presence) = presence {
            presence.end();
        }
        // SAFETY: the range is this mapping's own, and its last owner drops it: no buffer and no
        // operation refers to it any more.
        unsafe { memory::unmap(self.start, self.bytes) };
    }
}
