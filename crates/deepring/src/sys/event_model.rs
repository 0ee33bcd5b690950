//! The `eventfd` of a loom model: the same counter and the same names, on loom's locks.

use super::Errno;
use crate::sync::{Condvar, Mutex};
use std::os::fd::RawFd;
use std::sync::PoisonError;

#[derive(Debug)]
pub(crate) struct Event {
    count: Mutex<u64>,
    signaled: Condvar,
}

#[allow(clippy::unnecessary_wraps, reason = "the real call can fail")]
impl Event {
    pub(crate) fn new() -> Result<Self, Errno> {
        Ok(Self { count: Mutex::new(0), signaled: Condvar::new() })
    }

    pub(crate) fn signal(&self) {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.signaled.notify_one();
    }

    pub(crate) fn wait(&self) {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        while *count == 0 {
            count = self.signaled.wait(count).unwrap_or_else(PoisonError::into_inner);
        }
        *count = 0;
    }

    #[allow(clippy::unused_self, reason = "the real event has a descriptor")]
    pub(crate) fn raw(&self) -> RawFd {
        -1
    }
}
