//! Order between copies of the engine: other processes, and other builds in this process.
//!
//! Within one copy, an [`crate::inode::Inode`] keeps writes of one file in order. It cannot see
//! other copies. Between copies, open-file-description locks do the same for what would lose bytes:
//!
//! * an *edge* is locked while its unit is read, modified and written, and so is a buffered write
//!   that covers a unit in part, because another copy can write that unit as an edge;
//! * the *end of the file* is locked from before it is measured until the padding is cut off, so no
//!   copy takes the padding of another for bytes, or its bytes for padding.
//!
//! Writes of whole units inside the file take no lock.
//!
//! ```text
//!   positions   0 ............ 2^62-2     2^62-1    2^62 ................ 2^63-1
//!               data           waiting    the end   the bytes of the file, each by its position
//! ```
//!
//! The locks stand at positions that no file reaches, so locks of programs on their data do not
//! meet them. A lock to the end of all positions does. One that this process holds itself is no
//! obstacle.
//!
//! A lock that cannot be taken is tried again; nothing blocks. Where the file system has no such
//! locks, or a server would have to be asked for them, there are none.

mod end;

use crate::planted::{PlantedBug, planted};
use crate::sys::copies::OpenHere;
use crate::sys::lock::{self, Kind, Range};
use crate::sys::stat::Stat;
use crate::sys::{Errno, file, stat};
pub(crate) use end::EndHold;
use std::borrow::Cow;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Where the locks of the file's bytes begin.
const BYTES: u64 = 1 << 62;
/// The last position that a lock can cover, plus one.
const LIMIT: u64 = i64::MAX as u64;
/// The lock of the end of the file.
const END: Range = Range { start: BYTES - 1, end: BYTES };
/// Held, shared, by openings that wait for [`END`].
const WAITING: Range = Range { start: BYTES - 2, end: BYTES - 1 };

/// Locked for a moment to see whether locks work.
const PROBE: Range = Range { start: BYTES - 3, end: BYTES - 2 };

/// Local file systems beside [`file::LOCAL_MAGICS`] whose locks the kernel keeps by itself: JFS, FAT,
/// NTFS. On any other, a server may have to be asked, which takes any time.
const LOCAL_TOO: [i64; 3] = [0x3153_464a, 0x4d44, 0x7366_746e];

/// Why there are none on any other.
const NOT_LOCAL: &str = "the file system is not known to keep locks by itself";

/// Whether the kernel keeps the locks of this file by itself.
fn is_local(fd: &OwnedFd) -> bool {
    file::file_system(fd).is_ok_and(|magic| file::LOCAL_MAGICS.contains(&magic) || LOCAL_TOO.contains(&magic))
}

/// Whether writes of other processes, and of other copies of deepring in this one, are kept out
/// while this one writes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProcessLocks {
    /// Whether such locks are used.
    pub available: bool,
    /// What they are, or why there are none.
    pub reason: String,
}

/// The outcome of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Attempt {
    Locked,
    /// There is no lock, and none is needed or none exists.
    Without,
    /// Another copy or another process holds a lock. Try again.
    Busy,
    /// There is no lock, and another copy of the engine in this process has the file open.
    TwoCopies,
}

/// What was found out about a lock that stands in the way.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Obstacle {
    /// This process holds it, past the engine.
    pub(crate) is_own: bool,
    /// The process that holds it, if that can be found.
    pub(crate) process: Option<u32>,
    /// An engine holds it, and can be at work.
    pub(crate) is_engine: bool,
    /// When the file was last modified, in nanoseconds.
    pub(crate) modified_ns: i128,
}

/// The locks of one opening of a file.
pub(crate) struct FileLocks {
    /// Why there are none; `None` while they work.
    failed: Mutex<Option<Cow<'static, str>>>,
    works: AtomicBool,
    /// Whether a copy of the engine can write this file in units, so that parts of one need locks.
    has_units: bool,
    /// Whether the descriptor allows shared locks.
    is_readable: bool,
    /// This process was found to hold a lock on the data.
    is_own: AtomicBool,
    /// Shared locks of this opening, which can overlap.
    shared: Mutex<Vec<Range>>,
    waiting: AtomicU32,
    /// Where there are no locks although they are needed: for other copies in this process.
    here: OnceLock<Option<OpenHere>>,
    identity: (u64, u64),
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code panics while it holds one of these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn refusal(errno: Errno) -> String {
    format!("the file system refuses locks (error {errno})")
}

/// Where a range of the file is locked.
fn place_of(start: u64, end: u64) -> Range {
    Range { start: BYTES.saturating_add(start).min(LIMIT - 1), end: BYTES.saturating_add(end).min(LIMIT) }
}

impl FileLocks {
    /// For a file that this copy does not write, or writes byte for byte as it is asked to.
    pub(crate) fn none(why: &'static str) -> Self {
        Self {
            failed: Mutex::new(Some(why.into())),
            works: AtomicBool::new(false),
            has_units: false,
            is_readable: false,
            is_own: AtomicBool::new(false),
            shared: Mutex::default(),
            waiting: AtomicU32::new(0),
            here: OnceLock::new(),
            identity: (0, 0),
        }
    }

    /// For a file that this copy writes. `has_units`: some copy can write it in units.
    pub(crate) fn of(fd: &OwnedFd, stat: &Stat, has_units: bool, is_readable: bool) -> Self {
        let identity = (stat.device.id(), stat.number);
        if !is_local(fd) {
            let locks = Self { has_units, identity, ..Self::none(NOT_LOCAL) };
            locks.show();
            return locks;
        }
        Self { failed: Mutex::default(), works: AtomicBool::new(true), has_units, is_readable, identity, ..Self::none("") }
    }

    pub(crate) fn describe(&self) -> ProcessLocks {
        match &*locked(&self.failed) {
            Some(reason) => ProcessLocks { available: false, reason: reason.to_string() },
            None => ProcessLocks { available: true, reason: "open-file-description locks".into() },
        }
    }

    /// Whether files like this one have such locks.
    pub(crate) fn probe(fd: &OwnedFd) -> ProcessLocks {
        if !is_local(fd) {
            return Self::none(NOT_LOCAL).describe();
        }
        let locks = Self { failed: Mutex::default(), works: AtomicBool::new(true), ..Self::none("") };
        match lock::try_lock(fd, Kind::Shared, PROBE) {
            Ok(_) => lock::unlock(fd, PROBE),
            Err(errno) => *locked(&locks.failed) = Some(refusal(errno).into()),
        }
        locks.describe()
    }

    pub(crate) fn works(&self) -> bool {
        self.works.load(Ordering::Relaxed)
    }

    /// Whether the blocks of a write can need locks at all.
    pub(crate) fn guards_units(&self) -> bool {
        // Each handle is an opening, so these locks would hide the bug.
        let hides = planted(PlantedBug::LocksPerHandle);
        self.has_units && (self.works() || self.here.get().is_some()) && !hides
    }

    /// Locks this part of the file: an edge, or a buffered write (`shared`). Never waits.
    pub(crate) fn lock_bytes(&self, fd: &OwnedFd, start: u64, end: u64, shared: bool) -> Attempt {
        let (shared, place) = (shared && self.is_readable, place_of(start, end));
        let attempt = self.attempt(fd, if shared { Kind::Shared } else { Kind::Exclusive }, place);
        if shared && attempt == Attempt::Locked {
            locked(&self.shared).push(place);
        }
        attempt
    }

    /// Releases what [`FileLocks::lock_bytes`] locked.
    pub(crate) fn unlock_bytes(&self, fd: &OwnedFd, start: u64, end: u64, shared: bool) {
        let place = place_of(start, end);
        if !(shared && self.is_readable) {
            return lock::unlock(fd, place);
        }
        let mut held = locked(&self.shared);
        if let Some(index) = held.iter().position(|other| *other == place) {
            held.swap_remove(index);
        }
        // Overlapping locks of one opening are one lock to the kernel: what others need stays.
        let mut others: Vec<_> = held.iter().filter(|other| other.start < place.end && place.start < other.end).collect();
        others.sort_unstable_by_key(|other| other.start);
        let mut from = place.start;
        for other in others {
            if other.start > from {
                lock::unlock(fd, Range { start: from, end: other.start });
            }
            from = from.max(other.end);
        }
        if from < place.end {
            lock::unlock(fd, Range { start: from, end: place.end });
        }
    }

    fn attempt(&self, fd: &OwnedFd, kind: Kind, range: Range) -> Attempt {
        if !self.works() || planted(PlantedBug::ForgetsProcessLock) {
            return self.without();
        }
        match lock::try_lock(fd, kind, range) {
            Ok(true) => {
                self.is_own.store(false, Ordering::Relaxed);
                Attempt::Locked
            }
            Ok(false) if self.is_own_obstacle(fd, kind, range) => {
                self.show();
                self.without()
            }
            Ok(false) => Attempt::Busy,
            Err(errno) => {
                self.fail(errno);
                self.without()
            }
        }
    }

    /// Whether a lock of this process's own program is all that stands in the way.
    fn is_own_obstacle(&self, fd: &OwnedFd, kind: Kind, range: Range) -> bool {
        let Ok(Some(foreign)) = lock::conflict(fd, kind, range) else { return false };
        match foreign.process {
            Some(process) => process == std::process::id(),
            None => foreign.start < WAITING.start && self.is_own.load(Ordering::Relaxed),
        }
    }

    /// Whether another opening holds the end of the file.
    fn is_end_locked(&self, fd: &OwnedFd) -> bool {
        if !self.works() || planted(PlantedBug::ForgetsProcessLock) {
            return false;
        }
        let foreign = lock::conflict(fd, Kind::Exclusive, END).inspect_err(|&errno| self.fail(errno));
        foreign.is_ok_and(|foreign| foreign.is_some())
    }

    fn fail(&self, errno: Errno) {
        locked(&self.failed).get_or_insert_with(|| refusal(errno).into());
        self.works.store(false, Ordering::Relaxed);
        self.show();
    }

    /// Lets other copies in this process see that the file is open here, since no lock does.
    fn show(&self) {
        self.here.get_or_init(|| OpenHere::new(self.identity.0, self.identity.1));
    }

    fn without(&self) -> Attempt {
        let is_elsewhere = self.here.get().and_then(Option::as_ref).is_some_and(OpenHere::is_elsewhere);
        if is_elsewhere { Attempt::TwoCopies } else { Attempt::Without }
    }

    /// Where [`FileLocks::lock_bytes`] takes this lock, for [`FileLocks::examine`].
    pub(crate) fn place(start: u64, end: u64) -> Range {
        place_of(start, end)
    }

    /// The place of the end of the file.
    pub(crate) const fn end_place() -> Range {
        END
    }

    /// Finds out what stands in the way of a lock. Blocks.
    pub(crate) fn examine(&self, fd: &OwnedFd, range: Range) -> Obstacle {
        let Ok(found) = stat::stat(fd) else { return Obstacle::default() };
        let Ok(Some(foreign)) = lock::conflict(fd, Kind::Exclusive, range) else {
            return Obstacle { modified_ns: found.mtime_ns, ..Obstacle::default() };
        };
        let own = std::process::id();
        let process = foreign.process.or_else(|| lock::process_with_lock(found.number, range.start, None));
        let is_data = foreign.start < WAITING.start;
        let is_own = match foreign.process {
            Some(process) => process == own,
            None => is_data && lock::process_with_lock(found.number, range.start, Some(own)).is_some(),
        };
        if is_own {
            self.is_own.store(true, Ordering::Relaxed);
        }
        Obstacle { is_own, process, is_engine: foreign.process.is_none() && !is_data, modified_ns: found.mtime_ns }
    }

    /// A request waits for the end of the file: the copy that holds it is to see that.
    pub(crate) fn begin_waiting(&self, fd: &OwnedFd) {
        if self.waiting.fetch_add(1, Ordering::AcqRel) == 0 && self.works() {
            // Only a hint. Without it the other copy gives the end up when it has nothing to write.
            let _ = lock::try_lock(fd, if self.is_readable { Kind::Shared } else { Kind::Exclusive }, WAITING);
        }
    }

    /// The request waits no longer.
    pub(crate) fn end_waiting(&self, fd: &OwnedFd) {
        if self.waiting.fetch_sub(1, Ordering::AcqRel) == 1 {
            lock::unlock(fd, WAITING);
        }
    }
}
