//! The engine's threads: named, with all signals blocked.
//!
//! A signal delivered to one of them would run the program's handler there, and `SIGXFSZ` (a write
//! beyond `RLIMIT_FSIZE`) would end the process. With the signal blocked, the system call returns
//! `EFBIG` instead, which becomes a typed error.

use super::Errno;
use crate::sync::thread::{Builder, JoinHandle};
use std::cell::Cell;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::sync::OnceLock;

#[cfg(not(all(loom, test)))]
thread_local! {
    static OURS: Cell<bool> = const { Cell::new(false) };
}

#[cfg(all(loom, test))]
loom::thread_local! {
    static OURS: Cell<bool> = Cell::new(false);
}

/// Whether the current thread was started by [`spawn`].
pub(crate) fn is_ours() -> bool {
    OURS.with(Cell::get)
}

/// Starts a thread that blocks all signals. It inherits the mask, so it does from its first
/// instruction.
pub(crate) fn spawn<T: Send + 'static>(name: String, body: impl FnOnce() -> T + Send + 'static) -> Result<JoinHandle<T>, Errno> {
    let before = block_all_signals();
    let builder = Builder::new().name(name);
    // A model's threads have small stacks unless they ask for more.
    #[cfg(all(loom, test))]
    let builder = builder.stack_size(crate::sync::STACK_WORDS);
    let handle = builder.spawn(move || {
        OURS.with(|ours| ours.set(true));
        body()
    });
    restore_signals(&before);
    handle.map_err(|error| error.raw_os_error().unwrap_or(libc::EAGAIN))
}

fn block_all_signals() -> libc::sigset_t {
    let mut all = MaybeUninit::<libc::sigset_t>::zeroed();
    let mut before = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: fills a local set.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: both point to locals of the right type; the call changes this thread's mask only.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) };
    // SAFETY: zeroed, and then filled in by the call above; every bit pattern is a valid set.
    unsafe { before.assume_init() }
}

fn restore_signals(before: &libc::sigset_t) {
    // SAFETY: `before` was this thread's mask until `block_all_signals`.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before, std::ptr::null_mut()) };
}

/// Whether a file of this user is the process's own, or the process may do as if it were.
pub(crate) fn owns(uid: u32) -> bool {
    let user = user();
    user == 0 || user == uid
}

/// The user for whom files are opened.
pub(crate) fn user() -> u32 {
    // SAFETY: no arguments.
    unsafe { libc::geteuid() }
}

/// Sleeps until one of the descriptors is readable. Can return early.
pub(crate) fn wait_readable(fds: [RawFd; 2]) {
    let mut polls = fds.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
    // SAFETY: two local entries.
    unsafe { libc::poll(polls.as_mut_ptr(), 2, -1) };
}

/// The soft limit on locked memory in bytes; `None` if unlimited.
pub(crate) fn memlock_bytes() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: fills a local struct.
    let got = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
    (got == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

/// The processors that this process can use.
pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// The running kernel's release, such as `6.18.44`. Read once per process: it cannot change.
pub(crate) fn kernel_release() -> &'static str {
    static RELEASE: OnceLock<String> = OnceLock::new();
    RELEASE.get_or_init(|| {
        std::fs::read_to_string("/proc/sys/kernel/osrelease").map_or_else(|_| "unknown".into(), |text| text.trim().to_owned())
    })
}

/// The value of the `kernel.io_uring_disabled` sysctl, on kernels that have it.
pub(crate) fn io_uring_disabled() -> Option<u32> {
    std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?.trim().parse().ok()
}
