//! [`EndHold`]: this copy's hold on the end of a file, shared by all its requests.

use super::{Attempt, END, FileLocks, WAITING, locked};
use crate::sys::lock::{self, Kind};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Mutex;

/// After this many requests have joined a hold, others that wait go first.
const JOINS_MAX: u32 = 32;

/// Which copy may move the end of the file: taken by the first request that does, kept until the
/// last one has cut off its padding.
#[derive(Default)]
pub(crate) struct EndHold(Mutex<State>);

#[derive(Default)]
struct State {
    /// Requests that move the end.
    users: u32,
    joins: u32,
    carrier: Option<Carrier>,
}

/// The opening that has the lock.
enum Carrier {
    Open(RawFd),
    /// Its owner has closed it.
    Kept(OwnedFd),
}

impl AsRawFd for Carrier {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Open(fd) => *fd,
            Self::Kept(fd) => fd.as_raw_fd(),
        }
    }
}

impl EndHold {
    /// A request is about to move the end. Unless the answer is `Busy`, [`EndHold::leave`] must
    /// follow.
    pub(crate) fn enter(&self, locks: &FileLocks, fd: &OwnedFd) -> Attempt {
        let mut state = locked(&self.0);
        if state.users == 0 && state.carrier.is_none() {
            let attempt = locks.attempt(fd, Kind::Exclusive, END);
            match attempt {
                Attempt::Busy | Attempt::TwoCopies => return attempt,
                Attempt::Locked => state.carrier = Some(Carrier::Open(fd.as_raw_fd())),
                Attempt::Without => {}
            }
            (state.users, state.joins) = (1, 0);
            return attempt;
        }
        state.joins += 1;
        if let Some(carrier) = &state.carrier
            && state.joins > JOINS_MAX
            && matches!(lock::conflict(carrier, Kind::Exclusive, WAITING), Ok(Some(foreign)) if foreign.start == WAITING.start)
        {
            return Attempt::Busy;
        }
        state.users += 1;
        Attempt::Locked
    }

    /// A request has moved the end and cut off its padding, or it failed. `keep`: padding is left
    /// for a request that has not begun.
    pub(crate) fn leave(&self, keep: bool) {
        let mut state = locked(&self.0);
        debug_assert!(state.users > 0);
        state.users -= 1;
        Self::release(state, keep);
    }

    /// Nothing claims what was kept any more.
    pub(crate) fn give_up(&self) {
        Self::release(locked(&self.0), false);
    }

    fn release(mut state: std::sync::MutexGuard<'_, State>, keep: bool) {
        if keep || state.users > 0 {
            return;
        }
        let Some(carrier) = state.carrier.take() else { return };
        lock::unlock(&carrier, END);
        drop(state);
        if let Carrier::Kept(fd) = carrier {
            // Its owner has been told that it is closed.
            let _ = crate::sys::file::close(fd);
        }
    }

    /// The opening is about to be closed. If it carries the lock, it is kept until that is
    /// released; else it is returned.
    pub(crate) fn keep(&self, fd: OwnedFd) -> Option<OwnedFd> {
        let mut state = locked(&self.0);
        if matches!(state.carrier, Some(Carrier::Open(carrier)) if carrier == fd.as_raw_fd()) {
            state.carrier = Some(Carrier::Kept(fd));
            return None;
        }
        Some(fd)
    }

    /// Whether another copy holds the end now, so that the size of the file can be padding.
    pub(crate) fn is_elsewhere(&self, locks: &FileLocks, fd: &OwnedFd) -> bool {
        let state = locked(&self.0);
        state.users == 0 && state.carrier.is_none() && locks.is_end_locked(fd)
    }

    /// What is left over, if anything is.
    #[cfg(feature = "sim")]
    pub(crate) fn leftovers(&self) -> Option<String> {
        let state = locked(&self.0);
        (state.users > 0 || state.carrier.is_some()).then(|| format!("{} users of the end", state.users))
    }
}
