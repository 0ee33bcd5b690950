//! [`MemoryLease`]: engine memory without access to its bytes.

use super::buffer::{Buffer, SharedBuffer};
use super::pool::Region;
use std::fmt;
use std::sync::Arc;

/// Keeps a buffer's memory from being returned, without access to its bytes.
///
/// For bindings: memory that another runtime sees as its own has one lease per owner, and one per
/// request in flight.
#[derive(Clone)]
pub struct MemoryLease {
    region: Arc<Region>,
}

impl MemoryLease {
    /// A lease of the buffer's memory. The buffer itself can be dropped.
    pub fn of(buffer: &Buffer) -> Self {
        Self { region: Arc::clone(buffer.region()) }
    }

    /// The same of a buffer that several share.
    pub fn of_shared(buffer: &SharedBuffer) -> Self {
        Self { region: Arc::clone(buffer.region()) }
    }

    /// A buffer of the first `len` bytes again, for memory that the other runtime has given up. No bytes are copied.
    ///
    /// # Errors
    /// The lease, if a request, a buffer or another lease has the memory, too, or it has fewer bytes.
    ///
    /// # Safety
    /// The other runtime does not use the memory any more: whatever showed it is detached.
    pub unsafe fn into_buffer(self, len: usize) -> Result<Buffer, Self> {
        Buffer::of_region(self.region, len).map_err(|region| Self { region })
    }

    /// The address of the first byte.
    pub fn address(&self) -> u64 {
        self.region.start.as_ptr() as u64
    }

    /// The size of the memory in bytes: that of the buffer when it was allocated, rounded up.
    pub fn bytes(&self) -> u64 {
        self.region.bytes as u64
    }
}

impl fmt::Debug for MemoryLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryLease({} bytes at {:#x})", self.bytes(), self.address())
    }
}
