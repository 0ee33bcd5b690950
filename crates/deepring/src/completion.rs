//! How an operation's end is told: the seam between the driver and whoever asked (a future, a binding).

use crate::backend::BackendKind;
use crate::error::Result;
use crate::handle::Handle;
use crate::plan::Direction;
use std::sync::Arc;
use std::time::Duration;

/// What a request did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// Bytes moved between the file and the request's memory.
    pub bytes: u64,
    /// Which backend moved them.
    pub backend: BackendKind,
    /// Whether every block bypassed the page cache.
    pub direct: bool,
    /// Device operations that made up the request.
    pub blocks: u32,
    /// Bytes that were copied through bounce blocks, because position, length or address is not aligned.
    pub bounced: u64,
    /// Device operations that moved less than asked and were continued.
    pub resumed: u32,
    /// Device operations repeated after `EINTR`, `EAGAIN`, or a refusal of `RWF_NOWAIT`.
    pub retried: u32,
    /// From acceptance until the first block went to the device.
    pub queue: Duration,
    /// From then until the last block was done.
    pub device: Duration,
}

impl Receipt {
    /// The receipt of a request for no bytes, for which nothing was done.
    pub(crate) fn empty(backend: BackendKind, direct: bool) -> Self {
        let (queue, device) = (Duration::ZERO, Duration::ZERO);
        Self { bytes: 0, backend, direct, blocks: 0, bounced: 0, resumed: 0, retried: 0, queue, device }
    }
}

/// How a request ended.
#[derive(Debug)]
pub struct Outcome {
    /// The receipt, or what went wrong.
    pub result: Result<Receipt>,
    /// The ring was lost and the kernel may still write to the request's memory: it must never be freed or reused.
    pub memory_lost: bool,
}

/// Receives the outcome of one request.
pub trait Completion: Send + Sync {
    /// Called exactly once. Unless `memory_lost`, the request's memory is the caller's again.
    ///
    /// It runs on a thread of the engine, or on the thread that submits if the request is settled at once: it was
    /// refused, or is for no bytes. It must not block, and must not wait for another request.
    fn settle(self: Arc<Self>, outcome: Outcome);

    /// Whether whoever asked has lost interest. Queued work then leaves at once; work at the device settles first.
    fn canceled(&self) -> bool;
}

/// A transfer on memory that the engine does not own.
///
/// # Safety
/// Whoever submits one vouches that `address..address + len` stays valid and in place until the completion is settled, and for ever if
/// it is settled with `memory_lost`; and that nobody writes to it meanwhile, nor, if the direction is [`Direction::Read`], reads it.
#[derive(Debug, Clone)]
pub struct RawTransfer {
    /// Which way.
    pub direction: Direction,
    /// Where the memory begins.
    pub address: u64,
    /// How long it is, in bytes.
    pub len: u64,
    /// Where in the file the transfer begins.
    pub position: u64,
    /// Whether a read that meets the end of the file is an error.
    pub exact: bool,
    /// A limit below the device's.
    pub handle: Option<Arc<Handle>>,
}
