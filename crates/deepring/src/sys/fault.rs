//! The seam between the engine's system calls and a simulation, as it ships: no call fails here, and
//! the compiler removes every question. With the feature `sim`, `fault_sim.rs` takes its place.

use super::Errno;
use super::device::Queue;
use super::space::{Extent, Room};
use std::ops::Range;
use std::os::fd::RawFd;
use std::time::Duration;

/// A call that a simulation can fail.
#[derive(Debug, Clone, Copy)]
pub(super) enum Call {
    Open,
    Close,
    Statx,
    #[expect(dead_code, reason = "only a simulation reads the fields")]
    Allocate {
        start: u64,
        end: u64,
    },
    Truncate,
    Sync,
    /// A lock between processes.
    Lock,
}

#[expect(clippy::unnecessary_wraps, reason = "a simulation refuses calls")]
pub(super) const fn refuse(_: Call, _: RawFd) -> Result<(), Errno> {
    Ok(())
}

pub(super) const fn describe(_: RawFd, _: &mut libc::statx) {}

pub(super) const fn set_direct(_: RawFd, _: bool) -> bool {
    false
}

pub(super) const fn queue(_: u32, _: u32) -> Option<Queue> {
    None
}

pub(super) const fn room(_: RawFd) -> Option<Room> {
    None
}

pub(super) const fn extents(_: RawFd, _: u64, _: u64) -> Option<Vec<Extent>> {
    None
}

pub(crate) const fn elapsed() -> Option<Duration> {
    None
}

pub(crate) const fn pins() -> Option<bool> {
    None
}

pub(super) const fn populate(_: &Range<u64>) -> Option<bool> {
    None
}

pub(super) const fn touch(_: &Range<u64>) {}

pub(super) const fn resident(_: &Range<u64>) -> Option<[(Range<u64>, bool); 0]> {
    None
}
