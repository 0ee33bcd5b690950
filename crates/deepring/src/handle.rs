//! Limits below the device's, shared by the requests that name one handle: what the constructor of a DeepNVMe handle asks
//! for. The driver keeps what is in flight under them.

use crate::priority::Priority;
use std::sync::atomic::{AtomicU64, Ordering};

/// How the requests of one handle are cut and submitted. The defaults are the engine's: sliding window, batched submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
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

/// When the blocks of a handle that completed make room for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
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
