//! Which files the copies of the engine in this process have open, where locks cannot keep their
//! writes apart.
//!
//! The copies share no Rust type: they can be of different versions. What they share is a memory
//! file with a fixed name and layout, which each finds among the descriptors of the process. A
//! change of the layout changes the name.

use super::{Errno, check};
use std::ffi::CStr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

const NAME: &CStr = c"deepring-open-files-1";
/// What procfs shows for it.
const LINK: &str = "/memfd:deepring-open-files-1 (deleted)";
const SLOTS: usize = 4096;

/// One opening. Free if the copy is 0.
#[repr(C)]
struct Slot {
    /// Which copy; in this process only.
    copy: AtomicU64,
    device: AtomicU64,
    number: AtomicU64,
}

/// The memory file: the number of copies that have joined, then the slots.
#[repr(C)]
struct Layout {
    copies: AtomicU64,
    slots: [Slot; SLOTS],
}

/// The files that are open in this process, as one copy sees them.
struct Table {
    layout: NonNull<Layout>,
    /// Keeps the name findable.
    _fd: OwnedFd,
    copy: u64,
}

// SAFETY: the mapping is never removed, and consists of atomics.
unsafe impl Send for Table {}
// SAFETY: as above.
unsafe impl Sync for Table {}

impl Table {
    fn join() -> Result<Self, Errno> {
        let fd = if let Some(fd) = lowest().and_then(adopt) { fd } else { create()? };
        let len = size_of::<Layout>();
        // SAFETY: growing a memory file touches nothing; it is never made shorter.
        check(unsafe { libc::ftruncate(fd.as_raw_fd(), len as libc::off_t) }.into())?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let address = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, libc::MAP_SHARED, fd.as_raw_fd(), 0) };
        if address == libc::MAP_FAILED {
            return Err(super::errno());
        }
        let Some(layout) = NonNull::new(address.cast::<Layout>()) else { return Err(libc::ENOMEM) };
        // SAFETY: a live mapping of the whole layout, page-aligned; zeros are valid.
        let copy = unsafe { layout.as_ref() }.copies.fetch_add(1, Ordering::AcqRel) + 1;
        Ok(Self { layout, _fd: fd, copy })
    }

    /// How many copies have joined so far.
    fn copies(&self) -> u64 {
        // SAFETY: as in `slots`.
        unsafe { self.layout.as_ref() }.copies.load(Ordering::SeqCst)
    }

    fn slots(&self) -> &[Slot; SLOTS] {
        // SAFETY: the mapping lives as long as the process; it consists of atomics.
        unsafe { &self.layout.as_ref().slots }
    }

    fn enter(&self, device: u64, number: u64) -> Option<usize> {
        let is_free = |slot: &Slot| slot.copy.compare_exchange(0, u64::MAX, Ordering::AcqRel, Ordering::Acquire).is_ok();
        let index = self.slots().iter().position(is_free)?;
        let slot = &self.slots()[index];
        slot.device.store(device, Ordering::Release);
        slot.number.store(number, Ordering::Release);
        slot.copy.store(self.copy, Ordering::SeqCst);
        Some(index)
    }

    fn is_elsewhere(&self, index: usize) -> bool {
        if self.copies() < 2 {
            return false;
        }
        let own = &self.slots()[index];
        let of = |slot: &Slot| (slot.device.load(Ordering::Acquire), slot.number.load(Ordering::Acquire));
        let is_other = |copy: u64| copy != 0 && copy != u64::MAX && copy != self.copy;
        self.slots().iter().any(|slot| is_other(slot.copy.load(Ordering::SeqCst)) && of(slot) == of(own))
    }

    fn leave(&self, index: usize) {
        self.slots()[index].copy.store(0, Ordering::Release);
    }
}

/// The memory file of this process: if there are several, the one with the lowest descriptor.
fn lowest() -> Option<RawFd> {
    let entries = std::fs::read_dir("/proc/self/fd").ok()?.flatten();
    let named = entries.filter(|entry| std::fs::read_link(entry.path()).is_ok_and(|link| link.as_os_str() == LINK));
    named.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).min()
}

/// A descriptor of this copy's own for the same memory file.
fn adopt(found: RawFd) -> Option<OwnedFd> {
    // SAFETY: no pointers.
    let fd = check(unsafe { libc::fcntl(found, libc::F_DUPFD_CLOEXEC, 0) }.into()).ok()?;
    // SAFETY: the descriptor was just created and has no other owner.
    let fd = unsafe { OwnedFd::from_raw_fd(fd as RawFd) };
    // The number can have become another file's since.
    let is_same = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).is_ok_and(|link| link.as_os_str() == LINK);
    is_same.then_some(fd)
}

fn create() -> Result<OwnedFd, Errno> {
    // SAFETY: a terminated string.
    let fd = check(unsafe { libc::syscall(libc::SYS_memfd_create, NAME.as_ptr(), libc::MFD_CLOEXEC) })?;
    // SAFETY: the descriptor was just created and has no other owner.
    let own = unsafe { OwnedFd::from_raw_fd(fd as RawFd) };
    // Another copy can have made one at the same time. The lowest counts, for both.
    Ok(lowest().filter(|&lowest| lowest != own.as_raw_fd()).and_then(adopt).unwrap_or(own))
}

static TABLE: OnceLock<Option<Table>> = OnceLock::new();

/// A file that this copy has open, where locks do not keep copies apart.
#[derive(Debug)]
pub(crate) struct OpenHere(usize);

impl OpenHere {
    /// Makes it known to other copies. `None` if there is no way to, and then there is no way to
    /// know of others.
    pub(crate) fn new(device: u64, number: u64) -> Option<Self> {
        let table = TABLE.get_or_init(|| Table::join().ok()).as_ref()?;
        table.enter(device, number).map(Self)
    }

    /// Whether another copy of the engine in this process has the same file open.
    pub(crate) fn is_elsewhere(&self) -> bool {
        TABLE.get().and_then(Option::as_ref).is_some_and(|table| table.is_elsewhere(self.0))
    }
}

impl Drop for OpenHere {
    fn drop(&mut self) {
        if let Some(table) = TABLE.get().and_then(Option::as_ref) {
            table.leave(self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_find_each_other_and_their_files() {
        let (one, two) = (Table::join().expect("a table"), Table::join().expect("the same table"));
        assert_ne!(one.copy, two.copy);
        let here = one.enter(7, 1 << 60).expect("a slot");
        assert!(!one.is_elsewhere(here), "its own opening does not count");
        let again = one.enter(7, 1 << 60).expect("a slot");
        assert!(!one.is_elsewhere(here));
        let other = two.enter(7, (1 << 60) + 1).expect("a slot");
        assert!(!one.is_elsewhere(here) && !two.is_elsewhere(other), "another file");
        let same = two.enter(7, 1 << 60).expect("a slot");
        assert!(one.is_elsewhere(here) && one.is_elsewhere(again) && two.is_elsewhere(same));
        two.leave(same);
        assert!(!one.is_elsewhere(here));
        for index in [here, again] {
            one.leave(index);
        }
        two.leave(other);
    }
}
