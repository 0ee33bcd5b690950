//! The kernel: every system call but the ring's, and nothing else. Arguments in, `Result<_, Errno>`
//! out. No policy, and no retries but for `EINTR` where a call must not be given up half-way.
//!
//! Required of a platform, in the engine's own types:
//!
//! * `cache`: `is_cached`, of a range of a file
//! * `copies`: [`copies::OpenHere`], seen by other copies of the engine in the process
//! * `device`: [`device::Queue`], and `queue` of a [`stat::DeviceNumber`]; `identity` of a disk
//! * `directory`: `list`, `make`, `link`, `rename_new`, `remove`, of entries of a directory
//! * `event`: [`event::Event`], which wakes the driver
//! * `file`: `open`, `open_directory`, `open_subdirectory`, `open_place`, `open_to_lock`, `open_unnamed`, `read_link`, `close`, `unlink`;
//!   `name_bytes_max`; `opening`, `allocate`, `change_space`, `truncate`, `sync`, `sync_file_system`, `next_data`, `drop_cache`; `set_direct`,
//!   `xfs_alignment`, `file_system`, `block_device_bytes`
//! * `flock`: `try_lock`, `lock`, `unlock`, of whole files
//! * `identity`: `handle`, `generation`, `disk_sequence`, `working_directory_handle`, `file_system_uuid`
//! * `lock`: `try_lock`, `unlock`, `conflict`, `process_with_lock`
//! * `memory`: `map`, `unmap`, `populate`, `touch_pages`, `residence`, `is_resident`, `free_lazily`, `claim`, `discard`,
//!   `copy`, `machine_bytes`, and [`memory::HugePages`]
//! * `mounts`: [`mounts::Mounted`], what a file system stands on
//! * `pins`: `pinned_pages`, `page_bytes`, `hugetlb_page_bytes`
//! * `process`: `watch_forks`, and [`process::Process`], which knows that it was forked
//! * `record`: nothing of the platform; what a test records of these calls
//! * `replace`: [`replace::Calls`], by which a file takes the place of another, as the [`replace::Kernel`] makes them
//! * `space`: [`space::Room`] of a file system, the extents of a file, the limit on its size; `clone_range`
//! * `stat`: [`stat::Stat`] of an open file, `kind_at` and `named` of a name
//! * `thread`: `spawn`, `is_ours`, `owns`, `user`, `wait_readable`; `memlock_bytes`, `kernel_release`, `processors`, `io_uring_disabled`
//! * `transfer`: `read_at`, `write_at`
//!
//! **A call that only improves matters is left out when it is refused**, whatever number it is
//! refused with: a sandbox, an old kernel and a server each have their own. `EINTR` is a retry.
//! `EIO`, `ENOSPC`, `EDQUOT` and `EFBIG` are answers. What the older call says counts.
//!
//! | call | what for | without it |
//! |---|---|---|
//! | `openat` | files, directories | an error |
//! | `newfstatat` on a path | to wait for a lease, and not for a FIFO | opened without waiting |
//! | `statx` | size, type; birth time, alignment, mount | `fstat`; remembered if `/` is refused, too |
//! | `openat` with `O_TMPFILE` | to try direct I/O in a directory | a file with a name for a moment, a file that is there, else nothing is tried |
//! | `name_to_handle_at` | to tell two files with one number apart | the generation, the birth time; else nothing is padded. Remembered |
//! | `FS_IOC_GETVERSION`, `BLKGETDISKSEQ` | the same | as without a handle |
//! | `FS_IOC_GETFSUUID` | to know a device again that has no serial number | it has no profile |
//! | `fstatfs` | names, FUSE | `info` fails; taken for another file system |
//! | `XFS_IOC_DIOINFO` | the alignment on old kernels | a trial read |
//! | `BLKGETSIZE64` | the size of a block device | `lseek` to its end |
//! | `fcntl(F_GETFL)` | the access of a descriptor that the program brings | an error |
//! | `fcntl(F_SETFL)` | `O_DIRECT` | buffered |
//! | `cachestat` | whether direct I/O is what it says | `mincore`; else only well-known file systems are believed |
//! | `lseek(SEEK_DATA)` | not to try a hole | the whole file counts as data |
//! | `posix_fadvise` | to drop pages | they stay |
//! | `fallocate` | room before the first byte, fast appends | `ftruncate`. After three refusals a mount is not asked |
//! | `preadv2`, `pwritev2` | transfers by threads | `pread`, `pwrite`. Remembered |
//! | `RWF_NOWAIT` | not to be punted | without the flag, for the file |
//! | `FICLONERANGE` | space that two files share | an error |
//! | `fdatasync` | a cheaper flush | `fsync` |
//! | `fcntl(F_OFD_SETLK)` | writes of other processes kept apart | none are; `process_locks` says so. Remembered per opening |
//! | `syncfs` | a new name in a directory that cannot be opened, or not flushed | an error |
//! | `renameat2` | a name that is not taken from another file | `linkat`, then `unlinkat`; of a directory `mkdirat`, then `renameat` |
//! | `mkdirat`, `linkat`, `unlinkat`, `flock` | entries of a directory, as the program asks for them | an error |
//! | `readlinkat`, `fdopendir` | the directory of a new file; a file to try | `syncfs`; nothing is tried |
//! | `madvise` | huge pages, no copy after a fork, faults in advance | slower; to populate, engine memory is touched, and other memory left as it is. Remembered |
//! | `mincore` | which memory was never touched | it counts as present |
//! | `eventfd` | to wake a ring | threads |
//! | `/proc`, `/sys` | depth and name of a device, the kernel's release | assumed, `unknown` |
//!
//! Types of libc stay in here; outside, only its error numbers are used. The ring is the one part
//! of the kernel that is not in here: it is the backend `uring`, which only `backend/start.rs`
//! names.
//!
//! Calls that are younger than the oldest C library we load on (glibc 2.17) go through
//! `syscall(2)`; a kernel without them answers `ENOSYS`, which is an answer like any other.

pub(crate) mod cache;
pub(crate) mod copies;
pub(crate) mod device;
pub(crate) mod directory;
#[cfg_attr(all(loom, test), path = "event_model.rs")]
pub(crate) mod event;
#[cfg_attr(feature = "sim", path = "fault_sim.rs")]
pub(crate) mod fault;
pub(crate) mod file;
pub(crate) mod flock;
pub(crate) mod identity;
pub(crate) mod lock;
pub(crate) mod memory;
pub(crate) mod mounts;
pub(crate) mod pins;
pub(crate) mod process;
pub(crate) mod record;
pub(crate) mod replace;
pub(crate) mod space;
pub(crate) mod stat;
pub(crate) mod thread;
pub(crate) mod transfer;

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
