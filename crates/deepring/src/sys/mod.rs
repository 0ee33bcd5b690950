//! The kernel: every system call but the ring's, and nothing else. Arguments in, `Result<_, Errno>`
//! out. No policy, and no retries but for `EINTR` where a call must not be given up half-way.
//!
//! Required of a platform, in the engine's own types:
//!
//! * `device`: [`device::Queue`], and `queue` of a [`stat::DeviceNumber`]
//! * `event`: [`event::Event`], which wakes the driver
//! * `file`: `open`, `open_directory`, `open_unnamed`, `close`, `unlink`; `read_at`, `write_at`;
//!   `allocate`, `truncate`, `sync`, `drop_cache`; `set_direct`, `xfs_alignment`, `file_system`,
//!   `block_device_bytes`
//! * `memory`: `map`, `unmap`, `populate`, `free_lazily`, `claim`, `discard`, `copy_past_cache`,
//!   `machine_bytes`
//! * `space`: [`space::Room`] of a file system, the extents of a file, the limit on its size
//! * `pins`: `pinned_pages`, `page_bytes`, `hugetlb_page_bytes`
//! * `process`: `watch_forks`, and [`process::Process`], which knows that it was forked
//! * `stat`: [`stat::Stat`] of an open file
//! * `thread`: `spawn`, `is_ours`; `memlock_bytes`, `kernel_release`, `io_uring_disabled`
//!
//! Types of libc stay in here; outside, only its error numbers are used. The ring is the one part
//! of the kernel that is not in here: it is the backend `uring`, which only `backend/start.rs`
//! names.
//!
//! Calls that are younger than the oldest C library we load on (glibc 2.17) go through
//! `syscall(2)`; a kernel without them answers `ENOSYS`, which is an answer like any other.

pub(crate) mod cache;
pub(crate) mod device;
pub(crate) mod directory;
#[cfg_attr(all(loom, test), path = "event_model.rs")]
pub(crate) mod event;
#[cfg_attr(feature = "sim", path = "fault_sim.rs")]
pub(crate) mod fault;
pub(crate) mod file;
pub(crate) mod identity;
pub(crate) mod memory;
pub(crate) mod mounts;
pub(crate) mod pins;
pub(crate) mod process;
pub(crate) mod space;
pub(crate) mod stat;
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

/// Repeats a call while a signal interrupts it.
fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(libc::EINTR) => {}
            result => return result,
        }
    }
}
