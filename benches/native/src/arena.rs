//! Memory for the rivals with a chosen page size, so that the page size does not decide a
//! comparison.
//!
//! deepring's buffers are backed by huge pages where the system grants them, and contiguous memory
//! is worth a tenth of the speed (requests at the device stay large). A rival therefore gets the
//! same kind. `small` exists to show the difference.

use std::io;
use std::ptr::NonNull;

const HUGE_PAGE_BYTES: usize = 2 << 20;

/// The size of the pages behind an arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pages {
    /// 2 MiB pages as far as the kernel grants them (`MADV_HUGEPAGE`).
    Huge,
    /// 4 KiB pages only (`MADV_NOHUGEPAGE`).
    Small,
}

/// The words for [`Pages`] on the command line.
pub(crate) const PAGES: [(&str, Pages); 2] = [("huge", Pages::Huge), ("small", Pages::Small)];

/// One anonymous mapping, aligned to 2 MiB and touched from end to end.
pub(crate) struct Arena {
    map: NonNull<u8>,
    map_bytes: usize,
    start: NonNull<u8>,
    bytes: usize,
}

impl Arena {
    pub(crate) fn new(bytes: usize, pages: Pages) -> Result<Self, String> {
        let map_bytes = bytes.next_multiple_of(HUGE_PAGE_BYTES) + HUGE_PAGE_BYTES;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches nothing
        // that exists.
        let map = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                map_bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if map == libc::MAP_FAILED {
            return Err(format!("mmap of {map_bytes} bytes: {}", io::Error::last_os_error()));
        }
        let map = NonNull::new(map.cast::<u8>()).ok_or("mmap returned address 0")?;
        let skip = map.as_ptr().align_offset(HUGE_PAGE_BYTES);
        // SAFETY: `skip` is less than one huge page, and the mapping is a huge page longer than
        // requested.
        let start = unsafe { map.add(skip) };
        let advice = if pages == Pages::Huge { libc::MADV_HUGEPAGE } else { libc::MADV_NOHUGEPAGE };
        // SAFETY: the range lies inside the mapping made above. Advice that the kernel refuses
        // changes nothing, hence no check.
        unsafe { libc::madvise(start.as_ptr().cast(), map_bytes - skip, advice) };
        let mut arena = Self { map, map_bytes, start, bytes };
        // Page faults belong to the set-up. 0x5a, not 0: a read that never arrives must not look
        // like a read of a hole.
        arena.bytes_mut().fill(0x5a);
        Ok(arena)
    }

    pub(crate) fn address(&self) -> usize {
        self.start.as_ptr() as usize
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes
    }

    /// The bytes. Only while no transfer into or out of the arena is in flight.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the range is mapped readable as long as `self` lives, and the kernel zeroed it.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }

    /// The bytes, to be filled. Only while no transfer into or out of the arena is in flight.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `&mut self` excludes every other borrow.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: the mapping was made in `new` with these bounds and nothing borrows it any more.
        unsafe { libc::munmap(self.map.as_ptr().cast(), self.map_bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arena_is_aligned_and_touched() -> Result<(), String> {
        for pages in [Pages::Huge, Pages::Small] {
            let arena = Arena::new(3 * 4096, pages)?;
            assert_eq!(arena.address() % HUGE_PAGE_BYTES, 0);
            assert!(arena.bytes().iter().all(|byte| *byte == 0x5a));
        }
        Ok(())
    }
}
