//! Descriptors or memory that run short while the process itself is about to give some back.
//!
//! Files of requests by path are open for the time of their request only. While there are any, an open that fails because
//! descriptors ran short is repeated when one of them was closed.

use crate::error::{Error, Result};
use crate::sys::process::PerProcess;
use crate::sys::thread;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// If nothing came back for this long, the open fails: the files are on a mount that does not answer.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Shortage {
    /// Files of path requests that are open.
    passing: AtomicUsize,
    waiting: AtomicUsize,
    /// How many were closed.
    ended: Mutex<u64>,
    one_ended: Condvar,
}

// Not of crate::sync: it is taken for an instant, and loom's locks cannot be static.
static SHORTAGE: PerProcess<Shortage> = PerProcess::new();

impl Shortage {
    fn ended(&self) -> MutexGuard<'_, u64> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until more than `seen` files were closed, or for `limit`. Returns how many were.
    fn wait(&self, seen: u64, limit: Duration) -> u64 {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let ended = self.one_ended.wait_timeout_while(self.ended(), limit, |ended| *ended == seen);
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        let (ended, _) = ended.unwrap_or_else(PoisonError::into_inner);
        *ended
    }
}

/// Counts the open file of a path request, until that has ended.
pub(crate) struct Passing(&'static Shortage);

impl Passing {
    pub(crate) fn new() -> Self {
        let shortage = SHORTAGE.get();
        shortage.passing.fetch_add(1, Ordering::SeqCst);
        Self(shortage)
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        *self.0.ended() += 1;
        self.0.passing.fetch_sub(1, Ordering::SeqCst);
        if self.0.waiting.load(Ordering::SeqCst) > 0 {
            self.0.one_ended.notify_all();
        }
    }
}

/// Whether a call failed because the process or the system has no more of something that a closed file gives back.
pub(crate) fn is_shortage(error: &Error) -> bool {
    matches!(error.errno(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM))
}

/// Whether a path request of the process has its file open. Simulations, which share a process, do not see each other's.
pub(crate) fn is_passing() -> bool {
    !cfg!(feature = "sim") && SHORTAGE.get().passing.load(Ordering::SeqCst) > 0
}

/// Waits for a moment, or until a path request has closed its file.
pub(crate) fn pause() {
    const MOMENT: Duration = Duration::from_millis(1);
    let shortage = SHORTAGE.get();
    let seen = *shortage.ended();
    shortage.wait(seen, MOMENT);
}

/// How long an open is worth repeating.
pub(crate) struct Patience {
    seen: u64,
    since: Instant,
}

impl Patience {
    pub(crate) fn new() -> Self {
        Self { seen: *SHORTAGE.get().ended(), since: Instant::now() }
    }

    /// Whether an open that failed like this is worth repeating: files were closed since it was last asked, or will be.
    pub(crate) fn allows(&mut self, error: &Error) -> bool {
        if !is_shortage(error) {
            return false;
        }
        // In this order: a file that is closed in between shows in the second.
        let passing = is_passing();
        let ended = *SHORTAGE.get().ended();
        if ended != self.seen {
            (self.seen, self.since) = (ended, Instant::now());
            return true;
        }
        passing && self.since.elapsed() < PATIENCE
    }
}

/// Repeats `open` while that is worth it. Not on threads of an engine, which those that close files can wait for.
pub(super) fn patiently<T>(mut open: impl FnMut() -> Result<T>) -> Result<T> {
    let result = open();
    if !result.as_ref().is_err_and(is_shortage) || thread::is_ours() {
        return result;
    }
    let mut patience = Patience::new();
    let mut result = open();
    while let Err(error) = &result
        && patience.allows(error)
    {
        SHORTAGE.get().wait(patience.seen, PATIENCE);
        result = open();
    }
    result
}
