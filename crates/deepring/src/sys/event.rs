//! What a sleeping driver waits for besides its completions: an `eventfd`.

use super::{Errno, check};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// A counter that wakes the thread that reads it.
#[derive(Debug)]
pub(crate) struct Event(OwnedFd);

impl Event {
    pub(crate) fn new() -> Result<Self, Errno> {
        // SAFETY: eventfd takes no pointer.
        let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) }.into())?;
        // SAFETY: the descriptor was just created and has no other owner.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd as RawFd) }))
    }

    /// Wakes the reader. Cannot block: the counter would have to reach 2^64 - 1.
    pub(crate) fn signal(&self) {
        let one = 1u64;
        // SAFETY: reads eight bytes of a local.
        unsafe { libc::write(self.0.as_raw_fd(), (&raw const one).cast(), 8) };
    }

    /// Sleeps until signaled.
    pub(crate) fn wait(&self) {
        let mut count = 0u64;
        // SAFETY: writes eight bytes into a local. EINTR cannot happen (all signals are blocked
        // here) and would only be a spurious wake.
        unsafe { libc::read(self.0.as_raw_fd(), (&raw mut count).cast(), 8) };
    }

    pub(crate) fn raw(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
