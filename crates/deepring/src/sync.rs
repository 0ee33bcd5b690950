//! The locks, atomics and threads of code where threads meet: those of std, or loom's.
//!
//! Unit tests compiled with `--cfg loom` (`npm run loom`) run the same code on loom's locks and
//! atomics, which try one order of the threads' steps after the other: see `src/loom`. Anywhere
//! else these are the names of std. The crate as a dependency never sees loom, whatever flags its
//! dependents are compiled with.
//!
//! Not exchanged: `Arc` (loom's cannot be an `Arc<dyn Trait>`), counters that only count, and the
//! locks of inodes, handles and buffers, under which no other lock is taken and no wake is sent. In
//! a model, no thread is interrupted while it holds one of those.

#[cfg(not(all(loom, test)))]
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard, atomic, mpsc};
#[cfg(not(all(loom, test)))]
pub(crate) use std::thread;

#[cfg(all(loom, test))]
pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard, atomic, mpsc};
#[cfg(all(loom, test))]
pub(crate) use loom::thread;

/// The stack of a thread under loom, in words: 256 KiB. The driver does not fit into loom's default
/// of 32 KiB.
#[cfg(all(loom, test))]
pub(crate) const STACK_WORDS: usize = 32 << 10;
