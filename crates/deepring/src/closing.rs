//! [`Closing`]: whether an engine was closed, and who waits for its end.

use crate::sync::{Mutex, MutexGuard};
use crate::unwind::contain;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};

type Waiter = Box<dyn FnOnce() + Send>;

/// The end of an engine's life, when it is closed rather than dropped.
#[derive(Default)]
pub(crate) struct Closing {
    requested: AtomicBool,
    ended: Mutex<Waiters>,
}

#[derive(Default)]
struct Waiters {
    /// The driver and the blocking threads are gone.
    has_ended: bool,
    waiters: Vec<Waiter>,
}

impl Closing {
    fn lock(&self) -> MutexGuard<'_, Waiters> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on new work is refused, and what is in flight ends.
    pub(crate) fn request(&self) {
        self.requested.store(true, Ordering::Release);
    }

    pub(crate) fn is_requested(&self) -> bool {
        self.requested.load(Ordering::Acquire)
    }

    /// Calls `waiter` when the engine has ended: on its driver, or here if it has.
    pub(crate) fn when_ended(&self, waiter: Waiter) {
        let mut state = self.lock();
        if state.has_ended {
            drop(state);
            return waiter();
        }
        state.waiters.push(waiter);
    }

    /// The last act of the driver's thread.
    pub(crate) fn end(&self) {
        let mut state = self.lock();
        state.has_ended = true;
        let waiters = std::mem::take(&mut state.waiters);
        drop(state);
        for waiter in waiters {
            // A waker of the caller's. There is nothing left to count its panic.
            let _ = contain(waiter);
        }
    }
}
