//! Limits below the device's, shared by the requests that name one handle: what the constructor of a DeepNVMe handle asks
//! for. The driver keeps what is in flight under them.

use crate::priority::Priority;
use std::sync::atomic::{AtomicU64, Ordering};

/// How the requests of one handle are cut and submitted. The defaults are the engine's: sliding window, batched submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct HandleLimits {
    /// At most this many blocks in flight; 0 leaves it to the device's budget.
    pub queue_depth: u32,
    /// The size of one block in bytes; 0 takes the engine's.
    pub block_bytes: u64,
    /// Submit each block in a system call of its own (DeepNVMe's `single_submit`).
    pub single_submit: bool,
    /// When blocks that completed make room for others.
    pub refill: Refill,
    /// The class of its requests that name none; `None` leaves it to their file.
    pub priority: Option<Priority>,
}

impl HandleLimits {
    /// No limits of its own: the engine's block size, the device's budget.
    pub fn new() -> Self {
        Self::default()
    }

    /// At most this many blocks in flight; 0 leaves it to the device's budget.
    #[must_use]
    pub fn queue_depth(mut self, blocks: u32) -> Self {
        self.queue_depth = blocks;
        self
    }

    /// The size of one block in bytes; 0 takes the engine's.
    #[must_use]
    pub fn block_bytes(mut self, bytes: u64) -> Self {
        self.block_bytes = bytes;
        self
    }

    /// Whether each block is submitted in a system call of its own.
    #[must_use]
    pub fn single_submit(mut self, yes: bool) -> Self {
        self.single_submit = yes;
        self
    }

    /// When blocks that completed make room for others.
    #[must_use]
    pub fn refill(mut self, refill: Refill) -> Self {
        self.refill = refill;
        self
    }

    /// The class of its requests that name none; `None` leaves it to their file.
    #[must_use]
    pub fn priority(mut self, priority: impl Into<Option<Priority>>) -> Self {
        self.priority = priority.into();
        self
    }
}

/// When the blocks of a handle that completed make room for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Refill {
    /// As each block completes.
    #[default]
    Sliding,
    /// Only when all of them have completed (DeepNVMe's `overlap_events = false`).
    WhenEmpty,
}

/// An identity that requests name to share [`HandleLimits`]. Cheap to clone behind an `Arc`; create one per handle.
#[derive(Debug)]
pub struct Handle {
    number: u64,
    limits: HandleLimits,
}

impl Handle {
    /// A handle with nothing in flight.
    pub(crate) fn new(limits: HandleLimits) -> Self {
        static CREATED: AtomicU64 = AtomicU64::new(0);
        Self { number: CREATED.fetch_add(1, Ordering::Relaxed), limits }
    }

    /// Distinguishes handles, in the order of their creation.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The limits it was made with.
    pub fn limits(&self) -> HandleLimits {
        self.limits
    }
}
