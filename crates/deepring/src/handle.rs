//! A limit below the device's, shared by the requests that name it: what a DeepNVMe handle's constructor asks for.

use std::sync::Mutex;
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

/// [`HandleLimits`] with their state. Cheap to share; create one per handle.
#[derive(Debug)]
pub struct Handle {
    number: u64,
    limits: HandleLimits,
    window: Mutex<Window>,
}

#[derive(Debug, Default)]
struct Window {
    in_flight: u32,
    /// Windowed submission: how many blocks the open window still takes.
    left: u32,
}

impl Handle {
    /// A handle with nothing in flight.
    pub fn new(limits: HandleLimits) -> Self {
        static CREATED: AtomicU64 = AtomicU64::new(0);
        Self { number: CREATED.fetch_add(1, Ordering::Relaxed), limits, window: Mutex::default() }
    }

    /// Tells handles apart, in the order of their creation.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// What it was made of.
    pub fn limits(&self) -> HandleLimits {
        self.limits
    }

    fn window(&self) -> std::sync::MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Takes a place for one block if there is one.
    pub(crate) fn take(&self) -> bool {
        let depth = if self.limits.queue_depth == 0 { u32::MAX } else { self.limits.queue_depth };
        let mut window = self.window();
        if self.limits.refill == Refill::WhenEmpty && window.in_flight == 0 {
            window.left = depth;
        }
        let free = match self.limits.refill {
            Refill::Sliding => window.in_flight < depth,
            Refill::WhenEmpty => window.left > 0,
        };
        if free {
            window.in_flight += 1;
            window.left = window.left.saturating_sub(1);
        }
        free
    }

    /// Gives the place of a finished block back.
    pub(crate) fn give(&self) {
        self.window().in_flight -= 1;
    }

    /// Blocks that have a place.
    #[cfg(feature = "sim")]
    pub(crate) fn in_flight(&self) -> u32 {
        self.window().in_flight
    }

    /// Gives a place back that was never used: the block could not be submitted after all.
    pub(crate) fn untake(&self) {
        let mut window = self.window();
        window.in_flight -= 1;
        window.left += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take_all(handle: &Handle) -> u32 {
        (0..100).take_while(|_| handle.take()).count() as u32
    }

    #[test]
    fn a_sliding_window_refills_as_blocks_complete() {
        let handle = Handle::new(HandleLimits { queue_depth: 3, ..HandleLimits::default() });
        assert_eq!(take_all(&handle), 3);
        handle.give();
        assert_eq!(take_all(&handle), 1);
    }

    #[test]
    fn a_fixed_window_refills_only_when_empty() {
        let handle = Handle::new(HandleLimits { queue_depth: 3, refill: Refill::WhenEmpty, ..HandleLimits::default() });
        assert_eq!(take_all(&handle), 3);
        handle.give();
        handle.give();
        assert!(!handle.take());
        handle.give();
        assert_eq!(take_all(&handle), 3);
    }
}
