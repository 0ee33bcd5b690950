//! What the kernel knows of an open file, in types of the engine.

use super::fault::{self, Call};
use super::{Errno, check, retry};
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// What a descriptor names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    Regular,
    BlockDevice,
    Directory,
    /// A pipe, a socket, a terminal.
    Other,
}

/// The number of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DeviceNumber {
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

impl DeviceNumber {
    /// Both parts in one number.
    pub(crate) fn id(self) -> u64 {
        u64::from(self.major) << 32 | u64::from(self.minor)
    }

    /// Reads `major:minor`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.trim().split_once(':')?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }

    /// Both parts as `st_dev` of `stat(2)` has them.
    pub(crate) fn as_dev(self) -> u64 {
        libc::makedev(self.major, self.minor)
    }
}

/// What direct transfers must keep to, in bytes. Both are 0 if the file has no direct I/O.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DirectAlignment {
    pub(crate) memory: u32,
    pub(crate) offset: u32,
}

/// An open file as the kernel describes it. Times are in nanoseconds since 1970; 0 if the file
/// system keeps none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stat {
    pub(crate) kind: FileKind,
    /// In bytes; 0 for a block device.
    pub(crate) size: u64,
    /// Blocks of 512 bytes that are allocated.
    pub(crate) blocks: u64,
    pub(crate) block_size: u32,
    /// The device that the file lives on.
    pub(crate) device: DeviceNumber,
    /// The device that the file stands for, if it is a device node.
    pub(crate) node: DeviceNumber,
    pub(crate) number: u64,
    pub(crate) mode: u32,
    pub(crate) nlink: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) atime_ns: i128,
    pub(crate) mtime_ns: i128,
    pub(crate) ctime_ns: i128,
    pub(crate) birthtime_ns: i128,
    /// `None` if this kernel or file system does not report it.
    pub(crate) direct: Option<DirectAlignment>,
    /// The mount it was opened through, on kernels that number them.
    pub(crate) mount: Option<u64>,
}

impl FileKind {
    fn of_mode(mode: u32) -> Self {
        match mode & libc::S_IFMT {
            libc::S_IFREG => Self::Regular,
            libc::S_IFBLK => Self::BlockDevice,
            libc::S_IFDIR => Self::Directory,
            _ => Self::Other,
        }
    }
}

impl Stat {
    /// Whether the file is longer than the space it has. (Space for metadata counts too, so a hole of a few blocks can
    /// be missed.)
    pub(crate) fn has_holes(&self) -> bool {
        self.kind == FileKind::Regular && self.blocks.saturating_mul(512) < self.size
    }

    pub(crate) fn of(statx: &libc::statx) -> Self {
        let ns = |time: libc::statx_timestamp| i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec);
        let direct = DirectAlignment { memory: statx.stx_dio_mem_align, offset: statx.stx_dio_offset_align };
        Self {
            kind: FileKind::of_mode(statx.stx_mode.into()),
            size: statx.stx_size,
            blocks: statx.stx_blocks,
            block_size: statx.stx_blksize,
            device: DeviceNumber { major: statx.stx_dev_major, minor: statx.stx_dev_minor },
            node: DeviceNumber { major: statx.stx_rdev_major, minor: statx.stx_rdev_minor },
            number: statx.stx_ino,
            mode: statx.stx_mode.into(),
            nlink: statx.stx_nlink,
            uid: statx.stx_uid,
            gid: statx.stx_gid,
            atime_ns: ns(statx.stx_atime),
            mtime_ns: ns(statx.stx_mtime),
            ctime_ns: ns(statx.stx_ctime),
            birthtime_ns: ns(statx.stx_btime),
            direct: (statx.stx_mask & libc::STATX_DIOALIGN != 0).then_some(direct),
            mount: (statx.stx_mask & (libc::STATX_MNT_ID | libc::STATX_MNT_ID_UNIQUE) != 0).then_some(statx.stx_mnt_id),
        }
    }

    /// What the older call reports: no birth time, no alignment, no mount.
    #[allow(clippy::cast_lossless, clippy::unnecessary_cast, reason = "the types differ between architectures")]
    fn of_older(stat: &libc::stat) -> Self {
        let ns = |seconds: i64, ns: i64| i128::from(seconds) * 1_000_000_000 + i128::from(ns);
        let number = |dev: libc::dev_t| DeviceNumber { major: libc::major(dev), minor: libc::minor(dev) };
        Self {
            kind: FileKind::of_mode(stat.st_mode),
            size: stat.st_size as u64,
            blocks: stat.st_blocks as u64,
            block_size: stat.st_blksize as u32,
            device: number(stat.st_dev),
            node: number(stat.st_rdev),
            number: stat.st_ino,
            mode: stat.st_mode,
            nlink: stat.st_nlink as u32,
            uid: stat.st_uid,
            gid: stat.st_gid,
            atime_ns: ns(stat.st_atime, stat.st_atime_nsec),
            mtime_ns: ns(stat.st_mtime, stat.st_mtime_nsec),
            ctime_ns: ns(stat.st_ctime, stat.st_ctime_nsec),
            birthtime_ns: 0,
            direct: None,
            mount: None,
        }
    }
}

/// Set once a sandbox was seen to refuse `statx` whatever it is asked about.
static STATX_REFUSED: AtomicBool = AtomicBool::new(false);

/// Describes an open file: by `statx`, else by `fstat`. Whether a refusal of `statx` counts is for
/// `fstat` to say, whatever number it came with: a file that cannot be described fails both.
pub(crate) fn stat(fd: &impl AsRawFd) -> Result<Stat, Errno> {
    let fd = fd.as_raw_fd();
    fault::refuse(Call::Statx, fd)?;
    if !STATX_REFUSED.load(Ordering::Relaxed) {
        if let Ok(mut statx) = call_statx(fd, c"", libc::AT_EMPTY_PATH, WANTED) {
            fault::describe(fd, &mut statx);
            return Ok(Stat::of(&statx));
        }
        let older = older_stat(fd)?;
        if call_statx(libc::AT_FDCWD, c"/", 0, WANTED).is_err() && older_stat_at(libc::AT_FDCWD, c"/", 0).is_ok() {
            STATX_REFUSED.store(true, Ordering::Relaxed);
        }
        return Ok(Stat::of_older(&older));
    }
    older_stat(fd).map(|stat| Stat::of_older(&stat))
}

/// What a name stands for; links are followed. `directory` is what a relative name starts from,
/// the working directory if there is none.
pub(crate) fn kind_at(directory: Option<&OwnedFd>, path: &CStr) -> Result<FileKind, Errno> {
    older_stat_at(directory.map_or(libc::AT_FDCWD, AsRawFd::as_raw_fd), path, 0).map(|stat| FileKind::of_mode(stat.st_mode))
}

/// Describes what a name in a directory stands for; links are followed.
pub(crate) fn stat_at(directory: &OwnedFd, name: &CStr) -> Result<Stat, Errno> {
    let fd = directory.as_raw_fd();
    match call_statx(fd, name, 0, WANTED) {
        Ok(statx) => Ok(Stat::of(&statx)),
        // As in `stat`: the older call decides whether a refusal counts.
        Err(_) => older_stat_at(fd, name, 0).map(|stat| Stat::of_older(&stat)),
    }
}

/// What a name in a directory stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Named {
    Nothing,
    /// A file with these permission bits.
    Regular(u32),
    Link,
    Directory,
    /// A device, a pipe, a socket.
    Other,
}

/// What this entry of a directory is; links are not followed.
pub(crate) fn named(directory: &OwnedFd, name: &CStr) -> Result<Named, Errno> {
    match older_stat_at(directory.as_raw_fd(), name, libc::AT_SYMLINK_NOFOLLOW) {
        Err(libc::ENOENT) => Ok(Named::Nothing),
        Err(errno) => Err(errno),
        Ok(stat) => Ok(match stat.st_mode & libc::S_IFMT {
            libc::S_IFREG => Named::Regular(stat.st_mode & 0o7777),
            libc::S_IFLNK => Named::Link,
            libc::S_IFDIR => Named::Directory,
            _ => Named::Other,
        }),
    }
}

/// Whether an open file is this entry of a directory; links are not followed.
pub(crate) fn is_entry(fd: &impl AsRawFd, directory: &impl AsRawFd, name: &CStr) -> bool {
    let entry = older_stat_at(directory.as_raw_fd(), name, libc::AT_SYMLINK_NOFOLLOW);
    let numbers = |stat: libc::stat| (stat.st_dev, stat.st_ino);
    entry.map(numbers) == older_stat(fd.as_raw_fd()).map(numbers)
}

/// The device and inode number of the working directory.
pub(crate) fn working_directory_numbers() -> Result<(u64, u64), Errno> {
    older_stat_at(libc::AT_FDCWD, c".", 0).map(|stat| (stat.st_dev, stat.st_ino))
}

const WANTED: libc::c_uint =
    libc::STATX_BASIC_STATS | libc::STATX_BTIME | libc::STATX_DIOALIGN | libc::STATX_MNT_ID | libc::STATX_MNT_ID_UNIQUE;

fn call_statx(fd: RawFd, path: &CStr, flags: i32, mask: libc::c_uint) -> Result<libc::statx, Errno> {
    let mut out = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: a terminated string; an empty one with AT_EMPTY_PATH means the descriptor itself. The
    // kernel fills a local of the type it expects.
    retry(|| check(unsafe { libc::syscall(libc::SYS_statx, fd, path.as_ptr(), flags, mask, out.as_mut_ptr()) }))?;
    // SAFETY: zeroed, then filled in; all fields are integers.
    Ok(unsafe { out.assume_init() })
}

fn older_stat(fd: RawFd) -> Result<libc::stat, Errno> {
    let mut out = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: fills a local struct.
    retry(|| check(unsafe { libc::fstat(fd, out.as_mut_ptr()) }.into()))?;
    // SAFETY: zeroed, then filled in; all fields are integers.
    Ok(unsafe { out.assume_init() })
}

fn older_stat_at(directory: RawFd, path: &CStr, flags: i32) -> Result<libc::stat, Errno> {
    let mut out = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: a terminated string; fills a local struct.
    retry(|| check(unsafe { libc::fstatat(directory, path.as_ptr(), out.as_mut_ptr(), flags) }.into()))?;
    // SAFETY: zeroed, then filled in; all fields are integers.
    Ok(unsafe { out.assume_init() })
}
