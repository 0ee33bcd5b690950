//! [`DirectSupport`]: whether and how direct I/O works on a file.

use super::device::Device;
use crate::plan::{ALIGNMENT_MAX, Geometry};
use crate::sys::stat::{DirectAlignment, FileKind, Stat};
use crate::sys::{Errno, cache, device, file as sys, thread};
use std::os::fd::{AsRawFd, OwnedFd};

/// Alignment assumed where neither the file nor the device reports one: the page, which every file
/// system accepts.
const DEFAULT_ALIGNMENT: u32 = 4096;
/// Writes go in units of at least a page: the block of most file systems, and a multiple of smaller
/// ones.
const WRITE_UNIT_MIN: u64 = 4096;

/// What was found about direct I/O on a file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DirectSupport {
    /// Whether transfers can bypass the page cache.
    pub available: bool,
    /// Where the alignment comes from, or why direct I/O is not available.
    pub reason: String,
    /// The alignment in bytes that the device requires of file positions and lengths; 1 for
    /// buffered files.
    pub offset_alignment: u32,
    /// The alignment in bytes that the device requires of memory addresses; 1 for buffered files. Writes to a file from memory
    /// that is not on a page are copied, whatever the device requires: file systems take turns with them.
    pub memory_alignment: u32,
}

impl DirectSupport {
    /// What direct transfers must keep to.
    pub(crate) fn geometry(&self, is_block_device: bool) -> Geometry {
        let unit = u64::from(self.offset_alignment);
        // A device that takes any length has no blocks that a write could share with its neighbors.
        let has_blocks = !is_block_device && unit > 1;
        let least = if has_blocks { WRITE_UNIT_MIN } else { 1 };
        let memory = u64::from(self.memory_alignment);
        Geometry { read_unit: unit, write_unit: unit.max(least), read_memory: memory, write_memory: memory.max(least) }
    }

    /// The same on this device. A loop device accepts memory aligned to 512 bytes, also on a disk
    /// with larger sectors. Then Linux 6.1 passes the memory on in pieces that are not whole
    /// sectors, and a plain `pwrite` fails with EIO.
    pub(super) fn on(mut self, device: &Device) -> Self {
        if self.available && device.name.starts_with("loop") {
            self.memory_alignment = self.memory_alignment.max(self.offset_alignment);
        }
        self
    }

    /// What `statx` reports; `None` if this kernel or file system reports nothing.
    pub(crate) fn of_stat(stat: &Stat) -> Option<Self> {
        let DirectAlignment { memory, offset } = stat.direct?;
        if offset == 0 || memory == 0 {
            return Some(unsupported("statx reports no direct I/O support for this file"));
        }
        Some(supported("statx", memory, offset))
    }

    /// What `XFS_IOC_DIOINFO` reports; `None` if that is no alignment.
    pub(crate) fn of_xfs(memory: u32, offset: u32) -> Option<Self> {
        (offset > 0 && memory > 0).then(|| supported("XFS_IOC_DIOINFO", memory, offset))
    }
}

pub(super) fn unsupported(reason: impl Into<String>) -> DirectSupport {
    DirectSupport { available: false, reason: reason.into(), offset_alignment: 1, memory_alignment: 1 }
}

/// Available, unless the alignment is one that no device has: the planner relies on powers of two.
fn supported(reason: &str, memory: u32, offset: u32) -> DirectSupport {
    if [memory, offset].iter().any(|alignment| !alignment.is_power_of_two() || *alignment > ALIGNMENT_MAX) {
        return unsupported(format!(
            "{reason} reports an alignment of {offset} bytes in the file and {memory} in memory, which is not supported"
        ));
    }
    DirectSupport { available: true, reason: reason.into(), offset_alignment: offset, memory_alignment: memory }
}

/// What was found about direct I/O, and whether the first write of the opening must be judged.
pub(super) struct Found {
    pub(super) support: DirectSupport,
    pub(super) judge: u8,
}

/// Whether direct writes go past the page cache ([`super::OpenFile::went_direct`]): they do, the
/// first one will show it, they do not.
pub(super) const DIRECT: u8 = 0;
pub(super) const UNKNOWN: u8 = 1;
pub(super) const BUFFERED: u8 = 2;

pub(super) const THROUGH_CACHE: &str = "the file system accepts direct writes and puts them into the page cache";

/// File systems whose direct reads go past the page cache for all that is known, so that they are
/// believed where the kernel does not show its cache.
const BELIEVED: &[i64] = &[0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0x6969];

/// Finds the alignment: from `statx`, else from XFS, else the page size or logical block, confirmed
/// by one real read.
pub(super) fn direct_support(fd: &OwnedFd, stat: &Stat, size: u64, writes: bool) -> Found {
    let known = |support| Found { support, judge: DIRECT };
    if let Some(answer) = DirectSupport::of_stat(stat) {
        return known(answer);
    }
    let file_system = sys::file_system(fd);
    // These accept O_DIRECT, and copy through the page cache nevertheless.
    if let Ok(sys::TMPFS_MAGIC | sys::RAMFS_MAGIC) = file_system {
        return known(unsupported("the file lives in memory (tmpfs)"));
    }
    if let Ok((memory, offset)) = sys::xfs_alignment(fd)
        && let Some(answer) = DirectSupport::of_xfs(memory, offset)
    {
        return known(answer);
    }
    let is_block_device = stat.kind == FileKind::BlockDevice;
    let logical = if is_block_device { device::queue(stat.node).map(|queue| queue.logical_block) } else { None };
    let alignment = logical.unwrap_or(DEFAULT_ALIGNMENT);
    if let Err(errno) = sys::set_direct(fd, true) {
        return known(unsupported(format!("the file system refuses O_DIRECT (error {errno})")));
    }
    let cache = PageCache::of(fd, stat, writes, is_block_device || file_system.is_ok_and(|magic| BELIEVED.contains(&magic)));
    match trial(fd, alignment, size, cache) {
        Ok(()) if takes_any_bytes(fd) => {
            Found { support: supported("an unaligned trial read", 1, 1), judge: if writes { UNKNOWN } else { DIRECT } }
        }
        Ok(()) => Found { support: supported("a trial read", alignment, alignment), judge: if writes { UNKNOWN } else { DIRECT } },
        Err(reason) => known(unsupported(reason)),
    }
}

/// Whether a server behind the file takes direct transfers at any position, length and address: then nothing needs to be
/// padded, or read, modified and written back, and hosts that write side by side do not meet. Found by one read, which an
/// empty file passes; a server that refuses such transfers later makes the file buffered. File systems of disks are not
/// asked: some answer such a read through the page cache.
fn takes_any_bytes(fd: &OwnedFd) -> bool {
    if !sys::file_system(fd).is_ok_and(|magic| sys::SERVED_MAGICS.contains(&magic)) {
        return false;
    }
    let mut space = [0u8; 4];
    let address = space.as_mut_ptr() as u64 | 1;
    // SAFETY: one byte, at most the second of `space`, which is local and outlives the call.
    let result = unsafe { sys::read_at(fd.as_raw_fd(), address, 1, 1, 0) };
    result >= 0
}

/// How to ask what of a file is in the page cache.
#[derive(Debug, Clone, Copy)]
struct PageCache {
    through_mapping: bool,
    may_ask: bool,
    /// What to believe if the kernel does not say.
    believed: bool,
}

impl PageCache {
    fn of(fd: &OwnedFd, stat: &Stat, writes: bool, believed: bool) -> Self {
        Self { through_mapping: sys::file_system(fd) == Ok(sys::OVERLAY_MAGIC), may_ask: writes || thread::owns(stat.uid), believed }
    }

    fn has(self, fd: &OwnedFd, position: u64, len: u64) -> Option<bool> {
        cache::is_cached(fd, position, len, self.through_mapping, self.may_ask)
    }
}

/// Whether reads go past the page cache: a page that was not in it before a trial read must not be
/// in it afterwards. An empty file shows nothing, and passes.
fn trial(fd: &OwnedFd, alignment: u32, size: u64, cache: PageCache) -> std::result::Result<(), String> {
    let unit = u64::from(alignment);
    let read = |position| trial_read(fd, alignment, position).map_err(|errno| format!("a trial read failed with error {errno}"));
    read(0)?;
    // In a hole there is nothing to be cached.
    let places = (0..TRIALS).map(|trial| size / TRIALS * trial).filter_map(|place| sys::next_data(fd, place));
    let mut places: Vec<u64> = places.map(|place| place - place % unit).filter(|place| place + unit <= size).collect();
    places.dedup();
    let Some(&first) = places.first() else { return Ok(()) };
    let goes_past = |place| -> std::result::Result<Option<bool>, String> {
        let Some(before) = cache.has(fd, place, unit) else { return Ok(cache.believed.then_some(true)) };
        if before {
            return Ok(None);
        }
        read(place)?;
        // In doubt, another process has just read it.
        Ok(Some(cache.has(fd, place, unit) != Some(true)))
    };
    for place in places {
        if let Some(answer) = goes_past(place)? {
            return if answer { Ok(()) } else { Err("a trial read went through the page cache".into()) };
        }
    }
    // It was read before, by the cache. It leaves that if it was read back from a device.
    sys::drop_cached_range(fd, first, unit);
    match goes_past(first)? {
        Some(true) => Ok(()),
        Some(false) => Err("a trial read went through the page cache".into()),
        None => Err("the file is in the page cache or in memory, so a trial read shows nothing".into()),
    }
}

/// Places of a file where a trial is made if those before it are cached.
const TRIALS: u64 = 8;

/// Reads one aligned unit.
fn trial_read(fd: &OwnedFd, alignment: u32, position: u64) -> std::result::Result<(), Errno> {
    let mut space = vec![0u8; alignment as usize * 2];
    let address = (space.as_mut_ptr() as u64).next_multiple_of(alignment.into());
    // SAFETY: the aligned unit lies inside `space`, which is local and outlives the call.
    let result = unsafe { sys::read_at(fd.as_raw_fd(), address, alignment, position, 0) };
    // A file open for writing only cannot be read. That proves nothing about direct I/O.
    if result >= 0 || result == -libc::EBADF { Ok(()) } else { Err(-result) }
}

/// Writes one unit of zeros at the start of a file. Returns whether all of it was written.
pub(super) fn write_zeros(fd: &OwnedFd, unit: u64) -> bool {
    let mut space = vec![0u8; unit as usize * 2];
    let address = (space.as_mut_ptr() as u64).next_multiple_of(unit);
    // SAFETY: the aligned unit lies inside `space`, which is local and outlives the call.
    let result = unsafe { sys::write_at(fd.as_raw_fd(), address, unit as u32, 0, 0) };
    i64::from(result) == unit as i64
}

/// Whether what was just written direct went past the page cache. If a reader has cached it since,
/// its pages are clean and can be dropped.
pub(super) fn went_past_cache(fd: &OwnedFd, position: u64, len: u64) -> bool {
    let through_mapping = sys::file_system(fd) == Ok(sys::OVERLAY_MAGIC);
    let is_cached = || cache::is_cached(fd, position, len, through_mapping, true) == Some(true);
    if !is_cached() {
        return true;
    }
    sys::drop_cached_range(fd, position, len);
    !is_cached()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alignment_that_no_device_has_means_buffered_and_says_so() {
        for (memory, offset) in [(512, 3), (3, 512), (512, 1 << 20), (1 << 31, 512)] {
            let support = DirectSupport::of_xfs(memory, offset).expect("an answer");
            assert!(!support.available && support.reason.contains("is not supported"), "{support:?}");
        }
        assert!(DirectSupport::of_xfs(4, 65536).is_some_and(|support| support.available));
        assert!(DirectSupport::of_xfs(0, 0).is_none());
    }
}
