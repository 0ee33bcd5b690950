//! Anonymous memory: mapped, aligned to huge pages, returned.

use super::pins::page_bytes;
use super::{Errno, errno, fault};
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// The size of a huge page on every platform we build for. Large mappings start on such a boundary,
/// so that the kernel can use huge pages. Then a block is contiguous in physical memory, and stays
/// one request at the device.
pub(crate) const HUGE_PAGE_BYTES: usize = 2 << 20;

/// New memory.
pub(crate) struct Mapped {
    pub(crate) start: NonNull<u8>,
    /// A forked child does not inherit it.
    pub(crate) private: bool,
}

/// Maps `bytes` (a multiple of [`HUGE_PAGE_BYTES`]) of zeroed private memory at a huge-page
/// boundary.
pub(crate) fn map(bytes: usize) -> Result<Mapped, Errno> {
    debug_assert!(bytes > 0 && bytes.is_multiple_of(HUGE_PAGE_BYTES));
    let reserve = bytes.checked_add(HUGE_PAGE_BYTES).ok_or(libc::ENOMEM)?;
    // SAFETY: a fresh anonymous mapping at an address of the kernel's choice; touches no existing
    // memory.
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
    // The slack on both sides of the aligned range is returned at once.
    unmap_range(base, start - base);
    unmap_range(start + bytes, base + reserve - (start + bytes));
    let start = NonNull::new(start as *mut u8).ok_or(libc::ENOMEM)?;
    // Advice only: without huge pages everything works, with more requests at the device. A forked
    // child does not inherit the pages, so the parent needs no copy-on-write of memory that the
    // device can be writing to.
    advise(start, bytes, libc::MADV_HUGEPAGE);
    let private = advise(start, bytes, libc::MADV_DONTFORK);
    Ok(Mapped { start, private })
}

/// Returns memory from [`map`] to the kernel.
///
/// # Safety
/// `start` and `bytes` come from one call of [`map`], nothing refers to the memory any more, and
/// the kernel has no operation on it in flight.
pub(crate) unsafe fn unmap(start: NonNull<u8>, bytes: usize) {
    unmap_range(start.as_ptr() as usize, bytes);
}

fn unmap_range(start: usize, bytes: usize) {
    if bytes > 0 {
        // SAFETY: called with the unused slack of a mapping made above, or from `unmap`, whose
        // caller guarantees the range.
        unsafe { libc::munmap(start as *mut libc::c_void, bytes) };
    }
}

/// From this size on a copy goes past the cache. What is smaller the caller reads next, from there.
const PAST_CACHE_BYTES: usize = 256 << 10;

/// Copies a block of a transfer.
///
/// # Safety
/// As [`std::ptr::copy_nonoverlapping`].
pub(crate) unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
    if len < PAST_CACHE_BYTES {
        // SAFETY: passed on.
        unsafe { std::ptr::copy_nonoverlapping(from, to, len) };
    } else {
        // SAFETY: passed on.
        unsafe { copy_past_cache(from, to, len) };
    }
}

/// Copies past the cache: for blocks that are larger than a core's cache, and that are not read
/// again soon.
///
/// An ordinary copy first reads each destination line that it overwrites; stores that bypass the
/// cache do not. To a destination that is not aligned, as memory of another runtime often is, the C
/// library's `rep movsb` is even slower.
///
/// # Safety
/// As [`std::ptr::copy_nonoverlapping`].
#[cfg(target_arch = "x86_64")]
unsafe fn copy_past_cache(from: *const u8, to: *mut u8, len: usize) {
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_sfence, _mm_stream_si128};
    const LINE: usize = 64;
    const LANE: usize = size_of::<__m128i>();
    let head = to.align_offset(LINE).min(len);
    // SAFETY: a part of the range that the caller guarantees.
    unsafe { std::ptr::copy_nonoverlapping(from, to, head) };
    let lines = (len - head) / LINE;
    for offset in (0..lines * LINE).step_by(LANE).map(|offset| head + offset) {
        // SAFETY: `offset + LANE <= len`, so the lane lies in the source.
        let source = unsafe { from.add(offset) };
        // SAFETY: the same in the destination.
        let destination = unsafe { to.add(offset) };
        // SAFETY: SSE2 is part of x86-64; an unaligned load of a lane inside the source.
        let lane = unsafe { _mm_loadu_si128(source.cast()) };
        // SAFETY: the destination was aligned to a line above, and lanes divide a line.
        unsafe { _mm_stream_si128(destination.cast(), lane) };
    }
    // Streaming stores are not ordered with others: this makes them visible before the copy is
    // reported done.
    // SAFETY: SSE is part of x86-64.
    unsafe { _mm_sfence() };
    let done = head + lines * LINE;
    // SAFETY: the rest of the source, inside the range that the caller guarantees.
    let source = unsafe { from.add(done) };
    // SAFETY: the rest of the destination.
    let destination = unsafe { to.add(done) };
    // SAFETY: as for the head.
    unsafe { std::ptr::copy_nonoverlapping(source, destination, len - done) };
}

/// On other processors the C library's copy is good enough.
///
/// # Safety
/// As [`std::ptr::copy_nonoverlapping`].
#[cfg(not(target_arch = "x86_64"))]
unsafe fn copy_past_cache(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: passed on.
    unsafe { std::ptr::copy_nonoverlapping(from, to, len) };
}

/// Makes the pages of a range of this process present and writable, as if each was written to, so that no later page
/// fault delays a transfer or the program. Blocks. Returns false where the kernel cannot do that (before Linux 5.14, or in
/// a sandbox); it is not asked again then. Memory that cannot be written is left as it is.
pub(crate) fn populate(range: &Range<u64>) -> bool {
    static REFUSED: AtomicBool = AtomicBool::new(false);
    if let Some(done) = fault::populate(range) {
        return done;
    }
    if REFUSED.load(Ordering::Relaxed) {
        return false;
    }
    let page = page_bytes();
    let mut from = range.start / page * page;
    let end = range.end.next_multiple_of(page);
    // In steps: a call holds up changes of the address space.
    while from < end {
        let bytes = (end - from).min(HUGE_PAGE_BYTES as u64);
        let Some(start) = NonNull::new(from as *mut u8) else { return true };
        match advice(start, bytes as usize, libc::MADV_POPULATE_WRITE) {
            Ok(()) => from += bytes,
            Err(libc::EINTR | libc::EAGAIN) => {}
            Err(libc::EINVAL | libc::ENOSYS | libc::EPERM) if from == range.start / page * page => {
                REFUSED.store(is_unknown(), Ordering::Relaxed);
                return !REFUSED.load(Ordering::Relaxed);
            }
            // Not mapped, not writable, or no memory left: the transfer will tell.
            Err(_) => return true,
        }
    }
    true
}

/// Whether the kernel does not populate even plain memory. (It refuses that of devices, too.)
fn is_unknown() -> bool {
    let page = page_bytes() as usize;
    let space = vec![0u8; 2 * page];
    let first = (space.as_ptr() as usize).next_multiple_of(page);
    NonNull::new(first as *mut u8).is_none_or(|start| advice(start, page, libc::MADV_POPULATE_WRITE).is_err())
}

/// Writes to each page of a range, and changes no byte.
///
/// # Safety
/// The range is mapped and writable, and nothing else uses it during the call.
pub(crate) unsafe fn touch_pages(range: &Range<u64>) {
    fault::touch(range);
    let page = page_bytes();
    let mut at = range.start;
    while at < range.end {
        let byte = at as *mut u8;
        // SAFETY: inside the range, of which the caller says that nothing else uses it.
        let value = unsafe { byte.read_volatile() };
        // SAFETY: as above.
        unsafe { byte.write_volatile(value) };
        at = (at / page + 1) * page;
    }
}

/// Whether all pages of a range of this process are present. True where the kernel does not say.
pub(crate) fn is_resident(range: &Range<u64>) -> bool {
    let mut all = true;
    residence(range, |_, present| {
        all &= present;
        all
    });
    all
}

/// Calls `each` with runs of pages that are present, or not, as long as it returns true. Stops where the kernel does not
/// say.
pub(crate) fn residence(range: &Range<u64>, mut each: impl FnMut(Range<u64>, bool) -> bool) {
    const PAGES: usize = HUGE_PAGE_BYTES / 4096;
    if let Some(resident) = fault::resident(range) {
        for (run, present) in resident {
            if !each(run, present) {
                return;
            }
        }
        return;
    }
    let page = page_bytes();
    let mut from = range.start / page * page;
    let end = range.end.next_multiple_of(page);
    let mut present = [0u8; PAGES];
    while from < end {
        let pages = ((end - from) / page).min(PAGES as u64);
        // SAFETY: writes one byte per page of the range, of which `present` has enough, and touches nothing else.
        if unsafe { libc::mincore(from as *mut libc::c_void, (pages * page) as usize, present.as_mut_ptr()) } != 0 {
            return;
        }
        let mut index = 0;
        while index < pages {
            let is_present = present[index as usize] & 1 == 1;
            let next = (index..pages).find(|&at| (present[at as usize] & 1 == 1) != is_present).unwrap_or(pages);
            if !each(from + index * page..from + next * page, is_present) {
                return;
            }
            index = next;
        }
        from += pages * page;
    }
}

/// When the kernel backs memory with huge pages of its own accord.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HugePages {
    /// Wherever it can.
    Always,
    /// Where it is advised to, as in engine memory.
    Madvise,
    /// Not at all: large transfers are a tenth slower, and take several times the processor's time.
    Never,
    /// The system does not say.
    Unknown,
}

impl HugePages {
    /// The kernel's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Madvise => "madvise",
            Self::Never => "never",
            Self::Unknown => "unknown",
        }
    }

    /// Whether engine memory gets them.
    pub(crate) fn is_used(self) -> bool {
        matches!(self, Self::Always | Self::Madvise)
    }
}

/// The state of transparent huge pages, as it was when this process first asked.
pub(crate) fn huge_pages() -> HugePages {
    static STATE: OnceLock<HugePages> = OnceLock::new();
    *STATE.get_or_init(|| {
        // SAFETY: no pointers.
        if unsafe { libc::prctl(libc::PR_GET_THP_DISABLE, 0, 0, 0, 0) } == 1 {
            return HugePages::Never;
        }
        let text = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
        match text.split(['[', ']']).nth(1) {
            Some("always") => HugePages::Always,
            Some("madvise") => HugePages::Madvise,
            Some("never") => HugePages::Never,
            _ => HugePages::Unknown,
        }
    })
}

/// Lets the kernel take the pages whenever it needs memory. Until they are written, each reads as
/// it was, or as zero from then on. Where the kernel does not know that (before Linux 4.5), they
/// stay.
///
/// # Safety
/// The range lies in a mapping from [`map`], and nothing refers to it.
pub(crate) unsafe fn free_lazily(start: NonNull<u8>, bytes: usize) {
    advise(start, bytes, libc::MADV_FREE);
}

/// Gives the pages back to the kernel. They are zero afterwards.
///
/// # Safety
/// As for [`free_lazily`].
pub(crate) unsafe fn discard(start: NonNull<u8>, bytes: usize) {
    if !advise(start, bytes, libc::MADV_DONTNEED) {
        // Pages are locked in memory, or larger than the range.
        // SAFETY: passed on from the caller.
        unsafe { start.write_bytes(0, bytes) };
    }
}

/// Ends [`free_lazily`]: pages that are still there keep what is in them from now on. Those that are
/// gone stay zero, and are not made present.
///
/// Without this, memory that is handed out could change by itself. And before Linux 5.18 the kernel
/// took pages that a device was reading into, if the processor had not written to them.
pub(crate) fn claim(start: NonNull<u8>, bytes: usize) {
    let page = page_bytes() as usize;
    let from = start.as_ptr() as usize / page * page;
    let end = (start.as_ptr() as usize + bytes).next_multiple_of(page);
    let mut present = vec![0u8; (end - from) / page];
    // SAFETY: writes one byte per page of the range, which lies in a mapping of whole huge pages.
    if unsafe { libc::mincore(from as *mut libc::c_void, end - from, present.as_mut_ptr()) } != 0 {
        present.fill(1);
    }
    let mut index = 0;
    while let Some(first) = (index..present.len()).find(|&at| present[at] & 1 == 1) {
        index = (first..present.len()).find(|&at| present[at] & 1 == 0).unwrap_or(present.len());
        let Some(run) = NonNull::new((from + first * page) as *mut u8) else { return };
        if !advise(run, (index - first) * page, libc::MADV_POPULATE_WRITE) {
            (first..index).for_each(|at| touch(from + at * page));
        }
    }
}

/// Writes to a page without changing it, even if another thread writes to the same byte.
fn touch(address: usize) {
    // SAFETY: called for pages of mappings of ours. Other threads access the byte by system calls
    // and as memory of theirs, which on pages of 4096 bytes does not happen before it is theirs.
    let byte = unsafe { AtomicU8::from_ptr(address as *mut u8) };
    let value = byte.load(Ordering::Relaxed);
    // It failed if the byte was written, which serves as well.
    let _ = byte.compare_exchange(value, value, Ordering::Relaxed, Ordering::Relaxed);
}

/// The memory of this machine, in bytes.
pub(crate) fn machine_bytes() -> usize {
    // SAFETY: no pointers.
    let pages = unsafe { libc::sysconf(libc::_SC_PHYS_PAGES) };
    usize::try_from(pages).unwrap_or(0).saturating_mul(page_bytes() as usize)
}

/// Returns whether the kernel took the advice.
fn advise(start: NonNull<u8>, bytes: usize, kind: libc::c_int) -> bool {
    advice(start, bytes, kind).is_ok()
}

fn advice(start: NonNull<u8>, bytes: usize, kind: libc::c_int) -> Result<(), Errno> {
    // SAFETY: advice that discards content is given for mappings of ours only, by functions whose
    // callers guarantee that nothing refers to it. Other advice changes no byte, wherever it is.
    if unsafe { libc::madvise(start.as_ptr().cast(), bytes, kind) } == 0 { Ok(()) } else { Err(errno()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_left_to_the_kernel_is_as_it_was_or_zero_and_discarded_memory_is_zero() {
        let start = map(HUGE_PAGE_BYTES).expect("memory").start;
        // SAFETY: the mapping was just made, and is used here only.
        let bytes = || unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), HUGE_PAGE_BYTES) };
        bytes().fill(7);
        // SAFETY: no reference to the bytes is left.
        unsafe { free_lazily(start, HUGE_PAGE_BYTES) };
        claim(start, HUGE_PAGE_BYTES);
        assert!(bytes().chunks(4096).all(|page| page.iter().all(|&byte| byte == 7) || page.iter().all(|&byte| byte == 0)));
        bytes().fill(8);
        touch(start.as_ptr() as usize);
        assert_eq!(bytes()[0], 8);
        // SAFETY: as above.
        unsafe { discard(start, HUGE_PAGE_BYTES) };
        claim(start, HUGE_PAGE_BYTES);
        assert!(bytes().iter().all(|&byte| byte == 0));
        // SAFETY: as above.
        unsafe { unmap(start, HUGE_PAGE_BYTES) };
    }

    #[test]
    fn a_copy_past_the_cache_copies_every_byte_and_no_other() {
        let source: Vec<u8> = (0..5000u32).map(|index| (index * 7 + 1) as u8).collect();
        for (from, to, len) in (0..70).flat_map(|from| (0..70).map(move |to| (from, to, 4096 + from * 3 + to))) {
            let mut target = vec![0xa5; 5000];
            // SAFETY: both ranges lie in their vectors, which are two.
            unsafe { copy_past_cache(source[from..].as_ptr(), target[to..].as_mut_ptr(), len) };
            assert_eq!(target[to..to + len], source[from..from + len]);
            assert!(target[..to].iter().chain(&target[to + len..]).all(|&byte| byte == 0xa5));
        }
    }
}
