//! [`Map`]: one mapping of whole huge pages, and the list of all that exist.

use crate::error::{Error, Result};
use crate::sys::memory;
use crate::sys::process::Process;
use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::{PoisonError, RwLock};

/// The mappings of all pools of the process: start and end.
static MAPS: RwLock<BTreeMap<u64, u64>> = RwLock::new(BTreeMap::new());

/// Whether all of the range is memory of an engine, which a forked child does not inherit.
pub(crate) fn is_engine_memory(address: u64, len: u64) -> bool {
    let maps = MAPS.read().unwrap_or_else(PoisonError::into_inner);
    maps.range(..=address).next_back().is_some_and(|(_, &end)| address + len <= end)
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
            MAPS.write().unwrap_or_else(PoisonError::into_inner).insert(start, start + bytes as u64);
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
        MAPS.write().unwrap_or_else(PoisonError::into_inner).remove(&(self.start.as_ptr() as u64));
        // SAFETY: the range is this mapping's own, and its last owner drops it: no buffer and no
        // operation refers to it any more.
        unsafe { memory::unmap(self.start, self.bytes) };
    }
}
