//! Room on a file system, and which parts of a file have their space already.

use super::fault;
use super::{Errno, check, retry};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;

/// The room on a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    /// Bytes that this thread can still take.
    pub(crate) available: u64,
    /// Space is given out in blocks of this many bytes.
    pub(crate) block: u64,
    /// Whether files can share space: then even a file without holes can need more.
    pub(crate) shares: bool,
}

/// A part of a file that has space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// Another file has the same space, so a write takes new space.
    pub(crate) shared: bool,
}

const EXT4_MAGIC: i64 = 0xef53;
const XFS_MAGIC: i64 = 0x5846_5342;
const BTRFS_MAGIC: i64 = 0x9123_683e;
const F2FS_MAGIC: i64 = 0xf2f5_2010;
const OVERLAY_MAGIC: i64 = 0x794c_7630;
const OCFS2_MAGIC: i64 = 0x7461_636f;
const BCACHEFS_MAGIC: i64 = 0xca45_1a4e;
const ZFS_MAGIC: i64 = 0x2fc1_2fc1;

/// Lets a range of one file share the space of a range of another, until either is written.
pub(crate) fn clone_range(to: &impl AsRawFd, position: u64, from: &impl AsRawFd, start: u64, bytes: u64) -> Result<(), Errno> {
    /// `struct file_clone_range`.
    #[repr(C)]
    struct CloneRange {
        fd: i64,
        start: u64,
        bytes: u64,
        position: u64,
    }
    const FICLONERANGE: libc::Ioctl = 0x4020_940d_u32 as libc::Ioctl;
    let range = CloneRange { fd: from.as_raw_fd().into(), start, bytes, position };
    // SAFETY: FICLONERANGE reads a struct of this layout.
    match retry(|| check(unsafe { libc::ioctl(to.as_raw_fd(), FICLONERANGE, &raw const range) }.into())) {
        // The file system does not know the call, or the kernel does not.
        Err(libc::ENOTTY | libc::ENOSYS) => Err(libc::EOPNOTSUPP),
        result => result.map(drop),
    }
}

/// The room on the file's file system; `None` if it does not say.
pub(crate) fn room(fd: &impl AsRawFd) -> Option<Room> {
    if let Some(room) = fault::room(fd.as_raw_fd()) {
        return Some(room);
    }
    let mut out = MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: fills a local struct.
    check(unsafe { libc::fstatfs(fd.as_raw_fd(), out.as_mut_ptr()) }.into()).ok()?;
    // SAFETY: zeroed, then filled in; all fields are integers.
    let stat = unsafe { out.assume_init() };
    let magic = i64::from(stat.f_type as u32);
    // SAFETY: no arguments.
    let is_root = unsafe { libc::geteuid() } == 0;
    room_of(magic, [stat.f_blocks, stat.f_bfree, stat.f_bavail], [stat.f_frsize as u64, stat.f_bsize as u64], is_root)
}

/// `blocks`: all, free, and available to ordinary users, each `sizes[0]` bytes large, or `sizes[1]` if that is 0.
fn room_of(magic: i64, [all, free, available]: [u64; 3], sizes: [u64; 2], is_root: bool) -> Option<Room> {
    let block = if sizes[0] > 0 { sizes[0] } else { sizes[1] };
    if all == 0 || !block.is_power_of_two() || magic == ZFS_MAGIC {
        // Without a limit (tmpfs), or a server that keeps no books. ZFS compresses, so more than the room can fit.
        return None;
    }
    // Two reserve blocks for root, and an overlay usually lies on one of them. Elsewhere what is free and not available
    // cannot be taken at all (Btrfs: it is for metadata). What ext4 keeps for its own metadata counts as free, too: the
    // fiftieth part of the blocks, 4096 at most.
    let kept = if magic == F2FS_MAGIC { 0 } else { free.saturating_sub(available).min(all / 50).min(4096) };
    let has_reserve = [EXT4_MAGIC, F2FS_MAGIC, OVERLAY_MAGIC].contains(&magic);
    let blocks = if is_root && has_reserve { available.max(free - kept.min(free)) } else { available };
    let shares = [XFS_MAGIC, BTRFS_MAGIC, OVERLAY_MAGIC, OCFS2_MAGIC, BCACHEFS_MAGIC].contains(&magic);
    Some(Room { available: blocks.saturating_mul(block), block, shares })
}

/// `struct fiemap_extent`.
#[repr(C)]
#[derive(Clone, Copy)]
struct RawExtent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved_long: [u64; 2],
    flags: u32,
    reserved: [u32; 3],
}

/// Extents that one call reports.
const EXTENTS_MAX: usize = 256;

/// `struct fiemap` with room for extents.
#[repr(C)]
struct Map {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    count: u32,
    reserved: u32,
    extents: [RawExtent; EXTENTS_MAX],
}

const _: () = assert!(size_of::<Map>() == 32 + 56 * EXTENTS_MAX);

/// The first extents of `start..end`, in order. None are left once it returns an empty list.
pub(crate) fn extents(fd: &impl AsRawFd, start: u64, end: u64) -> Result<Vec<Extent>, Errno> {
    const FS_IOC_FIEMAP: libc::Ioctl = 0xc020_660b_u32 as libc::Ioctl;
    const SHARED: u32 = 0x2000;
    if let Some(extents) = fault::extents(fd.as_raw_fd(), start, end) {
        return Ok(extents);
    }
    let empty = RawExtent { logical: 0, physical: 0, length: 0, reserved_long: [0; 2], flags: 0, reserved: [0; 3] };
    let count = EXTENTS_MAX as u32;
    let mut map = Box::new(Map { start, length: end - start, flags: 0, mapped: 0, count, reserved: 0, extents: [empty; EXTENTS_MAX] });
    // SAFETY: the kernel reads the header and fills in at most `count` extents, for which there is room.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), FS_IOC_FIEMAP, &raw mut *map) }.into())?;
    let found = &map.extents[..(map.mapped as usize).min(EXTENTS_MAX)];
    let extent = |raw: &RawExtent| Extent { start: raw.logical, end: raw.logical + raw.length, shared: raw.flags & SHARED != 0 };
    Ok(found.iter().map(extent).collect())
}

/// The next part of the file at or after `from` that is not a hole; `None` if only a hole follows. Space that was
/// allocated and never written counts as a hole.
pub(crate) fn next_data(fd: &impl AsRawFd, from: u64) -> Result<Option<Extent>, Errno> {
    let seek = |from: u64, whence| {
        // SAFETY: no pointers. The offset of the descriptor, which this moves, is not used.
        check(unsafe { libc::lseek(fd.as_raw_fd(), from as libc::off_t, whence) }).map(|at| at as u64)
    };
    match seek(from, libc::SEEK_DATA) {
        Err(libc::ENXIO) => Ok(None),
        Err(errno) => Err(errno),
        Ok(start) => Ok(Some(Extent { start, end: seek(start, libc::SEEK_HOLE)?, shared: false })),
    }
}

/// The largest size that the process may give a file; `u64::MAX` if there is no limit.
pub(crate) fn file_size_limit() -> u64 {
    let mut out = MaybeUninit::<libc::rlimit>::zeroed();
    // SAFETY: fills a local struct.
    match check(unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, out.as_mut_ptr()) }.into()) {
        // SAFETY: zeroed, then filled in; all fields are integers.
        Ok(_) => unsafe { out.assume_init() }.rlim_cur,
        Err(_) => u64::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: [u64; 2] = [4096, 1 << 20];

    #[test]
    fn a_file_system_that_keeps_no_books_has_no_answer() {
        assert_eq!(room_of(0x0102_1994, [0, 0, 0], SIZES, true), None);
        assert_eq!(room_of(0x0102_1994, [5, 5, 5], [0, 0], true), None);
    }

    #[test]
    fn root_can_take_what_is_reserved_for_it_but_not_what_ext4_keeps_for_itself() {
        let blocks = |blocks: [u64; 3], is_root| room_of(EXT4_MAGIC, blocks, SIZES, is_root).map(|room| room.available / 4096);
        assert_eq!(blocks([10_000, 900, 200], false), Some(200));
        assert_eq!(blocks([10_000, 900, 200], true), Some(700));
        // Nothing is reserved for root: all that ordinary users do not get is kept.
        assert_eq!(blocks([10_000, 900, 700], true), Some(700));
        assert_eq!(blocks([1 << 30, 90_000, 0], true), Some(90_000 - 4096));
        assert_eq!(room_of(BTRFS_MAGIC, [10_000, 900, 200], SIZES, true).map(|room| room.available / 4096), Some(200));
    }
}
