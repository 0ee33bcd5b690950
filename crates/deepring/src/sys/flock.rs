//! Advisory locks on whole files (`flock`): they belong to one opening of a file, and to the descriptors that a fork copies.

use super::lock::Kind;
use super::{Errno, check, retry};
use std::os::fd::AsRawFd;

/// Takes a lock. Returns whether nothing conflicts with it.
pub(crate) fn try_lock(fd: &impl AsRawFd, kind: Kind) -> Result<bool, Errno> {
    // SAFETY: no pointers.
    match retry(|| check(unsafe { libc::flock(fd.as_raw_fd(), number(kind) | libc::LOCK_NB) }.into())) {
        Ok(_) => Ok(true),
        Err(libc::EWOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Takes a lock, once nothing conflicts with it any more.
pub(crate) fn lock(fd: &impl AsRawFd, kind: Kind) -> Result<(), Errno> {
    // SAFETY: no pointers.
    retry(|| check(unsafe { libc::flock(fd.as_raw_fd(), number(kind)) }.into())).map(drop)
}

/// Releases the lock of the opening, for all its descriptors.
pub(crate) fn unlock(fd: &impl AsRawFd) {
    // It cannot fail: the descriptor is open.
    // SAFETY: no pointers.
    unsafe { libc::flock(fd.as_raw_fd(), libc::LOCK_UN) };
}

fn number(kind: Kind) -> i32 {
    match kind {
        Kind::Shared => libc::LOCK_SH,
        Kind::Exclusive => libc::LOCK_EX,
    }
}
