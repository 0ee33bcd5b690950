//! Calls on files and descriptors.

use super::fault::{self, Call};
use super::record::{Note, noted};
pub(crate) use super::transfer::{NOWAIT, read_at, write_at};
use super::{Errno, check, retry};
use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

pub(crate) const OVERLAY_MAGIC: i64 = 0x794c_7630;
pub(crate) const TMPFS_MAGIC: i64 = 0x0102_1994;
pub(crate) const RAMFS_MAGIC: i64 = 0x8584_58f6;
pub(crate) const FUSE_MAGIC: i64 = 0x6573_5546;

/// File systems whose files a server keeps: NFS, FUSE and virtiofs, SMB (two), Ceph, Lustre, 9P, AFS, `BeeGFS`, GPFS,
/// `OrangeFS`.
pub(crate) const SERVED_MAGICS: [i64; 11] = [
    0x6969,
    FUSE_MAGIC,
    0xff53_4d42,
    0xfe53_4d42,
    0x00c3_6400,
    0x0bd0_0bd0,
    0x0102_1997,
    0x5346_414f,
    0x1983_0326,
    0x4750_4653,
    0x2003_0528,
];

/// File systems on a local disk or in memory, and overlays of them, whose files have numbers of their own: ext2 to ext4,
/// XFS, Btrfs, F2FS, ZFS, bcachefs.
pub(crate) const LOCAL_MAGICS: [i64; 9] =
    [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0x2fc1_2fc1, 0xca45_1a4e, TMPFS_MAGIC, RAMFS_MAGIC, OVERLAY_MAGIC];

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
    ReadWrite,
}

/// Whether opening creates the file, and with which permission bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Create {
    No,
    /// Fails with `EEXIST` if it exists.
    New(u32),
}

/// Opens a file. A relative path starts at `directory`, at the working directory if there is none.
/// Without `waits`, it waits for nothing: not for the other end of a FIFO, and not until a file
/// server has given a lease back.
pub(crate) fn open(directory: Option<&OwnedFd>, path: &CStr, access: Access, create: Create, waits: bool) -> Result<OwnedFd, Errno> {
    let access = match access {
        Access::Read => libc::O_RDONLY,
        Access::Write => libc::O_WRONLY,
        Access::ReadWrite => libc::O_RDWR,
    };
    let (create, mode) = match create {
        Create::No => (0, 0),
        Create::New(mode) => (libc::O_CREAT | libc::O_EXCL, mode),
    };
    let waits = if waits { 0 } else { libc::O_NONBLOCK };
    open_with(directory, path, access | create | waits | libc::O_NOCTTY, mode)
}

/// Whether this process can write to the file at a path.
pub(crate) fn may_write(path: &CStr) -> bool {
    // SAFETY: a terminated string.
    unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), libc::W_OK, libc::AT_EACCESS) == 0 }
}

/// How a descriptor was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Opening {
    /// `None`: with `O_PATH`.
    pub(crate) access: Option<Access>,
    /// Writes go to the end of the file, whatever their position.
    pub(crate) appends: bool,
}

/// How the program has opened this descriptor.
pub(crate) fn opening(fd: &impl AsRawFd) -> Result<Opening, Errno> {
    // SAFETY: no arguments.
    let flags = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) }.into())? as i32;
    // Not with O_ACCMODE, which has O_PATH in it on musl.
    let access = match flags & (libc::O_WRONLY | libc::O_RDWR) {
        libc::O_RDONLY => Access::Read,
        libc::O_WRONLY => Access::Write,
        _ => Access::ReadWrite,
    };
    let access = if flags & libc::O_PATH == 0 { Some(access) } else { None };
    Ok(Opening { access, appends: flags & libc::O_APPEND != 0 })
}

/// Opens a directory, to flush it or to list it.
pub(crate) fn open_directory(directory: Option<&OwnedFd>, path: &CStr) -> Result<OwnedFd, Errno> {
    open_with(directory, path, libc::O_RDONLY | libc::O_DIRECTORY, 0)
}

/// The same of an entry of another directory, and of no link: that is `ENOTDIR`.
pub(crate) fn open_subdirectory(directory: &OwnedFd, name: &CStr) -> Result<OwnedFd, Errno> {
    open_with(Some(directory), name, libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW, 0)
}

/// Opens an entry of a directory to read it. A link is `ELOOP`; nothing is waited for.
pub(crate) fn open_entry(directory: &OwnedFd, name: &CStr) -> Result<OwnedFd, Errno> {
    open_with(Some(directory), name, libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY, 0)
}

/// Opens an entry of a directory to lock it, or creates it, with `EEXIST` if it is there. A link is `ELOOP`.
pub(crate) fn open_to_lock(directory: &OwnedFd, name: &CStr, access: Access, create: bool) -> Result<OwnedFd, Errno> {
    const MODE: u32 = 0o666;
    let access = if access == Access::Read { libc::O_RDONLY } else { libc::O_RDWR };
    let flags = access | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    if create {
        return noted(Note::Create((directory, name)), || open_with(Some(directory), name, flags | libc::O_CREAT | libc::O_EXCL, MODE));
    }
    open_with(Some(directory), name, flags, 0)
}

/// A reference to a directory, from which paths can start. Needs no right to read it.
pub(crate) fn open_place(directory: Option<&OwnedFd>, path: &CStr) -> Result<OwnedFd, Errno> {
    open_with(directory, path, libc::O_PATH | libc::O_DIRECTORY, 0)
}

/// Opens a new file without a name in a directory.
pub(crate) fn open_unnamed(directory: Option<&OwnedFd>, path: &CStr) -> Result<OwnedFd, Errno> {
    open_with(directory, path, libc::O_TMPFILE | libc::O_RDWR, 0o600)
}

fn raw(directory: Option<&OwnedFd>) -> RawFd {
    directory.map_or(libc::AT_FDCWD, AsRawFd::as_raw_fd)
}

fn open_with(directory: Option<&OwnedFd>, path: &CStr, flags: i32, mode: u32) -> Result<OwnedFd, Errno> {
    fault::refuse(Call::Open, -1)?;
    // SAFETY: the path is a terminated string; the mode is read only with O_CREAT.
    let fd = retry(|| check(unsafe { libc::openat(raw(directory), path.as_ptr(), flags | libc::O_CLOEXEC, mode) }.into()))?;
    // SAFETY: the descriptor was just created and has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Where a symbolic link leads; `None` if it is no link, or is gone.
pub(crate) fn read_link(directory: &OwnedFd, name: &CStr) -> Result<Option<CString>, Errno> {
    let mut target = vec![0u8; libc::PATH_MAX as usize];
    // SAFETY: a terminated string; the kernel writes at most so many bytes.
    let len = unsafe { libc::readlinkat(raw(Some(directory)), name.as_ptr(), target.as_mut_ptr().cast(), target.len()) };
    match check(len as libc::c_long) {
        Ok(len) => {
            target.truncate(len as usize);
            CString::new(target).map(Some).map_err(|_| libc::EINVAL)
        }
        Err(libc::EINVAL | libc::ENOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Closes the descriptor and returns the result of `close`: on network file systems, a late write
/// error appears there.
pub(crate) fn close(fd: OwnedFd) -> Result<(), Errno> {
    use std::os::fd::IntoRawFd;
    if let Err(errno) = fault::refuse(Call::Close, fd.as_raw_fd()) {
        drop(fd);
        return Err(errno);
    }
    // SAFETY: ownership was moved out of `fd`, so it is closed exactly once. After EINTR too, Linux
    // has closed it.
    match check(unsafe { libc::close(fd.into_raw_fd()) }.into()) {
        Ok(_) | Err(libc::EINTR) => Ok(()),
        Err(errno) => Err(errno),
    }
}

pub(crate) fn unlink(directory: &OwnedFd, name: &CStr) -> Result<(), Errno> {
    // SAFETY: a terminated string.
    check(unsafe { libc::unlinkat(raw(Some(directory)), name.as_ptr(), 0) }.into()).map(drop)
}

/// The magic number of the file system.
pub(crate) fn file_system(fd: &impl AsRawFd) -> Result<i64, Errno> {
    let mut out = MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: fills a local struct.
    check(unsafe { libc::fstatfs(fd.as_raw_fd(), out.as_mut_ptr()) }.into())?;
    // SAFETY: zeroed, then filled in; all fields are integers.
    Ok(i64::from(unsafe { out.assume_init() }.f_type as u32))
}

/// The longest name of a file in a directory, in bytes.
pub(crate) fn name_bytes_max(directory: &impl AsRawFd) -> usize {
    // NAME_MAX of the kernel. FAT counts characters, and reports more bytes.
    const MOST: usize = 255;
    let mut out = MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: fills a local struct.
    if check(unsafe { libc::fstatfs(directory.as_raw_fd(), out.as_mut_ptr()) }.into()).is_err() {
        return MOST;
    }
    // SAFETY: zeroed, then filled in; all fields are integers.
    match unsafe { out.assume_init() }.f_namelen as usize {
        0 => MOST,
        bytes => bytes.min(MOST),
    }
}

/// The size of a block device.
pub(crate) fn block_device_bytes(fd: &impl AsRawFd) -> Result<u64, Errno> {
    const BLKGETSIZE64: libc::Ioctl = 0x8008_1272_u32 as libc::Ioctl;
    let mut bytes = 0u64;
    // SAFETY: BLKGETSIZE64 writes eight bytes.
    if check(unsafe { libc::ioctl(fd.as_raw_fd(), BLKGETSIZE64, &raw mut bytes) }.into()).is_ok() {
        return Ok(bytes);
    }
    // SAFETY: no pointers. It moves the offset of the descriptor, which no transfer of ours uses.
    check(unsafe { libc::lseek(fd.as_raw_fd(), 0, libc::SEEK_END) }).map(|end| end as u64)
}

/// The alignment that XFS reports, for kernels whose `statx` does not: (memory, offset) in bytes.
pub(crate) fn xfs_alignment(fd: &impl AsRawFd) -> Result<(u32, u32), Errno> {
    const XFS_IOC_DIOINFO: libc::Ioctl = 0x800c_581e_u32 as libc::Ioctl;
    let mut out = [0u32; 3]; // d_mem, d_miniosz, d_maxiosz
    // SAFETY: XFS_IOC_DIOINFO writes three 32-bit numbers.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), XFS_IOC_DIOINFO, out.as_mut_ptr()) }.into())?;
    Ok((out[0], out[1]))
}

/// Sets the status flags of a file that [`open`] opened, or that the program brought: `O_DIRECT` or
/// none. The only other one that [`open`] can set is `O_NONBLOCK`. It is cleared here, because a ring
/// would take it as "never wait".
pub(crate) fn set_direct(fd: &impl AsRawFd, direct: bool) -> Result<(), Errno> {
    if fault::set_direct(fd.as_raw_fd(), direct) {
        return Ok(());
    }
    let flags = if direct { libc::O_DIRECT } else { 0 };
    // SAFETY: F_SETFL takes an integer.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags) }.into()).map(drop)
}

pub(crate) fn truncate(fd: &impl AsRawFd, bytes: u64) -> Result<(), Errno> {
    fault::refuse(Call::Truncate, fd.as_raw_fd())?;
    // SAFETY: no pointers.
    retry(|| check(unsafe { libc::ftruncate(fd.as_raw_fd(), bytes as libc::off_t) }.into())).map(drop)
}

/// Sets the permission bits.
pub(crate) fn set_mode(fd: &impl AsRawFd, mode: u32) -> Result<(), Errno> {
    // SAFETY: no pointers.
    check(unsafe { libc::fchmod(fd.as_raw_fd(), mode) }.into()).map(drop)
}

/// Sets the times of access and change, in nanoseconds since 1970.
pub(crate) fn set_times(fd: &impl AsRawFd, accessed: i128, changed: i128) -> Result<(), Errno> {
    const SECOND: i128 = 1_000_000_000;
    let time = |ns: i128| libc::timespec { tv_sec: ns.div_euclid(SECOND) as _, tv_nsec: ns.rem_euclid(SECOND) as _ };
    let times = [time(accessed), time(changed)];
    // SAFETY: reads two structs.
    check(unsafe { libc::futimens(fd.as_raw_fd(), times.as_ptr()) }.into()).map(drop)
}

/// What [`allocate`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Allocated {
    Done,
    /// Refused by the kernel, the file system or a sandbox, with any number that says nothing of
    /// room: the bytes can be written all the same.
    Unsupported,
    /// There is no room, the device failed, or the file is not open for writing.
    Failed(Errno),
}

/// What [`change_space`] does with a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Gives it space, and extends the file to its end.
    Allocate,
    /// Takes its space, so that it reads as zeros. The length stays.
    PunchHole,
}

/// `fallocate`, as the program asks for it: whatever it is refused with is an answer.
pub(crate) fn change_space(fd: &impl AsRawFd, change: Change, start: u64, bytes: u64) -> Result<(), Errno> {
    let mode = match change {
        Change::Allocate => 0,
        Change::PunchHole => libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
    };
    fault::refuse(Call::Allocate { start, end: start + bytes }, fd.as_raw_fd())?;
    // SAFETY: no pointers.
    retry(|| check(unsafe { libc::fallocate(fd.as_raw_fd(), mode, start as libc::off_t, bytes as libc::off_t) }.into())).map(drop)
}

/// `fallocate` mode 0: allocates the range and extends the file to its end.
pub(crate) fn allocate(fd: &impl AsRawFd, start: u64, bytes: u64) -> Allocated {
    let call = || {
        fault::refuse(Call::Allocate { start, end: start + bytes }, fd.as_raw_fd())?;
        // SAFETY: no pointers.
        retry(|| check(unsafe { libc::fallocate(fd.as_raw_fd(), 0, start as libc::off_t, bytes as libc::off_t) }.into()))
    };
    match call() {
        Ok(_) => Allocated::Done,
        Err(errno @ (libc::ENOSPC | libc::EDQUOT | libc::EFBIG | libc::EIO | libc::EBADF)) => Allocated::Failed(errno),
        Err(_) => Allocated::Unsupported,
    }
}

pub(crate) fn sync(fd: &impl AsRawFd, data_only: bool) -> Result<(), Errno> {
    fault::refuse(Call::Sync, fd.as_raw_fd())?;
    // An interrupted fsync has proven nothing and reported nothing, so it is repeated. A failed one
    // must not be: the kernel reports its error once.
    // SAFETY: no pointers.
    let whole = || check(unsafe { libc::fsync(fd.as_raw_fd()) }.into());
    // SAFETY: no pointers.
    let data = || check(unsafe { libc::fdatasync(fd.as_raw_fd()) }.into());
    match if data_only { retry(data) } else { retry(whole) } {
        Err(libc::ENOSYS | libc::EPERM | libc::EACCES) if data_only => retry(whole).map(drop),
        result => result.map(drop),
    }
}

/// Flushes the whole file system that a file is on.
pub(crate) fn sync_file_system(fd: &impl AsRawFd) -> Result<(), Errno> {
    fault::refuse(Call::Sync, fd.as_raw_fd())?;
    // SAFETY: no pointers.
    retry(|| check(unsafe { libc::syncfs(fd.as_raw_fd()) }.into())).map(drop)
}

/// The first place from `position` on that is no hole; `position` itself where holes are not known.
pub(crate) fn next_data(fd: &impl AsRawFd, position: u64) -> Option<u64> {
    // SAFETY: no pointers. It moves the offset of the descriptor, which no transfer of ours uses.
    match check(unsafe { libc::lseek(fd.as_raw_fd(), position as libc::off_t, libc::SEEK_DATA) }) {
        Ok(data) => Some(data as u64),
        Err(libc::ENXIO) => None,
        Err(_) => Some(position),
    }
}

/// Drops the clean cached pages of the whole file.
pub(crate) fn drop_cache(fd: &impl AsRawFd) {
    drop_cached_range(fd, 0, 0);
}

/// The same of a range; of all that follows, if `len` is 0.
pub(crate) fn drop_cached_range(fd: &impl AsRawFd, position: u64, len: u64) {
    // SAFETY: no pointers; advice only.
    unsafe { libc::posix_fadvise(fd.as_raw_fd(), position as libc::off_t, len as libc::off_t, libc::POSIX_FADV_DONTNEED) };
}
