//! How a request's outcome reaches its caller: the driver's side of a future or a binding.

use crate::backend::BackendKind;
use crate::digest::Checksum;
use crate::error::{Error, ErrorKind, Result};
use crate::handle::Handle;
use crate::plan::Direction;
use crate::priority::Priority;
use crate::unwind::contain;
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

/// What a successful request did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// Bytes moved between the file and the request's memory.
    pub bytes: u64,
    /// The backend that moved them.
    pub backend: BackendKind,
    /// Whether every block bypassed the page cache.
    pub direct: bool,
    /// Blocks that the request was cut into.
    pub blocks: u32,
    /// Bytes copied through bounce blocks, because position, length or address is not aligned.
    pub bounced: u64,
    /// Device operations that moved less than requested and were continued.
    pub resumed: u32,
    /// Device operations repeated after `EINTR`, `EAGAIN`, or a refusal of `RWF_NOWAIT`.
    pub retried: u32,
    /// The time from acceptance until the first block went to the device.
    pub queue: Duration,
    /// The time from then until the last block was done, and summed if a checksum was asked for.
    pub device: Duration,
    /// The CRC-32C of the bytes that were moved, if it was asked for.
    pub checksum: Option<u32>,
}

impl Receipt {
    /// The receipt of a request for no bytes, for which nothing was done.
    pub(crate) fn empty(backend: BackendKind, direct: bool, checksum: Option<u32>) -> Self {
        let (queue, device) = (Duration::ZERO, Duration::ZERO);
        Self { bytes: 0, backend, direct, blocks: 0, bounced: 0, resumed: 0, retried: 0, queue, device, checksum }
    }

    /// Adds what a part of the request did. The times are those of the part that took longest.
    pub(crate) fn include(&mut self, part: &Self) {
        self.bytes += part.bytes;
        self.backend = part.backend;
        self.direct &= part.direct;
        self.blocks += part.blocks;
        self.bounced += part.bounced;
        self.resumed += part.resumed;
        self.retried += part.retried;
        self.queue = self.queue.max(part.queue);
        self.device = self.device.max(part.device);
    }
}

/// The outcome of a request.
#[derive(Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// The receipt, or the error.
    pub result: Result<Receipt>,
    /// The ring was lost, and the kernel can still write to the request's memory: it must never be
    /// freed or reused.
    pub memory_lost: bool,
}

impl Outcome {
    /// That of a request which failed before its memory was lent.
    pub fn failed(error: Error) -> Self {
        Self { result: Err(error), memory_lost: false }
    }
}

/// Receives the outcome of one request.
///
/// Its methods, and its `Drop`, run on threads of the engine. A panic there is caught and counted in
/// [`Stats::panics`](crate::Stats::panics). It harms no other request.
pub trait Completion: Send + Sync {
    /// Called exactly once. Unless `memory_lost`, the request's memory is the caller's again.
    ///
    /// It runs on a thread of the engine, or on the thread that submits if the request is settled
    /// at once: it was refused, or is for no bytes. It must not block, and must not wait for
    /// another request.
    fn settle(self: Arc<Self>, outcome: Outcome);

    /// Whether the caller has canceled the request. Blocks that are queued then leave at once,
    /// blocks at the device complete first.
    fn canceled(&self) -> bool;

    /// As [`Completion::settle`], for one that many transfers share: called once for each, with its
    /// [`RawTransfer::tag`].
    fn settle_tagged(self: Arc<Self>, tag: u64, outcome: Outcome) {
        let _ = tag;
        self.settle(outcome);
    }

    /// As [`Completion::canceled`], likewise.
    fn canceled_tagged(&self, tag: u64) -> bool {
        let _ = tag;
        self.canceled()
    }

    /// In place of [`Completion::settle_tagged`], where the transfer was canceled before it began: with what makes its error,
    /// for which a binding may have no use.
    fn drop_tagged(self: Arc<Self>, tag: u64, error: &dyn Fn() -> Error) {
        self.settle_tagged(tag, Outcome::failed(error()));
    }

    /// In place of [`Completion::drop_tagged`], for several transfers of one file that were canceled before they began: with
    /// their tags, in the order of their outcomes. Returns whether it has taken them, all or none. If it has not, each is passed
    /// to `drop_tagged`; if it panics, it has.
    fn drop_together(&self, tags: &[u64]) -> bool {
        let _ = tags;
        false
    }
}

/// The engine's hold of a completion, which it settles once. One that is dropped without an outcome
/// reports that the engine has failed: a caller never waits for an outcome that no thread will
/// deliver.
pub(crate) struct Reply {
    completion: Option<Arc<dyn Completion>>,
    tag: u64,
    /// The device may have the request's memory.
    lent: bool,
}

impl Reply {
    pub(crate) fn new(completion: Arc<dyn Completion>, tag: u64) -> Self {
        Self { completion: Some(completion), tag, lent: false }
    }

    /// Whether the caller has canceled the request. A completion that panics has not.
    pub(crate) fn canceled(&self) -> bool {
        self.completion.as_ref().and_then(|completion| contain(|| completion.canceled_tagged(self.tag))).unwrap_or(false)
    }

    /// Settles the request. Returns false if the completion panicked.
    pub(crate) fn settle(&mut self, outcome: Outcome) -> bool {
        let tag = self.tag;
        self.completion.take().and_then(|completion| contain(|| completion.settle_tagged(tag, outcome))).is_some()
    }

    /// The same for a request that was canceled before it began.
    pub(crate) fn settle_dropped(&mut self, error: &dyn Fn() -> Error) -> bool {
        let tag = self.tag;
        self.completion.take().and_then(|completion| contain(|| completion.drop_tagged(tag, error))).is_some()
    }

    /// As [`Reply::settle_dropped`], for those with these tags, which share the completion. Returns whether it has taken them;
    /// `None` if it panicked, which counts as taken.
    pub(crate) fn settle_together(&self, tags: &[u64]) -> Option<bool> {
        self.completion.as_ref().map_or(Some(false), |completion| contain(|| completion.drop_together(tags)))
    }

    /// Lets go of a completion that was settled with others. Returns false if dropping it panicked.
    pub(crate) fn let_go(&mut self) -> bool {
        let completion = self.completion.take();
        contain(|| drop(completion)).is_some()
    }

    pub(crate) fn tag(&self) -> u64 {
        self.tag
    }

    /// Whether both are of one completion.
    pub(crate) fn shares_completion(&self, other: &Self) -> bool {
        match (&self.completion, &other.completion) {
            (Some(one), Some(other)) => ptr::addr_eq(Arc::as_ptr(one), Arc::as_ptr(other)),
            _ => false,
        }
    }

    /// For planted bugs: another hold of the same completion.
    pub(crate) fn twin(&self) -> Self {
        Self { completion: self.completion.clone(), tag: self.tag, lent: self.lent }
    }

    /// The request's memory is about to be handed to the device.
    pub(crate) fn lend(&mut self) {
        self.lent = true;
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if self.completion.is_some() {
            let kind = if self.lent { ErrorKind::Lost } else { ErrorKind::Panicked };
            self.settle(Outcome { result: Err(Error::new(kind, "transfer")), memory_lost: self.lent });
        }
    }
}

/// A transfer on memory that the engine does not own.
///
/// # Safety
/// The submitter guarantees that `address..address + len` stays valid and in place until the
/// completion is settled, and forever if it is settled with `memory_lost`. Until then, nothing else
/// writes to the memory, nor reads it if the direction is [`Direction::Read`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RawTransfer {
    /// From the file into memory, or the other way.
    pub direction: Direction,
    /// The address of the first byte in memory.
    pub address: u64,
    /// The length in bytes.
    pub len: u64,
    /// The position of the first byte in the file.
    pub position: u64,
    /// Whether a read that meets the end of the file is an error.
    pub exact: bool,
    /// The handle whose limits the transfer shares.
    pub handle: Option<Arc<Handle>>,
    /// Its class; `None` stands for that of its handle, else of its file.
    pub priority: Option<Priority>,
    /// Whether its bytes are summed. Then threads of the engine read the memory, too, until the
    /// completion is settled.
    pub checksum: Checksum,
    /// What names it to a completion that many transfers share.
    pub tag: u64,
}

impl RawTransfer {
    /// A transfer of `len` bytes between a position in the file and an address in memory: a read of
    /// fewer bytes is no error, no handle and no class are named, and the tag is 0.
    pub const fn new(direction: Direction, address: u64, len: u64, position: u64) -> Self {
        Self { direction, address, len, position, exact: false, handle: None, priority: None, checksum: Checksum::None, tag: 0 }
    }

    /// Whether a read that meets the end of the file is an error.
    #[must_use]
    pub fn exact(mut self, yes: bool) -> Self {
        self.exact = yes;
        self
    }

    /// The handle whose limits the transfer shares.
    #[must_use]
    pub fn handle(mut self, handle: impl Into<Option<Arc<Handle>>>) -> Self {
        self.handle = handle.into();
        self
    }

    /// Its class; `None` stands for that of its handle, else of its file.
    #[must_use]
    pub fn priority(mut self, priority: impl Into<Option<Priority>>) -> Self {
        self.priority = priority.into();
        self
    }

    /// Whether its bytes are summed; not by default.
    #[must_use]
    pub const fn checksum(mut self, checksum: Checksum) -> Self {
        self.checksum = checksum;
        self
    }

    /// What names it to a completion that many transfers share: see [`Completion::settle_tagged`].
    #[must_use]
    pub const fn tag(mut self, tag: u64) -> Self {
        self.tag = tag;
        self
    }

    /// Its class: its own, else its handle's, else that of its file.
    pub fn class(&self, of_file: Priority) -> Priority {
        self.priority.or(self.handle.as_ref().and_then(|handle| handle.limits().priority)).unwrap_or(of_file)
    }

    /// The error of a transfer that a binding cannot submit.
    pub fn invalid(&self, why: &str) -> Error {
        Error::new(ErrorKind::Invalid, self.direction.call_name()).range(self.position, self.len, 0).advise(why)
    }
}
