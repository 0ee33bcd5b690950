//! Which process this is. A forked child has the memory of its parent and none of its other threads.

use super::Errno;
use std::sync::Once;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

/// Forks between the first process with an engine and this one.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// The process that made a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process(u32);

impl Process {
    pub(crate) fn current() -> Self {
        Self(FORKS.load(Ordering::Relaxed))
    }

    /// Whether this process was forked since the value was made. As cheap as a load.
    pub(crate) fn is_parent(self) -> bool {
        self != Self::current()
    }
}

/// Counts the forks from now on. (`vfork` and `posix_spawn` are not counted: what they start runs another program.)
pub(crate) fn watch_forks() -> Result<(), Errno> {
    extern "C" fn forked() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }
    static WATCHED: Once = Once::new();
    let mut result = 0;
    // SAFETY: the handler only changes an atomic number, which is allowed after a fork.
    WATCHED.call_once(|| result = unsafe { libc::pthread_atfork(None, None, Some(forked)) });
    if result == 0 { Ok(()) } else { Err(result) }
}

/// What a process shares among its engines. A forked child begins with another one: threads of its parent can have held
/// the locks of this one when it forked, and wait in its lines.
pub(crate) struct PerProcess<T: 'static>(AtomicPtr<(Process, T)>);

impl<T: Default> PerProcess<T> {
    pub(crate) const fn new() -> Self {
        Self(AtomicPtr::new(std::ptr::null_mut()))
    }

    pub(crate) fn get(&self) -> &'static T {
        loop {
            let known = self.0.load(Ordering::Acquire);
            // SAFETY: null, or leaked below and never freed.
            if let Some((_, value)) = unsafe { known.as_ref() }.filter(|(process, _)| !process.is_parent()) {
                return value;
            }
            let made = Box::into_raw(Box::new((Process::current(), T::default())));
            if self.0.compare_exchange(known, made, Ordering::AcqRel, Ordering::Acquire).is_err() {
                // SAFETY: it was made above, and no other thread has seen it.
                drop(unsafe { Box::from_raw(made) });
            }
        }
    }
}
