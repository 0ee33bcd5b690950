//! Every system call, and nothing else: arguments in, `Result<_, errno>` out. No policy, no retries but for `EINTR` where a call must not
//! be given up half-way.
//!
//! Calls that are younger than the oldest C library we load on (glibc 2.17) go through `syscall(2)`; a kernel without them answers
//! `ENOSYS`, which is an answer like any other.

pub(crate) mod device;
#[cfg_attr(all(loom, test), path = "event_model.rs")]
pub(crate) mod event;
#[cfg(feature = "sim")]
pub(crate) mod fault;
pub(crate) mod file;
pub(crate) mod memory;
pub(crate) mod thread;

/// A positive error number.
pub(crate) type Errno = i32;

/// The error number of the call that just failed on this thread.
pub(crate) fn errno() -> Errno {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

/// Turns a C return value into a result.
fn check(value: libc::c_long) -> Result<libc::c_long, Errno> {
    if value < 0 { Err(errno()) } else { Ok(value) }
}
