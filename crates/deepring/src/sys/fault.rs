//! Where a simulation stands between us and the kernel: it may refuse a call, and decides what files and devices look like.
//!
//! Only with the feature `sim`, and only on a thread that installed an [`Interposer`]; every other thread talks to the kernel.

use super::Errno;
use super::device::Queue;
use std::cell::RefCell;
use std::os::fd::RawFd;
use std::rc::Rc;

/// A call that may be refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Open,
    /// The descriptor is closed whatever the answer.
    Close,
    Statx,
    Allocate {
        end: u64,
    },
    Truncate,
    Sync,
}

/// What answers in the kernel's place.
pub(crate) trait Interposer {
    /// The error that the call ends with instead of being made.
    fn refusal(&self, call: Call, fd: RawFd) -> Option<Errno>;

    /// Changes what `statx` tells of a file: its device and its alignment.
    fn describe(&self, fd: RawFd, stat: &mut libc::statx);

    /// Sets or clears `O_DIRECT`, which the file system below the simulation need not know.
    fn set_direct(&self, fd: RawFd, direct: bool);

    /// The queue of a device.
    fn queue(&self, major: u32, minor: u32) -> Option<Queue>;

    /// A bounce block was handed out: the device may touch it.
    fn lent(&self, address: u64, bytes: u64);

    /// Pool memory came back: nobody may touch it.
    fn returned(&self, address: u64, bytes: u64);
}

thread_local! {
    static INTERPOSER: RefCell<Option<Rc<dyn Interposer>>> = const { RefCell::new(None) };
}

/// Puts a simulation in the kernel's place on this thread, or takes it away.
pub(crate) fn install(interposer: Option<Rc<dyn Interposer>>) {
    INTERPOSER.set(interposer);
}

fn interposer() -> Option<Rc<dyn Interposer>> {
    INTERPOSER.with_borrow(Clone::clone)
}

pub(super) fn refuse(call: Call, fd: RawFd) -> Result<(), Errno> {
    interposer().and_then(|interposer| interposer.refusal(call, fd)).map_or(Ok(()), Err)
}

pub(super) fn describe(fd: RawFd, stat: &mut libc::statx) {
    if let Some(interposer) = interposer() {
        interposer.describe(fd, stat);
    }
}

/// Whether there was a simulation to do it.
pub(super) fn set_direct(fd: RawFd, direct: bool) -> bool {
    let interposer = interposer();
    if let Some(interposer) = &interposer {
        interposer.set_direct(fd, direct);
    }
    interposer.is_some()
}

pub(crate) fn lent(address: u64, bytes: u64) {
    if let Some(interposer) = interposer() {
        interposer.lent(address, bytes);
    }
}

pub(crate) fn returned(address: u64, bytes: u64) {
    if let Some(interposer) = interposer() {
        interposer.returned(address, bytes);
    }
}

/// Sets a file's size past the simulation, as a failing `fallocate` does.
pub(crate) fn resize(fd: RawFd, bytes: u64) {
    // SAFETY: no pointers.
    unsafe { libc::ftruncate(fd, bytes as libc::off_t) };
}

pub(super) fn queue(major: u32, minor: u32) -> Option<Queue> {
    interposer()?.queue(major, minor)
}
