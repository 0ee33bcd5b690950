//! What of a file is in the page cache.

use super::{Errno, check};
use std::os::fd::{AsRawFd, RawFd};

/// Whether any page of a range of an open file is in the page cache; `None` if the kernel does not
/// say. `through_mapping`: the file's pages may belong to another file below it (overlay), which
/// only a mapping shows. `may_ask`: the caller owns the file or can write to it; else `mincore`
/// reports all pages as present.
pub(crate) fn is_cached(fd: &impl AsRawFd, position: u64, len: u64, through_mapping: bool, may_ask: bool) -> Option<bool> {
    let fd = fd.as_raw_fd();
    if !through_mapping && let Ok(pages) = cached_pages(fd, position, len) {
        return Some(pages > 0);
    }
    if !may_ask {
        return None;
    }
    mapped_pages(fd, position, len).ok().map(|present| present.iter().any(|page| page & 1 != 0))
}

/// Whether all pages of a range are; false if the kernel does not say. The caller owns the file or can write to it.
pub(crate) fn is_all_cached(fd: &impl AsRawFd, position: u64, len: u64, through_mapping: bool) -> bool {
    let fd = fd.as_raw_fd();
    let page = page_bytes();
    let (start, end) = (position - position % page, (position + len).next_multiple_of(page));
    if !through_mapping && let Ok(pages) = cached_pages(fd, start, end - start) {
        return pages >= (end - start) / page;
    }
    mapped_pages(fd, position, len).is_ok_and(|present| present.iter().all(|page| page & 1 != 0))
}

fn page_bytes() -> u64 {
    // SAFETY: no pointers.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// The number of `cachestat`, which is the same on every architecture.
const SYS_CACHESTAT: libc::c_long = 451;

/// `cachestat(2)`, since Linux 6.5.
fn cached_pages(fd: RawFd, position: u64, len: u64) -> Result<u64, Errno> {
    let range = [position, len];
    // Cached, dirty, under writeback, evicted, recently evicted.
    let mut counts = [0u64; 5];
    // SAFETY: the kernel reads two 64-bit numbers and writes five.
    check(unsafe { libc::syscall(SYS_CACHESTAT, fd, range.as_ptr(), counts.as_mut_ptr(), 0) })?;
    Ok(counts[0])
}

/// `mincore(2)` of a mapping that is never touched: a byte for each page.
fn mapped_pages(fd: RawFd, position: u64, len: u64) -> Result<Vec<u8>, Errno> {
    let page = page_bytes();
    let start = position - position % page;
    let bytes = (position + len - start).next_multiple_of(page) as usize;
    let offset = start as libc::off_t;
    // SAFETY: a new mapping at an address of the kernel's choice.
    let address = unsafe { libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ, libc::MAP_SHARED, fd, offset) };
    if address == libc::MAP_FAILED {
        return Err(super::errno());
    }
    let mut present = vec![0u8; bytes / page as usize];
    // SAFETY: the mapping just made, and one byte for each of its pages.
    let asked = check(unsafe { libc::mincore(address, bytes, present.as_mut_ptr().cast()) }.into());
    // SAFETY: the mapping just made; nothing refers to it.
    unsafe { libc::munmap(address, bytes) };
    asked.map(|_| present)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn both_ways_see_what_was_written_through_the_cache() {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&[7; 10_000]).expect("a write");
        for through_mapping in [false, true] {
            assert_eq!(is_cached(&file, 0, 4096, through_mapping, true), Some(true));
            assert!(is_all_cached(&file, 100, 9900, through_mapping));
        }
    }
}
