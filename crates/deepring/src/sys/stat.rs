//! What the kernel knows of an open file, in types of the engine.

use super::fault::{self, Call};
use super::{Errno, check};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;

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
            kind: match u32::from(statx.stx_mode) & libc::S_IFMT {
                libc::S_IFREG => FileKind::Regular,
                libc::S_IFBLK => FileKind::BlockDevice,
                libc::S_IFDIR => FileKind::Directory,
                _ => FileKind::Other,
            },
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
        }
    }
}

/// Describes an open file, by `statx`.
pub(crate) fn stat(fd: &impl AsRawFd) -> Result<Stat, Errno> {
    fault::refuse(Call::Statx, fd.as_raw_fd())?;
    let mut out = MaybeUninit::<libc::statx>::zeroed();
    let mask = libc::STATX_BASIC_STATS | libc::STATX_BTIME | libc::STATX_DIOALIGN;
    // SAFETY: an empty path with AT_EMPTY_PATH means the descriptor itself; the kernel fills a
    // local of the type it expects.
    let done = unsafe { libc::syscall(libc::SYS_statx, fd.as_raw_fd(), c"".as_ptr(), libc::AT_EMPTY_PATH, mask, out.as_mut_ptr()) };
    check(done)?;
    // SAFETY: zeroed, then filled in; all fields are integers.
    fault::describe(fd.as_raw_fd(), unsafe { out.assume_init_mut() });
    // SAFETY: as above.
    Ok(Stat::of(unsafe { out.assume_init_ref() }))
}
