//! The backend interface: submits device operations and reports each result.
//!
//! Planner, budget, slots and driver are the same for all backends. A backend keeps no policy: it
//! does not retry, split, or judge results. It owns no memory either. The driver keeps the buffer
//! and the file of every operation alive until its completion was taken from [`Backend::wait`].

pub(crate) mod interpose;
pub(crate) mod start;
pub(crate) mod threads;
mod uring;

use crate::plan::Direction;
use crate::slots::Key;
use crate::sys::Errno;
use std::os::fd::RawFd;

/// What moves the bytes: which backend an engine runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BackendKind {
    /// An `io_uring`, driven by one thread.
    Uring,
    /// `preadv2` and `pwritev2` on a few threads: for kernels, containers and sandboxes without
    /// `io_uring`.
    Threads,
}

impl BackendKind {
    /// The name, as in `DEEPRING_BACKEND`: `uring` or `threads`.
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
    /// What gets stuck together with the file.
    pub(crate) fate: u64,
    pub(crate) direction: Direction,
    pub(crate) address: u64,
    pub(crate) len: u32,
    pub(crate) position: u64,
    /// Fail with `EAGAIN` rather than block or be punted to a worker thread.
    pub(crate) nowait: bool,
}

/// The result of a device operation: bytes moved, or a negative error number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Done {
    pub(crate) key: Key,
    pub(crate) result: i32,
}

pub(crate) trait Backend {
    fn kind(&self) -> BackendKind;

    /// The limit on operations that are pushed and not yet returned by `wait`.
    fn capacity(&self) -> usize;

    /// Stages an operation. The driver never stages more than `capacity`.
    fn push(&mut self, op: DeviceOp);

    /// Hands everything staged to the device.
    ///
    /// # Errors
    /// The backend is lost: it will never report the results of what it holds, and the kernel can
    /// go on using that memory.
    fn submit(&mut self) -> Result<(), Errno>;

    /// Submits, then collects completions. With `block`, sleeps until there is at least one or the
    /// doorbell rings.
    ///
    /// # Errors
    /// As [`Backend::submit`]; completions that could still be read have been added to `done`.
    fn wait(&mut self, block: bool, done: &mut Vec<Done>) -> Result<(), Errno>;

    /// Gives the backend up with operations in flight. They go on in memory that the driver has leaked.
    fn abandon(self: Box<Self>);

    /// The backend that replaces this one when it was lost, or takes what this one must not get: one that is never lost.
    ///
    /// # Errors
    /// The replacement backend could not be started.
    fn successor(&self) -> Result<Box<dyn Backend>, Errno>;
}
