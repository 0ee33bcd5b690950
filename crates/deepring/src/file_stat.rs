//! [`FileStat`]: what the file system reports about a file.

use crate::sys::stat::Stat;

/// What the file system reports about a file. Sizes are in bytes, times in nanoseconds since
/// 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the names are those of stat(2)")]
pub struct FileStat {
    pub size: u64,
    /// Blocks of 512 bytes that are allocated.
    pub blocks: u64,
    pub block_size: u32,
    pub dev: u64,
    pub ino: u64,
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub atime_ns: i128,
    pub mtime_ns: i128,
    pub ctime_ns: i128,
    pub birthtime_ns: i128,
}

impl FileStat {
    /// What the kernel says, with the size to report.
    pub(crate) fn of(stat: &Stat, size: u64) -> Self {
        Self {
            size,
            blocks: stat.blocks,
            block_size: stat.block_size,
            dev: stat.device.as_dev(),
            ino: stat.number,
            mode: stat.mode,
            nlink: stat.nlink,
            uid: stat.uid,
            gid: stat.gid,
            atime_ns: stat.atime_ns,
            mtime_ns: stat.mtime_ns,
            ctime_ns: stat.ctime_ns,
            birthtime_ns: stat.birthtime_ns,
        }
    }
}
