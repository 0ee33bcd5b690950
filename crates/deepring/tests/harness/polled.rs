//! Futures that are polled by hand.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{Thread, current, park};

/// Wakes a thread.
struct Woken(Thread, AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.1.store(true, Ordering::Release);
        self.0.unpark();
    }
}

/// Polls a future until it has waited `waits` times, and drops it then. Returns its value if it has ended before.
pub(crate) fn drop_after<T>(waits: usize, future: impl Future<Output = T>) -> Option<T> {
    let woken = Arc::new(Woken(current(), AtomicBool::new(false)));
    let waker = Waker::from(Arc::clone(&woken));
    let mut future = pin!(future);
    for wait in 0..=waits {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(value);
        }
        while wait < waits && !woken.1.swap(false, Ordering::AcqRel) {
            park();
        }
    }
    None
}
