//! Whether direct I/O pins the pages that it transfers to.
//!
//! After a fork, parent and child share their private pages until one of them writes. If the parent
//! writes to a page that a device is filling, it gets a copy, and the device goes on filling the
//! original: the read succeeds, and its bytes never arrive. Since Linux 6.5 direct I/O of most file
//! systems pins its pages, and a fork copies pinned pages at once. Elsewhere a direct read may only
//! touch pages that it covers whole, and that no copy out of a bounce block touches.
//!
//! This is found out by looking whether the kernel's count of pinned pages moves with direct reads,
//! without a fork and without the kernel's version. Where that cannot be found out, pages count as
//! not pinned. Engine memory is not inherited by a child, so it needs no pins.

use crate::memory;
use crate::plan::Direction;
use crate::sys::pins::{hugetlb_page_bytes, page_bytes, pinned_pages};
use crate::sys::stat::{Stat, stat};
use crate::sys::{fault, file as sys};
use std::collections::BTreeMap;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Pages are read until this many must have been pinned: several times what processors keep to
/// themselves.
const TRIAL_PAGES: u64 = 600;
const TRIAL_BYTES: u64 = 1 << 20;
/// Reads of a small file until there are that many.
const TRIAL_READS_MAX: u64 = 60;
/// Another process can pin pages too, but hardly so many, at the same moment, twice.
const TRIALS: usize = 2;

/// Before Linux 5.8 a write to a shared transparent huge page copied all of it.
const TRANSPARENT_PAGE_BYTES: u64 = 2 << 20;

/// How long the pools of huge pages are taken to be as they were seen.
const POOLS_KNOWN_FOR: Duration = Duration::from_millis(100);

/// What direct transfers of a file do to the pages of their memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pages {
    Pinned,
    NotPinned,
}

impl Pages {
    /// Finds it out. Blocks the first time for a device, and the first time of all.
    pub(super) fn of(fd: &impl AsRawFd, stat: &Stat) -> Self {
        if pins(fd, stat) { Self::Pinned } else { Self::NotPinned }
    }
}

static ASSUMED_UNPINNED: AtomicBool = AtomicBool::new(false);

/// For tests: from now on files are opened as if direct I/O pinned no page.
pub(crate) fn assume_unpinned() {
    ASSUMED_UNPINNED.store(true, Ordering::Relaxed);
}

fn pins(fd: &impl AsRawFd, stat: &Stat) -> bool {
    static DEVICES: Mutex<BTreeMap<u64, bool>> = Mutex::new(BTreeMap::new());
    if ASSUMED_UNPINNED.load(Ordering::Relaxed) {
        return false;
    }
    if let Some(answer) = fault::pins() {
        return answer;
    }
    if stat.direct.is_some() {
        // File systems that report their alignment do direct I/O by the same functions.
        if let Some(answer) = kernel_pins() {
            return answer;
        }
    } else if sys::file_system(fd) == Ok(sys::FUSE_MAGIC) {
        // Its server would see the trial.
        return false;
    }
    let device = stat.device.id();
    if let Some(&answer) = DEVICES.lock().unwrap_or_else(PoisonError::into_inner).get(&device) {
        return answer;
    }
    let Some(answer) = trial(fd, stat.size) else { return false };
    DEVICES.lock().unwrap_or_else(PoisonError::into_inner).insert(device, answer);
    answer
}

/// What reads of the running program show, if its file system reports an alignment too.
fn kernel_pins() -> Option<bool> {
    static ANSWER: OnceLock<Option<bool>> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        let program = std::fs::File::open("/proc/self/exe").ok()?;
        let stat = stat(&program).ok()?;
        stat.direct.filter(|direct| direct.offset > 0)?;
        sys::set_direct(&program, true).ok()?;
        trial(&program, stat.size)
    })
}

/// Reads from the start of a file that is open for direct I/O. `None` if nothing can be concluded.
fn trial(fd: &impl AsRawFd, size: u64) -> Option<bool> {
    pinned_pages()?;
    let pages = size.min(TRIAL_BYTES) / page_bytes();
    let reads = TRIAL_PAGES.div_ceil(pages.max(1));
    if reads > TRIAL_READS_MAX {
        return None;
    }
    let mut space = vec![0u8; TRIAL_BYTES as usize + page_bytes() as usize];
    let address = (space.as_mut_ptr() as u64).next_multiple_of(page_bytes());
    for _ in 0..TRIALS {
        let before = pinned_pages()?;
        for _ in 0..reads {
            // SAFETY: the range lies inside `space`, which is local and outlives the call.
            let done = unsafe { sys::read_at(fd.as_raw_fd(), address, TRIAL_BYTES as u32, 0, 0) };
            if u64::try_from(done).ok()? < pages * page_bytes() {
                return None;
            }
        }
        if pinned_pages()?.saturating_sub(before) < pages * reads / 2 {
            return Some(false);
        }
    }
    Some(true)
}

/// For [`crate::plan::Span::whole_pages`], on a file that does not pin.
pub(super) fn whole_pages(direction: Direction, address: u64, len: u64) -> Option<u64> {
    if direction == Direction::Write || memory::is_engine_memory(address, len) {
        // A device that takes bytes from a page takes those that were there when the write began.
        // Engine memory is not inherited.
        return None;
    }
    Some(page_max())
}

/// The largest page that memory of this process can be on.
fn page_max() -> u64 {
    static SEEN: Mutex<Option<(Instant, u64)>> = Mutex::new(None);
    static ORDINARY: OnceLock<u64> = OnceLock::new();
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    match *seen {
        Some((at, bytes)) if at.elapsed() < POOLS_KNOWN_FOR => bytes,
        _ => {
            let ordinary = || if pinned_pages().is_some() { page_bytes() } else { page_bytes().max(TRANSPARENT_PAGE_BYTES) };
            let bytes = (*ORDINARY.get_or_init(ordinary)).max(hugetlb_page_bytes().unwrap_or(0));
            *seen = Some((Instant::now(), bytes));
            bytes
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The release only checks the probe; the engine does not look at it.
    #[test]
    fn the_trial_finds_the_kernels_that_pin() {
        let release = crate::sys::thread::kernel_release();
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse::<u32>().unwrap_or(0));
        let release = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        // The program can lie on a file system that allows no conclusion.
        if let Some(pins) = kernel_pins() {
            assert_eq!(pins, release >= (6, 5), "{release:?}");
        }
    }

    #[test]
    fn memory_of_a_pool_of_huge_pages_is_read_in_pages_of_that_size() {
        let largest = hugetlb_page_bytes().unwrap_or(0).max(page_bytes());
        let heap = vec![0u8; 4096];
        assert!(whole_pages(Direction::Read, heap.as_ptr() as u64, 4096).is_some_and(|bytes| bytes >= largest));
        assert_eq!(whole_pages(Direction::Write, heap.as_ptr() as u64, 4096), None);
    }
}
