//! Anonymous memory: mapped, aligned to huge pages, given back.

use super::{Errno, errno};
use std::ptr::NonNull;

/// The size of a huge page on every platform we build for. Large mappings start on such a boundary so that the kernel can use them: then a
/// block is contiguous in physical memory and stays one request at the device.
pub(crate) const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Maps `bytes` (a multiple of [`HUGE_PAGE_BYTES`]) of zeroed private memory at a huge-page boundary.
pub(crate) fn map(bytes: usize) -> Result<NonNull<u8>, Errno> {
    debug_assert!(bytes > 0 && bytes.is_multiple_of(HUGE_PAGE_BYTES));
    let reserve = bytes.checked_add(HUGE_PAGE_BYTES).ok_or(libc::ENOMEM)?;
    // SAFETY: a fresh anonymous mapping at an address of the kernel's choice; touches no existing memory.
    let base = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            reserve,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    if base == libc::MAP_FAILED {
        return Err(errno());
    }
    let base = base as usize;
    let start = base.next_multiple_of(HUGE_PAGE_BYTES);
    // The slack on both sides of the aligned range goes back at once.
    unmap_range(base, start - base);
    unmap_range(start + bytes, base + reserve - (start + bytes));
    let start = NonNull::new(start as *mut u8).ok_or(libc::ENOMEM)?;
    // Advice only: without huge pages everything works, with more requests at the device. A forked child does not inherit the pages, which
    // spares the parent a copy-on-write of memory that the device may be writing to.
    advise(start, bytes, libc::MADV_HUGEPAGE);
    advise(start, bytes, libc::MADV_DONTFORK);
    Ok(start)
}

/// Returns memory that [`map`] gave.
///
/// # Safety
/// `start` and `bytes` come from one call of [`map`], nothing refers to the memory any more, and the kernel has no operation on it in flight.
pub(crate) unsafe fn unmap(start: NonNull<u8>, bytes: usize) {
    unmap_range(start.as_ptr() as usize, bytes);
}

fn unmap_range(start: usize, bytes: usize) {
    if bytes > 0 {
        // SAFETY: called with the unused slack of a mapping made above, or from `unmap`, whose caller vouches for the range.
        unsafe { libc::munmap(start as *mut libc::c_void, bytes) };
    }
}

/// Makes the pages present, so that neither the device's driver nor the program pays for the fault later.
pub(crate) fn populate(start: NonNull<u8>, bytes: usize) {
    advise(start, bytes, libc::MADV_POPULATE_WRITE);
}

fn advise(start: NonNull<u8>, bytes: usize, advice: libc::c_int) {
    // SAFETY: the range lies in a private mapping of ours; none of the advice values used here discards its content.
    unsafe { libc::madvise(start.as_ptr().cast(), bytes, advice) };
}
