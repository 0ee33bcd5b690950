//! The machine room: something that takes device operations and, later, tells what became of each.
//!
//! Planner, budget, slots and driver are the same for all backends. A backend keeps no policy: it does not retry, split, or judge results.
//! It owns no memory either; the driver keeps buffer and file of every operation alive until its completion was taken from [`Backend::wait`].

pub(crate) mod interpose;
pub(crate) mod start;
pub(crate) mod threads;
mod uring;

use crate::plan::Direction;
use crate::slots::Key;
use crate::sys::Errno;
use std::os::fd::RawFd;

/// Which backend an engine runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BackendKind {
    /// An `io_uring`, driven by one thread.
    Uring,
    /// `preadv2` and `pwritev2` on a few threads: for kernels, containers and sandboxes without `io_uring`.
    Threads,
}

impl BackendKind {
    /// The name, as in `DEEPRING_BACKEND`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Uring => "uring",
            Self::Threads => "threads",
        }
    }
}

/// One transfer between a file range and memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeviceOp {
    pub(crate) key: Key,
    pub(crate) fd: RawFd,
    pub(crate) direction: Direction,
    pub(crate) address: u64,
    pub(crate) len: u32,
    pub(crate) position: u64,
    /// Fail with `EAGAIN` instead of blocking or being handed to a worker thread.
    pub(crate) nowait: bool,
}

/// What became of it: bytes moved, or a negative error number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Done {
    pub(crate) key: Key,
    pub(crate) result: i32,
}

pub(crate) trait Backend {
    fn kind(&self) -> BackendKind;

    /// How many operations may be between `push` and `wait` at once.
    fn capacity(&self) -> usize;

    /// Stages an operation. The driver never stages more than `capacity`.
    fn push(&mut self, op: DeviceOp);

    /// Hands everything staged to the device.
    ///
    /// # Errors
    /// The backend is lost: it will never report on what it holds, and the kernel may go on using that memory.
    fn submit(&mut self) -> Result<(), Errno>;

    /// Submits, then collects completions; with `block`, sleeps until there is at least one or the inbox's event is signalled.
    ///
    /// # Errors
    /// As [`Backend::submit`]; completions that could still be read have been added to `done`.
    fn wait(&mut self, block: bool, done: &mut Vec<Done>) -> Result<(), Errno>;

    /// What goes on in the place of this backend when it was lost.
    ///
    /// # Errors
    /// It cannot be had.
    fn successor(&self) -> Result<Box<dyn Backend>, Errno>;
}
