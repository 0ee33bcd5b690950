//! Which inodes the process knows: one per file, for as long as any part of the process has it open.

use super::{Inode, lock};
use crate::sys::process::PerProcess;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};

/// Identifies a file for the life of the process: device, inode number, and birth time, so that a recycled number is
/// another file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    pub(crate) device: u64,
    pub(crate) number: u64,
    pub(crate) born_ns: i128,
}

static REGISTRY: PerProcess<Mutex<HashMap<Identity, Weak<Inode>>>> = PerProcess::new();

/// Inodes whose fsync failed: kept until the process ends, even when nothing has them open.
static FAILED: PerProcess<Mutex<Vec<Arc<Inode>>>> = PerProcess::new();

/// How many dead registry entries are tolerated before they are swept.
const REGISTRY_SWEEP_LEN: usize = 1024;

impl Inode {
    /// The one inode of this identity. `size` is the size on disk now; it counts unless an extender is at work.
    pub(crate) fn of(identity: Identity, size: u64) -> Arc<Self> {
        let mut registry = lock(REGISTRY.get());
        if let Some(inode) = registry.get(&identity).and_then(Weak::upgrade) {
            // In this order: a failure that is latched in between makes for one holder more, not one fewer. While the
            // registry is locked, no other thread can take up the inode.
            let remembered = usize::from(inode.sync_failure().is_some());
            let is_closed = Arc::strong_count(&inode) == 1 + remembered;
            drop(registry);
            if is_closed {
                // Only the failure of its fsync is remembered; nothing has it open. Its padding is another process's.
                inode.mark_clean();
            }
            inode.adopt_measured_if_quiet(size);
            return inode;
        }
        if registry.len() >= REGISTRY_SWEEP_LEN && registry.len().is_power_of_two() {
            registry.retain(|_, inode| inode.strong_count() > 0);
        }
        let inode = Arc::new(Self::new(size));
        registry.insert(identity, Arc::downgrade(&inode));
        inode
    }

    /// Remembers that an `fsync` of the file failed, until the process ends.
    pub(crate) fn latch_sync_failure(self: &Arc<Self>, errno: i32) {
        // Kept once, and before it counts as kept.
        let mut failed = lock(FAILED.get());
        let mut state = lock(&self.state);
        if state.sync_failed.is_none() {
            failed.push(Arc::clone(self));
            state.sync_failed = Some(errno);
        }
    }
}
