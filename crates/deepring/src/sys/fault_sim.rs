//! The seam between the engine's system calls and a simulation, which can fail a call and decides
//! how files and devices look.
//!
//! Only with the feature `sim`, and only on a thread that installed an [`Interposer`]. All other
//! threads call the kernel.

use super::Errno;
use super::device::Queue;
use super::space::{Extent, Room};
use std::cell::RefCell;
use std::ops::Range;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::time::Duration;

/// A call that a simulation can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Open,
    /// The descriptor is closed whether or not the call fails.
    Close,
    Statx,
    Allocate {
        start: u64,
        end: u64,
    },
    Truncate,
    Sync,
    /// A lock between processes.
    Lock,
}

/// What takes the kernel's place.
pub(crate) trait Interposer {
    /// The error that the call fails with; `None` to make the call.
    fn refusal(&self, call: Call, fd: RawFd) -> Option<Errno>;

    /// Replaces the device and the alignment that `statx` reported for a file.
    fn describe(&self, fd: RawFd, stat: &mut libc::statx);

    /// Sets or clears `O_DIRECT`, which the file system below the simulation need not support.
    fn set_direct(&self, fd: RawFd, direct: bool);

    /// The queue of a device.
    fn queue(&self, major: u32, minor: u32) -> Option<Queue>;

    /// The room on the file's file system.
    fn room(&self, fd: RawFd) -> Option<Room>;

    /// The extents of a part of a file.
    fn extents(&self, fd: RawFd, start: u64, end: u64) -> Option<Vec<Extent>>;

    /// The time since the simulation began.
    fn elapsed(&self) -> Duration;

    /// Whether direct I/O pins its pages.
    fn pins(&self) -> bool;

    /// Makes memory present. Returns whether the kernel can.
    fn populate(&self, range: &Range<u64>) -> bool;

    /// Memory is about to be touched.
    fn touch(&self, range: &Range<u64>);

    /// Which pages of a range are present, and which are not.
    fn resident(&self, range: &Range<u64>) -> Vec<(Range<u64>, bool)>;
}

thread_local! {
    static INTERPOSER: RefCell<Option<Rc<dyn Interposer>>> = const { RefCell::new(None) };
}

/// Installs a simulation on this thread, or removes it.
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

/// Returns whether a simulation did it.
pub(super) fn set_direct(fd: RawFd, direct: bool) -> bool {
    let interposer = interposer();
    if let Some(interposer) = &interposer {
        interposer.set_direct(fd, direct);
    }
    interposer.is_some()
}

/// Sets a file's size past the simulation, as a failing `fallocate` does.
pub(crate) fn resize(fd: RawFd, bytes: u64) {
    // SAFETY: no pointers.
    unsafe { libc::ftruncate(fd, bytes as libc::off_t) };
}

pub(super) fn queue(major: u32, minor: u32) -> Option<Queue> {
    interposer()?.queue(major, minor)
}

pub(super) fn room(fd: RawFd) -> Option<Room> {
    interposer()?.room(fd)
}

pub(super) fn extents(fd: RawFd, start: u64, end: u64) -> Option<Vec<Extent>> {
    interposer()?.extents(fd, start, end)
}

pub(crate) fn elapsed() -> Option<Duration> {
    Some(interposer()?.elapsed())
}

pub(crate) fn pins() -> Option<bool> {
    Some(interposer()?.pins())
}

/// Makes memory present. Returns whether the simulated kernel can.
pub(super) fn populate(range: &Range<u64>) -> Option<bool> {
    Some(interposer()?.populate(range))
}

/// Memory is about to be touched.
pub(super) fn touch(range: &Range<u64>) {
    if let Some(interposer) = interposer() {
        interposer.touch(range);
    }
}

/// Which pages of a range are present, and which are not.
pub(super) fn resident(range: &Range<u64>) -> Option<Vec<(Range<u64>, bool)>> {
    Some(interposer()?.resident(range))
}
