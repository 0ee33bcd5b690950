//! How an operation's end is told: the seam between the driver and whoever asked (a future, a binding).

use crate::backend::BackendKind;
use crate::error::Result;
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

/// How a request ended.
#[derive(Debug)]
pub struct Outcome {
    /// The receipt, or what went wrong.
    pub result: Result<Receipt>,
    /// The ring was lost and the kernel may still write to the request's memory: it must never be freed or reused.
    pub memory_lost: bool,
}

/// Receives the end of one request.
///
/// Called exactly once, on a thread of the engine: it must not block, and not submit and wait for further work.
pub trait Completion: Send + Sync {
    /// The request has ended. Unless `memory_lost`, its memory is the caller's again.
    fn settle(self: Arc<Self>, outcome: Outcome);

    /// Whether whoever asked has lost interest. Queued work then leaves at once; work at the device settles first.
    fn canceled(&self) -> bool;
}
