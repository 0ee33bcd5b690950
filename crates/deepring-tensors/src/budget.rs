//! [`Budget`]: the bytes that a stream may have in memory, read or being read, yielded or kept.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Shared by a stream and everything it has yielded.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: u64,
    used: Mutex<Used>,
}

#[derive(Debug, Default)]
struct Used {
    bytes: u64,
    /// The most that there ever were.
    max: u64,
}

impl Budget {
    pub(crate) fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, used: Mutex::default() })
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Bytes that are not taken.
    pub(crate) fn left(&self) -> u64 {
        self.limit - self.lock().bytes
    }

    /// The most bytes that were taken at once.
    pub(crate) fn used_max(&self) -> u64 {
        self.lock().max
    }

    /// Takes this many bytes, if there is room for them.
    pub(crate) fn take(self: &Arc<Self>, bytes: u64) -> Option<Permit> {
        self.take_leaving(bytes, 0)
    }

    /// The same, if there is room for `rest` more.
    pub(crate) fn take_leaving(self: &Arc<Self>, bytes: u64, rest: u64) -> Option<Permit> {
        let mut used = self.lock();
        let after = used.bytes.checked_add(bytes)?;
        if after.checked_add(rest)? > self.limit {
            return None;
        }
        used.bytes = after;
        used.max = used.max.max(after);
        Some(Permit { budget: Arc::clone(self), bytes })
    }

    fn lock(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes of a budget. Dropping it gives them back.
#[derive(Debug)]
pub(crate) struct Permit {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Permit {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// More bytes of the same budget. The error is its limit.
    pub(crate) fn another(&self, bytes: u64) -> Result<Self, u64> {
        self.budget.take(bytes).ok_or(self.budget.limit)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.budget.lock().bytes -= self.bytes;
    }
}
