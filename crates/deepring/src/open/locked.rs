//! What an open file locks for its writes: ranges within this copy of the engine, and bytes and the
//! end of the file between copies.

use super::OpenFile;
use crate::inode::RangeLock;
use crate::locks::{Attempt, FileLocks};
use crate::plan::Extent;
use crate::sys::lock::Range;
use std::ops;

/// Writes that are not whole units of this size can meet the edge of another copy's write.
const SHARED_UNIT: u64 = 4096;

/// The locks of one block of a write.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockLock {
    range: RangeLock,
    /// The bytes locked between copies.
    bytes: Option<Bytes>,
}

/// A part of the file that is locked between copies.
#[derive(Debug, Clone, Copy)]
struct Bytes {
    start: u64,
    end: u64,
    shared: bool,
}

/// Why a block cannot be locked between copies.
#[derive(Debug, Clone, Copy)]
pub(crate) enum NoLock {
    /// Another copy or process holds a lock, at this place.
    Busy(Range),
    /// There are no locks, and another copy in this process has the file open.
    TwoCopies,
}

impl BlockLock {
    /// The range locked within this copy.
    pub(crate) fn range(&self) -> RangeLock {
        self.range
    }

    /// Where the locked range ends.
    pub(crate) fn end(&self) -> u64 {
        self.range.end
    }
}

impl OpenFile {
    /// Locks a block between copies that holds `range` within this one. Never waits.
    ///
    /// # Errors
    /// The block cannot be written now.
    pub(crate) fn lock_block(&self, extent: &Extent, range: RangeLock) -> Result<BlockLock, NoLock> {
        let Some(bytes) = self.bytes_to_lock(extent) else { return Ok(BlockLock { range, bytes: None }) };
        match self.locks.lock_bytes(self.fd(), bytes.start, bytes.end, bytes.shared) {
            Attempt::Locked => Ok(BlockLock { range, bytes: Some(bytes) }),
            Attempt::Without => Ok(BlockLock { range, bytes: None }),
            Attempt::Busy => Err(NoLock::Busy(FileLocks::place(bytes.start, bytes.end))),
            Attempt::TwoCopies => Err(NoLock::TwoCopies),
        }
    }

    fn bytes_to_lock(&self, extent: &Extent) -> Option<Bytes> {
        let (start, end) = (extent.file_start, extent.file_end());
        let is_direct = self.is_direct();
        let is_partial = !start.is_multiple_of(SHARED_UNIT) || !end.is_multiple_of(SHARED_UNIT);
        let needed = if is_direct { extent.rmw } else { is_partial };
        (needed && self.locks.guards_units()).then_some(Bytes { start, end, shared: !is_direct && !extent.rmw })
    }

    /// The units that these bytes cover in part or whole, if another copy can write one of them in part.
    pub(crate) fn units_to_lock(&self, bytes: &ops::Range<u64>) -> Option<ops::Range<u64>> {
        let unit = self.padding_unit().max(SHARED_UNIT);
        let is_partial = !bytes.start.is_multiple_of(unit) || !bytes.end.is_multiple_of(unit);
        (is_partial && self.locks.guards_units()).then(|| bytes.start - bytes.start % unit..bytes.end.next_multiple_of(unit))
    }

    /// Locks units between copies. Never waits.
    pub(crate) fn lock_units(&self, units: &ops::Range<u64>) -> Attempt {
        self.locks.lock_bytes(self.fd(), units.start, units.end, false)
    }

    pub(crate) fn unlock_units(&self, units: &ops::Range<u64>) {
        self.locks.unlock_bytes(self.fd(), units.start, units.end, false);
    }

    /// Releases the locks of a block.
    pub(crate) fn unlock_block(&self, lock: BlockLock) {
        if let Some(Bytes { start, end, shared }) = lock.bytes {
            self.locks.unlock_bytes(self.fd(), start, end, shared);
        }
        self.inode.unlock_range(lock.range);
    }

    /// A request is about to measure and move the end of the file. Unless another copy holds it,
    /// [`crate::inode::Inode::leave_end`] must follow.
    pub(crate) fn enter_end(&self) -> Attempt {
        let attempt = self.inode.end_hold().enter(&self.locks, self.fd());
        if attempt == Attempt::Busy {
            self.inode.yield_kept_end();
        }
        attempt
    }

    pub(crate) fn begin_waiting(&self) {
        self.locks.begin_waiting(self.fd());
    }

    pub(crate) fn end_waiting(&self) {
        self.locks.end_waiting(self.fd());
    }
}
