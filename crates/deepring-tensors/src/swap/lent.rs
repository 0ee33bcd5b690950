//! [`Lent`]: memory of a lease, as another runtime gets it.

use deepring::Buffer;
use deepring::binding::MemoryLease;

/// Memory that a lease of a swap store or a swapper has lent to another runtime, until the lease ends.
#[derive(Debug)]
pub struct Lent {
    /// Keeps it from being returned.
    pub memory: MemoryLease,
    /// Where its bytes begin.
    pub address: u64,
    /// How many there are.
    pub len: usize,
}

impl Lent {
    /// The first bytes of a buffer, to be changed.
    pub(super) fn of(buffer: &mut Buffer, len: usize) -> Self {
        Self { memory: MemoryLease::of(buffer), address: buffer[..len].as_mut_ptr() as u64, len }
    }
}
